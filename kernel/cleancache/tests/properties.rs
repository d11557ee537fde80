//! What a correct cleancache keeps, one test or more a property. The numbers are those of the list in the project's notes on
//! cleancache. Those that need a page cache are tested behind one (`kernel/cache/tests/properties.rs`): 3, 4, 6, 7, 8, 9, 12,
//! 19 there, and 10, 11 and 14 in both places. Interleavings are in `kernel/cache/tests/interleavings.rs`.

mod bench;

use bench::{Bench, EXCLUSIVE, INCLUSIVE, SHARDED, SHARDED_INCLUSIVE, SORTS, Sort, bench, named, scrubbing};
use cleancache::policy::{End, Entry, Place, Queues};
use cleancache::{
    Arrival, Config, DonateError, FileId, FsId, Keepsake, Kind, Offer, Policy, PoolConfig, PoolId, Refusal, StaleId,
    Stored, TakeError, Wanted,
};
use frames::arena::Arena;
use frames::{Frame, FrameList, Key, Pfn, PfnRange, Zones};

const CONFIGS: [fn() -> Config; 4] = [EXCLUSIVE, INCLUSIVE, SHARDED, SHARDED_INCLUSIVE];

/// For every kind of pool, exclusive and inclusive.
fn everywhere(frames: usize, test: impl Fn(Bench)) {
    for sort in SORTS {
        for config in CONFIGS {
            test(bench(config(), sort, frames));
        }
    }
}

/// A policy that refuses pages with one keepsake.
struct Picky;

const UNWELCOME: Arrival = Arrival { workingset: true, keepsake: Keepsake(0xbb) };

impl Policy for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn admit(&mut self, _: Key, arrival: Arrival, _: &Queues<'_>, _: bool) -> Option<Place> {
        (arrival != UNWELCOME).then_some(Place { queue: 3, end: End::Young, bits: 0 })
    }

    fn keepsake(&self, _: u16, _: u16) -> Keepsake {
        Keepsake::default()
    }

    fn stay(&mut self, queue: u16, _: u16) -> Place {
        Place { queue, end: End::Young, bits: 0 }
    }

    fn miss(&mut self, _: Key) -> Keepsake {
        Keepsake::default()
    }

    fn victim(&mut self, queues: &mut Queues<'_>) -> Option<Entry> {
        queues.front(3)
    }
}

#[test]
fn property_01_the_newest_put_is_what_get_finds() {
    everywhere(4, |bench| {
        assert_eq!(bench.put(7, b'A'), Stored::Inserted);
        assert_eq!(bench.put(7, b'B'), Stored::Replaced);
        assert_eq!(bench.get(7), Some(b'B'));
        assert_ne!(bench.get(7), Some(b'A'));
    });
}

#[test]
fn property_02_after_a_failed_get_gets_fail_until_a_new_put() {
    type Way = (&'static str, fn(&Bench));
    let ways: [Way; 5] = [
        ("never put", |_| ()),
        ("invalidated", |bench| {
            bench.put(1, 9);
            bench.cleancache.invalidate(bench.file, 1);
        }),
        ("evicted", |bench| {
            bench.put(1, 9);
            bench.put(2, 9);
            bench.put(3, 9);
        }),
        ("taken back", |bench| {
            bench.put(1, 9);
            let frames = bench.cleancache.take_any(bench.pool, bench.lent.len()).expect("a pool");
            assert!(bench.cleancache.donate_list(bench.pool, frames).is_ok());
        }),
        ("cleared", |bench| {
            bench.put(1, 9);
            bench.cleancache.clear();
        }),
    ];
    everywhere(2, |bench| {
        for (way, go) in ways {
            go(&bench);
            assert_eq!((bench.get(1), bench.get(1)), (None, None), "{way}");
            bench.put(1, 5);
            assert_eq!(bench.get(1), Some(5), "{way}");
            bench.cleancache.clear();
        }
    });
}

#[test]
fn property_05_a_store_refused_for_want_of_a_frame_leaves_no_old_copy() {
    for sort in SORTS {
        let full = bench(Config { evict: false, ..INCLUSIVE() }, sort, 1);
        full.put(1, b'A');
        assert_eq!(full.put(2, b'B'), Stored::Refused(Refusal::NoFrame));
        assert_eq!(full.get(1), Some(b'A'), "the other page is not concerned");
        drop(full.cleancache.take_any(full.pool, 1));
        assert_eq!(full.put(1, b'B'), Stored::Refused(Refusal::NoFrame));
        assert_eq!((full.get(1), full.get(2)), (None, None));
    }
}

#[test]
fn property_05_a_store_refused_by_the_gate_leaves_no_old_copy() {
    for sort in SORTS {
        let gated = bench(Config { gate: true, ..INCLUSIVE() }, sort, 2);
        gated.put(1, b'A');
        assert_eq!(gated.offer(gated.file, 1, b'B', Arrival::default()), Stored::Refused(Refusal::Gate));
        assert_eq!(gated.get(1), None);
        gated.check("refused by the gate");
    }
}

#[test]
fn property_05_a_store_refused_by_the_policy_leaves_no_old_copy() {
    for sort in SORTS {
        let picky = bench(Config { policy: |_| Box::new(Picky), ..INCLUSIVE() }, sort, 2);
        assert_eq!(picky.offer(picky.file, 1, b'A', UNWELCOME), Stored::Refused(Refusal::Policy), "a frame is free");
        picky.put(1, b'A');
        assert_eq!(picky.offer(picky.file, 1, b'B', UNWELCOME), Stored::Refused(Refusal::Policy), "in its own place");
        assert_eq!(picky.get(1), None);
        picky.put(2, b'C');
        picky.put(3, b'D');
        assert_eq!(picky.offer(picky.file, 1, b'B', UNWELCOME), Stored::Refused(Refusal::Policy), "for another's");
        assert_eq!((picky.get(1), picky.get(2), picky.get(3)), (None, Some(b'C'), Some(b'D')));
        assert_eq!(picky.cleancache.fs_stats()[0].refused_policy, 3);
        picky.check("refused by the policy");
    }
}

#[test]
fn property_05_a_store_for_a_file_that_is_gone_leaves_no_old_copy() {
    everywhere(2, |bench| {
        bench.put(1, b'A');
        assert!(bench.cleancache.remove_file(bench.file).is_ok());
        assert_eq!(bench.put(1, b'B'), Stored::Refused(Refusal::Stale));
        assert_eq!(bench.get(1), None);
        assert_eq!(bench.stats().cached, 0);
    });
}

#[test]
fn property_10_a_reused_place_has_no_old_data() {
    everywhere(4, |bench| {
        bench.put(3, b'A');
        let fs = bench.cleancache.add_fs("other");
        assert!(bench.cleancache.remove_file(bench.file).is_ok());
        let next = bench.cleancache.add_file(fs).expect("a live filesystem");
        assert_eq!(next.slot(), bench.file.slot(), "the place is used again");
        assert_eq!(bench.get_of(next, 3), None);
        // What was on its way for the old file finds no place.
        assert_eq!(bench.put(3, b'A'), Stored::Refused(Refusal::Stale));
        assert_eq!(bench.get_of(next, 3), None);
        // And what is done under the old name does nothing to the new file.
        bench.offer(next, 3, b'B', Arrival::default());
        bench.cleancache.invalidate(bench.file, 3);
        bench.cleancache.invalidate_range(bench.file, 0, u32::MAX);
        assert_eq!(bench.cleancache.remove_file(bench.file), Err(StaleId));
        assert_eq!((bench.get(3), bench.get_of(next, 3)), (None, Some(b'B')));
    });
}

#[test]
fn property_11_unmount_drops_everything_and_a_late_store_cannot_bring_it_back() {
    everywhere(4, |bench| {
        let fs = bench.cleancache.add_fs("disk");
        let files = [0, 1].map(|_| bench.cleancache.add_file(fs).expect("a live filesystem"));
        for file in files {
            bench.offer(file, 0, 1, Arrival::default());
        }
        bench.put(0, b'A');
        assert!(bench.cleancache.remove_fs(fs).is_ok());
        for file in files {
            assert_eq!(bench.offer(file, 0, 1, Arrival::default()), Stored::Refused(Refusal::Stale));
            assert_eq!(bench.get_of(file, 0), None);
        }
        assert_eq!(bench.stats().free, bench.lent.len() as u64 - 1);
        assert_eq!(bench.cleancache.remove_fs(fs), Err(StaleId));
        assert_eq!(bench.cleancache.add_file(fs), Err(StaleId));
        let again = bench.cleancache.add_fs("disk");
        assert_ne!(again, fs);
        let file = bench.cleancache.add_file(again).expect("a live filesystem");
        assert_eq!(bench.get_of(file, 0), None, "a remount misses");
        assert_eq!(bench.get(0), Some(b'A'), "the other filesystem keeps its own");
    });
}

#[test]
fn property_13_the_four_cases_of_the_gate() {
    let (yes, no) = (Arrival { workingset: true, ..Arrival::default() }, Arrival::default());
    for sort in SORTS {
        let bench = bench(Config { gate: true, ..INCLUSIVE() }, sort, 4);
        let put = |value: u8, arrival: Arrival| bench.offer(bench.file, 1, value, arrival);
        assert_eq!(put(b'A', no), Stored::Refused(Refusal::Gate), "not, absent: nothing");
        assert_eq!(bench.get(1), None);
        assert_eq!(put(b'B', yes), Stored::Inserted, "working set, absent: insert");
        assert_eq!(put(b'C', yes), Stored::Replaced, "working set, present: overwrite");
        assert_eq!(bench.get(1), Some(b'C'));
        assert_eq!(put(b'D', no), Stored::Refused(Refusal::Gate), "not, present: remove");
        assert_eq!(bench.get(1), None);
        let fs = &bench.cleancache.fs_stats()[0];
        assert_eq!((fs.stores, fs.replaced, fs.refused_gate, fs.invalidations), (2, 1, 2, 1));
    }
}

#[test]
fn property_14_exclusive_gives_a_page_once() {
    for sort in SORTS {
        let exclusive = bench(EXCLUSIVE(), sort, 2);
        exclusive.put(1, 9);
        assert_eq!((exclusive.get(1), exclusive.get(1)), (Some(9), None));
    }
}

#[test]
fn property_14_inclusive_keeps_a_page_and_never_gives_an_old_one() {
    for sort in SORTS {
        let inclusive = bench(INCLUSIVE(), sort, 2);
        inclusive.put(1, 9);
        assert_eq!((inclusive.get(1), inclusive.get(1)), (Some(9), Some(9)));
        // Hit, dirtied, written back, evicted, wanted again.
        inclusive.cleancache.invalidate(inclusive.file, 1);
        assert_eq!(inclusive.get(1), None, "dirtied, so not to be had any more");
        inclusive.put(1, 10);
        assert_eq!((inclusive.get(1), inclusive.get(1)), (Some(10), Some(10)));
    }
}

#[test]
fn property_15_taking_back_always_succeeds_and_the_entry_then_misses() {
    for sort in [Sort::Fixed, Sort::Untrusted] {
        let bench = bench(EXCLUSIVE(), sort, 4);
        bench.fill(0..3, |index| index as u8);
        for (taken, &pfn) in (1..).zip(&bench.lent) {
            assert_eq!(bench.cleancache.take_back(bench.pool, pfn).map(|frame| frame.pfn()), Ok(pfn));
            assert_eq!(bench.stats().donated, 4 - taken, "no other is touched");
        }
        assert!((0..3).all(|index| bench.get(index).is_none()));
        assert_eq!(bench.put(0, 1), Stored::Refused(Refusal::NoFrame));
        let stats = bench.stats();
        assert_eq!((stats.donated, stats.taken_used, stats.taken_free, stats.take_backs.count), (0, 3, 1, 4));
    }
}

#[test]
fn property_15_a_pool_gives_all_that_it_has_and_one_page_a_frame() {
    for sort in SORTS {
        let bench = bench(INCLUSIVE(), sort, 6);
        bench.fill(0..4, |index| index as u8);
        // Free ones first, then those of the pages that are next to go.
        for (most, left) in [(1, 4), (1, 4), (1, 3), (2, 1), (5, 0)] {
            let before = bench.stats().donated;
            let taken = bench.cleancache.take_any(bench.pool, most).expect("a pool").len() as u64;
            assert_eq!((taken, bench.stats().cached), (before.min(most as u64), left));
            let found = (0..4).filter(|&index| bench.get(index) == Some(index as u8)).count() as u64;
            assert_eq!(found, left);
        }
    }
}

#[test]
fn property_16_only_the_donor_takes() {
    let bench = bench(EXCLUSIVE(), Sort::Fixed, 2);
    let other = bench.cleancache.register_pool(named("other", Kind::Fixed)).expect("a pool");
    bench.put(0, 1);
    for &pfn in &bench.lent {
        assert_eq!(bench.cleancache.take_back(other, pfn).err(), Some(TakeError::NotHere(pfn)), "wrong pool");
    }
    let pfn = bench.lent[0];
    let frame = bench.cleancache.take_back(bench.pool, pfn).expect("the donor's own");
    assert_eq!(bench.cleancache.take_back(bench.pool, pfn).err(), Some(TakeError::NotHere(pfn)), "twice");
    // In the allocator, on another list, in another map or pool: not to be had either.
    drop(frame);
    assert_eq!(bench.cleancache.take_back(bench.pool, pfn).err(), Some(TakeError::NotHere(pfn)), "freed");
    let mut list = FrameList::new(bench.memory);
    let frame = bench.page(1);
    let pfn = frame.pfn();
    list.push_back(frame);
    assert_eq!(bench.cleancache.take_back(bench.pool, pfn).err(), Some(TakeError::NotHere(pfn)), "on a list");
    let frame = list.pop_front().expect("just put there");
    assert!(bench.cleancache.donate(other, frame).is_ok());
    assert_eq!(bench.cleancache.take_back(bench.pool, pfn).err(), Some(TakeError::NotHere(pfn)), "in another pool");
    assert!(bench.cleancache.take_back(other, pfn).is_ok());
}

#[test]
fn property_16_a_bulk_put_leaves_exactly_the_rejects() {
    // A frame with an owner cannot be donated at all: `donate` takes it by value. What is left to refuse is a foreign frame, one
    // outside the pool's range, and a pool that is not there.
    let bench = bench(EXCLUSIVE(), Sort::Untrusted, 0);
    let elsewhere = Arena::new(16);
    let foreign = elsewhere.memory().allocate(Zones::Ephemeral).expect("memory");
    let (error, foreign) = bench.cleancache.donate(bench.pool, foreign).expect_err("another machine's");
    assert_eq!(error, DonateError::Foreign);
    drop(foreign);

    let run = bench.memory.allocate_run(Zones::Preservable, 3).expect("memory");
    let all = run.range();
    let range = PfnRange { start: all.start.offset(2), count: 4 };
    let part = bench.cleancache.register_pool(named("part", Kind::Untrusted(range))).expect("a pool");
    let (error, mut rejects) = bench.cleancache.donate_run(part, run).expect_err("the ends are outside");
    assert_eq!(error, DonateError::OutOfRange(all.start));
    let names: Vec<u64> =
        std::iter::from_fn(|| rejects.pop_front()).map(|frame| frame.pfn().get() - all.start.get()).collect();
    assert_eq!(names, [0, 1, 6, 7]);
    let stats = &bench.cleancache.pool_stats()[1];
    assert_eq!((stats.donated, stats.free), (4, 4));

    let mut frames = FrameList::new(bench.memory);
    (0..3).for_each(|value| frames.push_back(bench.page(value)));
    let nowhere = PoolId::from((9, 9));
    let (error, frames) = bench.cleancache.donate_list(nowhere, frames).expect_err("no such pool");
    assert_eq!((error, frames.len()), (DonateError::NoPool, 3));
    drop(frames);
    assert_eq!(bench.memory.stats().owned(), 4, "the rejects went home, the others are lent");
}

#[test]
fn property_16_a_range_is_taken_whole_or_not_at_all() {
    for scrub in [false, true] {
        let bench = bench(EXCLUSIVE(), Sort::Fixed, 0);
        let config = PoolConfig { scrub, ..named("carve-out", Kind::Fixed) };
        let pool = bench.cleancache.register_pool(config).expect("a pool");
        let run = bench.memory.allocate_run(Zones::Preservable, 7).expect("memory");
        let all = run.range();
        assert!(bench.cleancache.donate_run(pool, run).is_ok());
        bench.fill(0..100, |index| index as u8);

        // One frame in the second half is at home: more than one hold of the lock has passed when that is noticed.
        let missing = all.start.offset(100);
        let home = bench.cleancache.take_back(pool, missing).expect("lent");
        assert_eq!(bench.cleancache.take_range(pool, all).err(), Some(TakeError::NotHere(missing)));
        let stats = &bench.cleancache.pool_stats()[1];
        assert_eq!((stats.donated, stats.free + stats.cached), (127, 127), "what was taken is lent again");
        assert_eq!(bench.cleancache.take_range(bench.pool, all).err(), Some(TakeError::NotHere(all.start)));
        let empty = PfnRange { start: all.start, count: 0 };
        assert_eq!(bench.cleancache.take_range(pool, empty).err(), Some(TakeError::NotHere(all.start)));

        assert!(bench.cleancache.donate(pool, home).is_ok());
        let run = bench.cleancache.take_range(pool, all).expect("all of it is lent");
        assert_eq!(run.range(), all);
        assert!(!scrub || run.bytes().iter().all(|&byte| byte == 0));
        drop(run);
        bench.check("a range");
    }
}

#[test]
fn property_17_every_frame_is_accounted_for_after_every_operation() {
    everywhere(5, |bench| {
        let cleancache = &bench.cleancache;
        bench.check("donated");
        for index in 0..8 {
            bench.put(index, index as u8);
            bench.check("stored, with and without eviction");
        }
        bench.put(7, 70);
        bench.check("overwritten");
        bench.get(7);
        bench.get(0);
        bench.check("restored, and not");
        cleancache.invalidate(bench.file, 6);
        cleancache.invalidate_range(bench.file, 0, 4);
        bench.check("invalidated");
        let offers =
            (0..6).map(|index| Offer { file: bench.file, index, frame: bench.page(1), arrival: Arrival::default() });
        cleancache.store_all(offers, |_, frame| drop(frame));
        bench.check("a set stored");
        let mut wanted: Vec<Wanted> = (0..8).map(|index| Wanted::new(index, bench.page(0))).collect();
        cleancache.restore_run(bench.file, &mut wanted);
        assert!(wanted.iter().any(|page| page.found) && wanted.iter().any(|page| !page.found));
        drop(wanted);
        bench.check("a run restored");
        let other = cleancache.register_pool(named("other", Kind::Exchangeable)).expect("a pool");
        for value in 0..3 {
            assert!(cleancache.donate(other, bench.page(value)).is_ok());
            bench.put(20 + u32::from(value), value);
            bench.check("another donor");
        }
        if let Some(&pfn) = bench.lent.iter().find(|&&pfn| pfn == bench.annex.start) {
            drop(cleancache.take_back(bench.pool, pfn));
        }
        drop(cleancache.take_any(bench.pool, 2));
        bench.check("taken back");
        drop(cleancache.unregister_pool(other));
        bench.check("a pool closed");
        let file = cleancache.add_file(bench.fs).expect("mounted");
        bench.offer(file, 0, 1, Arrival::default());
        assert!(cleancache.remove_file(file).is_ok());
        bench.check("a file gone");
        cleancache.clear();
        bench.check("cleared");
        bench.put(0, 1);
        assert!(cleancache.remove_fs(bench.fs).is_ok());
        bench.check("unmounted");
        assert_eq!(bench.stats().cached, 0);
        drop(cleancache.unregister_pool(bench.pool));
        bench.check("every pool closed");
        assert_eq!(bench.memory.stats().owned(), 0);
    });
}

#[test]
fn property_18_a_one_frame_pool_keeps_the_second_of_two_pages() {
    everywhere(1, |bench| {
        bench.put(1, b'A');
        assert_eq!(bench.put(2, b'B'), Stored::Inserted);
        assert_eq!(bench.get(1), None);
        assert_eq!(bench.get(2), Some(b'B'));
        assert_eq!(bench.stats().evictions, 1);
        // The file is as good as before: the eviction of its only page has not ended it.
        assert_ne!(bench.put(2, b'C'), Stored::Refused(Refusal::Stale));
        assert_eq!(bench.get(2), Some(b'C'));
    });
}

#[test]
fn property_20_names_from_outside_are_refused() {
    let bench = bench(EXCLUSIVE(), Sort::Fixed, 1);
    let slot = bench.pool.slot();
    let names = [(77, 0), (u32::MAX, 0), (u32::MAX, u32::MAX), (slot, 9), (slot, u32::MAX)];
    for pool in names.map(PoolId::from) {
        let pfn = bench.lent[0];
        assert_eq!(bench.cleancache.take_back(pool, pfn).err(), Some(TakeError::NoPool));
        assert_eq!(bench.cleancache.take_any(pool, 1).err(), Some(TakeError::NoPool));
        let range = PfnRange { start: pfn, count: 1 };
        assert_eq!(bench.cleancache.take_range(pool, range).err(), Some(TakeError::NoPool));
        let refused = bench.cleancache.donate(pool, bench.page(0)).map_err(|(error, _)| error);
        assert_eq!(refused, Err(DonateError::NoPool));
        assert_eq!(bench.cleancache.unregister_pool(pool).err(), Some(StaleId));
    }
    for file in names.map(|(slot, serial)| FileId::from((slot, serial ^ 5))) {
        assert_eq!(bench.offer(file, 0, 1, Arrival::default()), Stored::Refused(Refusal::Stale));
        assert_eq!(bench.get_of(file, 0), None);
        bench.cleancache.invalidate(file, 0);
        bench.cleancache.invalidate_range(file, 0, u32::MAX);
        assert_eq!(bench.cleancache.file_len(file), 0);
        assert_eq!(bench.cleancache.remove_file(file), Err(StaleId));
    }
    for fs in names.map(|(slot, serial)| FsId::from((slot, serial ^ 5))) {
        assert_eq!(bench.cleancache.add_file(fs), Err(StaleId));
        assert_eq!(bench.cleancache.remove_fs(fs), Err(StaleId));
    }
    for pfn in [0, 1, u64::from(u32::MAX), u64::MAX].map(Pfn::new) {
        assert_eq!(bench.cleancache.take_back(bench.pool, pfn).err(), Some(TakeError::NotHere(pfn)));
        let far = PfnRange { start: pfn, count: 2 };
        assert!(bench.cleancache.take_range(bench.pool, far).is_err());
    }
    let absurd = PfnRange { start: Pfn::new(1), count: u64::MAX };
    assert_eq!(bench.cleancache.register_pool(named("absurd", Kind::Untrusted(absurd))), None);
    bench.put(u32::MAX, 3);
    assert_eq!(bench.get(u32::MAX), Some(3), "the last index is one like the others");
    bench.check("after nonsense");
}

#[test]
fn property_21_frames_are_scrubbed_where_the_pool_asks() {
    let zeros = |frame: &Frame| {
        // An untrusted frame is looked at by a copy.
        let mut copy = frame.memory().allocate(Zones::Ephemeral).expect("memory");
        copy.copy_frame(frame);
        copy.bytes().iter().all(|&byte| byte == 0)
    };
    for sort in SORTS {
        for scrub in [true, false] {
            let bench = scrubbing(EXCLUSIVE(), sort, 8, scrub);
            bench.fill(0..8, |_| b'S');
            // Free now, with the page's bytes still in it where pages are copied.
            (0..4).for_each(|index| assert!(bench.get(index).is_some()));
            let mut seen = Vec::new();
            if sort != Sort::Exchangeable {
                for &pfn in &bench.lent[3..5] {
                    seen.push(zeros(&bench.cleancache.take_back(bench.pool, pfn).expect("lent")));
                }
                let range = PfnRange { start: bench.lent[5], count: 1 };
                let run = bench.cleancache.take_range(bench.pool, range).expect("lent");
                seen.extend(run.into_iter().map(|frame| zeros(&frame)));
            }
            let mut taken = bench.cleancache.take_any(bench.pool, 3).expect("a pool");
            seen.extend(std::iter::from_fn(|| taken.pop_front()).map(|frame| zeros(&frame)));
            let mut rest = bench.cleancache.unregister_pool(bench.pool).expect("a pool");
            seen.extend(std::iter::from_fn(|| rest.pop_front()).map(|frame| zeros(&frame)));
            assert_eq!(seen.len(), 8);
            assert_eq!(seen.iter().all(|&zeros| zeros), scrub, "{sort:?}: {seen:?}");
        }
    }
}
