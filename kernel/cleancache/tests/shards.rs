//! Shards: what is dealt to several is found again, counted once, and comes back to its donor.

mod bench;

use bench::{ANNEX, Bench, SHARDED, SORTS, Sort, bench, named};
use cleancache::{Kind, Offer, Stored, TakeError, Wanted};
use frames::{Frame, PfnRange, Zones};

const SHARDS: usize = 4;
/// Pages that follow one another in one shard.
const WINDOW: u32 = 64;

/// Pages of all shards, as many as there are frames.
fn everywhere(frames: usize) -> impl Iterator<Item = u32> {
    (0..SHARDS as u32).flat_map(move |shard| (0..frames as u32).map(move |at| shard * WINDOW + at))
}

fn pages(bench: &Bench, indices: impl Iterator<Item = u32>) -> Vec<Wanted> {
    indices.map(|index| Wanted::new(index, bench.page(0xee))).collect()
}

#[test]
fn pages_of_one_operation_go_to_their_shards_and_come_back() {
    for sort in SORTS {
        let bench = bench(SHARDED(), sort, ANNEX);
        let offers = everywhere(ANNEX).map(|index| Offer {
            file: bench.file,
            index,
            frame: bench.page(index as u8),
            arrival: Default::default(),
        });
        let mut stored = 0;
        bench.cleancache.store_all(offers, |outcome, frame| {
            assert_eq!(outcome, Stored::Inserted);
            stored += 1;
            drop(frame);
        });
        assert_eq!((stored, bench.stats().free), (SHARDS * ANNEX, 0));
        assert_eq!(bench.cleancache.file_len(bench.file), SHARDS * ANNEX);
        bench.check("stored");
        let mut wanted = pages(&bench, everywhere(ANNEX + 1));
        bench.cleancache.restore_run(bench.file, &mut wanted);
        for page in &wanted {
            assert_eq!(page.found, page.index % WINDOW < ANNEX as u32, "page {}", page.index);
            assert!(!page.found || page.frame.bytes().iter().all(|&byte| byte == page.index as u8));
        }
        drop(wanted);
        assert_eq!(bench.stats().hits, (SHARDS * ANNEX) as u64);
        bench.check("restored");
    }
}

#[test]
fn a_shard_that_is_full_evicts_its_own_and_no_other_is_concerned() {
    for sort in SORTS {
        let bench = bench(SHARDED(), sort, 2);
        bench.fill(everywhere(1), |index| index as u8);
        bench.fill(1..4, |index| index as u8);
        assert_eq!((bench.stats().evictions, bench.stats().free), (2, SHARDS as u64 - 1));
        assert_eq!([0, 1, 2, 3].map(|index| bench.get(index).is_some()), [false, false, true, true]);
        assert!(everywhere(1).skip(1).all(|index| bench.get(index) == Some(index as u8)));
    }
}

#[test]
fn a_range_of_pages_is_dropped_wherever_they_are() {
    let bench = bench(SHARDED(), Sort::Fixed, 8);
    for (first, last) in [(0, u32::MAX), (3, WINDOW), (WINDOW + 1, 3 * WINDOW + 2), (u32::MAX - 1, u32::MAX), (5, 4)] {
        bench.fill(everywhere(4), |index| index as u8);
        bench.cleancache.invalidate_range(bench.file, first, last);
        for index in everywhere(4) {
            let here = !(first..=last).contains(&index);
            assert_eq!(bench.get(index), here.then_some(index as u8), "page {index} after {first}..={last}");
        }
    }
    bench.check("dropped");
}

#[test]
fn frames_come_back_from_whichever_shard_they_are_in() {
    let bench = bench(SHARDED(), Sort::Exchangeable, 4);
    bench.fill(everywhere(4), |index| index as u8);
    // Each was exchanged for one that the shard may never have been dealt.
    let span = bench.memory.span();
    let all = (0..span.count).map(|at| span.start.offset(at));
    let taken: Vec<Frame> = all.filter_map(|pfn| bench.cleancache.take_back(bench.pool, pfn).ok()).collect();
    assert_eq!((taken.len(), bench.stats().donated, bench.cleancache.donated()), (4 * SHARDS, 0, 0));
    assert_eq!(bench.cleancache.take_back(bench.pool, span.start).err(), Some(TakeError::NotHere(span.start)));
}

#[test]
fn any_frames_are_free_ones_of_all_shards_before_pages_and_leave_each_about_as_many() {
    let bench = bench(SHARDED(), Sort::Fixed, 100);
    // One shard has half of its frames free, the others have pages in all.
    let of_shard = |shard: u32| (0..100).map(move |at| (at / WINDOW * SHARDS as u32 + shard) * WINDOW + at % WINDOW);
    bench.fill(of_shard(0).take(50).chain((1..SHARDS as u32).flat_map(of_shard)), |_| 1);
    assert_eq!(bench.stats().free, 50);
    let taken = bench.cleancache.take_any(bench.pool, 60).expect("a pool");
    assert_eq!((taken.len(), bench.stats().taken_free, bench.stats().taken_used), (60, 50, 10));
    assert!(bench.cleancache.donate_list(bench.pool, taken).is_ok());
    bench.cleancache.clear();
    drop(bench.cleancache.take_any(bench.pool, 200));
    for shard in 0..SHARDS as u32 {
        bench.fill(of_shard(shard), |_| 1);
        let frames = bench.stats().cached;
        assert!((30..=70).contains(&frames), "{frames} frames of shard {shard}");
        bench.cleancache.clear();
    }
}

#[test]
fn a_range_of_frames_is_taken_across_shards() {
    for sort in [Sort::Fixed, Sort::Untrusted] {
        let bench = bench(SHARDED(), sort, ANNEX);
        bench.fill(everywhere(ANNEX), |index| index as u8);
        let range = PfnRange { start: bench.lent[3], count: 30 };
        let run = bench.cleancache.take_range(bench.pool, range).expect("lent");
        assert_eq!((run.range(), bench.stats().donated), (range, (SHARDS * ANNEX) as u64 - 30));
        assert!(bench.cleancache.donate_run(bench.pool, run).is_ok());
        bench.check("and back");
        bench.fill(everywhere(ANNEX), |index| index as u8);
        assert!(everywhere(ANNEX).all(|index| bench.get(index) == Some(index as u8)));
        assert_eq!(bench.stats().damaged, 0);
    }
}

#[test]
fn a_pool_that_is_refused_leaves_nothing_behind() {
    let bench = bench(SHARDED(), Sort::Fixed, 1);
    let pools: Vec<_> =
        std::iter::from_fn(|| bench.cleancache.register_pool(named("many", Kind::Fixed))).take(20_000).collect();
    assert!(pools.len() < 20_000);
    assert!(bench.cleancache.unregister_pool(pools[77]).is_ok());
    let again = bench.cleancache.register_pool(named("again", Kind::Fixed)).expect("room for one");
    assert!(!pools.contains(&again));
    for _ in 0..4 * 8 {
        let frame = bench.memory.allocate(Zones::Ephemeral).expect("memory");
        assert!(bench.cleancache.donate(again, frame).is_ok());
    }
    assert_eq!(bench.cleancache.unregister_pool(again).map(|frames| frames.len()), Ok(32));
}
