//! A cleancache of its own for a test, with a pool of each kind that there is.

#![allow(dead_code, reason = "each test program uses a part of it")]

use cleancache::policy::Lru;
use cleancache::{Arrival, Cleancache, Config, FileId, FsId, Kind, Offer, PoolConfig, PoolId, PoolStats, Stored};
use frames::arena::Arena;
use frames::{Frame, FrameList, Memory, Pfn, PfnRange, Zones};

/// What a pool's frames are, before there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Fixed,
    Exchangeable,
    Untrusted,
}

pub const SORTS: [Sort; 3] = [Sort::Fixed, Sort::Exchangeable, Sort::Untrusted];
pub const EXCLUSIVE: fn() -> Config = || Config { policy: |_| Box::new(Lru), ..Config::default() };
pub const INCLUSIVE: fn() -> Config = || Config { exclusive: false, ..EXCLUSIVE() };
/// In shards, of which tests with one small file see one.
pub const SHARDED: fn() -> Config = || Config { shards: 4, ..EXCLUSIVE() };
pub const SHARDED_INCLUSIVE: fn() -> Config = || Config { shards: 4, ..INCLUSIVE() };
/// Frames that only untrusted pools have.
pub const ANNEX: usize = 16;

pub struct Bench {
    pub cleancache: Cleancache,
    pub pool: PoolId,
    pub fs: FsId,
    pub file: FileId,
    pub memory: &'static Memory,
    /// The frames that were donated first; those of an exchangeable pool change.
    pub lent: Vec<Pfn>,
    /// The range of untrusted frames.
    pub annex: PfnRange,
    // Last, so that it is dropped when every frame has come back.
    pub arena: Arena,
}

pub fn named(name: &str, kind: Kind) -> PoolConfig {
    PoolConfig { name: name.into(), kind, scrub: false }
}

/// Where a frame is dealt to.
fn shard_of(pfn: Pfn, shards: usize) -> usize {
    (pfn.get() / 8) as usize % shards
}

/// A cleancache with one pool of `frames` frames, or as many in each shard.
pub fn bench(config: Config, sort: Sort, frames: usize) -> Bench {
    scrubbing(config, sort, frames, false)
}

pub fn scrubbing(config: Config, sort: Sort, frames: usize, scrub: bool) -> Bench {
    let shards = config.shards;
    let (arena, annex) = Arena::with_annex(512, ANNEX * shards);
    let memory = arena.memory();
    let range = annex.range();
    let cleancache = Cleancache::new(memory, config);
    let kind = match sort {
        Sort::Fixed => Kind::Fixed,
        Sort::Exchangeable => Kind::Exchangeable,
        Sort::Untrusted => Kind::Untrusted(range),
    };
    let pool = cleancache.register_pool(PoolConfig { scrub, ..named("pool", kind) }).expect("a pool");
    let fs = cleancache.add_fs("fs");
    let file = cleancache.add_file(fs).expect("a live filesystem");
    let mut lent = Vec::new();
    let mut missing = vec![frames; shards];
    let mut spare = FrameList::unnamed(memory);
    let mut annex = annex.into_iter();
    while missing.iter().any(|&missing| missing > 0) {
        let frame = match sort {
            Sort::Untrusted => annex.next(),
            _ => memory.allocate(Zones::Ephemeral),
        };
        let frame = frame.expect("memory");
        match &mut missing[shard_of(frame.pfn(), shards)] {
            0 => spare.push_back(frame),
            missing => {
                *missing -= 1;
                lent.push(frame.pfn());
                assert!(cleancache.donate(pool, frame).is_ok());
            }
        }
    }
    Bench { cleancache, pool, fs, file, memory, lent, annex: range, arena }
}

impl Bench {
    pub fn page(&self, value: u8) -> Frame {
        let mut frame = self.memory.allocate(Zones::Ephemeral).expect("memory");
        frame.bytes_mut().fill(value);
        frame
    }

    pub fn put(&self, index: u32, value: u8) -> Stored {
        self.offer(self.file, index, value, Arrival { workingset: true, ..Arrival::default() })
    }

    /// Put many.
    pub fn fill(&self, indices: impl IntoIterator<Item = u32>, value: impl Fn(u32) -> u8) {
        for index in indices {
            self.put(index, value(index));
        }
    }

    pub fn offer(&self, file: FileId, index: u32, value: u8, arrival: Arrival) -> Stored {
        self.cleancache.store(Offer { file, index, frame: self.page(value), arrival }).0
    }

    pub fn get(&self, index: u32) -> Option<u8> {
        self.get_of(self.file, index)
    }

    pub fn get_of(&self, file: FileId, index: u32) -> Option<u8> {
        let mut frame = self.page(0xee);
        let found = self.cleancache.restore(file, index, &mut frame);
        let value = frame.bytes()[0];
        assert!(!found || frame.bytes().iter().all(|&byte| byte == value), "a page in parts");
        found.then_some(value)
    }

    pub fn stats(&self) -> PoolStats {
        self.cleancache.pool_stats().swap_remove(0)
    }

    /// Every frame of every pool is free or holds a page, and those that are not lent are free or with the allocator.
    pub fn check(&self, what: &str) {
        let stats = self.cleancache.pool_stats();
        for pool in &stats {
            assert_eq!(pool.donated, pool.free + pool.cached + pool.in_transit, "{what}: {pool:?}");
            assert_eq!(pool.in_transit, 0, "{what}: {pool:?}");
        }
        let own = |pool: &&PoolStats| !matches!(pool.kind, Kind::Untrusted(_));
        let lent: u64 = stats.iter().filter(own).map(|pool| pool.donated).sum();
        assert_eq!(self.memory.stats().owned(), lent, "{what}");
        let cached: u64 = stats.iter().map(|pool| pool.cached).sum();
        assert_eq!(self.cleancache.fs_stats().iter().map(|fs| fs.cached).sum::<u64>(), cached, "{what}");
    }
}
