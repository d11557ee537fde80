//! tmpfs case by case: what the model cannot reach (sizes, limits, layout) and what is worth naming.

mod tmpfs_support;

use cache::ReadAhead;
use frames::Zones;
use fs::Error;
use fs::filesystem::{FileSystem, FileType, Ino, NewNode};
use fs::tmpfs::Options;
use handover::{Caches, Handover};
use std::collections::BTreeSet;
use std::thread;
use tmpfs_support::{Machine, clock, environment, pattern, tick};

const PAGE: usize = 4096;
const LARGEST: u64 = 1 << 44;

fn machine() -> Machine {
    Machine::new(1024, Options::default())
}

impl Machine {
    fn directory(&self, dir: Ino, name: &str) -> Ino {
        self.tmpfs.create(dir, name.as_bytes(), NewNode::Directory, 0o755).unwrap()
    }

    fn file_in(&self, dir: Ino, name: &str) -> Ino {
        self.tmpfs.create(dir, name.as_bytes(), NewNode::Regular, 0o644).unwrap()
    }

    fn rename(&self, from: Ino, name: &str, to: Ino, new: &str) -> Result<(), Error> {
        self.tmpfs.rename(from, name.as_bytes(), to, new.as_bytes())
    }

    fn links(&self, ino: Ino) -> u32 {
        self.tmpfs.stat(ino).unwrap().links
    }

    fn free(&self) -> u64 {
        self.tmpfs.stat_fs().unwrap().free_blocks
    }
}

#[test]
fn rename_in_all_its_cases() {
    let m = machine();
    let root = m.root();
    let (a, b) = (m.directory(root, "a"), m.directory(root, "b"));
    let (file, other) = (m.file_in(a, "file"), m.file_in(a, "other"));
    let below = m.directory(a, "below");
    let deep = m.directory(below, "deep");
    assert_eq!((m.links(root), m.links(a), m.links(b), m.links(below)), (4, 3, 2, 3));

    // Nothing there, itself, and names that are none.
    assert_eq!(m.rename(a, "none", b, "x"), Err(Error::NotFound));
    assert_eq!(m.rename(a, "file", a, "file"), Ok(()));
    assert_eq!(m.rename(file, "x", b, "x"), Err(Error::NotADirectory));
    assert_eq!(m.rename(a, "file", file, "x"), Err(Error::NotADirectory));
    assert_eq!(m.rename(a, "file", b, ".."), Err(Error::InvalidName));
    assert_eq!(m.rename(a, "file", b, &"n".repeat(256)), Err(Error::NameTooLong));

    // Two names of one file: both stay.
    m.tmpfs.link(b, b"hard", file).unwrap();
    assert_eq!(m.rename(a, "file", b, "hard"), Ok(()));
    assert_eq!((m.links(file), m.tmpfs.lookup(a, b"file")), (2, Ok(file)));

    // A file over a file, whose other name keeps it alive.
    assert_eq!(m.rename(a, "other", b, "hard"), Ok(()));
    assert_eq!((m.links(file), m.tmpfs.lookup(b, b"hard")), (1, Ok(other)));

    // A directory below itself.
    assert_eq!(m.rename(root, "a", a, "x"), Err(Error::Loop));
    assert_eq!(m.rename(root, "a", deep, "x"), Err(Error::Loop));
    // A file and a directory.
    assert_eq!(m.rename(a, "file", root, "b"), Err(Error::IsADirectory));
    assert_eq!(m.rename(a, "below", b, "hard"), Err(Error::NotADirectory));
    // Over a directory that is not empty, an ancestor among them.
    assert_eq!(m.rename(root, "a", root, "b"), Err(Error::NotEmpty));
    assert_eq!(m.rename(below, "deep", root, "a"), Err(Error::NotEmpty));

    // Over an empty directory, from elsewhere and from beside it.
    let empty = m.directory(b, "empty");
    assert_eq!(m.rename(a, "below", b, "empty"), Ok(()));
    assert_eq!((m.links(root), m.links(a), m.links(b)), (4, 2, 3));
    assert_eq!((m.tmpfs.parent(below), m.tmpfs.stat(empty).err()), (Ok(b), Some(Error::NotFound)));
    m.directory(b, "beside");
    assert_eq!((m.links(b), m.rename(b, "empty", b, "beside")), (4, Ok(())));
    assert_eq!((m.links(b), m.tmpfs.lookup(b, b"beside")), (3, Ok(below)));
    // To a name that was free.
    assert_eq!(m.rename(b, "beside", root, "up"), Ok(()));
    assert_eq!((m.links(root), m.links(b), m.tmpfs.parent(below)), (5, 2, Ok(root)));
}

#[test]
fn names_can_be_anything_but_what_paths_are_made_of() {
    let m = machine();
    let root = m.root();
    let long = [b'x'; 255];
    for name in [&long[..], b"\xff\xfe", b" ", b"...", b"new\nline"] {
        let ino = m.tmpfs.create(root, name, NewNode::Regular, 0).unwrap();
        assert_eq!(m.tmpfs.lookup(root, name), Ok(ino));
        assert_eq!(m.tmpfs.create(root, name, NewNode::Regular, 0), Err(Error::Exists));
    }
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
        assert_eq!(m.tmpfs.create(root, name, NewNode::Directory, 0), Err(Error::InvalidName));
        assert_eq!(m.tmpfs.unlink(root, name), Err(Error::InvalidName));
    }
    assert_eq!(m.tmpfs.create(root, &[b'x'; 256], NewNode::Regular, 0), Err(Error::NameTooLong));
    assert_eq!(m.tmpfs.create(root, b"s", NewNode::Symlink(&[b'x'; 4096]), 0), Err(Error::NameTooLong));
    let link = m.tmpfs.create(root, b"s", NewNode::Symlink(&[b'x'; 4095]), 0).unwrap();
    let stat = m.tmpfs.stat(link).unwrap();
    assert_eq!((stat.kind, stat.size, stat.mode), (FileType::Symlink, 4095, 0o777));
}

#[test]
fn positions_end_at_the_largest_file() {
    let m = machine();
    let ino = m.file("f");
    let file = m.tmpfs.open(ino).unwrap();
    let too_large = Error::FileTooLarge { limit: LARGEST };
    assert_eq!(file.write(LARGEST, b"x"), Err(too_large));
    assert_eq!(file.write(u64::MAX, b"x"), Err(too_large));
    assert_eq!(m.tmpfs.truncate(ino, LARGEST + 1), Err(too_large));
    assert_eq!(m.tmpfs.preallocate(ino, LARGEST, 1), Err(too_large));
    assert_eq!(m.tmpfs.preallocate(ino, u64::MAX, u64::MAX), Err(too_large));
    assert_eq!(m.tmpfs.stat(ino).unwrap().size, 0);
    // The last bytes that there can be, and as much of a write as fits.
    assert_eq!(file.write(LARGEST - 5, b"0123456789"), Ok(5));
    let stat = m.tmpfs.stat(ino).unwrap();
    assert_eq!((stat.size, stat.allocated), (LARGEST, PAGE as u64));
    assert_eq!(m.read(ino, LARGEST - 8, 20), b"\0\0\x0001234");
    assert_eq!(m.read(ino, LARGEST, 20), b"");
    assert_eq!(m.read(ino, u64::MAX, 20), b"");
    m.tmpfs.preallocate(ino, LARGEST - 3 * PAGE as u64, 3 * PAGE as u64).unwrap();
    assert_eq!(m.tmpfs.stat(ino).unwrap().allocated, 3 * PAGE as u64);
    let (m, casualties) = {
        drop(file);
        m
    }
    .kexec();
    assert_eq!(casualties, []);
    assert_eq!(m.read(ino, LARGEST - 8, 20), b"\0\0\x0001234");
    m.tmpfs.punch(ino, 0, u64::MAX).unwrap();
    assert_eq!(m.tmpfs.stat(ino).unwrap().allocated, 0);
    m.tmpfs.truncate(ino, LARGEST).unwrap();
    assert_eq!(m.read(ino, LARGEST - 3, 20), [0; 3]);
}

#[test]
fn nothing_of_what_was_cut_off_comes_back() {
    let m = machine();
    let ino = m.file("f");
    m.write(ino, 0, &[0xee; 3 * PAGE]);
    m.tmpfs.truncate(ino, 100).unwrap();
    m.tmpfs.truncate(ino, 2 * PAGE as u64).unwrap();
    assert_eq!(m.read(ino, 0, 3 * PAGE), [vec![0xee; 100], vec![0; 2 * PAGE - 100]].concat());
    m.tmpfs.truncate(ino, 50).unwrap();
    // Across a kexec, where the page that was cut has not been touched.
    let (m, _) = m.kexec();
    m.write(ino, 90, b"x");
    assert_eq!(m.read(ino, 0, PAGE), [vec![0xee; 50], vec![0; 40], b"x".to_vec()].concat());
}

#[test]
fn the_limit_is_exact_and_what_is_held_ahead_gives_way() {
    let limit = 64;
    let m = Machine::new(1024, Options { size: Some(limit * PAGE as u64), ..Options::default() });
    let (one, two) = (m.file("one"), m.file("two"));
    let first = m.tmpfs.open(one).unwrap();
    // Held open and grown page by page, so that frames are held ahead.
    for page in 0..33 {
        assert_eq!(first.write(page * PAGE as u64, &[1; PAGE]), Ok(PAGE));
    }
    assert!(m.free() < limit - 33, "frames are held ahead: {} free", m.free());
    let second = m.tmpfs.open(two).unwrap();
    assert_eq!(second.write(0, &[2; 100 * PAGE]), Ok(31 * PAGE), "all that was left");
    assert_eq!(second.write(31 * PAGE as u64, b"x"), Err(Error::NoSpace));
    assert_eq!(first.write(33 * PAGE as u64 - 1, b"xy"), Ok(1));
    assert_eq!(m.free(), 0);
    // Pages that there are can be written, and a failure changed nothing.
    assert_eq!(second.write(0, &[3; PAGE]), Ok(PAGE));
    assert_eq!(m.tmpfs.preallocate(two, 0, 32 * PAGE as u64), Err(Error::NoSpace));
    assert_eq!(m.tmpfs.stat(two).unwrap().size, 31 * PAGE as u64);
    m.tmpfs.truncate(one, 0).unwrap();
    assert_eq!(m.free(), 33);
}

#[test]
fn memory_that_runs_out_is_no_space_too() {
    let m = Machine::new(64, Options { size: Some(1 << 40), ..Options::default() });
    let ino = m.file("f");
    let file = m.tmpfs.open(ino).unwrap();
    // The reserve is not a file's to take.
    let reserve = m.arena.memory().watermarks().min as usize;
    let most = 64 - tmpfs_support::SCRATCH as usize - reserve;
    assert_eq!(file.write(0, &vec![1; 100 * PAGE]), Ok(most * PAGE));
    assert_eq!(file.write(200 * PAGE as u64, b"x"), Err(Error::NoSpace));
    assert_eq!(m.tmpfs.preallocate(ino, 0, 60 * PAGE as u64), Err(Error::NoSpace));
    m.tmpfs.punch(ino, 0, 5 * PAGE as u64).unwrap();
    assert_eq!(file.write(200 * PAGE as u64, b"x"), Ok(1));
    assert_eq!(m.arena.memory().stats().free_normal, reserve as u64 + 4);
}

#[test]
fn names_are_not_free() {
    let m = Machine::new(1024, Options { size: Some(64 * PAGE as u64), ..Options::default() });
    let root = m.root();
    let mut made = 0;
    let error = loop {
        match m.tmpfs.create(root, format!("{made}").as_bytes(), NewNode::Regular, 0) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::NoSpace);
    assert!((50..100).contains(&made), "{made} files in the metadata of 256 KiB");
    assert_eq!(m.tmpfs.stat_fs().unwrap().free_inodes, 0);
    let first = m.lookup("0");
    while m.tmpfs.link(root, format!("link {made}").as_bytes(), first).is_ok() {
        made += 1;
    }
    // Every byte that was charged comes back.
    for at in 0..made {
        let name =
            if m.tmpfs.unlink(root, format!("{at}").as_bytes()).is_ok() { continue } else { format!("link {at}") };
        m.tmpfs.unlink(root, name.as_bytes()).unwrap();
    }
    let empty = Machine::new(1024, Options { size: Some(64 * PAGE as u64), ..Options::default() });
    assert_eq!(m.tmpfs.stat_fs(), empty.tmpfs.stat_fs());
}

#[test]
fn a_file_without_a_name_lives_while_it_is_open() {
    let m = machine();
    let ino = m.file("f");
    m.write(ino, 0, &[7; 5 * PAGE]);
    let (one, two) = (m.tmpfs.open(ino).unwrap(), m.tmpfs.open(ino).unwrap());
    m.tmpfs.unlink(m.root(), b"f").unwrap();
    let again = m.file("f");
    assert_ne!(again, ino);
    assert_eq!(m.links(ino), 0);
    assert_eq!(m.tmpfs.link(m.root(), b"g", ino), Err(Error::NotFound));
    assert_eq!(two.write(5 * PAGE as u64, &[8; PAGE]), Ok(PAGE));
    drop(two);
    let mut out = [0; 2];
    assert_eq!(one.read(5 * PAGE as u64 - 1, &mut out, &mut ReadAhead::default()), Ok(2));
    assert_eq!(out, [7, 8]);
    // It is not handed over.
    assert_eq!(m.tmpfs.census().frames, 0);
    let sealed = m.save();
    let handover = Handover::open(sealed.root(), &m.early(&sealed), Caches::Keep).unwrap();
    assert_eq!((handover.summary().inodes, handover.summary().content_frames), (2, 0), "the root and the other file");
    drop(sealed);
    m.tmpfs.trim();
    let free = m.free();
    drop(one);
    assert_eq!((m.free(), m.tmpfs.stat(ino).err()), (free + 6, Some(Error::NotFound)));
}

#[test]
fn a_listing_survives_changes_under_it() {
    let m = machine();
    let root = m.root();
    for at in 0..500 {
        m.file(&format!("{at:03}"));
    }
    let mut seen = BTreeSet::new();
    let mut cursor = Some(0);
    while let Some(at) = cursor {
        let (entries, next) = m.tmpfs.read_dir(root, at).unwrap();
        assert!(!entries.is_empty());
        for entry in entries {
            assert!(seen.insert(entry.name.clone()), "{:?} twice", entry.name.escape_ascii());
            // As `rm -r` does.
            m.tmpfs.unlink(root, &entry.name).unwrap();
        }
        m.file(&format!("new {at}"));
        cursor = next;
    }
    assert_eq!(seen.iter().filter(|name| !name.starts_with(b"new")).count(), 500);
}

#[test]
fn after_unmount_nothing_answers_and_every_frame_is_back() {
    let m = machine();
    let ino = m.file("f");
    m.write(ino, 0, &[7; 5 * PAGE]);
    let file = m.tmpfs.open(ino).unwrap();
    m.tmpfs.unmount().unwrap();
    assert_eq!(m.arena.memory().stats().owned(), 0);
    assert_eq!(file.write(0, b"x"), Err(Error::Unmounted));
    assert_eq!(file.read(0, &mut [0], &mut ReadAhead::default()), Err(Error::Unmounted));
    assert_eq!(m.tmpfs.stat(m.root()).err(), Some(Error::Unmounted));
    assert_eq!(m.tmpfs.stat_fs().err(), Some(Error::Unmounted));
    assert_eq!(m.tmpfs.create(m.root(), b"x", NewNode::Regular, 0), Err(Error::Unmounted));
    assert_eq!(m.tmpfs.unmount(), Err(Error::Unmounted));
}

#[test]
fn times_follow_what_is_done() {
    let m = machine();
    let made = clock();
    let ino = m.file("f");
    let read = tick();
    m.read(ino, 0, 1);
    tick();
    m.read(ino, 0, 1);
    let stat = m.tmpfs.stat(ino).unwrap();
    assert_eq!((stat.atime, stat.mtime, stat.ctime), (read, made, made), "only the first read after a change counts");
    let linked = tick();
    m.tmpfs.link(m.root(), b"g", ino).unwrap();
    let stat = m.tmpfs.stat(ino).unwrap();
    assert_eq!((stat.mtime, stat.ctime, m.tmpfs.stat(m.root()).unwrap().mtime), (made, linked, linked));
    let failed = tick();
    m.tmpfs.open(ino).unwrap().write(LARGEST, b"x").unwrap_err();
    m.write(ino, 0, b"");
    assert_ne!(m.tmpfs.stat(ino).unwrap().mtime, failed, "what did not happen leaves no trace");
}

#[test]
fn files_written_side_by_side_lie_in_long_runs() {
    let m = Machine::new(8192, Options::default());
    let memory = m.arena.memory();
    let files: Vec<_> = (0..4).map(|at| m.tmpfs.open(m.file(&format!("{at}"))).unwrap()).collect();
    let mut others = Vec::new();
    let mib = 4;
    for page in 0..mib * 256 {
        for file in &files {
            file.write((page * PAGE) as u64, &[7; PAGE]).unwrap();
        }
        // What a page cache does meanwhile.
        others.push(memory.allocate(Zones::Ephemeral).unwrap());
    }
    drop(files);
    let census = m.tmpfs.census();
    assert_eq!(census.frames, 4 * mib as u64 * 256);
    let per_mib = census.extents as f64 / (4 * mib) as f64;
    assert!(per_mib <= 6.0, "{per_mib} extents a MiB");
}

#[test]
fn metadata_of_a_contiguous_file_is_two_hundredths_of_a_percent_at_most() {
    let m = Machine::new(20_000, Options { size: Some(64 << 20), ..Options::default() });
    let ino = m.file("f");
    for at in 0..64 {
        m.write(ino, at << 20, &vec![1; 1 << 20]);
    }
    let sealed = m.save();
    let bytes = (sealed.frames().len() * PAGE) as f64;
    assert!(bytes / (64 << 20) as f64 <= 0.0002, "{bytes} bytes for 64 MiB");
}

#[test]
fn two_filesystems_share_a_machine() {
    let m = machine();
    let other = fs::tmpfs::Tmpfs::new(environment(m.arena.memory()), Options::default());
    let ino = other.create(other.root(), b"f", NewNode::Regular, 0).unwrap();
    m.write(m.file("f"), 0, b"one");
    other.open(ino).unwrap().write(0, b"two").unwrap();
    assert_eq!(m.read(m.lookup("f"), 0, 9), b"one");
}

#[test]
fn odd_lengths_written_and_punched_read_back() {
    let m = machine();
    let ino = m.file("f");
    let data = pattern(100_000, 1);
    for (at, chunk) in data.chunks(777).enumerate() {
        m.write(ino, at as u64 * 777, chunk);
    }
    assert_eq!(m.read(ino, 0, 200_000), data);
    m.tmpfs.punch(ino, 5000, 20_000).unwrap();
    let mut expected = data.clone();
    expected[5000..25_000].fill(0);
    assert_eq!(m.read(ino, 0, 200_000), expected);
    assert_eq!(m.tmpfs.stat(ino).unwrap().allocated, (25 - 4) * PAGE as u64);
}

/// What one tries for and does not get must not be missing to another: each fills his half of the limit, where frames lie alone, so that
/// nobody gets the frames that a growing file is to have ahead.
#[test]
fn two_who_stay_within_the_limit_are_never_refused() {
    const HALF: u64 = 32;
    let m = Machine::new(1024, Options { size: Some(2 * HALF * PAGE as u64), ..Options::default() });
    let files = ["one", "two"].map(|name| m.file(name));
    let all: Vec<_> = std::iter::from_fn(|| m.arena.memory().allocate(Zones::Preservable)).collect();
    let _alone: Vec<_> = all.into_iter().filter(|frame| frame.pfn().get().is_multiple_of(2)).collect();
    thread::scope(|scope| {
        for ino in files {
            let tmpfs = &m.tmpfs;
            scope.spawn(move || {
                let file = tmpfs.open(ino).unwrap();
                for round in 0..10_000 {
                    for page in 0..HALF {
                        assert_eq!(file.write(page * PAGE as u64, b"x"), Ok(1), "round {round}, page {page}");
                    }
                    tmpfs.truncate(ino, 0).unwrap();
                }
            });
        }
    });
}
