//! Cleancache: a victim cache for clean pages, in frames that somebody donated and may take back at any moment.
//!
//! Reclaim offers a page on its way out ([`Cleancache::store`]); the page-in path asks here before it asks the disk
//! ([`Cleancache::restore`]). Donors own [pools](PoolId): they [donate](Cleancache::donate) frames and
//! [take them back](Cleancache::take_back), which never fails for a frame of theirs, whatever is in it.
//!
//! Invariants, under one lock:
//! - a frame of a pool is free or holds one page, and every page is in one frame: donated = free + cached + in transit;
//! - an entry holds what the disk holds: whoever changes a page [invalidates](Cleancache::invalidate) it first;
//! - entries belong to live files of live filesystems only, so what comes too late finds no place.
//!
//! Nothing here allocates but `add_fs`, `add_file` and `register_pool`: a store cannot fail for want of memory.
//!
//! May touch: `frames`. Knows nothing of the page cache, of disks or of donors.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod insertion;
mod names;
mod pool;
mod state;
mod stats;

pub use names::{FileId, FsId, PoolId, StaleId};
pub use pool::{DonateError, Interchange, PoolConfig, TakeError};
pub use stats::{FsStats, PoolStats, Refusal, Stored};

use crate::state::State;
use alloc::vec::Vec;
use core::fmt;
use frames::{Frame, FrameList, FrameRun, Lock, Memory, Pfn, Rank};

/// How the cache behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Keep only pages that were part of the working set (the four cases of [`Cleancache::store`]).
    pub gate: bool,
    /// Whether a page leaves when it is restored. An inclusive cache keeps a copy.
    pub exclusive: bool,
    /// Whether a store into full pools drops the oldest entry. The alternative is to refuse the store.
    pub evict: bool,
}

impl Default for Config {
    /// Exclusive, evicting, no gate: when the working set exceeds memory few pages are ever activated, and a gate
    /// would leave the pools empty just when they are needed.
    fn default() -> Self {
        Self { gate: false, exclusive: true, evict: true }
    }
}

/// The cache.
pub struct Cleancache {
    state: Lock<State>,
}

impl Cleancache {
    /// An empty cache for donated frames of `memory`. It sets aside 4 bytes for every fourth frame of the machine, for its
    /// index.
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

    /// A new pool, without frames.
    pub fn register_pool(&self, config: PoolConfig) -> PoolId {
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

    /// Lend a run of frames, one after the other. An error hands back the frames that were not taken: the first reject and
    /// all that follow it.
    pub fn donate_run(&self, pool: PoolId, run: FrameRun) -> Result<(), (DonateError, Vec<Frame>)> {
        let mut frames = run.into_iter();
        while let Some(frame) = frames.next() {
            if let Err((error, frame)) = self.donate(pool, frame) {
                return Err((error, core::iter::once(frame).chain(frames).collect()));
            }
        }
        Ok(())
    }

    /// The donor wants this frame back. An entry in it is dropped and misses from here on.
    ///
    /// # Errors
    /// [`TakeError`], when there is no such pool or the frame is none of it (taken already, or never donated).
    pub fn take_back(&self, pool: PoolId, pfn: Pfn) -> Result<Frame, TakeError> {
        self.state.lock().take_back(pool, pfn)
    }

    /// A clean page leaves the page cache, in `frame`: keep it, or see to it that no older copy stays.
    ///
    /// With the [gate](Config::gate): a page of the working set is inserted or overwrites its old copy; any other page is not kept, and its
    /// old copy, if there is one, is dropped. The caller gets a frame back, with unspecified bytes: the same one where
    /// the page was copied or refused, another where frames could be exchanged.
    pub fn store(&self, file: FileId, index: u32, frame: Frame, workingset: bool) -> (Stored, Frame) {
        self.state.lock().store(file, index, frame, workingset)
    }

    /// As [`Cleancache::store`], for callers that may hold any lock: `Err` hands the frame back, unchanged, when the cache is in use.
    /// An old copy of the page may then stay, so the page must be one that the disk has as it is.
    pub fn try_store(&self, file: FileId, index: u32, frame: Frame, workingset: bool) -> Result<Frame, Frame> {
        match self.state.try_lock() {
            Some(mut state) => Ok(state.store(file, index, frame, workingset).1),
            None => Err(frame),
        }
    }

    /// Put the page into `frame` if it is here. `frame` may become another frame, by exchange; on a miss it is not touched.
    pub fn restore(&self, file: FileId, index: u32, frame: &mut Frame) -> bool {
        self.state.lock().restore(file, index, frame)
    }

    /// The page has changed, or is about to: drop its entry.
    pub fn invalidate(&self, file: FileId, index: u32) {
        self.state.lock().invalidate_range(file, index, index);
    }

    /// Pages `first..=last` have changed, or are about to: drop their entries.
    pub fn invalidate_range(&self, file: FileId, first: u32, last: u32) {
        self.state.lock().invalidate_range(file, first, last);
    }

    /// Drop every entry of every file.
    pub fn clear(&self) {
        self.state.lock().clear();
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
