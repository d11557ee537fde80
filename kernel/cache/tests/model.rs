//! The page cache over a disk in memory: whatever is evicted, taken back, dropped or changed, every byte read is the disk's.

mod machine;

use cache::{DropWhat, FileId, FillError};
use cleancache::{Config, Kind};
use frames::{FRAME_SIZE, Frame, Zones};
use machine::{machine, machine_with, pattern};
use proptest::prelude::*;

const FILES: u64 = 3;
const PAGES: u64 = 90;

#[derive(Clone, Debug)]
enum Op {
    Read {
        file: u64,
        pos: u64,
        len: usize,
    },
    Write {
        file: u64,
        pos: u64,
        len: usize,
        value: u8,
    },
    Truncate {
        file: u64,
        size: u64,
    },
    /// The filesystem writes past the page cache.
    Direct {
        file: u64,
        index: u32,
        value: u8,
    },
    Delete {
        file: u64,
    },
    Reclaim(usize),
    Drop(bool),
    TakeBack(usize),
    Sync,
    Hold(usize),
    Break {
        file: u64,
        index: u32,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let file = || 0..FILES;
    let pos = || 0..PAGES * FRAME_SIZE as u64;
    prop_oneof![
        10 => (file(), pos(), 1usize..40_000).prop_map(|(file, pos, len)| Op::Read { file, pos, len }),
        4 => (file(), pos(), 1usize..10_000, any::<u8>())
            .prop_map(|(file, pos, len, value)| Op::Write { file, pos, len, value }),
        1 => (file(), pos()).prop_map(|(file, size)| Op::Truncate { file, size }),
        1 => (file(), 0..PAGES as u32, any::<u8>())
            .prop_map(|(file, index, value)| Op::Direct { file, index, value }),
        1 => file().prop_map(|file| Op::Delete { file }),
        1 => (0usize..100).prop_map(Op::Reclaim),
        1 => any::<bool>().prop_map(Op::Drop),
        2 => any::<usize>().prop_map(Op::TakeBack),
        1 => Just(Op::Sync),
        1 => (0usize..60).prop_map(Op::Hold),
        1 => (file(), 0..PAGES as u32).prop_map(|(file, index)| Op::Break { file, index }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Properties 3, 6, 7, 8, 9, 10, 15 and 17 of cleancache, behind the real page cache.
    #[test]
    fn every_byte_read_is_the_disks(
        gate in any::<bool>(),
        exclusive in any::<bool>(),
        exchange in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let kind = if exchange { Kind::Exchangeable } else { Kind::Fixed };
        let config = Config { gate, exclusive, ..Config::default() };
        let (machine, mut lent) = machine_with(220, 48, config, kind);
        let mut generation = [0u32; FILES as usize];
        let open = |file: u64, generation: u32| machine.cache.open(machine.fs, file + 1, generation).expect("mounted");
        let mut files: Vec<FileId> = (0..FILES).map(|file| open(file, 0)).collect();
        // The model: what each file reads as.
        let fresh = |file: u64| -> Vec<u8> { (0..PAGES as u32).flat_map(|index| pattern(file + 1, index)).collect() };
        let mut model: Vec<Vec<u8>> = (0..FILES).map(fresh).collect();
        let mut held: Vec<Frame> = Vec::new();

        for op in ops {
            match op {
                Op::Read { file, pos, len } => {
                    let content = &model[file as usize];
                    let expected = content.get(pos as usize..).unwrap_or(&[]);
                    let expected = &expected[..expected.len().min(len)];
                    match machine.read(files[file as usize], content.len() as u64, pos, len) {
                        Ok(got) => prop_assert!(got == expected, "wrong bytes in file {} at {}", file, pos),
                        Err(FillError::NoMemory) => prop_assert!(!held.is_empty()),
                        Err(error) => {
                            let FillError::Device { sector } = error else { panic!("{error}") };
                            let touched = pos / 4096..=(pos + len as u64 - 1) / 4096;
                            prop_assert!(touched.contains(&sector), "an error that is not this read's");
                        }
                    }
                    machine.disk.bad().clear();
                }
                Op::Write { file, pos, len, value } => {
                    let content = &mut model[file as usize];
                    let pos = pos.min(content.len() as u64);
                    let len = len.min((PAGES * 4096 - pos) as usize);
                    machine.disk.bad().clear();
                    let data = vec![value; len];
                    match machine.cache.write(files[file as usize], content.len() as u64, pos, &data) {
                        Ok(written) => {
                            prop_assert_eq!(written, len);
                            let end = pos as usize + len;
                            content.resize(content.len().max(end), 0);
                            content[pos as usize..end].fill(value);
                        }
                        // Part of it may be written, and the file is as long as before: start this file anew.
                        Err(_) => {
                            prop_assert!(!held.is_empty());
                            held.clear();
                            machine.cache.invalidate(files[file as usize], 0, u32::MAX);
                            machine.disk.written().retain(|&(ino, _), _| ino != file + 1);
                            model[file as usize] = fresh(file);
                        }
                    }
                }
                Op::Truncate { file, size } => {
                    let content = &mut model[file as usize];
                    let size = size.min(content.len() as u64);
                    machine.cache.truncate(files[file as usize], size);
                    // The filesystem clears what it cut off, as one that frees blocks does; then it grows again by a hole.
                    let mut written = machine.disk.written();
                    for index in 0..PAGES as u32 {
                        let start = u64::from(index) * 4096;
                        if start + 4096 > size {
                            let from = size.saturating_sub(start).min(4096) as usize;
                            let page = written
                                .entry((file + 1, index))
                                .or_insert_with(|| Box::new(pattern(file + 1, index)));
                            page[from..].fill(0);
                        }
                    }
                    let len = content.len();
                    content.truncate(size as usize);
                    content.resize(len, 0);
                }
                Op::Direct { file, index, value } => {
                    let id = files[file as usize];
                    machine.disk.bad().clear();
                    prop_assert_eq!(machine.cache.sync(Some(id)), Ok(()));
                    machine.cache.invalidate(id, index, index);
                    machine.disk.written().insert((file + 1, index), Box::new([value; FRAME_SIZE]));
                    let content = &mut model[file as usize];
                    let start = index as usize * 4096;
                    let end = content.len().min(start + 4096);
                    if start < end {
                        content[start..end].fill(value);
                    }
                }
                Op::Delete { file } => {
                    machine.cache.forget(files[file as usize]);
                    prop_assert_eq!(
                        machine.read(files[file as usize], 4096, 0, 10),
                        Err(FillError::Unmounted)
                    );
                    machine.disk.written().retain(|&(ino, _), _| ino != file + 1);
                    generation[file as usize] += 1;
                    files[file as usize] = open(file, generation[file as usize]);
                    model[file as usize] = fresh(file);
                }
                Op::Reclaim(want) => {
                    machine.disk.bad().clear();
                    machine.cache.reclaim(want);
                }
                Op::Drop(all) => {
                    machine.cache.drop_caches(if all { DropWhat::All } else { DropWhat::Pages });
                }
                Op::TakeBack(which) if !lent.is_empty() => {
                    let pfn = lent.swap_remove(which % lent.len());
                    let cleancache = machine.cache.cleancache();
                    if exchange {
                        let taken = cleancache.take_any(machine.pool, 1).map(|taken| taken.len());
                        prop_assert_eq!(taken, Ok(1));
                    } else {
                        prop_assert!(cleancache.take_back(machine.pool, pfn).is_ok());
                    }
                }
                Op::Sync => {
                    machine.disk.bad().clear();
                    prop_assert!(machine.cache.sync(None).is_ok() || !held.is_empty());
                }
                Op::Hold(frames) => {
                    held.clear();
                    held.extend((0..frames).filter_map(|_| machine.cache.allocate(Zones::Preservable).ok()));
                }
                Op::Break { file, index } => {
                    machine.disk.bad().insert((file + 1, index));
                }
                Op::TakeBack(_) => {}
            }
            let owned = machine.memory.stats().owned() - held.len() as u64;
            let donated: u64 = machine.cache.cleancache().pool_stats().iter().map(|pool| pool.donated).sum();
            prop_assert_eq!(owned, machine.cache.stats().pages() + donated);
        }
        held.clear();
        machine.check_frames();
        machine.cache.remove_fs(machine.fs);
        prop_assert_eq!(machine.cache.stats().pages(), 0);
    }
}

#[test]
fn what_neither_cache_has_is_all_that_is_read_again() {
    let (machine, _) = machine(220, 40, Config::default());
    let file = machine.cache.open(machine.fs, 1, 0).expect("mounted");
    machine.read(file, 30 * 4096, 0, 30 * 4096).expect("a good disk");
    assert_eq!(machine.disk.pages_read(), 30);
    machine.cache.drop_caches(DropWhat::Pages);
    machine.read(file, 30 * 4096, 0, 30 * 4096).expect("a good disk");
    assert_eq!(machine.disk.pages_read(), 30, "all of it came from cleancache");
    // Every third page is lost from both: only these are read.
    for index in (0..30).step_by(3) {
        machine.cache.invalidate(file, index, index);
    }
    let content = machine.read(file, 30 * 4096, 0, 30 * 4096).expect("a good disk");
    assert_eq!(machine.disk.pages_read(), 40);
    assert!((0..30).all(|index| content[index * 4096..][..4096] == pattern(1, index as u32)));
}

#[test]
fn a_hot_set_survives_a_scan() {
    let (machine, _) = machine(400, 0, Config::default());
    let hot = machine.cache.open(machine.fs, 1, 0).expect("mounted");
    let cold = machine.cache.open(machine.fs, 2, 0).expect("mounted");
    let size = 4000 * 4096;
    for _ in 0..4 {
        for index in 0..100 {
            machine.read(hot, size, index * 4096, 4096).expect("a good disk");
        }
    }
    // A scan of ten times memory, while the hot set is still read now and then.
    for index in 0..4000u64 {
        machine.read(cold, size, index * 4096, 4096).expect("a good disk");
        machine.read(hot, size, (index % 100) * 4096, 4096).expect("a good disk");
    }
    let before = machine.disk.pages_read();
    for index in 0..100 {
        machine.read(hot, size, index * 4096, 4096).expect("a good disk");
    }
    assert_eq!(machine.disk.pages_read(), before, "the hot set was evicted by a scan");
}

#[test]
fn a_tree_larger_than_memory_can_be_read_for_ever() {
    let (machine, _) = machine(160, 16, Config::default());
    for round in 0..6 {
        for ino in 1..40 {
            let file = machine.cache.open(machine.fs, ino, 0).expect("mounted");
            let content = machine.read(file, 20 * 4096 + 5, 0, 21 * 4096).expect("a good disk");
            assert_eq!(content.len(), 20 * 4096 + 5);
            assert_eq!(content[4096..8192], pattern(ino, 1), "round {round}");
            machine.cache.close(file);
        }
    }
    machine.check_frames();
}

#[test]
fn a_page_that_could_not_be_written_stays_dirty() {
    let (machine, _) = machine(220, 0, Config::default());
    let file = machine.cache.open(machine.fs, 1, 0).expect("mounted");
    machine.cache.write(file, 4096, 0, &[9; 4096]).expect("memory");
    machine.disk.bad().insert((1, 0));
    assert_eq!(machine.cache.sync(Some(file)), Err(FillError::Device { sector: 0 }));
    machine.cache.reclaim(1000);
    assert_eq!(machine.cache.stats().dirty, 1);
    machine.disk.bad().clear();
    assert_eq!(machine.cache.sync(Some(file)), Ok(()));
    machine.cache.drop_caches(DropWhat::All);
    assert_eq!(machine.read(file, 4096, 0, 4096).as_deref(), Ok(&[9; 4096][..]));
}

#[test]
fn reclaim_finds_what_is_active_when_nothing_is_inactive() {
    let (machine, _) = machine(220, 0, Config::default());
    let file = machine.cache.open(machine.fs, 1, 0).expect("mounted");
    // Read again and again, until reclaim has made every page active and knows it as just read.
    for _ in 0..4 {
        for index in 0..100 {
            machine.read(file, 100 * 4096, index * 4096, 4096).expect("a good disk");
        }
        machine.cache.reclaim(1);
    }
    for index in 0..100 {
        machine.read(file, 100 * 4096, index * 4096, 4096).expect("a good disk");
    }
    for left in (0..machine.cache.stats().pages()).rev() {
        assert_eq!(machine.cache.reclaim(1), 1);
        assert_eq!(machine.cache.stats().pages(), left);
    }
}

#[test]
fn frames_that_can_be_preserved_are_found_behind_those_that_cannot() {
    // A quarter is scratch, and is handed out first: the pages read first lie there.
    let (machine, _) = machine(400, 0, Config::default());
    let file = machine.cache.open(machine.fs, 1, 0).expect("mounted");
    for index in 0..360 {
        machine.read(file, 360 * 4096, index * 4096, 4096).expect("a good disk");
    }
    // Those in ordinary memory are read again; the next reclaim makes them active.
    for _ in 0..2 {
        for index in 100..360 {
            machine.read(file, 360 * 4096, index * 4096, 4096).expect("a good disk");
        }
        machine.cache.reclaim(1);
    }
    let held: Vec<Frame> = std::iter::from_fn(|| machine.cache.allocate(Zones::Preservable).ok()).collect();
    assert!(held.len() > 230, "only {} frames", held.len());
}
