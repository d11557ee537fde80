//! What a correct cleancache keeps, one test a property. The numbers are those of the list in the project's notes on
//! cleancache: 1 no stale page, 2 a miss stays a miss, 5 a refused store leaves no old copy, 10 no old data under a reused
//! name, 11 unmount drops everything, 13 the gate, 14 exclusive and inclusive, 15 taking back, 16 only the donor takes, 17
//! conservation, 18 the one-frame pool, 20 names from outside, 21 scrubbing.

use cleancache::policy::Lru;
use cleancache::{
    Arrival, Cleancache, Config, FileId, Kind, Offer, PoolConfig, PoolId, Refusal, StaleId, Stored, TakeError,
};
use frames::arena::Arena;
use frames::{Frame, Memory, Pfn, Zones};

struct Bench {
    cleancache: Cleancache,
    pool: PoolId,
    file: FileId,
    memory: &'static Memory,
    frames: Vec<Pfn>,
    // Last, so that it is dropped when every frame has come back.
    _arena: Arena,
}

fn bench(config: Config, kind: Kind, frames: usize) -> Bench {
    let arena = Arena::new(256);
    let memory = arena.memory();
    let cleancache = Cleancache::new(memory, config);
    let pool = cleancache.register_pool(PoolConfig { name: "pool".into(), kind, scrub: false }).expect("a pool");
    let fs = cleancache.add_fs("fs");
    let file = cleancache.add_file(fs).expect("a live filesystem");
    let mut bench = Bench { cleancache, pool, file, memory, frames: Vec::new(), _arena: arena };
    for _ in 0..frames {
        let frame = bench.memory.allocate(Zones::Ephemeral).expect("memory");
        bench.frames.push(frame.pfn());
        assert!(bench.cleancache.donate(pool, frame).is_ok());
    }
    bench
}

impl Bench {
    fn page(&self, value: u8) -> Frame {
        let mut frame = self.memory.allocate(Zones::Ephemeral).expect("memory");
        frame.bytes_mut().fill(value);
        frame
    }

    fn put(&self, index: u32, value: u8) -> Stored {
        self.put_if(index, value, true)
    }

    fn put_if(&self, index: u32, value: u8, workingset: bool) -> Stored {
        self.offer(self.file, index, value, workingset)
    }

    fn offer(&self, file: FileId, index: u32, value: u8, workingset: bool) -> Stored {
        let arrival = Arrival { workingset, ..Arrival::default() };
        self.cleancache.store(Offer { file, index, frame: self.page(value), arrival }).0
    }

    fn get(&self, index: u32) -> Option<u8> {
        let mut frame = self.page(0xee);
        let found = self.cleancache.restore(self.file, index, &mut frame);
        let value = frame.bytes()[0];
        assert!(frame.bytes().iter().all(|&byte| byte == value), "a page in parts");
        found.then_some(value)
    }
}

const EXCLUSIVE: fn() -> Config = || Config { policy: |_| Box::new(Lru), ..Config::default() };
const INCLUSIVE: fn() -> Config = || Config { exclusive: false, ..EXCLUSIVE() };

#[test]
fn property_01_the_newest_put_is_what_get_finds() {
    for (config, kind) in [(EXCLUSIVE(), Kind::Exchangeable), (INCLUSIVE(), Kind::Fixed)] {
        let bench = bench(config, kind, 4);
        assert_eq!(bench.put(7, b'A'), Stored::Inserted);
        assert_eq!(bench.put(7, b'B'), Stored::Replaced);
        assert_eq!(bench.get(7), Some(b'B'));
    }
}

#[test]
fn property_02_after_a_failed_get_gets_fail_until_a_new_put() {
    let bench = bench(EXCLUSIVE(), Kind::Fixed, 2);
    assert_eq!(bench.get(1), None);
    assert_eq!(bench.get(1), None);
    bench.put(1, 5);
    assert_eq!(bench.get(1), Some(5));
}

#[test]
fn property_05_a_refused_store_leaves_no_old_copy() {
    let full = bench(Config { evict: false, ..INCLUSIVE() }, Kind::Fixed, 1);
    full.put(1, b'A');
    let pfn = full.frames[0];
    drop(full.cleancache.take_back(full.pool, pfn));
    assert_eq!(full.put(1, b'B'), Stored::Refused(Refusal::NoFrame));
    assert_eq!(full.get(1), None);

    let gated = bench(Config { gate: true, ..INCLUSIVE() }, Kind::Fixed, 1);
    gated.put(1, b'A');
    assert_eq!(gated.put_if(1, b'B', false), Stored::Refused(Refusal::Gate));
    assert_eq!(gated.get(1), None);
}

#[test]
fn property_10_a_reused_place_has_no_old_data() {
    let bench = bench(EXCLUSIVE(), Kind::Fixed, 4);
    bench.put(3, b'A');
    let fs = bench.cleancache.add_fs("other");
    assert!(bench.cleancache.remove_file(bench.file).is_ok());
    let next = bench.cleancache.add_file(fs).expect("a live filesystem");
    assert_eq!(next.slot(), bench.file.slot(), "the place is used again");
    let mut frame = bench.page(0);
    assert!(!bench.cleancache.restore(next, 3, &mut frame));
    // What was on its way for the old file finds no place.
    assert_eq!(bench.put(3, b'A'), Stored::Refused(Refusal::Stale));
    assert!(!bench.cleancache.restore(next, 3, &mut frame));
}

#[test]
fn property_11_unmount_drops_everything_and_a_late_store_cannot_bring_it_back() {
    let bench = bench(EXCLUSIVE(), Kind::Exchangeable, 4);
    let fs = bench.cleancache.add_fs("disk");
    let file = bench.cleancache.add_file(fs).expect("a live filesystem");
    bench.offer(file, 0, 1, true);
    assert!(bench.cleancache.remove_fs(fs).is_ok());
    assert_eq!(bench.offer(file, 0, 1, true), Stored::Refused(Refusal::Stale));
    let mut frame = bench.page(0);
    assert!(!bench.cleancache.restore(file, 0, &mut frame));
    assert_eq!(bench.cleancache.pool_stats()[0].free, 4);
    assert_eq!(bench.cleancache.remove_fs(fs), Err(StaleId));
}

#[test]
fn property_13_the_four_cases_of_the_gate() {
    let bench = bench(Config { gate: true, ..INCLUSIVE() }, Kind::Fixed, 4);
    assert_eq!(bench.put_if(1, b'A', false), Stored::Refused(Refusal::Gate), "not, absent: nothing");
    assert_eq!(bench.get(1), None);
    assert_eq!(bench.put_if(1, b'B', true), Stored::Inserted, "working set, absent: insert");
    assert_eq!(bench.put_if(1, b'C', true), Stored::Replaced, "working set, present: overwrite");
    assert_eq!(bench.get(1), Some(b'C'));
    assert_eq!(bench.put_if(1, b'D', false), Stored::Refused(Refusal::Gate), "not, present: remove");
    assert_eq!(bench.get(1), None);
}

#[test]
fn property_14_exclusive_gives_once_and_inclusive_keeps() {
    let exclusive = bench(EXCLUSIVE(), Kind::Exchangeable, 2);
    exclusive.put(1, 9);
    assert_eq!((exclusive.get(1), exclusive.get(1)), (Some(9), None));
    let inclusive = bench(INCLUSIVE(), Kind::Exchangeable, 2);
    inclusive.put(1, 9);
    assert_eq!((inclusive.get(1), inclusive.get(1)), (Some(9), Some(9)));
    inclusive.cleancache.invalidate(inclusive.file, 1);
    assert_eq!(inclusive.get(1), None, "dirtied, so not to be had any more");
}

#[test]
fn property_15_taking_back_always_succeeds_and_the_entry_then_misses() {
    let bench = bench(EXCLUSIVE(), Kind::Fixed, 3);
    for index in 0..3 {
        bench.put(index, index as u8);
    }
    for &pfn in &bench.frames {
        assert_eq!(bench.cleancache.take_back(bench.pool, pfn).map(|frame| frame.pfn()), Ok(pfn));
    }
    for index in 0..3 {
        assert_eq!(bench.get(index), None);
    }
    assert_eq!(bench.put(0, 1), Stored::Refused(Refusal::NoFrame));
    let stats = &bench.cleancache.pool_stats()[0];
    assert_eq!((stats.donated, stats.taken_used, stats.taken_free), (0, 3, 0));
}

#[test]
fn property_16_only_the_donor_takes() {
    let bench = bench(EXCLUSIVE(), Kind::Fixed, 2);
    let other = bench
        .cleancache
        .register_pool(PoolConfig { name: "other".into(), kind: Kind::Fixed, scrub: false })
        .expect("a pool");
    bench.put(0, 1);
    for &pfn in &bench.frames {
        assert_eq!(bench.cleancache.take_back(other, pfn).err(), Some(TakeError::NotHere(pfn)), "wrong pool");
    }
    let pfn = bench.frames[0];
    let frame = bench.cleancache.take_back(bench.pool, pfn).expect("the donor's own");
    assert_eq!(bench.cleancache.take_back(bench.pool, pfn).err(), Some(TakeError::NotHere(pfn)), "twice");
    // A frame with an owner cannot be donated at all: `donate` takes it by value. Another machine's is handed back.
    let elsewhere = Arena::new(16);
    let foreign = elsewhere.memory().allocate(Zones::Ephemeral).expect("memory");
    let (_, foreign) = bench.cleancache.donate(bench.pool, foreign).expect_err("another machine's");
    drop((foreign, frame));
}

#[test]
fn property_18_a_one_frame_pool_keeps_the_second_of_two_pages() {
    for kind in [Kind::Fixed, Kind::Exchangeable] {
        let bench = bench(EXCLUSIVE(), kind, 1);
        bench.put(1, b'A');
        assert_eq!(bench.put(2, b'B'), Stored::Inserted);
        assert_eq!(bench.get(1), None);
        assert_eq!(bench.get(2), Some(b'B'));
        assert_eq!(bench.cleancache.pool_stats()[0].evictions, 1);
    }
}

#[test]
fn property_20_names_from_outside_are_refused() {
    let bench = bench(EXCLUSIVE(), Kind::Fixed, 1);
    let nowhere = PoolId::from((77, 0));
    let stale = PoolId::from((bench.pool.slot(), 9));
    for pool in [nowhere, stale] {
        assert_eq!(bench.cleancache.take_back(pool, bench.frames[0]).err(), Some(TakeError::NoPool));
        assert!(bench.cleancache.donate(pool, bench.page(0)).is_err());
        assert!(bench.cleancache.unregister_pool(pool).is_err());
    }
    assert_eq!(
        bench.cleancache.take_back(bench.pool, Pfn::new(u64::MAX)).err(),
        Some(TakeError::NotHere(Pfn::new(u64::MAX)))
    );
}

#[test]
fn property_21_frames_are_scrubbed_where_the_pool_asks() {
    let bench = bench(EXCLUSIVE(), Kind::Fixed, 0);
    let pool = bench
        .cleancache
        .register_pool(PoolConfig { name: "secret".into(), kind: Kind::Fixed, scrub: true })
        .expect("a pool");
    let frames: Vec<Frame> = (0..2).map(|_| bench.page(1)).collect();
    let names: Vec<Pfn> = frames.iter().map(Frame::pfn).collect();
    for frame in frames {
        assert!(bench.cleancache.donate(pool, frame).is_ok());
    }
    bench.put(0, b'S');
    bench.put(1, b'T');
    let taken = bench.cleancache.take_back(pool, names[0]).expect("donated");
    assert!(taken.bytes().iter().all(|&byte| byte == 0));
    let mut rest = bench.cleancache.unregister_pool(pool).expect("registered");
    assert!(rest.pop_front().is_some_and(|frame| frame.bytes().iter().all(|&byte| byte == 0)));
}
