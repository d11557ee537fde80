//! What the lock of a shard guards: entries, pools, filesystems and files; how they come and go, and how frames do. The ways of a page are
//! in [`flow`](crate::flow).
//!
//! A cached frame lies in the map, on one of its pool's orders; a free one on its pool's list. A frame is in neither only as a
//! local variable of one of these functions.

use crate::Config;
use crate::deal::Deal;
use crate::latency::Histogram;
use crate::names::{FileId, FsId, Place, PoolId, StaleId, Table};
use crate::policy::{Policy, QUEUES, Queues};
use crate::pool::{DonateError, Kind, Pool, PoolConfig, TakeError};
use crate::pools::{Open, Pools};
use crate::stats::{FsStats, PoolStats};
use crate::tags::Tags;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::AtomicU64;
use frames::chunks::piece;
use frames::{Frame, FrameList, FrameMap, Memory, Pfn, Taken};

pub(crate) struct State {
    pub(crate) memory: &'static Memory,
    pub(crate) config: Config,
    pub(crate) deal: Deal,
    pub(crate) policy: Box<dyn Policy>,
    pub(crate) entries: FrameMap,
    pub(crate) pools: Pools,
    /// Names, and what files counted that are gone.
    filesystems: Table<FsStats, { piece::<Place<FsStats>>() }>,
    pub(crate) files: Table<File, { piece::<Place<File>>() }>,
}

/// A file, and what happened to its pages: counted here, where every operation looks anyway.
#[derive(Debug)]
pub(crate) struct File {
    fs: FsId,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) stores: u64,
    pub(crate) refused_gate: u64,
    pub(crate) refused_policy: u64,
    pub(crate) refused_no_frame: u64,
    pub(crate) replaced: u64,
    pub(crate) invalidations: u64,
}

impl File {
    fn new(fs: FsId) -> Self {
        Self {
            fs,
            hits: 0,
            misses: 0,
            stores: 0,
            refused_gate: 0,
            refused_policy: 0,
            refused_no_frame: 0,
            replaced: 0,
            invalidations: 0,
        }
    }

    fn add_to(&self, sum: &mut FsStats) {
        sum.hits += self.hits;
        sum.misses += self.misses;
        sum.stores += self.stores;
        sum.refused_gate += self.refused_gate;
        sum.refused_policy += self.refused_policy;
        sum.refused_no_frame += self.refused_no_frame;
        sum.replaced += self.replaced;
        sum.invalidations += self.invalidations;
    }
}

impl State {
    pub(crate) fn new(memory: &'static Memory, config: Config, deal: Deal, donated: Arc<AtomicU64>) -> Self {
        let all = if config.capacity == 0 { memory.records() / 4 } else { config.capacity };
        let capacity = all.div_ceil(deal.shards());
        Self {
            memory,
            config,
            deal,
            policy: (config.policy)(capacity),
            entries: FrameMap::new(memory, capacity, 0),
            pools: Pools::new(donated),
            filesystems: Table::new(),
            files: Table::new(),
        }
    }

    pub(crate) fn policy(&self) -> &'static str {
        self.policy.name()
    }

    pub(crate) fn add_fs(&mut self, name: &str) -> FsId {
        self.filesystems.insert(FsStats { name: String::from(name), ..FsStats::default() })
    }

    pub(crate) fn remove_fs(&mut self, fs: FsId) -> Result<(), StaleId> {
        self.filesystems.get(fs).ok_or(StaleId)?;
        let files: Vec<FileId> =
            self.files.iter().filter(|(_, record)| record.fs == fs).map(|(file, _)| file).collect();
        for file in files {
            self.remove_file(file)?;
        }
        self.filesystems.remove(fs).map(drop).ok_or(StaleId)
    }

    pub(crate) fn add_file(&mut self, fs: FsId) -> Result<FileId, StaleId> {
        self.filesystems.get(fs).ok_or(StaleId)?;
        let file: FileId = self.files.insert(File::new(fs));
        self.entries.add_file(file.slot());
        Ok(file)
    }

    pub(crate) fn remove_file(&mut self, file: FileId) -> Result<(), StaleId> {
        self.invalidate_range(file, 0, u32::MAX);
        let record = self.files.remove(file).ok_or(StaleId)?;
        if let Some(sum) = self.filesystems.get_mut(record.fs) {
            record.add_to(sum);
        }
        Ok(())
    }

    pub(crate) fn file_len(&self, file: FileId) -> usize {
        self.files.get(file).map_or(0, |_| self.entries.file_len(file.slot()))
    }

    /// A pool, under the name that another shard has given it or under one of its own.
    pub(crate) fn register_pool(&mut self, config: PoolConfig, name: Option<PoolId>) -> Option<PoolId> {
        let tags = match config.kind {
            // A tag a frame is set aside, so a host that claims more than there can be is told no.
            Kind::Untrusted(range) if range.count > self.memory.records() as u64 => return None,
            Kind::Untrusted(range) => Some(Tags::new(range, self.config.tag_key, self.deal)),
            Kind::Exchangeable | Kind::Fixed => None,
        };
        let id = self.pools.insert(Pool::new(self.memory, config, tags), name)?;
        if self.entries.add_orders((id.slot() as usize + 1) * usize::from(QUEUES)) {
            return Some(id);
        }
        self.pools.remove(id);
        None
    }

    pub(crate) fn unregister_pool(&mut self, id: PoolId) -> Result<FrameList, StaleId> {
        self.pools.get(id).ok_or(StaleId)?;
        let mut frames = FrameList::unnamed(self.memory);
        for order in orders(id.slot()) {
            while let Some(taken) = self.take_front(order) {
                frames.push_back(taken.frame);
            }
        }
        let mut pool = self.pools.remove(id).ok_or(StaleId)?;
        while let Some(frame) = pool.free.pop_front() {
            frames.push_back(frame);
        }
        if pool.rare.config.scrub {
            for _ in 0..frames.len() {
                let Some(mut frame) = frames.pop_front() else { break };
                frame.zero();
                frames.push_back(frame);
            }
        }
        Ok(frames)
    }

    pub(crate) fn donate(&mut self, id: PoolId, frame: Frame) -> Result<(), (DonateError, Frame)> {
        if !core::ptr::eq(frame.memory(), self.memory) {
            return Err((DonateError::Foreign, frame));
        }
        let Some(mut open) = self.pools.get(id) else { return Err((DonateError::NoPool, frame)) };
        if open.pool.rare.tags.as_ref().is_some_and(|tags| !tags.covers(frame.pfn())) {
            return Err((DonateError::OutOfRange(frame.pfn()), frame));
        }
        open.join(frame);
        Ok(())
    }

    pub(crate) fn take_back(&mut self, id: PoolId, pfn: Pfn) -> Result<Frame, TakeError> {
        let begun = (self.config.clock)();
        let mut open = self.pools.get(id).ok_or(TakeError::NoPool)?;
        let (frame, used) = match open.take_free_at(pfn) {
            Some(frame) => (frame, false),
            None => {
                let taken = self.entries.take_pfn(pfn, orders(id.slot()));
                (taken.ok_or(TakeError::NotHere(pfn))?.frame, true)
            }
        };
        Ok(hand_out(&mut open, frame, used, begun, self.config.clock))
    }

    /// Frames of a pool: those that hold nothing, and all.
    pub(crate) fn frames_of(&mut self, id: PoolId) -> Result<(usize, u64), TakeError> {
        let open = self.pools.get(id).ok_or(TakeError::NoPool)?;
        Ok((open.pool.free.len(), open.pool.donated))
    }

    /// A free frame of the pool, or else the one whose page is the next to go.
    pub(crate) fn take_any(&mut self, id: PoolId) -> Result<Option<Frame>, TakeError> {
        let begun = (self.config.clock)();
        let Self { policy, entries, pools, .. } = self;
        let mut open = pools.get(id).ok_or(TakeError::NoPool)?;
        let (frame, used) = match open.take_free() {
            Some(frame) => (frame, false),
            None => {
                let victim = policy.victim(&mut Queues::new(entries, id.slot(), open.pool.donated, open.all_frames()));
                let Some(taken) = victim.and_then(|entry| entries.take(entry.key)) else { return Ok(None) };
                (taken.frame, true)
            }
        };
        Ok(Some(hand_out(&mut open, frame, used, begun, self.config.clock)))
    }

    pub(crate) fn clear(&mut self) {
        for order in 0..self.entries.orders() {
            while let Some(taken) = self.take_front(order) {
                self.pools.release(slot_of(&taken), taken.frame);
            }
        }
    }

    fn take_front(&mut self, order: u16) -> Option<Taken> {
        let key = self.entries.front(order)?.key();
        self.entries.take(key)
    }

    pub(crate) fn pool_stats(&self) -> Vec<(PoolStats, Histogram)> {
        let cached = |slot: u32| orders(slot).map(|order| self.entries.order_len(order) as u64).sum();
        self.pools.iter().map(|(id, pool)| pool.stats(id, cached(id.slot()))).collect()
    }

    pub(crate) fn fs_stats(&self) -> Vec<FsStats> {
        let sum = |fs: FsId, stats: &FsStats| {
            let files = self.files.iter::<FileId>().filter(|(_, record)| record.fs == fs);
            files.fold(stats.clone(), |mut sum, (file, record)| {
                record.add_to(&mut sum);
                sum.cached += self.entries.file_len(file.slot()) as u64;
                sum
            })
        };
        let filesystems = self.filesystems.iter::<FsId>().map(|(fs, stats)| sum(fs, stats));
        // What was kept and is not here any more, nor left in any way that is counted, was lost: so nobody has to count that.
        let found = |stats: &FsStats| if self.config.exclusive { stats.hits } else { 0 };
        let left = |stats: &FsStats| stats.replaced + stats.invalidations + found(stats) + stats.cached;
        filesystems.map(|stats| FsStats { lost: stats.stores.saturating_sub(left(&stats)), ..stats }).collect()
    }
}

/// The orders of the pool at a place.
fn orders(slot: u32) -> Range<u16> {
    let first = slot as u16 * QUEUES;
    first..first + QUEUES
}

/// The place of the pool that a frame came out of.
#[inline]
pub(crate) fn slot_of(taken: &Taken) -> u32 {
    u32::from(taken.order / QUEUES)
}

/// A frame leaves its pool for the donor.
fn hand_out(open: &mut Open<'_>, mut frame: Frame, used: bool, begun: u64, clock: fn() -> u64) -> Frame {
    open.part();
    let rare = &mut open.pool.rare;
    if rare.config.scrub {
        frame.zero();
    }
    match used {
        true => rare.taken_used += 1,
        false => rare.taken_free += 1,
    }
    rare.take_backs.add(clock().wrapping_sub(begun));
    frame
}
