//! After pools, files and frames are there, nothing that a page or a frame goes through asks for memory: a store cannot fail for want
//! of it. Counted by an allocator that counts.

mod bench;

use allocation_counter::measure;
use bench::{SORTS, Sort, bench};
use cleancache::policy::BUILT_IN;
use cleancache::{Config, Offer, Wanted};
use frames::{Frame, PfnRange};

fn assert_no_allocation(what: &str, work: impl FnOnce()) {
    let seen = measure(work);
    assert_eq!(seen.count_total, 0, "{what}: {} bytes", seen.bytes_total);
}

#[test]
fn the_counter_counts() {
    assert!(measure(|| drop(std::hint::black_box(Box::new([1u8; 100])))).count_total > 0);
}

#[test]
fn property_17_no_way_of_a_page_allocates() {
    for &(name, policy) in BUILT_IN {
        for sort in SORTS {
            for (exclusive, gate, shards) in [(true, false, 1), (false, false, 1), (true, true, 1), (true, false, 4)] {
                let config = Config { policy, exclusive, gate, shards, ..Config::default() };
                let bench = bench(config, sort, 12);
                let (cleancache, file) = (&bench.cleancache, bench.file);
                let what = format!("{name}, {sort:?}, exclusive {exclusive}, gate {gate}, {shards} shards");
                let mut offers: Vec<Frame> = (0..40).map(|value| bench.page(value)).collect();
                let mut wanted: Vec<Wanted> = (0..40).map(|index| Wanted::new(index, bench.page(0))).collect();
                assert_no_allocation(&what, || {
                    for round in 0..60 {
                        (0..30).for_each(|step| {
                            let index = round * 7 + step;
                            bench.put(index, index as u8);
                            bench.get(index * 5 % 40);
                        });
                        cleancache.invalidate(file, round * 7 + 29);
                        cleancache.invalidate_range(file, round * 7 + 24, round * 7 + 28);
                        let arrival = cleancache::Arrival { workingset: true, ..Default::default() };
                        let set = (0..40).zip(offers.drain(..));
                        let set = set.map(|(index, frame)| Offer { file, index, frame, arrival });
                        cleancache.store_all(set, |_, frame| drop(frame));
                        // The host does its worst, too.
                        if sort == Sort::Untrusted {
                            bench.lent[..4].iter().for_each(|&pfn| bench.arena.scribble(pfn, 1, |byte| byte ^ 1));
                        }
                        cleancache.restore_run(file, &mut wanted);
                        let frames = cleancache.take_any(bench.pool, 5).expect("a pool");
                        assert_eq!(frames.len(), 5);
                        assert!(cleancache.donate_list(bench.pool, frames).is_ok());
                        if sort == Sort::Fixed {
                            let pfn = bench.lent[round as usize % 12];
                            let frame = cleancache.take_back(bench.pool, pfn).expect("lent");
                            assert!(cleancache.donate(bench.pool, frame).is_ok());
                        }
                        if sort == Sort::Untrusted {
                            let range = PfnRange { start: bench.lent[3], count: 6 };
                            let run = cleancache.take_range(bench.pool, range).expect("lent");
                            assert!(cleancache.donate_run(bench.pool, run).is_ok());
                        }
                        offers.extend((0..40).map(|value| bench.page(value)));
                    }
                });
                let stats = bench.stats();
                assert!(
                    stats.stores > 500 && stats.hits > 0 && stats.invalidations > 0 && stats.evictions > 100,
                    "{what}: {stats:?}"
                );
                assert!(sort != Sort::Untrusted || stats.damaged > 0, "{what}: {stats:?}");
                drop((offers, wanted));
                bench.check(&what);
            }
        }
    }
}
