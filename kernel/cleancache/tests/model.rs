//! Cleancache against a slow obvious model: a list of entries by age, each in a pool, and a set of frames for each pool. After every step
//! the contents are those of the model and every frame is accounted for (property 17).

use cleancache::policy::Lru;
use cleancache::{Arrival, Cleancache, Config, FileId, Kind, Offer, PoolConfig, PoolId, PoolStats, Refusal, Stored};
use frames::arena::Arena;
use frames::{Pfn, Zones};
use proptest::prelude::*;
use std::collections::BTreeSet;

const PAGES: usize = 512;

#[derive(Clone, Debug)]
enum Op {
    Store { file: usize, index: u32, workingset: bool },
    Restore { file: usize, index: u32 },
    Invalidate { file: usize, first: u32, len: u32 },
    Donate { pool: usize },
    TakeBack { pool: usize, which: usize },
    Renew { file: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let place = || (0usize..3, 0u32..12);
    prop_oneof![
        6 => (place(), any::<bool>())
            .prop_map(|((file, index), workingset)| Op::Store { file, index, workingset }),
        4 => place().prop_map(|(file, index)| Op::Restore { file, index }),
        1 => (place(), 0u32..12).prop_map(|((file, first), len)| Op::Invalidate { file, first, len }),
        3 => (0usize..2).prop_map(|pool| Op::Donate { pool }),
        2 => (0usize..2, any::<usize>()).prop_map(|(pool, which)| Op::TakeBack { pool, which }),
        1 => (0usize..3).prop_map(|file| Op::Renew { file }),
    ]
}

struct Entry {
    file: usize,
    index: u32,
    value: u32,
    /// The pool that its frame is of.
    pool: usize,
}

/// The pool of which a counter has grown.
fn grown(before: &[PoolStats], after: &[PoolStats], counter: fn(&PoolStats) -> u64) -> Option<usize> {
    before.iter().zip(after).position(|(before, after)| counter(after) > counter(before))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn contents_and_frames_are_those_of_the_model(
        gate in any::<bool>(),
        exclusive in any::<bool>(),
        evict in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..200),
    ) {
        let arena = Arena::new(PAGES);
        let memory = arena.memory();
        let config = Config { gate, exclusive, evict, policy: |_| Box::new(Lru), ..Config::default() };
        let cleancache = Cleancache::new(memory, config);
        let pools: Vec<PoolId> = [Kind::Fixed, Kind::Exchangeable]
            .map(|kind| {
                let pool = PoolConfig { name: "pool".into(), kind, scrub: false };
                cleancache.register_pool(pool).expect("a pool")
            })
            .to_vec();
        let fs = cleancache.add_fs("fs");
        let mut files: Vec<FileId> = (0..3).map(|_| cleancache.add_file(fs).expect("live")).collect();

        // The model: entries by age, and how many frames each pool has in all.
        let mut entries: Vec<Entry> = Vec::new();
        let mut donated = [0usize; 2];
        // Frames of the first pool never change; those of the second are exchanged, so they are only counted.
        let mut fixed: BTreeSet<Pfn> = BTreeSet::new();
        let mut value = 0u32;

        for op in ops {
            value += 1;
            match op {
                Op::Store { file, index, workingset } => {
                    let mut frame = memory.allocate(Zones::Ephemeral).expect("memory");
                    frame.bytes_mut()[..4].copy_from_slice(&value.to_le_bytes());
                    let before = cleancache.pool_stats();
                    let (stored, back) = cleancache.store(Offer {
                        file: files[file],
                        index,
                        frame,
                        arrival: Arrival { workingset, ..Arrival::default() },
                    });
                    prop_assert!(!fixed.contains(&back.pfn()), "a fixed pool's frame came out");
                    let old = entries.iter().position(|e| (e.file, e.index) == (file, index));
                    let had = old.map(|at| entries.remove(at)).is_some();
                    let expected = if gate && !workingset {
                        Stored::Refused(Refusal::Gate)
                    } else if !had && entries.len() == donated[0] + donated[1] && (!evict || entries.is_empty()) {
                        Stored::Refused(Refusal::NoFrame)
                    } else {
                        let after = cleancache.pool_stats();
                        let evicted = grown(&before, &after, |pool| pool.evictions);
                        prop_assert_eq!(evicted.is_some(), !had && entries.len() == donated[0] + donated[1]);
                        if let Some(pool) = evicted {
                            let oldest = entries.iter().position(|entry| entry.pool == pool);
                            entries.remove(oldest.expect("a page in a pool that evicts one"));
                        }
                        let pool = grown(&before, &after, |pool| pool.stores).expect("a pool that took the page");
                        entries.push(Entry { file, index, value, pool });
                        if had { Stored::Replaced } else { Stored::Inserted }
                    };
                    prop_assert_eq!(stored, expected);
                }
                Op::Restore { file, index } => {
                    let mut frame = memory.allocate(Zones::Ephemeral).expect("memory");
                    let found = cleancache.restore(files[file], index, &mut frame);
                    let at = entries.iter().position(|e| (e.file, e.index) == (file, index));
                    prop_assert_eq!(found, at.is_some());
                    if let Some(at) = at {
                        let entry = entries.remove(at);
                        prop_assert_eq!(&frame.bytes()[..4], &entry.value.to_le_bytes());
                        if !exclusive {
                            entries.push(entry);
                        }
                    }
                }
                Op::Invalidate { file, first, len } => {
                    let last = first + len;
                    cleancache.invalidate_range(files[file], first, last);
                    entries.retain(|e| e.file != file || !(first..=last).contains(&e.index));
                }
                Op::Donate { pool } => {
                    let Some(frame) = memory.allocate(Zones::Ephemeral) else { continue };
                    if pool == 0 {
                        fixed.insert(frame.pfn());
                    }
                    prop_assert!(cleancache.donate(pools[pool], frame).is_ok());
                    donated[pool] += 1;
                }
                Op::TakeBack { pool, which } => {
                    // The donor of exchangeable frames has to look for one; any frame of the arena may be its.
                    let candidates: Vec<Pfn> = if pool == 0 {
                        fixed.iter().copied().collect()
                    } else {
                        (0..PAGES as u64).map(|at| memory.span().start.offset(at)).collect()
                    };
                    let before: Vec<(usize, u32)> = entries.iter().map(|e| (e.file, e.index)).collect();
                    let taken = (0..candidates.len()).find_map(|at| {
                        let pfn = candidates[(which.wrapping_add(at)) % candidates.len()];
                        cleancache.take_back(pools[pool], pfn).ok()
                    });
                    prop_assert_eq!(taken.is_some(), donated[pool] > 0);
                    if let Some(frame) = taken {
                        donated[pool] -= 1;
                        fixed.remove(&frame.pfn());
                        // At most the one entry that was in it is gone: the model asks which.
                        let cached: u64 = cleancache.pool_stats().iter().map(|pool| pool.cached).sum();
                        if cached < before.len() as u64 {
                            prop_assert_eq!(cached + 1, before.len() as u64);
                            let value = u32::from_le_bytes(frame.bytes()[..4].try_into().expect("four"));
                            entries.retain(|e| e.value != value);
                        }
                    }
                }
                Op::Renew { file } => {
                    prop_assert!(cleancache.remove_file(files[file]).is_ok());
                    files[file] = cleancache.add_file(fs).expect("live");
                    entries.retain(|e| e.file != file);
                }
            }
            let stats = cleancache.pool_stats();
            for (pool, stats) in stats.iter().enumerate() {
                prop_assert_eq!(stats.donated, donated[pool] as u64);
                prop_assert_eq!(stats.donated, stats.free + stats.cached + stats.in_transit);
                prop_assert_eq!(stats.in_transit, 0);
            }
            let cached: u64 = stats.iter().map(|pool| pool.cached).sum();
            prop_assert_eq!(cached, entries.len() as u64);
            prop_assert_eq!(cleancache.fs_stats()[0].cached, cached);
            prop_assert_eq!(memory.stats().owned(), (donated[0] + donated[1]) as u64);
        }
    }
}
