//! Every policy, in the real cache: whatever it chooses, a page is kept where there is a frame, the frames are all accounted for, and
//! what is read is what was stored.

use cleancache::policy::BUILT_IN;
use cleancache::{Arrival, Cleancache, Config, FileId, Keepsake, Kind, Offer, PoolConfig, PoolId, Refusal, Stored};
use frames::arena::Arena;
use frames::{Frame, Memory, Pfn, Zones};
use proptest::prelude::*;
use std::collections::HashMap;

const PAGES: usize = 256;
const POOLS: usize = 2;

#[derive(Clone, Debug)]
enum Op {
    /// A page leaves the page cache, with what it took along if it was looked for.
    Store {
        index: u32,
        workingset: bool,
    },
    /// A page is looked for.
    Restore {
        index: u32,
    },
    Invalidate {
        index: u32,
    },
    Donate {
        pool: usize,
    },
    /// The donor wants some frame back.
    TakeAny {
        pool: usize,
    },
    /// The donor wants this one.
    TakeBack {
        which: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let index = || 0u32..48;
    prop_oneof![
        8 => (index(), any::<bool>()).prop_map(|(index, workingset)| Op::Store { index, workingset }),
        6 => index().prop_map(|index| Op::Restore { index }),
        1 => index().prop_map(|index| Op::Invalidate { index }),
        3 => (0..POOLS).prop_map(|pool| Op::Donate { pool }),
        1 => (0..POOLS).prop_map(|pool| Op::TakeAny { pool }),
        1 => any::<usize>().prop_map(|which| Op::TakeBack { which }),
    ]
}

struct Bench {
    cleancache: Cleancache,
    memory: &'static Memory,
    file: FileId,
    pools: Vec<PoolId>,
    lent: Vec<(usize, Pfn)>,
    /// What a page that may be here must read as.
    written: HashMap<u32, u8>,
    keepsakes: HashMap<u32, Keepsake>,
    writes: u8,
    // Last, so that it is dropped when every frame has come back.
    _arena: Arena,
}

impl Bench {
    fn new(config: Config) -> Self {
        let arena = Arena::new(PAGES);
        let memory = arena.memory();
        let cleancache = Cleancache::new(memory, config);
        let kinds = [Kind::Exchangeable, Kind::Fixed];
        let pool =
            |kind| cleancache.register_pool(PoolConfig { name: "pool".into(), kind, scrub: false }).expect("a pool");
        let pools = kinds.into_iter().map(pool).collect();
        let fs = cleancache.add_fs("fs");
        let file = cleancache.add_file(fs).expect("a live filesystem");
        let (written, keepsakes, lent) = (HashMap::new(), HashMap::new(), Vec::new());
        Self { cleancache, memory, file, pools, lent, written, keepsakes, writes: 0, _arena: arena }
    }

    fn frame(&self) -> Frame {
        self.memory.allocate(Zones::Ephemeral).expect("memory")
    }

    fn free_and_cached(&self) -> (u64, u64) {
        let stats = self.cleancache.pool_stats();
        (stats.iter().map(|pool| pool.free).sum(), stats.iter().map(|pool| pool.cached).sum())
    }

    fn step(&mut self, op: Op, exclusive: bool) {
        let (free, cached) = self.free_and_cached();
        match op {
            Op::Store { index, workingset } => {
                self.writes = self.writes.wrapping_add(1);
                let mut frame = self.frame();
                frame.bytes_mut().fill(self.writes);
                let keepsake = self.keepsakes.remove(&index).unwrap_or_default();
                let arrival = Arrival { workingset, keepsake };
                let (stored, _) = self.cleancache.store(Offer { file: self.file, index, frame, arrival });
                self.written.insert(index, self.writes);
                let now = self.free_and_cached();
                match stored {
                    Stored::Inserted if free > 0 => assert_eq!(now, (free - 1, cached + 1)),
                    Stored::Inserted | Stored::Replaced => assert_eq!(now, (free, cached)),
                    Stored::Refused(refusal) => assert_eq!((refusal, self.lent.len()), (Refusal::NoFrame, 0)),
                }
            }
            Op::Restore { index } => {
                let mut pages = [cleancache::Wanted::new(index, self.frame())];
                self.cleancache.restore_run(self.file, &mut pages);
                let [page] = pages;
                if page.found {
                    assert_eq!(Some(&page.frame.bytes()[99]), self.written.get(&index), "page {index}");
                }
                let left = u64::from(page.found && exclusive);
                assert_eq!(self.free_and_cached(), (free + left, cached - left));
                self.keepsakes.insert(index, page.keepsake);
            }
            Op::Invalidate { index } => {
                self.cleancache.invalidate(self.file, index);
                self.written.remove(&index);
            }
            Op::Donate { pool } => {
                let frame = self.frame();
                if self.lent.len() < 40 {
                    self.lent.push((pool, frame.pfn()));
                    assert!(self.cleancache.donate(self.pools[pool], frame).is_ok());
                }
            }
            Op::TakeAny { pool } => {
                let frames = self.cleancache.take_any(self.pools[pool], 1).expect("a live pool");
                let had = self.lent.iter().filter(|&&(of, _)| of == pool).count();
                assert_eq!(frames.len(), had.min(1), "a frame of a pool can always be had");
                self.recount(pool);
            }
            Op::TakeBack { which } => {
                if let Some(&(pool, pfn)) = self.lent.get(which % self.lent.len().max(1)) {
                    // An exchangeable pool may have it no more: it went to the page cache for another one.
                    let _ = self.cleancache.take_back(self.pools[pool], pfn);
                    self.recount(pool);
                }
            }
        }
        for pool in self.cleancache.pool_stats() {
            assert_eq!(pool.donated, pool.free + pool.cached + pool.in_transit);
        }
    }

    /// As many frames are lent as the pool says, whichever they are.
    fn recount(&mut self, pool: usize) {
        let donated = self.cleancache.pool_stats()[pool].donated as usize;
        let mut kept = 0;
        self.lent.retain(|&(of, _)| {
            kept += usize::from(of == pool);
            of != pool || kept <= donated
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_policy_chooses_a_page_is_kept_and_every_frame_is_found(
        exclusive in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..400),
    ) {
        for &(_, policy) in BUILT_IN {
            let mut bench = Bench::new(Config { policy, exclusive, capacity: 16, ..Config::default() });
            for op in ops.clone() {
                bench.step(op, exclusive);
            }
            // The last page of each pool has a victim too.
            for (at, &pool) in bench.pools.iter().enumerate() {
                let lent = bench.lent.iter().filter(|&&(of, _)| of == at).count();
                prop_assert_eq!(bench.cleancache.take_any(pool, usize::MAX).expect("a live pool").len(), lent);
            }
            prop_assert_eq!(bench.free_and_cached(), (0, 0));
        }
    }
}

#[test]
fn each_policy_is_made_under_its_name() {
    for &(name, policy) in BUILT_IN {
        assert_eq!(policy(64).name(), name);
    }
}
