//! Write-back: which pages go out together and when, what becomes of those that the disk does not take, and who is told.

mod machine;

use cache::{DropWhat, FileId, FillError, OutOfMemory};
use cleancache::Config;
use frames::{FRAME_SIZE, Zones};
use machine::{Machine, machine, pattern};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

const PAGE: u64 = FRAME_SIZE as u64;
/// A round of age.
const ROUND: Duration = Duration::from_secs(15);

/// Make pages of a file dirty.
fn dirty(machine: &Machine, file: FileId, indices: impl IntoIterator<Item = u32>) {
    for index in indices {
        let page = [(index as u8).wrapping_add(1); FRAME_SIZE];
        assert_eq!(machine.cache.write(file, u64::MAX, u64::from(index) * PAGE, &page), Ok(FRAME_SIZE));
    }
}

fn is_on_disk(machine: &Machine, ino: u64, index: u32) -> bool {
    machine.disk.written().get(&(ino, index)).is_some_and(|page| **page == [(index as u8).wrapping_add(1); FRAME_SIZE])
}

fn bad(ino: u64, index: u32) -> FillError {
    assert_eq!(ino, 1);
    FillError::Device { sector: index.into() }
}

#[test]
fn neighbours_go_out_together_in_whatever_order_they_were_written() {
    let (machine, _) = machine(4096, 0, Config::default());
    let file = machine.open(1);
    dirty(&machine, file, (0..64).rev().map(|place| place * 37 % 64));
    dirty(&machine, file, [100, 102, 101, 200]);
    machine.cache.sync(Some(file)).expect("a good disk");
    let runs = machine.disk.runs();
    let mut runs: Vec<_> = runs.iter().map(|&(_, first, count)| (first, count)).collect();
    runs.sort();
    assert_eq!(runs, [(0, 16), (16, 16), (32, 16), (48, 16), (100, 3), (200, 1)]);
    assert_eq!((machine.cache.stats().runs, machine.cache.stats().written), (6, 68));
    assert_eq!(machine.cache.stats().dirty, 0);
}

#[test]
fn a_sync_of_one_file_writes_no_other() {
    let (machine, _) = machine(4096, 0, Config::default());
    let (one, other) = (machine.open(1), machine.open(2));
    for index in 0..90 {
        dirty(&machine, one, [index]);
        dirty(&machine, other, [index]);
    }
    machine.cache.sync(Some(other)).expect("a good disk");
    assert!((0..90).all(|index| is_on_disk(&machine, 2, index) && !is_on_disk(&machine, 1, index)));
    assert_eq!(machine.disk.runs().len(), 6);
    machine.cache.sync(None).expect("a good disk");
    assert!((0..90).all(|index| is_on_disk(&machine, 1, index)));
}

#[test]
fn one_bad_page_keeps_no_neighbour_from_the_disk_and_is_told_once_to_each() {
    let (machine, _) = machine(4096, 0, Config::default());
    let (file, other) = (machine.open(1), machine.open(2));
    dirty(&machine, file, 0..20);
    dirty(&machine, other, 0..3);
    machine.disk.bad().insert((1, 7));
    // Behind everybody's back.
    machine.cache.write_back_some(ROUND);
    machine.cache.write_back_some(2 * ROUND);
    assert!((0..20).all(|index| is_on_disk(&machine, 1, index) == (index != 7)));
    let stats = machine.cache.stats();
    assert_eq!((stats.dirty, stats.failed), (1, 1));
    machine.cache.drop_caches(DropWhat::All);
    assert_eq!(machine.read(file, 20 * PAGE, 7 * PAGE, 1), Ok(vec![8]), "the page is kept");

    assert_eq!(machine.cache.sync(Some(other)), Ok(()), "it is not this one's failure");
    machine.disk.bad().clear();
    assert_eq!(machine.cache.write_out(Some(file)), Ok(()), "what failed earlier is for those who sync");
    assert!(is_on_disk(&machine, 1, 7));
    assert_eq!(machine.cache.sync(Some(file)), Err(bad(1, 7)));
    assert_eq!(machine.cache.sync(Some(file)), Ok(()));
    assert_eq!(machine.cache.sync(None), Err(bad(1, 7)));
    assert_eq!(machine.cache.sync(None), Ok(()));
}

#[test]
fn a_sync_of_one_file_leaves_others_as_owed_and_as_failed_as_they_were() {
    for pages in [3, 90] {
        let (machine, _) = machine(4096, 0, Config::default());
        let (file, other) = (machine.open(1), machine.open(2));
        let theirs = || (0..100).map(|place| place * 2);
        dirty(&machine, file, theirs());
        machine.disk.bad().insert((1, 0));
        machine.cache.write_back_some(ROUND);
        // All of them are due now, and some are tried.
        machine.cache.write_back_some(2 * ROUND);
        assert_eq!(machine.cache.stats().failed, 1);
        let tried = machine.disk.runs().len();
        dirty(&machine, other, 0..pages);
        machine.cache.sync(Some(other)).expect("a good disk");
        assert!(machine.disk.runs()[tried..].iter().all(|&(ino, ..)| ino == 2));
        assert_eq!(machine.cache.stats().failed, 1);
        while machine.cache.write_back_some(2 * ROUND) {}
        assert!(theirs().all(|index| is_on_disk(&machine, 1, index) == (index != 0)), "{pages}: still due");
        assert_eq!(machine.cache.sync(Some(other)), Ok(()));
        machine.disk.bad().clear();
        assert_eq!(machine.cache.sync(Some(file)), Err(bad(1, 0)));
    }
}

#[test]
fn a_changed_page_has_no_copy_in_cleancache() {
    for exclusive in [true, false] {
        let (machine, _) = machine(400, 100, Config { exclusive, ..Config::default() });
        let file = machine.open(1);
        let copies = || machine.cache.cleancache().file_len(file);
        // Whether it is here or only there, whether all of it is changed or a part.
        for (resident, len) in [(false, FRAME_SIZE), (false, 10), (true, FRAME_SIZE), (true, 10)] {
            machine.read_all(file, 20);
            machine.cache.drop_caches(DropWhat::Pages);
            assert_eq!(copies(), 20);
            if resident {
                machine.read(file, 20 * PAGE, 5 * PAGE, 1).expect("a good disk");
            }
            let here = machine.cache.stats().pages();
            assert_eq!(machine.cache.write(file, 20 * PAGE, 5 * PAGE, &vec![3; len]), Ok(len));
            let brought = if exclusive && resident { here as usize } else { 1 };
            assert_eq!(copies(), 20 - brought, "{exclusive}, {resident}, {len}");
            machine.cache.sync(Some(file)).expect("a good disk");
            // Out of the page cache past cleancache: what is read is what the disk has.
            machine.cache.drop_caches(DropWhat::All);
            assert_eq!(machine.read(file, 20 * PAGE, 5 * PAGE, len), Ok(vec![3; len]));
        }
    }
}

#[test]
fn a_sync_tries_each_page_once() {
    let (machine, _) = machine(4096, 0, Config::default());
    let file = machine.open(1);
    dirty(&machine, file, (0..30).map(|place| place * 2));
    machine.disk.bad().extend((0..60).map(|index| (1, index)));
    for attempts in 1..4 {
        assert!(machine.cache.sync(None).is_err());
        assert_eq!(machine.disk.runs().len(), 30 * attempts);
    }
    // Nor does anybody else try again before a round is over.
    while machine.cache.write_back_some(ROUND) {}
    let tried = machine.disk.runs().len();
    for _ in 0..10 {
        machine.cache.reclaim(100);
        machine.cache.write_back_some(ROUND + Duration::from_secs(1));
    }
    assert_eq!(machine.disk.runs().len(), tried);
}

#[test]
fn what_can_never_be_written_makes_memory_short_and_nothing_hang() {
    let (machine, _) = machine(220, 0, Config::default());
    let file = machine.open(1);
    machine.disk.die();
    let mut refused = None;
    for index in 0..400 {
        if let Err(error) = machine.cache.write(file, u64::MAX, index * PAGE, &[1; FRAME_SIZE]) {
            refused = Some((index, error));
            break;
        }
    }
    let (accepted, error) = refused.expect("a limit");
    assert_eq!(error, FillError::DeadDevice, "what is not written is not all of memory");
    assert!((20..110).contains(&accepted), "{accepted} pages");
    assert_eq!(machine.cache.stats().dirty, accepted, "and none of it is lost");
    // Whoever wants all the memory gets what is left of it.
    let held: Vec<_> = std::iter::from_fn(|| machine.cache.allocate(Zones::Ephemeral).ok()).collect();
    assert_eq!(machine.cache.allocate(Zones::Ephemeral).err(), Some(OutOfMemory));
    assert_eq!(machine.cache.sync(None), Err(FillError::DeadDevice));
    drop(held);
    assert_eq!(machine.cache.stats().dirty, accepted);
}

#[test]
fn writers_write_what_is_too_much_and_age_does_the_rest() {
    let (machine, _) = machine(1000, 0, Config::default());
    let file = machine.open(1);
    let mut most = 0;
    for index in 0..800 {
        dirty(&machine, file, [index]);
        most = most.max(machine.cache.stats().dirty);
    }
    assert!((150..=210).contains(&most), "{most} of 1000 frames were dirty");
    // A tenth may stay.
    while machine.cache.write_back_some(Duration::ZERO) {}
    let left = machine.cache.stats().dirty;
    assert!((20..=100).contains(&left), "{left} are left");
    assert!(!machine.cache.write_back_some(ROUND) && machine.cache.stats().dirty == left, "young still");
    while machine.cache.write_back_some(2 * ROUND) {}
    assert_eq!(machine.cache.stats().dirty, 0);
    // A page that is changed all the time is old all the same.
    machine.disk.written().clear();
    let mut written_at = Vec::new();
    for second in 30..75 {
        dirty(&machine, file, [5]);
        machine.cache.write_back_some(Duration::from_secs(second));
        if machine.disk.written().remove(&(1, 5)).is_some() {
            written_at.push(second);
        }
    }
    assert_eq!(written_at, [60]);
}

/// While page 0 of file 1 is on its way, `deed` begins in another thread, and is still at it when the page arrives.
fn meanwhile(machine: &Machine, deed: impl FnOnce(&cache::PageCache) + Send + 'static) {
    let cache = machine.cache.clone();
    let arrived = Arc::new(AtomicBool::new(false));
    let (on_its_way, say) = (arrived.clone(), mpsc::channel());
    let (sender, other) = say;
    machine.disk.during_write(move || {
        let begun = Arc::new(AtomicBool::new(false));
        let (starts, arrived) = (begun.clone(), on_its_way.clone());
        let thread = thread::spawn(move || {
            starts.store(true, Ordering::SeqCst);
            deed(&cache);
            assert!(arrived.load(Ordering::SeqCst), "did not wait for what was on its way");
        });
        sender.send(thread).expect("a listener");
        while !begun.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(5));
        on_its_way.store(true, Ordering::SeqCst);
    });
    machine.cache.sync(None).expect("a good disk");
    assert!(other.recv().expect("a thread").join().is_ok());
}

#[test]
fn whoever_would_drop_a_page_on_its_way_waits_and_so_does_a_second_sync() {
    let deeds: [fn(&cache::PageCache, FileId, cache::FsId); 7] = [
        |cache, file, _| assert_eq!(cache.sync(Some(file)), Ok(())),
        |cache, _, _| assert_eq!(cache.sync(None), Ok(())),
        |cache, file, _| cache.truncate(file, 0),
        |cache, file, _| cache.truncate(file, 100),
        |cache, file, _| cache.invalidate(file, 0, 0),
        |cache, file, _| cache.forget(file),
        |cache, _, fs| cache.remove_fs(fs),
    ];
    for deed in deeds {
        let (machine, _) = machine(220, 0, Config::default());
        let (file, fs) = (machine.open(1), machine.fs);
        dirty(&machine, file, [0]);
        meanwhile(&machine, move |cache| deed(cache, file, fs));
        machine.check_frames();
    }
}

#[test]
fn a_page_that_is_changed_on_its_way_is_owed_to_who_syncs_then() {
    let (machine, _) = machine(220, 0, Config::default());
    let file = machine.open(1);
    dirty(&machine, file, [0]);
    let cache = machine.cache.clone();
    meanwhile(&machine, move |other| {
        assert_eq!(cache.write(file, PAGE, 0, &[99; FRAME_SIZE]), Ok(FRAME_SIZE));
        assert_eq!(other.sync(Some(file)), Ok(()));
        assert_eq!(other.stats().dirty, 0);
    });
    assert_eq!(**machine.disk.written().get(&(1, 0)).expect("written"), [99; FRAME_SIZE]);
    assert_eq!(machine.disk.runs().len(), 2);
}

#[test]
fn a_page_that_is_written_is_clean_and_goes_to_cleancache_as_it_is() {
    let (machine, _) = machine(220, 40, Config { exclusive: false, ..Config::default() });
    let file = machine.open(1);
    machine.read_all(file, 1);
    machine.cache.drop_caches(DropWhat::Pages);
    machine.read_all(file, 1);
    for value in [3, 4] {
        // Twice each: the second time it is dirty already.
        assert_eq!(machine.cache.write(file, PAGE, 9, &[0; 7]), Ok(7));
        assert_eq!(machine.cache.write(file, PAGE, 9, &[value; 7]), Ok(7));
        machine.cache.sync(Some(file)).expect("a good disk");
        machine.cache.drop_caches(DropWhat::Pages);
        let mut expected = pattern(1, 0);
        expected[9..16].fill(value);
        assert_eq!(machine.read_all(file, 1), expected);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write { file: usize, index: u32, count: u32 },
    Sync(Option<usize>),
    Out(Option<usize>),
    Time(u64),
    Reclaim(usize),
    Drop,
    Truncate { file: usize, pages: u32 },
    Break { file: usize, index: u32 },
    Stop(bool),
    Heal,
}

fn op() -> impl Strategy<Value = Op> {
    let (file, index) = (|| 0..2usize, || 0..40u32);
    prop_oneof![
        8 => (file(), index(), 1u32..12).prop_map(|(file, index, count)| Op::Write { file, index, count }),
        2 => proptest::option::of(file()).prop_map(Op::Sync),
        1 => proptest::option::of(file()).prop_map(Op::Out),
        2 => (0u64..40).prop_map(Op::Time),
        1 => (0usize..100).prop_map(Op::Reclaim),
        1 => Just(Op::Drop),
        1 => (file(), index()).prop_map(|(file, pages)| Op::Truncate { file, pages }),
        2 => (file(), index()).prop_map(|(file, index)| Op::Break { file, index }),
        1 => any::<bool>().prop_map(Op::Stop),
        1 => Just(Op::Heal),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// With a disk that fails here and there, writes a part and then fails, or has no memory now and then: a sync that says that all is
    /// well is right, one that does not has a reason, each reason is told once, and nothing that was written is ever lost.
    #[test]
    fn a_sync_tells_the_truth(ops in proptest::collection::vec(op(), 1..80)) {
        let (machine, _) = machine(400, 20, Config::default());
        let files = [machine.open(1), machine.open(2)];
        let mut model: BTreeMap<(usize, u32), u8> = BTreeMap::new();
        let (mut now, mut value) = (Duration::ZERO, 0u8);
        for op in ops {
            match op {
                Op::Write { file, index, count } => {
                    for index in index..index + count {
                        value = value.wrapping_add(1);
                        let page = [value; FRAME_SIZE];
                        match machine.cache.write(files[file], u64::MAX, u64::from(index) * PAGE, &page) {
                            Ok(_) => drop(model.insert((file, index), value)),
                            Err(_) => {
                                let stats = machine.cache.stats();
                                prop_assert!(stats.failed > 40, "refused with {} pages that failed", stats.failed);
                            }
                        }
                    }
                }
                Op::Sync(file) | Op::Out(file) => {
                    let ids = file.map(|file| files[file]);
                    let before = machine.disk.failures();
                    let tells = matches!(op, Op::Sync(_));
                    let told = if tells { machine.cache.sync(ids) } else { machine.cache.write_out(ids) };
                    let bad = machine.disk.failures() > before;
                    prop_assert!(told.is_err() || !bad);
                    let ours = |at: usize| file.is_none_or(|file| file == at);
                    let on_disk = model.iter().filter(|&(&(at, _), _)| ours(at)).all(|(&(at, index), &value)| {
                        machine.disk.written().get(&(at as u64 + 1, index)).is_some_and(|page| page[0] == value)
                    });
                    prop_assert!(told.is_err() || on_disk, "a page is not on the disk");
                    if tells && !bad {
                        prop_assert!(on_disk, "nothing failed, and a page is not on the disk");
                        prop_assert_eq!(machine.cache.sync(ids), Ok(()), "told twice");
                    }
                }
                Op::Time(seconds) => {
                    now += Duration::from_secs(seconds);
                    for _ in 0..50 {
                        if !machine.cache.write_back_some(now) {
                            break;
                        }
                    }
                }
                Op::Reclaim(want) => drop(machine.cache.reclaim(want)),
                Op::Drop => drop(machine.cache.drop_caches(DropWhat::Pages)),
                Op::Truncate { file, pages } => {
                    machine.cache.truncate(files[file], u64::from(pages) * PAGE);
                    machine.disk.cut(file as u64 + 1, u64::from(pages) * PAGE, 60);
                    model.retain(|&(at, index), _| at != file || index < pages);
                }
                Op::Break { file, index } => drop(machine.disk.bad().insert((file as u64 + 1, index))),
                Op::Stop(whole) => machine.disk.stop_next(if whole { 0 } else { 3 }),
                Op::Heal => machine.disk.bad().clear(),
            }
            machine.check_frames();
            for (&(file, index), &value) in &model {
                // A page that cannot be read is one that was written and evicted.
                if let Ok(page) = machine.read(files[file], 60 * PAGE, u64::from(index) * PAGE, 1) {
                    prop_assert_eq!(page[0], value, "page {} of file {}", index, file);
                }
            }
        }
        machine.disk.bad().clear();
        machine.disk.stop_next(usize::MAX);
        let _ = machine.cache.sync(None);
        prop_assert_eq!(machine.cache.sync(None), Ok(()));
        prop_assert_eq!(machine.cache.stats().dirty, 0);
        for (&(file, index), &value) in &model {
            prop_assert_eq!(machine.disk.written()[&(file as u64 + 1, index)][0], value);
        }
    }
}
