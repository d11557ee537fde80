//! Behaviours of a handover that others found worth testing, each under a name by which it is found. Beside these there are, in
//! tmpfs_handover.rs: what is unlinked is freed unread, a handover that nobody wants leaves no frame behind, a file is carried on and
//! on while another changes, a kexec called off leaves everything as it was.

mod tmpfs_support;

use cache::ReadAhead;
use frames::arena::{Arena, BASE};
use frames::{FrameRun, PfnRange, Zones};
use fs::filesystem::{FileSystem, FileType, Ino, NewNode};
use fs::tmpfs::{Fault, Options, Restorer};
use handover::{Extent, Filesystem, Inode, Item, Kind, Time};
use tmpfs_support::{Machine, SCRATCH, environment, pattern};

const PAGE: u64 = 4096;

fn machine() -> Machine {
    Machine::new(4096, Options { size: Some(1 << 30), ..Options::default() })
}

/// Numbers in an order that looks like none.
fn shuffled(count: u64) -> Vec<u64> {
    let mut all: Vec<u64> = (0..count).collect();
    all.sort_by_key(|&number| (number ^ 0x5a).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    all
}

#[test]
fn pages_of_every_order_in_random_order_with_random_bytes() {
    let m = machine();
    // Memory is given out in runs of 1, 2, 4, ... 64 frames and their leftovers, as each file wants them.
    let lengths: Vec<u64> = (0..7).flat_map(|order| [1 << order, (1 << order) + 1, (2 << order) - 1]).collect();
    let files: Vec<(Ino, Vec<u8>)> = lengths
        .iter()
        .enumerate()
        .map(|(at, &pages)| {
            let (ino, data) = (m.file(&format!("{at}")), pattern((pages * PAGE) as usize, at as u64));
            m.write(ino, 0, &data);
            (ino, data)
        })
        .collect();
    let scattered = m.file("scattered");
    let data = pattern(300 * 4096, 99);
    for page in shuffled(300) {
        m.write(scattered, page * PAGE, &data[(page * PAGE) as usize..][..4096]);
    }
    assert!(m.tmpfs.census().extents > 200);
    m.tmpfs.take_sums(u64::MAX);
    let m = m.kexec().0;
    for page in shuffled(300) {
        assert_eq!(m.read(scattered, page * PAGE, 4096), data[(page * PAGE) as usize..][..4096]);
    }
    for at in shuffled(files.len() as u64) {
        let (ino, data) = &files[at as usize];
        assert_eq!(m.read(*ino, 0, data.len() + 1), *data);
    }
    let (claims, census) = (m.tmpfs.claims(), m.tmpfs.census());
    assert_eq!((claims.pages, claims.windows, claims.lost), (census.frames, census.windows, 0));
    assert_eq!(census.unclaimed, 0);
}

#[test]
fn a_file_larger_than_any_fixed_table() {
    let m = Machine::new(16_384, Options { size: Some(1 << 30), ..Options::default() });
    let ino = m.file("f");
    // As many extents as pages, and the last page that there can be.
    for page in (0..6000).rev() {
        m.write(ino, page * 1000 * PAGE, &page.to_le_bytes());
    }
    m.write(ino, (1 << 44) - 8, b"the end.");
    m.tmpfs.take_sums(u64::MAX);
    assert_eq!((m.tmpfs.census().extents, m.tmpfs.census().windows), (6001, 6001));
    let m = m.kexec().0;
    for page in shuffled(6000).into_iter().step_by(7) {
        assert_eq!(m.read(ino, page * 1000 * PAGE, 9), [&page.to_le_bytes()[..], &[0]].concat());
    }
    assert_eq!(m.read(ino, (1 << 44) - 10, 20), b"\0\0the end.");
    assert_eq!(m.tmpfs.claims().lost, 0);
}

#[test]
fn a_file_of_no_bytes() {
    let m = machine();
    let (empty, emptied) = (m.file("empty"), m.file("emptied"));
    m.write(emptied, 0, b"words");
    m.tmpfs.take_sums(u64::MAX);
    m.tmpfs.truncate(emptied, 0).unwrap();
    let m = m.kexec().0;
    for ino in [empty, emptied] {
        let stat = m.tmpfs.stat(ino).unwrap();
        assert_eq!((stat.size, stat.allocated, m.read(ino, 0, 10)), (0, 0, Vec::new()));
        m.write(ino, 0, b"now it has some");
        assert_eq!(m.read(ino, 0, 20), b"now it has some");
    }
}

#[test]
fn five_hundred_files() {
    let m = machine();
    let files: Vec<_> = (0..500)
        .map(|at| {
            let (ino, data) = (m.file(&format!("file {at}")), pattern(17 * at, at as u64));
            m.write(ino, 0, &data);
            (ino, data)
        })
        .collect();
    m.tmpfs.take_sums(u64::MAX);
    let (m, casualties) = m.kexec();
    assert_eq!(casualties, []);
    for (at, (ino, data)) in files.iter().enumerate() {
        assert_eq!(m.lookup(&format!("file {at}")), *ino);
        assert_eq!(m.read(*ino, 0, data.len() + 1), *data);
    }
}

#[test]
fn two_thousand_entries() {
    let m = machine();
    let dir = m.tmpfs.create(m.root(), b"dir", NewNode::Directory, 0o755).unwrap();
    for at in 0..2000 {
        m.tmpfs.create(dir, format!("entry {at}").as_bytes(), NewNode::Regular, 0).unwrap();
    }
    let m = m.kexec().0;
    let (mut names, mut cursor) = (Vec::new(), Some(0));
    while let Some(at) = cursor {
        let (entries, next) = m.tmpfs.read_dir(dir, at).unwrap();
        names.extend(entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()));
        cursor = next;
    }
    assert_eq!(names, (0..2000).map(|at| format!("entry {at}")).collect::<Vec<_>>());
}

#[test]
fn reserved_handed_over_written_to() {
    let m = machine();
    let ino = m.file("f");
    // Frames whose bytes are something, so that nobody takes them for zeros by luck.
    let dirty: Vec<FrameRun> = (0..200)
        .filter_map(|_| m.arena.memory().allocate_run(Zones::Preservable, 2))
        .map(|mut run| {
            run.bytes_mut().fill(0xee);
            run
        })
        .collect();
    drop(dirty);
    m.tmpfs.preallocate(ino, 3 * PAGE, 100 * PAGE).unwrap();
    m.write(ino, 10 * PAGE + 5, b"within");
    m.tmpfs.take_sums(u64::MAX);
    let before = m.tmpfs.stat(ino).unwrap();
    assert_eq!((before.size, before.allocated), (103 * PAGE, 100 * PAGE));
    let m = m.kexec().0.kexec().0;
    assert_eq!(m.tmpfs.stat(ino).unwrap(), before);
    let free = m.tmpfs.stat_fs().unwrap().free_blocks;
    m.write(ino, 20 * PAGE + 7, b"later");
    let mut expected = vec![0; 103 * 4096];
    expected[10 * 4096 + 5..][..6].copy_from_slice(b"within");
    expected[20 * 4096 + 7..][..5].copy_from_slice(b"later");
    assert_eq!(m.read(ino, 0, 1 << 20), expected);
    // They stay allocated, and writing takes no more.
    assert_eq!((m.tmpfs.stat(ino).unwrap().allocated, m.tmpfs.stat_fs().unwrap().free_blocks), (100 * PAGE, free));
}

#[test]
fn a_sparse_file_stays_sparse() {
    let m = machine();
    let ino = m.file("f");
    for page in [3, 64, 1000, 1 << 20] {
        m.write(ino, page * PAGE, b"data");
    }
    m.tmpfs.truncate(ino, 1 << 40).unwrap();
    m.tmpfs.take_sums(u64::MAX);
    let m = m.kexec().0;
    let stat = m.tmpfs.stat(ino).unwrap();
    assert_eq!((stat.size, stat.allocated), (1 << 40, 4 * PAGE));
    assert_eq!(m.read(ino, 500 * PAGE, 100_000), vec![0; 100_000]);
    assert_eq!((m.tmpfs.claims().frames, m.tmpfs.stat(ino).unwrap().allocated), (0, 4 * PAGE), "holes cost nothing");
    assert_eq!(m.read(ino, PAGE << 20, 5), b"data\0");
}

#[test]
fn a_write_after_the_handover_was_written() {
    let m = machine();
    let ino = m.file("f");
    m.write(ino, 0, &pattern(100 * 4096, 1));
    m.tmpfs.take_sums(u64::MAX);
    drop(m.save());
    m.write(ino, 50 * PAGE, b"changed");
    m.tmpfs.truncate(ino, 60 * PAGE + 3).unwrap();
    let m = m.kexec().0;
    let mut expected = pattern(100 * 4096, 1);
    expected[50 * 4096..][..7].copy_from_slice(b"changed");
    expected.truncate(60 * 4096 + 3);
    assert_eq!(m.read(ino, 0, 1 << 20), expected);
}

#[test]
fn the_longest_name() {
    let m = machine();
    let name = "n".repeat(255);
    m.write(m.file(&name), 0, b"x");
    let m = m.kexec().0;
    assert_eq!(m.read(m.lookup(&name), 0, 2), b"x");
}

#[test]
fn names_that_no_directory_can_have() {
    let first = BASE.offset(SCRATCH);
    let arena = Arena::with_scratch(64, SCRATCH as usize).kexec(&[PfnRange { start: first, count: 1 }]);
    let mut restorer = Restorer::new(&environment(arena.memory()));
    let inode = |ino, kind, size| {
        let [atime, mtime, ctime] = [Time::default(); 3];
        let (mode, uid, gid, links, quarantined) = (0o644, 0, 0, 1, false);
        Item::Inode(Inode { ino, kind, mode, uid, gid, links, size, atime, mtime, ctime, quarantined })
    };
    restorer.take(Item::Filesystem(Filesystem { label: b"/tmp", root: 1, next_ino: 9, size_limit: None }));
    restorer.take(inode(1, Kind::Directory, 0));
    let bad: [&[u8]; 8] = [b"", b".", b"..", b"/", b"a/b", b"nul\0", b"\0", &[b'n'; 256]];
    for name in bad {
        restorer.take(Item::Entry { ino: 2, name });
    }
    restorer.take(Item::Entry { ino: 2, name: &[0xff; 255] });
    restorer.take(inode(2, Kind::Regular, 5));
    restorer.take(Item::Extent(Extent { index: 0, count: 1, start: first, preallocated: false }));
    let restored = restorer.finish().remove(0);
    let found: Vec<_> = restored.casualties.iter().map(|casualty| (casualty.ino, casualty.fault)).collect();
    assert_eq!(found, vec![(2, Fault::Name); bad.len()]);
    let (entries, _) = restored.tmpfs.read_dir(Ino(1), 0).unwrap();
    let names: Vec<_> = entries.iter().map(|entry| (&entry.name[..], entry.kind)).collect();
    assert_eq!(names, [(&[0xff; 255][..], FileType::Regular)]);
    assert_eq!(restored.tmpfs.stat(Ino(2)).unwrap().links, 1);
    let read = restored.tmpfs.open(Ino(2)).unwrap().read(0, &mut [0; 9], &mut ReadAhead::default());
    assert_eq!(read, Ok(5));
}
