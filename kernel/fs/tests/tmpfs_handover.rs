//! tmpfs across kexecs: lazily, for generations, and with a handover that is not to be trusted.

mod tmpfs_support;

use frames::{FRAME_SIZE, Page, Pfn};
use fs::Error;
use fs::filesystem::{FileSystem, FileType, Ino, NewNode, OpenFile};
use fs::tmpfs::{Fault, Options};
use handover::{Caches, ExtentFault, Handover, HandoverError, Sealed};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tmpfs_support::{Early, Machine, environment, pattern};

const PAGE: u64 = 4096;

fn machine() -> Machine {
    Machine::new(2048, Options::default())
}

#[test]
fn pages_are_claimed_when_they_are_wanted_and_not_before() {
    let m = machine();
    let ino = m.file("f");
    let data = pattern(300 * 4096, 9);
    m.write(ino, 0, &data);
    let (m, _) = m.kexec();
    let aside = || m.arena.memory().stats().set_aside;
    assert_eq!((aside(), m.tmpfs.census().extents), (300, 1));
    assert_eq!(m.tmpfs.stat(ino).unwrap().allocated, 300 * PAGE);

    assert_eq!(m.read(ino, 100 * PAGE + 5, 10), data[100 * 4096 + 5..][..10]);
    assert_eq!(aside(), 300 - 64, "as many as are claimed at a time");
    m.write(ino, 299 * PAGE, b"x");
    assert_eq!(aside(), 300 - 64 - 44);
    m.tmpfs.punch(ino, 10 * PAGE, 5 * PAGE).unwrap();
    assert_eq!(aside(), 300 - 64 - 44 - 5, "a hole is freed, not claimed");
    m.tmpfs.truncate(ino, 200 * PAGE).unwrap();
    assert_eq!(aside(), 200 - 64 - 5);

    // All that was not wanted is handed on; the file has one hole, so it has two extents again.
    let (m, _) = m.kexec();
    assert_eq!((m.arena.memory().stats().set_aside, m.tmpfs.census().extents), (195, 2));
    let mut expected = data[..200 * 4096].to_vec();
    expected[10 * 4096..15 * 4096].fill(0);
    assert_eq!(m.read(ino, 0, 300 * 4096), expected);
    assert_eq!((m.arena.memory().stats().set_aside, m.tmpfs.census().extents), (0, 2), "one by one, then joined");
}

#[test]
fn what_is_unlinked_is_freed_unread() {
    let m = machine();
    m.write(m.file("f"), 0, &pattern(50 * 4096, 1));
    m.write(m.file("g"), 0, &pattern(10 * 4096, 2));
    let (m, _) = m.kexec();
    let free = m.arena.memory().stats().free_normal;
    m.tmpfs.unlink(m.root(), b"f").unwrap();
    let stats = m.arena.memory().stats();
    assert_eq!((stats.set_aside, stats.free_normal, stats.owned()), (10, free + 50, 0));
}

#[test]
fn everything_about_a_tree_crosses() {
    let m = Machine::new(8192, Options::default());
    let root = m.root();
    let mut dir = root;
    for depth in 0..100 {
        dir = m.tmpfs.create(dir, format!("d{depth}").as_bytes(), NewNode::Directory, 0o2750).unwrap();
    }
    let file = m.tmpfs.create(dir, &[0xff; 255], NewNode::Regular, 0o4711).unwrap();
    m.tmpfs.link(root, b"hard", file).unwrap();
    m.tmpfs.create(dir, b"soft", NewNode::Symlink(b"../../nowhere"), 0).unwrap();
    m.file("empty");
    m.tmpfs.preallocate(file, 3 * PAGE, 2 * PAGE).unwrap();
    m.tmpfs.truncate(file, 1 << 40).unwrap();
    m.write(file, (1 << 40) - 10, b"the end");
    for at in 0..2000 {
        m.tmpfs.create(dir, format!("{at}").as_bytes(), NewNode::Regular, 0).unwrap();
    }
    let all = [root, dir, file, m.lookup("empty"), m.tmpfs.lookup(dir, b"soft").unwrap()];
    let before: Vec<_> = all.iter().map(|&ino| m.tmpfs.stat(ino).unwrap()).collect();
    let listing = |m: &Machine| {
        let mut names = Vec::new();
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            let (entries, next) = m.tmpfs.read_dir(dir, at).unwrap();
            names.extend(entries);
            cursor = next;
        }
        names
    };
    let names = listing(&m);
    let space = m.tmpfs.stat_fs().unwrap();

    let mut m = m;
    for _ in 0..3 {
        let (next, casualties) = m.kexec();
        assert_eq!(casualties, []);
        m = next;
    }
    let after: Vec<_> = all.iter().map(|&ino| m.tmpfs.stat(ino).unwrap()).collect();
    assert_eq!(before, after);
    assert_eq!(names, listing(&m));
    assert_eq!(space, m.tmpfs.stat_fs().unwrap());
    assert_eq!(m.read(file, (1 << 40) - 12, 20), b"\0\0the end\0\0\0");
    assert_eq!(m.read(file, 3 * PAGE, 8192), [0; 8192]);
    // Numbers are not given out again.
    let last = names.last().unwrap().ino;
    assert!(m.file("new") > last);
}

#[test]
fn a_file_is_carried_on_and_on_while_another_changes() {
    let mut m = machine();
    let (still, moving) = (m.file("still"), m.file("moving"));
    let data = pattern(40 * 4096, 4);
    m.write(still, 0, &data);
    let mut metadata = Vec::new();
    for generation in 0..60_u64 {
        m.tmpfs.truncate(moving, 0).unwrap();
        m.write(moving, generation % 7 * PAGE, &pattern(30_000, generation));
        metadata.push(m.save().bytes());
        m = m.kexec().0;
        assert_eq!(m.read(moving, generation % 7 * PAGE, 30_000), pattern(30_000, generation));
    }
    assert_eq!(m.read(still, 0, data.len()), data);
    assert!(metadata[59] <= metadata[1] + 32, "metadata grows: {metadata:?}");
    let stats = m.arena.memory().stats();
    assert_eq!(stats.owned() + stats.set_aside, m.tmpfs.census().frames);
}

#[test]
fn a_kexec_called_off_leaves_everything_as_it_was() {
    let m = machine();
    let ino = m.file("f");
    m.write(ino, 0, &pattern(100_000, 3));
    let free = m.arena.memory().stats();
    let sealed = m.save();
    m.write(ino, 0, b"changed");
    drop(sealed);
    assert_eq!(m.arena.memory().stats(), free);
    assert_eq!(m.read(ino, 0, 7), b"changed");
}

// ---- what is not to be trusted

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

/// A handover that a test may change, with the frames of its chain in order.
struct Forgery {
    early: Early,
    chain: Vec<Pfn>,
}

impl Forgery {
    fn new(m: &Machine, sealed: &Sealed) -> Self {
        Self { early: m.early(sealed), chain: sealed.frames().iter().map(|frame| frame.pfn()).collect() }
    }

    fn page(&mut self, sequence: usize) -> &mut Page {
        self.early.blob.get_mut(&self.chain[sequence]).unwrap()
    }

    /// The byte of the payload at `at`.
    fn byte(&mut self, at: usize) -> &mut u8 {
        match at.checked_sub(FRAME_SIZE - 128) {
            None => &mut self.page(0)[128 + at],
            Some(rest) => &mut self.page(1 + rest / (FRAME_SIZE - 16))[16 + rest % (FRAME_SIZE - 16)],
        }
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        bytes.iter().enumerate().for_each(|(i, &byte)| *self.byte(at + i) = byte);
    }

    /// Where in the payload `bytes` is.
    fn find(&mut self, bytes: &[u8]) -> usize {
        let length = u64::from_le_bytes(self.page(0)[40..48].try_into().unwrap()) as usize;
        let payload: Vec<u8> = (0..length).map(|at| *self.byte(at)).collect();
        payload.windows(bytes.len()).position(|window| window == bytes).expect("in the payload")
    }

    fn reseal(&mut self) {
        let mut next = 0_u32;
        for sequence in (1..self.chain.len()).rev() {
            self.page(sequence)[8..12].copy_from_slice(&next.to_le_bytes());
            next = crc32c(self.page(sequence));
        }
        let root = self.page(0);
        root[32..36].copy_from_slice(&next.to_le_bytes());
        root[16..20].fill(0);
        let own = crc32c(root);
        root[16..20].copy_from_slice(&own.to_le_bytes());
    }
}

/// Some files with their contents, in a small tree.
fn small() -> (Machine, BTreeMap<&'static str, Vec<u8>>) {
    let m = Machine::new(256, Options::default());
    let mut contents = BTreeMap::new();
    for (seed, name) in ["one", "two", "three"].into_iter().enumerate() {
        let data = pattern(5000 + 3000 * seed, seed as u64);
        m.write(m.file(name), 0, &data);
        contents.insert(name, data);
    }
    let dir = m.tmpfs.create(m.root(), b"dir", NewNode::Directory, 0).unwrap();
    m.tmpfs.create(dir, b"sub", NewNode::Directory, 0).unwrap();
    m.tmpfs.link(dir, b"four", m.lookup("one")).unwrap();
    (m, contents)
}

/// The extent of `name`, as the format has it.
fn extent_of(m: &Machine, forgery: &mut Forgery, name: &str) -> (usize, u64, u32) {
    let size = m.tmpfs.stat(m.lookup(name)).unwrap().size;
    let ino = m.lookup(name).0;
    let header = forgery.find(&[ino.to_le_bytes(), size.to_le_bytes()].concat());
    let record: Vec<u8> = (0..16).map(|at| *forgery.byte(header + 80 + at)).collect();
    let pfn = u64::from_le_bytes(record[..8].try_into().unwrap());
    (header + 80, pfn, u32::from_le_bytes(record[12..].try_into().unwrap()))
}

#[test]
fn each_single_bit_of_a_small_handover() {
    let (m, _) = small();
    let sealed = m.save();
    let mut forgery = Forgery::new(&m, &sealed);
    for sequence in 0..forgery.chain.len() {
        for bit in 0..FRAME_SIZE * 8 {
            forgery.page(sequence)[bit / 8] ^= 1 << (bit % 8);
            assert!(
                Handover::open(sealed.root(), &forgery.early, Caches::Keep).is_err(),
                "bit {bit} of frame {sequence}"
            );
            forgery.page(sequence)[bit / 8] ^= 1 << (bit % 8);
        }
    }
    Handover::open(sealed.root(), &forgery.early, Caches::Keep).unwrap();
}

#[test]
fn two_files_on_one_frame() {
    let (m, contents) = small();
    let sealed = m.save();
    let mut forgery = Forgery::new(&m, &sealed);
    let (_, pfn, _) = extent_of(&m, &mut forgery, "one");
    let (at, _, _) = extent_of(&m, &mut forgery, "two");
    forgery.set(at, &pfn.to_le_bytes());
    forgery.reseal();
    let handover = Handover::open(sealed.root(), &forgery.early, Caches::Keep).unwrap();
    assert_eq!(handover.summary().rejected, 1);
    let (m, casualties) = m.boot(sealed, Some(&forgery.early), handover).unwrap();
    let [casualty] = &casualties[..] else { panic!("{casualties:?}") };
    assert_eq!(
        casualty.to_string(),
        format!("/two (inode {}): quarantined: an extent names frames that are in use", 3)
    );
    for name in ["one", "three"] {
        assert_eq!(m.read(m.lookup(name), 0, 20_000), contents[name]);
    }

    // The file is there, has lost its content, says so, and is healed by being emptied.
    let two = m.lookup("two");
    let file: Arc<dyn OpenFile> = m.tmpfs.open(two).unwrap();
    assert_eq!(file.read(0, &mut [0], &mut cache::ReadAhead::default()), Err(Error::Quarantined));
    assert_eq!(file.write(0, b"x"), Err(Error::Quarantined));
    assert_eq!(m.tmpfs.truncate(two, 10), Err(Error::Quarantined));
    assert_eq!(m.tmpfs.stat(two).unwrap().size, 8000);
    drop(file);
    let (m, casualties) = m.kexec();
    assert_eq!(casualties[0].fault, Fault::Earlier);
    assert_eq!(m.tmpfs.truncate(two, 0), Ok(()));
    m.write(two, 0, b"x");
    assert_eq!(m.kexec().1, []);
}

#[test]
fn an_extent_in_scratch_or_beyond_memory_or_in_the_blob() {
    for (frame, fault) in [
        (frames::arena::BASE.get(), ExtentFault::NotPreservable),
        (frames::arena::BASE.get() + 255, ExtentFault::NotPreservable),
        (1 << 40, ExtentFault::NotPreservable),
        (0, ExtentFault::InUse),
    ] {
        let (m, contents) = small();
        let sealed = m.save();
        let mut forgery = Forgery::new(&m, &sealed);
        let (at, _, _) = extent_of(&m, &mut forgery, "two");
        let pfn = if frame == 0 { forgery.chain[0].get() } else { frame };
        forgery.set(at, &pfn.to_le_bytes());
        forgery.reseal();
        let handover = Handover::open(sealed.root(), &forgery.early, Caches::Keep).unwrap();
        let (m, casualties) = m.boot(sealed, Some(&forgery.early), handover).unwrap();
        assert_eq!((&casualties[0].path[..], casualties[0].fault), (&b"/two"[..], Fault::Extent(fault)));
        assert_eq!(m.read(m.lookup("three"), 0, 20_000), contents["three"]);
    }
}

#[test]
fn names_that_cannot_be() {
    let (m, contents) = small();
    let ino = |m: &Machine, name: &str| m.lookup(name).0;
    let entry = |ino: u64, name: &str| [&ino.to_le_bytes()[..], &[name.len() as u8], name.as_bytes()].concat();
    let (one, two, dir) = (ino(&m, "one"), ino(&m, "two"), ino(&m, "dir"));
    let sub = m.tmpfs.lookup(Ino(dir), b"sub").unwrap().0;
    let sealed = m.save();
    let mut forgery = Forgery::new(&m, &sealed);
    let at = forgery.find(&entry(two, "two"));
    forgery.set(at, &entry(two, "t/o"));
    // A directory that is its own child, which leaves its real child without a name.
    let at = forgery.find(&entry(sub, "sub"));
    forgery.set(at, &entry(dir, "sub"));
    let at = forgery.find(&entry(one, "four"));
    forgery.set(at, &entry(999, "four"));
    forgery.reseal();
    let handover = Handover::open(sealed.root(), &forgery.early, Caches::Keep).unwrap();
    let (m, casualties) = m.boot(sealed, Some(&forgery.early), handover).unwrap();
    let found: Vec<_> = casualties.iter().map(|c| (&c.path[..], c.ino, c.fault)).collect();
    assert_eq!(
        found,
        [
            (&b"/t/o"[..], two, Fault::Name),
            (b"/dir/sub", dir, Fault::SecondParent),
            (b"/dir/four", 999, Fault::Dangling),
            (b"", two, Fault::Unreachable),
            (b"", sub, Fault::Unreachable),
        ]
    );
    assert_eq!(m.read(m.lookup("one"), 0, 20_000), contents["one"]);
    assert_eq!((m.tmpfs.stat(Ino(one)).unwrap().links, m.tmpfs.stat(Ino(dir)).unwrap().links), (1, 2));
    // The frames of what was left out are free.
    let stats = m.arena.memory().stats();
    assert_eq!(stats.owned() + stats.set_aside, m.tmpfs.census().frames);
    assert_eq!(m.kexec().1, []);
}

#[test]
fn a_name_that_is_there_twice_leads_to_the_first() {
    let (m, contents) = small();
    let (one, two) = (m.lookup("one").0, m.lookup("two").0);
    let sealed = m.save();
    let mut forgery = Forgery::new(&m, &sealed);
    let at = forgery.find(&[&two.to_le_bytes()[..], b"\x03two"].concat());
    forgery.set(at, &[&two.to_le_bytes()[..], b"\x03one"].concat());
    forgery.reseal();
    let handover = Handover::open(sealed.root(), &forgery.early, Caches::Keep).unwrap();
    let (m, casualties) = m.boot(sealed, Some(&forgery.early), handover).unwrap();
    assert_eq!((&casualties[0].path[..], casualties[0].ino, casualties[0].fault), (&b"/one"[..], two, Fault::Name));
    assert_eq!((m.lookup("one").0, m.read(Ino(one), 0, 20_000)), (one, contents["one"].clone()));
}

#[test]
fn a_number_that_is_taken_is_not_given_out() {
    for next in [0, 1, 3, u64::MAX] {
        let (m, contents) = small();
        let sealed = m.save();
        let mut forgery = Forgery::new(&m, &sealed);
        forgery.set(24, &u64::to_le_bytes(next));
        forgery.reseal();
        let handover = Handover::open(sealed.root(), &forgery.early, Caches::Keep).unwrap();
        let (m, casualties) = m.boot(sealed, Some(&forgery.early), handover).unwrap();
        assert_eq!(casualties, []);
        assert_eq!(m.file("new").0, 7, "six inodes there were");
        assert_eq!(m.read(m.lookup("two"), 0, 20_000), contents["two"]);
    }
}

#[test]
fn a_filesystem_without_a_root_is_empty() {
    let (m, _) = small();
    let sealed = m.save();
    let mut forgery = Forgery::new(&m, &sealed);
    forgery.set(16, &77_u64.to_le_bytes());
    forgery.reseal();
    let handover = Handover::open(sealed.root(), &forgery.early, Caches::Keep).unwrap();
    let (m, casualties) = m.boot(sealed, Some(&forgery.early), handover).unwrap();
    assert_eq!(casualties[0].fault, Fault::NoRoot);
    assert_eq!(m.tmpfs.read_dir(m.root(), 0).unwrap().0, []);
    assert_eq!(m.arena.memory().stats().set_aside, 0);
    m.file("f");
    assert_eq!(m.kexec().1, []);
}

#[test]
fn a_handover_that_nobody_wants_leaves_no_frame_behind() {
    let (m, _) = small();
    let sealed = m.save();
    let handover = Handover::open(sealed.root(), &m.early(&sealed), Caches::Keep).unwrap();
    let reserved: Vec<_> = handover.reserved().collect();
    let arena = m.arena.kexec(&reserved);
    let aside = arena.memory().stats().set_aside;
    assert_eq!(aside, reserved.iter().map(|range| range.count).sum::<u64>());
    // Some of it is claimed already.
    drop(fs::tmpfs::Tmpfs::restore(&handover, arena.memory(), &environment(arena.memory())).unwrap());
    handover.abandon(arena.memory());
    let stats = arena.memory().stats();
    assert_eq!((stats.set_aside, stats.owned()), (0, 0));
    drop(sealed);
}

/// Look at everything below `dir`, a little of each file's content too.
fn visit(m: &Machine, dir: Ino, depth: usize) {
    assert!(depth < 100, "directories in a circle");
    for entry in m.tmpfs.read_dir(dir, 0).unwrap().0 {
        let stat = m.tmpfs.stat(entry.ino).unwrap();
        match entry.kind {
            FileType::Directory => {
                assert_eq!(m.tmpfs.parent(entry.ino), Ok(dir));
                visit(m, entry.ino, depth + 1);
            }
            FileType::Symlink => drop(m.tmpfs.read_link(entry.ino).unwrap()),
            FileType::Regular | FileType::Special => {
                let mut out = [0; 5000];
                let file = m.tmpfs.open(entry.ino).unwrap();
                match file.read(stat.size.saturating_sub(5000), &mut out, &mut cache::ReadAhead::default()) {
                    Ok(len) => assert_eq!(len as u64, stat.size.min(5000)),
                    Err(error) => assert_eq!(error, Error::Quarantined),
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Bytes changed under checksums that are right: the handover is refused, or what comes of it is a tree that works, with every
    /// frame accounted for.
    #[test]
    fn forgeries(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..10)) {
        let (m, _) = small();
        let sealed = m.save();
        let mut forgery = Forgery::new(&m, &sealed);
        let length = sealed.bytes() as usize;
        for (at, byte, small) in changes {
            *forgery.byte(at.index(length)) = if small { byte % 8 } else { byte };
        }
        forgery.reseal();
        let handover = match Handover::open(sealed.root(), &forgery.early, Caches::Keep) {
            Ok(handover) if handover.summary().filesystems == 1 => handover,
            Ok(_) => return Ok(()),
            Err(HandoverError::Checksum { .. }) => panic!("resealed"),
            Err(_) => return Ok(()),
        };
        let (m, casualties) = m.boot(sealed, Some(&forgery.early), handover).unwrap();
        let stats = m.arena.memory().stats();
        prop_assert_eq!((stats.owned(), stats.set_aside), (0, m.tmpfs.census().frames));
        let quarantined = casualties.iter().filter(|c| matches!(c.fault, Fault::Extent(_) | Fault::Earlier)).count();
        prop_assert_eq!(m.tmpfs.census().quarantined, quarantined as u64);
        visit(&m, m.root(), 0);
        // What came of it is whole: it crosses as it is.
        let before = m.tmpfs.census();
        let (m, casualties) = m.kexec();
        prop_assert!(casualties.iter().all(|casualty| casualty.fault == Fault::Earlier), "{:?}", casualties);
        prop_assert_eq!(m.tmpfs.census().inodes, before.inodes);
    }
}
