//! Cleancache: a victim cache for clean pages, in frames that somebody donated and may take back at any moment.
//!
//! Reclaim offers pages on their way out ([`Cleancache::store_all`]); the page-in path asks here before it asks the disk
//! ([`Cleancache::restore_run`]). Donors own [pools](PoolId): they [donate](Cleancache::donate) frames and
//! [take them back](Cleancache::take_back), which never fails for a frame of theirs, whatever is in it. Which page goes when the
//! pools are full is for a [`Policy`] to say.
//!
//! Invariants, under one lock:
//! - a frame of a pool is free or holds one page, and every page is in one frame: donated = free + cached + in transit;
//! - an entry holds what the disk holds: whoever changes a page [invalidates](Cleancache::invalidate_range) it first;
//! - entries belong to live files of live filesystems only, so what comes too late finds no place;
//! - the bytes of an untrusted pool's frames are never borrowed, only copied, and a copy that is not what was stored is a miss.
//!
//! Nothing allocates that a page goes through: a store cannot fail for want of memory. Files, filesystems and pools do when they
//! come, and so does `remove_fs`.
//!
//! May touch: `frames`. Knows nothing of the page cache, of disks or of donors.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod entries;
mod flow;
pub mod ghost;
mod latency;
mod lessons;
mod names;
pub mod policy;
mod pool;
mod pools;
mod restore;
mod stats;
mod tags;

pub use latency::Latency;
pub use names::{FileId, FsId, PoolId, StaleId};
pub use policy::{Arrival, Keepsake, Policy};
pub use pool::{DonateError, Kind, PoolConfig, TakeError};
pub use stats::{FsStats, PoolStats, Refusal, Stored};
pub use tags::TagKey;

use crate::entries::State;
use crate::policy::MakePolicy;
use alloc::vec::Vec;
use core::fmt;
use frames::{Frame, FrameList, FrameRef, FrameRun, Lock, Memory, Pfn, PfnRange, Rank};

/// Frames that a donor is given in one hold of the lock, when it wants many: stores and restores go on in between.
const TAKE_BATCH: usize = 64;

/// How the cache behaves.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Keep only pages that were part of the working set (the four cases of [`Cleancache::store`]).
    pub gate: bool,
    /// Whether a page leaves when it is restored. An inclusive cache keeps a copy.
    pub exclusive: bool,
    /// Whether a store into full pools drops another page. The alternative is to refuse the store.
    pub evict: bool,
    /// Which page that is.
    pub policy: MakePolicy,
    /// Frames that will be donated, about: the index is made for so many. More make it slower, not wrong.
    pub capacity: usize,
    /// What take-backs are timed with, in any unit.
    pub clock: fn() -> u64,
    /// What the pages of untrusted pools are told by.
    pub tag_key: TagKey,
}

impl Default for Config {
    /// Exclusive, evicting, no gate: when the working set exceeds memory few pages are ever activated, and a gate
    /// would leave the pools empty just when they are needed.
    fn default() -> Self {
        Self {
            gate: false,
            exclusive: true,
            evict: true,
            policy: policy::DEFAULT,
            capacity: 0,
            clock: || 0,
            tag_key: TagKey::default(),
        }
    }
}

/// A clean page that leaves the page cache.
#[derive(Debug)]
pub struct Offer {
    /// Its file.
    pub file: FileId,
    /// Which page of it.
    pub index: u32,
    /// The frame that it is in.
    pub frame: Frame,
    /// What is known of it.
    pub arrival: Arrival,
}

/// A page that is wanted, and a frame for it.
#[derive(Debug)]
pub struct Wanted {
    /// Which page of the file.
    pub index: u32,
    /// Its frame; on a hit perhaps another one, by exchange. On a miss its bytes are unspecified.
    pub frame: Frame,
    /// Whether it was found.
    pub found: bool,
    /// What it takes along.
    pub keepsake: Keepsake,
}

impl Wanted {
    /// Page `index`, to be put into `frame`.
    pub fn new(index: u32, frame: Frame) -> Self {
        Self { index, frame, found: false, keepsake: Keepsake::default() }
    }
}

/// The cache.
pub struct Cleancache {
    state: Lock<State>,
}

impl Cleancache {
    /// An empty cache for donated frames of `memory`.
    pub fn new(memory: &'static Memory, config: Config) -> Self {
        Self { state: Lock::new(Rank::Cleancache, State::new(memory, config)) }
    }

    /// A filesystem was mounted.
    pub fn add_fs(&self, name: &str) -> FsId {
        self.state.lock().add_fs(name)
    }

    /// A filesystem is unmounted: everything of it is dropped, and its files are unknown from here on.
    pub fn remove_fs(&self, fs: FsId) -> Result<(), StaleId> {
        self.state.lock().remove_fs(fs)
    }

    /// A file whose pages may be stored.
    pub fn add_file(&self, fs: FsId) -> Result<FileId, StaleId> {
        self.state.lock().add_file(fs)
    }

    /// The file is gone: its entries are dropped, and its name refers to nothing from here on.
    pub fn remove_file(&self, file: FileId) -> Result<(), StaleId> {
        self.state.lock().remove_file(file)
    }

    /// How many pages of `file` are here.
    pub fn file_len(&self, file: FileId) -> usize {
        self.state.lock().file_len(file)
    }

    /// A new pool, without frames. Everything that its frames will need is set aside here. `None` when there are as many pools
    /// as there can be, some 4,000, or its range is larger than all memory that there are records for.
    pub fn register_pool(&self, config: PoolConfig) -> Option<PoolId> {
        self.state.lock().register_pool(config)
    }

    /// Close a pool: every frame of it comes out, whatever is in it.
    pub fn unregister_pool(&self, pool: PoolId) -> Result<FrameList, StaleId> {
        self.state.lock().unregister_pool(pool)
    }

    /// Lend a frame. An error hands the frame back.
    pub fn donate(&self, pool: PoolId, frame: Frame) -> Result<(), (DonateError, Frame)> {
        self.state.lock().donate(pool, frame)
    }

    /// Lend many frames. Those that are refused come back, all of them and no other, with the reason of the first.
    pub fn donate_list(&self, pool: PoolId, mut frames: FrameList) -> Result<(), (DonateError, FrameList)> {
        let count = frames.len();
        let memory = frames.memory();
        self.donate_all(pool, memory, core::iter::from_fn(|| frames.pop_front()).take(count))
    }

    /// Lend a run of frames. Those that are refused come back, all of them and no other, with the reason of the first.
    pub fn donate_run(&self, pool: PoolId, run: FrameRun) -> Result<(), (DonateError, FrameList)> {
        self.donate_all(pool, run.memory(), run.into_iter())
    }

    fn donate_all(
        &self,
        pool: PoolId,
        memory: &'static Memory,
        frames: impl Iterator<Item = Frame>,
    ) -> Result<(), (DonateError, FrameList)> {
        let mut state = self.state.lock();
        let mut rejects: Option<(DonateError, FrameList)> = None;
        for frame in frames {
            if let Err((error, frame)) = state.donate(pool, frame) {
                rejects.get_or_insert_with(|| (error, FrameList::unnamed(memory))).1.push_back(frame);
            }
        }
        rejects.map_or(Ok(()), Err)
    }

    /// The donor wants this frame back. An entry in it is dropped and misses from here on.
    ///
    /// # Errors
    /// [`TakeError`], when there is no such pool or the frame is none of it (taken already, or never donated).
    pub fn take_back(&self, pool: PoolId, pfn: Pfn) -> Result<Frame, TakeError> {
        self.state.lock().take_back(pool, pfn)
    }

    /// The donor wants `most` frames back, any of them: free ones first, then those whose pages are the next to go. Fewer come only
    /// when the pool has no more.
    ///
    /// # Errors
    /// [`TakeError::NoPool`].
    pub fn take_any(&self, pool: PoolId, most: usize) -> Result<FrameList, TakeError> {
        let mut taken = self.state.lock().empty_list();
        while taken.len() < most {
            let mut state = self.state.lock();
            for _ in 0..TAKE_BATCH.min(most - taken.len()) {
                match state.take_any(pool) {
                    Ok(Some(frame)) => taken.push_back(frame),
                    Ok(None) => return Ok(taken),
                    // Closed since the last hold of the lock: what came out until then is the donor's all the same.
                    Err(_) if !taken.is_empty() => return Ok(taken),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(taken)
    }

    /// The donor wants consecutive frames back, `range` and no other.
    ///
    /// # Errors
    /// [`TakeError`], with the first frame that is not in the pool; no frame is taken then, but the pages in those before it are
    /// gone. (But whoever closes the pool meanwhile,
    /// with frames of the range out of it already, has them freed: there is no pool any more to lend them to again.)
    pub fn take_range(&self, pool: PoolId, range: PfnRange) -> Result<FrameRun, TakeError> {
        let mut run: Option<FrameRun> = None;
        let mut next = range.start;
        while next < range.end() {
            let mut state = self.state.lock();
            let batch_end = next.offset(TAKE_BATCH as u64).min(range.end());
            while next < batch_end {
                let joined = state.take_back(pool, next).and_then(|frame| match &mut run {
                    None => {
                        run = Some(frame.into());
                        Ok(())
                    }
                    // Neighbours in two annexes are not one run.
                    Some(run) => run.append(frame.into()).map_err(|frame| {
                        let _ = frame.into_frame().map(|frame| state.donate(pool, frame));
                        TakeError::NotHere(next)
                    }),
                });
                if let Err(error) = joined {
                    for frame in run.into_iter().flatten() {
                        // It was in this pool just now.
                        let _ = state.donate(pool, frame);
                    }
                    return Err(error);
                }
                next = next.offset(1);
            }
        }
        run.ok_or(TakeError::NotHere(range.start))
    }

    /// A clean page leaves the page cache: keep it, or see to it that no older copy stays.
    ///
    /// With the [gate](Config::gate): a page of the working set is inserted or overwrites its old copy; any other page is not
    /// kept, and its old copy, if there is one, is dropped. The caller gets a frame back, with unspecified bytes: the same
    /// one where the page was copied or refused, another where frames could be exchanged.
    pub fn store(&self, offer: Offer) -> (Stored, Frame) {
        self.state.lock().store(offer)
    }

    /// As [`Cleancache::store`], for a set of pages in one operation; `done` is given what became of each. `offers` is asked for the next page
    /// with this cache locked.
    pub fn store_all(&self, offers: impl IntoIterator<Item = Offer>, done: impl FnMut(Stored, Frame)) {
        self.state.lock().store_all(offers, done);
    }

    /// As [`Cleancache::store_all`], for callers that may hold any lock. When the cache is in use nothing is asked for, and the answer is
    /// `false`. Old copies of such pages may then stay, so the pages must be what the disk has.
    pub fn try_store_all(&self, offers: impl IntoIterator<Item = Offer>, done: impl FnMut(Stored, Frame)) -> bool {
        self.state.try_lock().map(|mut state| state.store_all(offers, done)).is_some()
    }

    /// Put pages of a file into their frames as far as they are here, in one operation.
    pub fn restore_run(&self, file: FileId, pages: &mut [Wanted]) {
        let pages = pages.iter_mut().map(|page| (page.index, &mut page.frame, (&mut page.found, &mut page.keepsake)));
        self.state.lock().restore_all(file, pages, |(page_found, page_keepsake), found, keepsake| {
            (*page_found, *page_keepsake) = (found, keepsake);
        });
    }

    /// Put one page into `frame` if it is here. `frame` may become another frame, by exchange; on a miss its bytes are unspecified.
    pub fn restore(&self, file: FileId, index: u32, frame: &mut Frame) -> bool {
        let mut restored = false;
        self.state.lock().restore_all(file, core::iter::once((index, frame, ())), |(), found, _| restored = found);
        restored
    }

    /// The page has changed, or is about to: drop its entry.
    pub fn invalidate(&self, file: FileId, index: u32) {
        self.state.lock().invalidate(file, index);
    }

    /// Pages `first..=last` have changed, or are about to: drop their entries, in one operation.
    pub fn invalidate_range(&self, file: FileId, first: u32, last: u32) {
        self.state.lock().invalidate_range(file, first, last);
    }

    /// Drop every entry of every file.
    pub fn clear(&self) {
        self.state.lock().clear();
    }

    /// Let `look` see the page in the frame `pfn`, if one is there.
    pub fn look_at(&self, pfn: Pfn, look: impl FnOnce(FrameRef<'_>)) {
        if let Some(page) = self.state.lock().entries.find(pfn) {
            look(page);
        }
    }

    /// Let `look` see each page of `file`.
    pub fn each_page(&self, file: FileId, look: impl FnMut(FrameRef<'_>)) {
        let state = self.state.lock();
        if state.files.get(file).is_some() {
            state.entries.of_file(file.slot()).for_each(look);
        }
    }

    /// Frames that are donated, in all pools.
    pub fn donated(&self) -> u64 {
        self.state.lock().pools.frames()
    }

    /// Frames that hold nothing, in all pools.
    pub fn free(&self) -> u64 {
        self.state.lock().pools.free()
    }

    /// The name of the policy.
    pub fn policy(&self) -> &'static str {
        self.state.lock().policy()
    }

    /// What happened to each pool.
    pub fn pool_stats(&self) -> Vec<PoolStats> {
        self.state.lock().pool_stats()
    }

    /// What happened for each filesystem.
    pub fn fs_stats(&self) -> Vec<FsStats> {
        self.state.lock().fs_stats()
    }
}

impl fmt::Debug for Cleancache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cleancache").finish_non_exhaustive()
    }
}
