//! Checksums of a tmpfs's content: taken ahead of a kexec, kept true, and compared when pages are claimed.

mod tmpfs_support;

use cache::ReadAhead;
use frames::PfnRange;
use frames::arena::{Arena, BASE};
use fs::Error;
use fs::filesystem::{FileSystem, Ino, NewNode};
use fs::tmpfs::{Claims, Fault, Options, Progress, Restorer, Tmpfs};
use handover::{Caches, Extent, Filesystem, Handover, Inode, Item, Kind, Sealed, Time};
use proptest::prelude::*;
use tmpfs_support::{Machine, SCRATCH, environment, pattern};
use zerocopy::little_endian::U32;

const PAGE: u64 = 4096;
const WINDOW: u64 = 64 * PAGE;

fn machine() -> Machine {
    Machine::new(2048, Options::default())
}

fn read(m: &Machine, ino: Ino, pos: u64, len: usize) -> Result<Vec<u8>, Error> {
    let mut out = vec![0xa5; len];
    let len = m.tmpfs.open(ino)?.read(pos, &mut out, &mut ReadAhead::default())?;
    out.truncate(len);
    Ok(out)
}

type Change = fn(&Machine, Ino) -> Result<(), Error>;

/// A file with checksums, the handover of it, and the data.
fn summed(pages: usize) -> (Machine, Ino, Vec<u8>) {
    let m = machine();
    let (ino, data) = (m.file("f"), pattern(pages * 4096, 3));
    m.write(ino, 0, &data);
    assert_eq!(m.tmpfs.take_sums(u64::MAX), Progress { hashed: pages as u64, left: 0 });
    (m, ino, data)
}

/// The kexec, with what `damage` does to memory after the handover was written.
fn kexec_with(m: Machine, damage: impl FnOnce(&Machine)) -> Machine {
    let sealed: Sealed = m.save();
    damage(&m);
    let handover = Handover::open(sealed.root(), &m.early(&sealed), Caches::Keep).unwrap();
    let (m, casualties) = m.boot(sealed, None, handover).unwrap();
    assert_eq!(casualties, []);
    m
}

#[test]
fn checksums_are_taken_piece_by_piece() {
    let m = machine();
    let (large, small) = (m.file("large"), m.file("small"));
    m.file("empty");
    m.write(large, 0, &pattern(300 * 4096, 1));
    m.write(small, 5, b"some bytes");
    m.tmpfs.preallocate(small, WINDOW, PAGE).unwrap();
    assert_eq!(m.tmpfs.without_sums(), 2);
    let mut hashed = Vec::new();
    loop {
        let Progress { hashed: now, left } = m.tmpfs.take_sums(100);
        hashed.push(now);
        if left == 0 {
            break;
        }
    }
    assert_eq!((hashed.iter().sum::<u64>(), hashed.iter().max()), (301, Some(&64)), "{hashed:?}");
    let census = m.tmpfs.census();
    assert_eq!((census.windows, census.summed), (6, 6));
    assert_eq!(m.tmpfs.take_sums(100), Progress::default());
    // One window at least, so that it always ends.
    m.write(large, 70 * PAGE, b"x");
    m.write(large, 299 * PAGE, b"x");
    assert_eq!((m.tmpfs.without_sums(), m.tmpfs.census().summed), (1, 4));
    assert_eq!(m.tmpfs.take_sums(0), Progress { hashed: 64, left: 1 });
    assert_eq!(m.tmpfs.take_sums(0), Progress { hashed: 44, left: 0 });
}

#[test]
fn only_what_changes_data_costs_a_checksum() {
    let (m, ino, data) = summed(200);
    let summed = || m.tmpfs.census().summed;
    assert_eq!(m.read(ino, 0, data.len()), data);
    m.tmpfs.link(m.root(), b"g", ino).unwrap();
    m.tmpfs.preallocate(ino, 100 * PAGE, 300 * PAGE).unwrap();
    m.tmpfs.truncate(ino, 350 * PAGE).unwrap();
    m.tmpfs.truncate(ino, 200 * PAGE - 3).unwrap();
    m.tmpfs.punch(ino, 210 * PAGE, PAGE).unwrap();
    assert_eq!((summed(), m.tmpfs.without_sums()), (4, 0));
    // Bytes past the end come to light.
    m.tmpfs.truncate(ino, 200 * PAGE).unwrap();
    assert_eq!((summed(), m.tmpfs.without_sums()), (3, 1));
    m.tmpfs.punch(ino, 64 * PAGE - 1, 2).unwrap();
    assert_eq!(summed(), 1);
    // All of a window goes.
    m.tmpfs.take_sums(u64::MAX);
    m.tmpfs.truncate(ino, 2 * WINDOW).unwrap();
    assert_eq!((summed(), m.tmpfs.without_sums()), (2, 0));
    m.tmpfs.truncate(ino, WINDOW + 3 * PAGE).unwrap();
    assert_eq!((summed(), m.tmpfs.without_sums()), (1, 1));
    m.tmpfs.truncate(ino, 0).unwrap();
    assert_eq!((summed(), m.tmpfs.census().windows), (0, 0));
    assert_eq!(m.tmpfs.take_sums(1), Progress::default());
}

#[test]
fn a_window_is_claimed_once_and_verified_as_a_whole() {
    let (m, ino, data) = summed(200);
    let m = m.kexec().0;
    assert_eq!((m.tmpfs.claims(), m.tmpfs.without_sums()), (Claims::default(), 0));
    assert_eq!(m.read(ino, 65 * PAGE + 7, 100), data[65 * 4096 + 7..][..100]);
    assert_eq!(m.tmpfs.claims(), Claims { frames: 64, windows: 1, pages: 64, lost: 0 });
    assert_eq!((m.tmpfs.census().unclaimed, m.tmpfs.census().summed), (136, 4));
    assert_eq!(m.read(ino, 0, data.len()), data);
    let all = Claims { frames: 200, windows: 4, pages: 200, lost: 0 };
    assert_eq!(m.tmpfs.claims(), all);
    assert_eq!((m.read(ino, 0, data.len()), m.tmpfs.claims()), (data, all));
}

#[test]
fn extents_of_one_window_are_claimed_together() {
    let m = machine();
    let ino = m.file("f");
    // Page by page from the end, so that no two are neighbours in memory, with a hole and a reserved page.
    let data = pattern(64 * 4096, 8);
    for page in (0..64).rev().filter(|page| ![7, 9].contains(page)) {
        m.write(ino, page * PAGE, &data[page as usize * 4096..][..4096]);
        m.write(m.file(&format!("other {page}")), 0, b"between");
    }
    m.tmpfs.preallocate(ino, 9 * PAGE, PAGE).unwrap();
    assert!(m.tmpfs.census().extents > 100);
    m.tmpfs.take_sums(u64::MAX);
    let m = m.kexec().0;
    assert_eq!(m.read(ino, 20 * PAGE, 10), data[20 * 4096..][..10]);
    assert_eq!(m.tmpfs.claims(), Claims { frames: 62, windows: 1, pages: 62, lost: 0 });
    assert_eq!(m.read(ino, 7 * PAGE, 3 * 4096)[..4096], [0; 4096]);
    // What is reserved is written to, and the checksum goes.
    m.write(ino, 9 * PAGE, b"x");
    assert_eq!((m.tmpfs.census().summed, m.tmpfs.without_sums()), (62, 1));
}

#[test]
fn a_changed_page_costs_its_file_and_no_other() {
    let (m, ino, data) = summed(200);
    let other = m.file("other");
    m.write(other, 0, &data);
    m.tmpfs.link(m.root(), b"g", ino).unwrap();
    m.tmpfs.take_sums(u64::MAX);
    let m = kexec_with(m, |m| m.write(ino, 130 * PAGE, b"damage"));
    // What is whole can be had until the damage is found.
    assert_eq!(read(&m, ino, 0, 4096), Ok(data[..4096].to_vec()));
    assert_eq!((m.tmpfs.lost(), m.tmpfs.claims().lost), (Vec::new(), 0));
    assert_eq!(read(&m, ino, 190 * PAGE, 10), Err(Error::Quarantined));
    assert_eq!(read(&m, ino, 0, 10), Err(Error::Quarantined));
    let [casualty] = &m.tmpfs.lost()[..] else { panic!("{:?}", m.tmpfs.lost()) };
    assert_eq!(casualty.to_string(), "/f (inode 2): quarantined: pages 128 to 191 have changed");
    assert_eq!((casualty.fault, m.tmpfs.claims().lost), (Fault::Sum { window: 2 }, 1));
    assert_eq!(read(&m, other, 0, 200 * 4096), Ok(data));
    assert_eq!((m.tmpfs.census().quarantined, m.tmpfs.without_sums()), (1, 0));
    // It stays so until it is emptied.
    let (m, casualties) = m.kexec();
    assert_eq!((casualties.len(), casualties[0].fault), (1, Fault::Earlier));
    m.tmpfs.truncate(ino, 0).unwrap();
    m.write(ino, 0, b"new");
    let m = m.kexec().0;
    assert_eq!(m.read(ino, 0, 10), b"new");
}

#[test]
fn part_of_a_damaged_window_cannot_be_changed() {
    let partial: [Change; 6] = [
        |m, ino| m.tmpfs.open(ino).unwrap().write(WINDOW + 5, b"x").map(drop),
        |m, ino| m.tmpfs.open(ino).unwrap().write(2 * WINDOW - 1, b"xy").map(drop),
        |m, ino| m.tmpfs.truncate(ino, WINDOW + 20 * PAGE),
        |m, ino| m.tmpfs.punch(ino, 2 * WINDOW - PAGE, 2 * PAGE),
        |m, ino| m.tmpfs.punch(ino, WINDOW + 5, 10),
        |m, ino| m.tmpfs.punch(ino, 10 * PAGE, WINDOW),
    ];
    for (at, change) in partial.into_iter().enumerate() {
        let (m, ino, data) = summed(200);
        let m = kexec_with(m, |m| m.write(ino, 100 * PAGE + 1, b"damage"));
        assert_eq!(read(&m, ino, 0, 10), Ok(data[..10].to_vec()));
        assert_eq!(change(&m, ino), Err(Error::Quarantined), "{at}");
        assert_eq!((m.tmpfs.claims().lost, m.tmpfs.census().quarantined), (1, 1), "{at}");
    }
}

#[test]
fn what_goes_as_a_whole_is_not_read() {
    let whole: [Change; 5] = [
        |m, ino| m.tmpfs.truncate(ino, 0),
        |m, ino| m.tmpfs.truncate(ino, WINDOW),
        |m, ino| m.tmpfs.punch(ino, WINDOW, WINDOW),
        |m, ino| m.tmpfs.punch(ino, WINDOW, 3 * WINDOW),
        |m, ino| m.tmpfs.unlink(m.root(), b"f").map(|()| assert_eq!(ino.0, 2)),
    ];
    for change in whole {
        let (m, ino, _) = summed(200);
        let m = kexec_with(m, |m| m.write(ino, 100 * PAGE + 1, b"damage"));
        assert_eq!((change(&m, ino), m.tmpfs.claims()), (Ok(()), Claims::default()));
        let stats = m.arena.memory().stats();
        assert_eq!(stats.owned() + stats.set_aside, m.tmpfs.census().frames);
        assert_eq!(m.tmpfs.take_sums(u64::MAX), Progress::default());
    }
}

#[test]
fn what_nobody_claims_is_handed_on_with_its_checksum() {
    let (m, ino, data) = summed(200);
    let m = m.kexec().0;
    assert_eq!(m.tmpfs.take_sums(u64::MAX), Progress::default());
    let m = m.kexec().0;
    // Two windows are claimed, one of them is changed; only that is hashed again.
    assert_eq!(m.read(ino, 0, 10), data[..10]);
    m.write(ino, WINDOW, b"new");
    assert_eq!(m.tmpfs.claims().windows, 2);
    assert_eq!(m.tmpfs.take_sums(u64::MAX), Progress { hashed: 64, left: 0 });
    assert_eq!(m.tmpfs.claims().frames, 128);
    // Damage that was done generations ago is still found.
    let m = kexec_with(m, |_| ()).kexec().0;
    assert_eq!(m.read(ino, WINDOW, 5), [b"new", &data[WINDOW as usize + 3..][..2]].concat());
    let m = kexec_with(m, |m| m.write(ino, 199 * PAGE, b"damage"));
    let m = m.kexec().0;
    assert_eq!(read(&m, ino, 199 * PAGE, 1), Err(Error::Quarantined));
}

#[test]
fn what_changed_after_its_checksum_is_not_verified() {
    let (m, ino, mut data) = summed(200);
    m.write(ino, 3, b"changed");
    data[3..10].copy_from_slice(b"changed");
    let m = m.kexec().0;
    assert_eq!((m.tmpfs.without_sums(), m.tmpfs.census().summed), (1, 3));
    assert_eq!(m.read(ino, 0, data.len()), data);
    assert_eq!(m.tmpfs.claims(), Claims { frames: 200, windows: 3, pages: 136, lost: 0 });
}

#[test]
fn checksums_of_what_came_without_are_taken_in_place() {
    let m = machine();
    let (ino, data) = (m.file("f"), pattern(100 * 4096, 3));
    m.write(ino, 0, &data);
    let m = m.kexec().0;
    assert_eq!(m.tmpfs.take_sums(u64::MAX), Progress { hashed: 100, left: 0 });
    let m = kexec_with(m, |m| m.write(ino, 99 * PAGE, b"damage"));
    assert_eq!(read(&m, ino, 99 * PAGE, 1), Err(Error::Quarantined));
}

#[test]
fn one_that_is_not_handed_over_wants_none() {
    let m = Machine::new(256, Options { handover: false, ..Options::default() });
    m.write(m.file("f"), 0, &pattern(10 * 4096, 1));
    assert_eq!((m.tmpfs.without_sums(), m.tmpfs.take_sums(u64::MAX)), (0, Progress::default()));
}

#[test]
fn metadata_stays_small() {
    let m = Machine::new(16 * 1024, Options { size: Some(1 << 30), ..Options::default() });
    let empty = m.save().bytes();
    let whole = m.file("whole");
    m.write(whole, 0, &vec![1; 4096 * 4096]);
    m.tmpfs.take_sums(u64::MAX);
    let bytes = m.save().bytes() - empty;
    assert!(bytes * 10_000 <= 2 * 4096 * PAGE, "{bytes} bytes for a contiguous file");
    m.tmpfs.truncate(whole, 0).unwrap();
    let before = m.save().bytes();
    for page in (0..4096).rev() {
        m.write(m.lookup("whole"), page * PAGE, b"x");
    }
    assert!(m.tmpfs.census().extents >= 4000);
    m.tmpfs.take_sums(u64::MAX);
    let bytes = m.save().bytes() - before;
    assert!(bytes * 1_000 <= 4 * 4096 * PAGE, "{bytes} bytes for a scattered file");
}

// ---- what is not to be trusted

/// A filesystem with a file of `pages` pages, of which `extents` hold data in frames that are set aside from `BASE + SCRATCH` on, and
/// the checksums that somebody claims it has.
fn told(pages: u64, extents: &[(u32, u32)], sums: &[(u32, Vec<u32>)]) -> (Arena, Tmpfs) {
    let first = BASE.offset(SCRATCH);
    let count = extents.iter().map(|&(_, count)| u64::from(count)).sum();
    let arena = Arena::with_scratch(512, SCRATCH as usize).kexec(&[PfnRange { start: first, count }]);
    let mut restorer = Restorer::new(&environment(arena.memory()));
    let inode = |ino, kind, size| {
        let [atime, mtime, ctime] = [Time::default(); 3];
        let (mode, uid, gid, links, quarantined) = (0o644, 0, 0, 1, false);
        Item::Inode(Inode { ino, kind, mode, uid, gid, links, size, atime, mtime, ctime, quarantined })
    };
    restorer.take(Item::Filesystem(Filesystem { label: b"/tmp", root: 1, next_ino: 9, size_limit: None }));
    restorer.take(inode(1, Kind::Directory, 0));
    restorer.take(Item::Entry { ino: 2, name: b"f" });
    restorer.take(inode(2, Kind::Regular, pages * PAGE));
    let mut start = first;
    for &(index, count) in extents {
        restorer.take(Item::Extent(Extent { index, count, start, preallocated: false }));
        start = start.offset(u64::from(count));
    }
    for (first, sums) in sums {
        let sums: Vec<U32> = sums.iter().map(|&sum| sum.into()).collect();
        restorer.take(Item::Sums { first: *first, sums: &sums });
    }
    let [restored] = &mut restorer.finish()[..] else { panic!("one filesystem") };
    let empty = Tmpfs::new(environment(arena.memory()), Options::default());
    (arena, std::mem::replace(&mut restored.tmpfs, empty))
}

#[test]
fn checksums_of_nothing_prove_nothing() {
    // Of holes, of the same window twice, backwards, and past the end.
    let sums = [(1, vec![1, 2]), (2, vec![7]), (0, vec![5; 300]), (1 << 26, vec![1]), (u32::MAX, vec![1, 2])];
    let (arena, tmpfs) = told(300, &[(200, 10)], &sums);
    let file = tmpfs.open(Ino(2)).unwrap();
    let mut out = [0; 10];
    assert_eq!(file.read(0, &mut out, &mut ReadAhead::default()), Ok(10), "a hole");
    assert_eq!(file.write(0, b"x"), Ok(1));
    assert_eq!(file.write(WINDOW + 5, b"x"), Ok(1), "a hole that has a checksum");
    assert_eq!(tmpfs.claims(), Claims::default());
    assert_eq!(tmpfs.truncate(Ino(2), 150 * PAGE), Ok(()));
    tmpfs.take_sums(u64::MAX);
    drop(file);
    drop(tmpfs);
    assert_eq!(arena.memory().stats().set_aside, 0);
}

#[test]
fn more_checksums_than_pages_are_not_kept() {
    let (_arena, tmpfs) = told(1 << 30, &[(0, 1)], &[(1, vec![1; 200]), (4000, vec![1; 200])]);
    assert_eq!(tmpfs.census().summed, 0);
}

#[test]
fn a_wrong_checksum_is_a_quarantined_file() {
    for sums in [vec![(0, vec![1])], vec![(0, vec![1, 2])]] {
        let (_arena, tmpfs) = told(100, &[(0, 100)], &sums);
        let file = tmpfs.open(Ino(2)).unwrap();
        assert_eq!(file.read(5, &mut [0], &mut ReadAhead::default()), Err(Error::Quarantined));
        assert_eq!(tmpfs.lost().len(), 1);
    }
}

#[test]
fn content_that_is_rejected_is_freed_when_the_caller_says_so() {
    let first = BASE.offset(SCRATCH);
    let arena = Arena::with_scratch(64, SCRATCH as usize).kexec(&[PfnRange { start: first, count: 10 }]);
    let mut restorer = Restorer::new(&environment(arena.memory()));
    restorer.take(Item::Filesystem(Filesystem { label: b"/tmp", root: 1, next_ino: 9, size_limit: None }));
    let zero = Time::default();
    restorer.take(Item::Inode(Inode {
        ino: 2,
        kind: Kind::Regular,
        mode: 0,
        uid: 0,
        gid: 0,
        links: 1,
        size: 10 * PAGE,
        atime: zero,
        mtime: zero,
        ctime: zero,
        quarantined: false,
    }));
    restorer.take(Item::Extent(Extent { index: 0, count: 10, start: first, preallocated: false }));
    let mut restored = restorer.finish();
    let restored = restored.remove(0);
    assert_eq!(restored.casualties.len(), 2, "no root, and a file without a name");
    assert_eq!(arena.memory().stats().set_aside, 10);
    drop(restored.rejected);
    assert_eq!(arena.memory().stats().set_aside, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any bit of any page that is handed over: its file is quarantined, the others are whole, nobody sees the wrong byte.
    #[test]
    fn any_bit_of_any_page(page in 0_u64..150, bit in 0_u64..8 * PAGE, order in any::<u64>()) {
        let m = machine();
        let files: Vec<_> = ["a", "b", "c"].into_iter().enumerate().map(|(seed, name)| {
            let (ino, data) = (m.file(name), pattern(50 * 4096, seed as u64));
            m.write(ino, 0, &data);
            (ino, data)
        }).collect();
        m.tmpfs.take_sums(u64::MAX);
        let (damaged, at) = ((page / 50) as usize, page % 50 * PAGE + bit / 8);
        let byte = files[damaged].1[at as usize] ^ 1 << (bit % 8);
        let m = kexec_with(m, |m| m.write(files[damaged].0, at, &[byte]));
        for turn in 0..3 {
            let which = ((order >> 2) + turn) as usize % 3;
            let found = read(&m, files[which].0, 0, 50 * 4096);
            if which == damaged {
                prop_assert_eq!(found, Err(Error::Quarantined));
            } else {
                prop_assert!(found.as_ref() == Ok(&files[which].1));
            }
        }
        prop_assert_eq!(m.tmpfs.lost().len(), 1);
    }
}

#[test]
fn links_and_directories_have_no_content_to_check() {
    let m = machine();
    m.tmpfs.create(m.root(), b"d", NewNode::Directory, 0).unwrap();
    m.tmpfs.create(m.root(), b"l", NewNode::Symlink(b"x"), 0).unwrap();
    assert_eq!(m.tmpfs.take_sums(1), Progress::default());
}

#[test]
fn some_windows_have_a_checksum_and_others_none() {
    let m = machine();
    let ino = m.file("f");
    m.write(ino, 0, b"x");
    m.write(ino, WINDOW, b"x");
    assert_eq!(m.tmpfs.take_sums(0), Progress { hashed: 1, left: 1 });
    // It has one checksum already that a write has to care about.
    m.write(ino, 1, b"y");
    assert_eq!((m.tmpfs.census().windows, m.tmpfs.census().summed), (2, 0));
    assert_eq!(m.tmpfs.take_sums(0), Progress { hashed: 1, left: 1 });
    let m = m.kexec().0;
    assert_eq!(m.read(ino, 0, 2), b"xy");
}

#[test]
fn several_processors_take_checksums_of_a_tree_and_none_twice() {
    let m = machine();
    let files: Vec<Ino> = (0..12).map(|index| m.file(&format!("f{index}"))).collect();
    for (&ino, index) in files.iter().zip(1..) {
        m.write(ino, 0, &pattern(index * 10 * 4096, index as u64));
    }
    let take = || {
        let (mut hashed, mut last) = (0, Progress::default());
        while last.left > 0 || hashed == 0 {
            last = m.tmpfs.take_sums(64);
            hashed += last.hashed;
            if m.tmpfs.without_sums() == 0 {
                break;
            }
        }
        hashed
    };
    let hashed: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let census = m.tmpfs.census();
    assert_eq!((hashed, m.tmpfs.without_sums()), ((1..=12).map(|index| index * 10).sum(), 0));
    assert_eq!(census.summed, census.windows);
}
