//! Pools: any number, coming and going while they are full, taking turns, and what upstream's own tests ask of one.

mod bench;

use bench::{ANNEX, EXCLUSIVE, INCLUSIVE, SORTS, Sort, bench, named};
use cleancache::{Config, Kind, PoolId, PoolStats, Refusal, Stored, TakeError, Wanted};
use frames::{Frame, FrameList, Zones};
use std::collections::BTreeSet;

#[test]
fn pools_take_turns_in_proportion_to_their_frames() {
    let bench = bench(EXCLUSIVE(), Sort::Fixed, 40);
    for frames in [80, 160] {
        let pool = bench.cleancache.register_pool(named("more", Kind::Fixed)).expect("a pool");
        for _ in 0..frames {
            assert!(bench.cleancache.donate(pool, bench.page(0)).is_ok());
        }
    }
    bench.fill(0..280 * 21, |_| 0);
    let stats = bench.cleancache.pool_stats();
    let total: u64 = stats.iter().map(|pool| pool.evictions).sum();
    assert_eq!(total, 280 * 20);
    for PoolStats { donated, evictions, .. } in stats {
        let (share, due) = (evictions as f64 / total as f64, donated as f64 / 280.0);
        assert!((share - due).abs() < 0.04, "{donated} frames of 280 gave up {evictions} pages of {total}");
    }
    // So every page stays about as long: of the last poolful, nearly all are here, wherever they went.
    let found = (280 * 21 - 250..280 * 21).filter(|&index| bench.get(index).is_some()).count();
    assert!(found > 225, "{found} of the last 250");
}

#[test]
fn a_pool_is_closed_while_it_is_full() {
    for sort in SORTS {
        for config in [EXCLUSIVE(), INCLUSIVE()] {
            let bench = bench(config, sort, 8);
            let other = bench.cleancache.register_pool(named("other", Kind::Fixed)).expect("a pool");
            for _ in 0..8 {
                assert!(bench.cleancache.donate(other, bench.page(0)).is_ok());
            }
            bench.fill(0..20, |index| index as u8);
            assert_eq!(bench.stats().free, 0);
            let frames = bench.cleancache.unregister_pool(bench.pool).expect("open");
            assert_eq!(frames.len(), 8);
            let found = (0..20).filter_map(|index| Some((index, bench.get(index)?)));
            let found: Vec<(u32, u8)> = found.collect();
            assert_eq!(found.len(), 8, "the other pool keeps its own");
            assert!(found.iter().all(|&(index, value)| u32::from(value) == index));
            drop(frames);
            bench.check("closed");
            // And stores go on into what is left.
            (0..20).for_each(|index| assert_ne!(bench.put(index, 1), Stored::Refused(Refusal::NoFrame)));
            bench.check("after that");
        }
    }
}

#[test]
fn pools_come_and_go_and_no_name_is_given_twice() {
    let bench = bench(EXCLUSIVE(), Sort::Fixed, 2);
    let mut names: BTreeSet<PoolId> = BTreeSet::from([bench.pool]);
    let mut open: Vec<PoolId> = Vec::new();
    for round in 0..600u32 {
        let kind = if round % 2 == 0 { Kind::Fixed } else { Kind::Exchangeable };
        let pool = bench.cleancache.register_pool(named("guest", kind)).expect("a pool");
        assert!(names.insert(pool), "{pool:?} was given before");
        assert!(bench.cleancache.donate(pool, bench.page(0)).is_ok());
        bench.put(round, 1);
        open.push(pool);
        if open.len() > 70 {
            let pool = open.swap_remove(round as usize * 31 % open.len());
            assert_eq!(bench.cleancache.unregister_pool(pool).expect("open").len(), 1);
            assert_eq!(bench.cleancache.take_any(pool, 1).err(), Some(TakeError::NoPool));
        }
    }
    assert!(open.iter().any(|pool| pool.slot() > 64) && names.iter().all(|pool| pool.slot() < 80));
    assert_eq!(bench.cleancache.pool_stats().len(), 71);
    bench.check("with many pools");
    for pool in open {
        assert!(bench.cleancache.unregister_pool(pool).is_ok());
    }
    bench.check("with one again");
}

#[test]
fn there_is_an_end_to_pools_and_it_is_no_panic() {
    let bench = bench(EXCLUSIVE(), Sort::Fixed, 1);
    let pools: Vec<PoolId> =
        std::iter::from_fn(|| bench.cleancache.register_pool(named("many", Kind::Fixed))).take(20_000).collect();
    assert!((4_000..8_200).contains(&pools.len()), "{}", pools.len());
    assert_eq!(bench.put(1, 1), Stored::Inserted);
    assert!(bench.cleancache.unregister_pool(pools[77]).is_ok());
    let again = bench.cleancache.register_pool(named("one more", Kind::Fixed)).expect("room for one");
    assert_eq!((again.slot(), again.serial()), (pools[77].slot(), pools[77].serial() + 1));
    let last = pools[pools.len() - 1];
    assert!(bench.cleancache.donate(last, bench.page(0)).is_ok());
    assert_eq!((bench.put(2, 2), bench.get(2), bench.get(1)), (Stored::Inserted, Some(2), Some(1)));
}

#[test]
fn exchangeable_frames_are_exchanged_and_others_stay() {
    for sort in SORTS {
        let bench = bench(EXCLUSIVE(), sort, 1);
        let frame = bench.page(7);
        let name = frame.pfn();
        let offer = cleancache::Offer { file: bench.file, index: 0, frame, arrival: Default::default() };
        let (_, back) = bench.cleancache.store(offer);
        let exchanged = sort == Sort::Exchangeable;
        assert_eq!(back.pfn(), if exchanged { bench.lent[0] } else { name });
        let mut wanted = back;
        assert!(bench.cleancache.restore(bench.file, 0, &mut wanted));
        assert_eq!(wanted.pfn(), name, "the page's own frame, or one that never left");
        assert!(wanted.bytes().iter().all(|&byte| byte == 7));
    }
}

#[test]
fn a_frame_of_the_scratch_area_never_gets_into_a_pool_by_exchange() {
    let arena = frames::arena::Arena::with_scratch(256, 64);
    let memory = arena.memory();
    let cleancache = cleancache::Cleancache::new(memory, EXCLUSIVE());
    let pool = cleancache.register_pool(named("balloon", Kind::Exchangeable)).expect("a pool");
    let file = cleancache.add_file(cleancache.add_fs("fs")).expect("mounted");
    for _ in 0..4 {
        assert!(cleancache.donate(pool, memory.allocate(Zones::Preservable).expect("memory")).is_ok());
    }
    // Ephemeral frames come from the scratch area first.
    let mut scratch = memory.allocate(Zones::Ephemeral).expect("memory");
    assert_eq!(memory.zone_of(scratch.pfn()), frames::Zone::Scratch);
    for index in 0..20 {
        scratch.bytes_mut().fill(index as u8);
        let offer = cleancache::Offer { file, index, frame: scratch, arrival: Default::default() };
        scratch = cleancache.store(offer).1;
        assert_eq!(memory.zone_of(scratch.pfn()), frames::Zone::Scratch);
        assert!(index % 2 == 0 || cleancache.restore(file, index, &mut scratch));
        assert!(index % 2 == 0 || scratch.bytes()[9] == index as u8);
    }
    let mut frames = cleancache.unregister_pool(pool).expect("open");
    assert!(std::iter::from_fn(|| frames.pop_front()).all(|frame| memory.zone_of(frame.pfn()) == frames::Zone::Normal));
}

#[test]
fn kunit_restore_all_and_the_contents_are_equal() {
    for sort in SORTS {
        let bench = bench(EXCLUSIVE(), sort, ANNEX);
        let capacity = ANNEX as u32;
        (0..capacity).for_each(|index| assert_eq!(bench.put(index, index as u8), Stored::Inserted));
        assert!((0..capacity).all(|index| bench.get(index) == Some(index as u8)));
        let stats = bench.stats();
        assert_eq!((stats.stores, stats.hits, stats.free), (ANNEX as u64, ANNEX as u64, ANNEX as u64));
    }
}

#[test]
fn kunit_a_run_of_a_file_is_walked_and_restored() {
    for sort in SORTS {
        let bench = bench(EXCLUSIVE(), sort, ANNEX);
        bench.fill((0..10).filter(|index| index % 3 != 1), |index| index as u8);
        let mut wanted: Vec<Wanted> = (0..12).map(|index| Wanted::new(index, bench.page(0xee))).collect();
        bench.cleancache.restore_run(bench.file, &mut wanted);
        for page in &wanted {
            assert_eq!(page.found, page.index < 10 && page.index % 3 != 1, "page {}", page.index);
            assert!(!page.found || page.frame.bytes().iter().all(|&byte| u32::from(byte) == page.index));
        }
        assert_eq!(bench.cleancache.file_len(bench.file), 0);
    }
}

#[test]
fn kunit_a_page_and_a_file_are_invalidated_and_all_others_hit() {
    for sort in SORTS {
        let bench = bench(EXCLUSIVE(), sort, ANNEX);
        let other = bench.cleancache.add_file(bench.fs).expect("mounted");
        bench.fill(0..6, |index| index as u8);
        for index in 0..6 {
            bench.offer(other, index, 50 + index as u8, Default::default());
        }
        bench.cleancache.invalidate(other, 3);
        bench.cleancache.invalidate_range(other, 5, 5);
        assert_eq!(bench.cleancache.file_len(other), 4);
        for index in 0..6 {
            let here = index != 3 && index != 5;
            assert_eq!(bench.get_of(other, index), here.then_some(50 + index as u8));
            bench.offer(other, index, 1, Default::default());
        }
        bench.cleancache.invalidate_range(other, 0, u32::MAX);
        assert!((0..6).all(|index| bench.get_of(other, index).is_none()));
        assert!((0..6).all(|index| bench.get(index) == Some(index as u8)), "the other file's are here");
    }
}

#[test]
fn kunit_one_store_too_many_evicts_exactly_the_oldest() {
    for sort in SORTS {
        for config in [EXCLUSIVE(), INCLUSIVE()] {
            let bench = bench(config, sort, ANNEX);
            let capacity = ANNEX as u32;
            bench.fill(0..=capacity, |index| index as u8);
            assert_eq!(bench.stats().evictions, 1);
            assert_eq!(bench.get(0), None);
            assert!((1..=capacity).all(|index| bench.get(index) == Some(index as u8)));
        }
    }
}

#[test]
fn kunit_filled_and_all_frames_taken_back() {
    let bench = bench(EXCLUSIVE(), Sort::Fixed, 20);
    bench.fill(0..20, |index| index as u8);
    let mut frames = FrameList::new(bench.memory);
    for &pfn in &bench.lent {
        frames.push_back(bench.cleancache.take_back(bench.pool, pfn).expect("lent"));
    }
    assert!((0..20).all(|index| bench.get(index).is_none()));
    // Upstream donates numbers, and so has to refuse a frame that is in use. Here it cannot be said: what is in use has an owner,
    // and `donate` takes the owner. Half of them are in use, the others are lent again; then the rest.
    let used: Vec<Frame> = (0..10).filter_map(|_| frames.pop_front()).collect();
    assert!(bench.cleancache.donate_list(bench.pool, frames).is_ok());
    assert_eq!(bench.stats().donated, 10);
    assert!(used.iter().all(|frame| bench.cleancache.take_back(bench.pool, frame.pfn()).is_err()));
    let mut rest = FrameList::new(bench.memory);
    used.into_iter().for_each(|frame| rest.push_back(frame));
    assert!(bench.cleancache.donate_list(bench.pool, rest).is_ok());
    assert_eq!((bench.stats().donated, bench.stats().free), (20, 20));
}

#[test]
fn without_a_frame_nothing_is_kept_and_nothing_breaks() {
    for evict in [true, false] {
        let bench = bench(Config { evict, ..EXCLUSIVE() }, Sort::Fixed, 0);
        assert_eq!(bench.put(0, 1), Stored::Refused(Refusal::NoFrame));
        assert_eq!(bench.get(0), None);
        assert!(bench.cleancache.take_any(bench.pool, 5).is_ok_and(|taken| taken.is_empty()));
        assert!(bench.cleancache.unregister_pool(bench.pool).is_ok());
        assert_eq!(bench.put(0, 1), Stored::Refused(Refusal::NoFrame), "no pool at all");
        assert_eq!(bench.cleancache.fs_stats()[0].refused_no_frame, 2);
    }
}
