//! How much a tmpfs may hold, and where its frames come from.
//!
//! A page of a tmpfs has no disk to go to, so reclaim cannot take it back: without a limit one `cp` would starve the page cache
//! and then the kernel. The limit is half of memory unless the mount says otherwise, as in tmpfs(5). Names and inodes live in the
//! kernel's heap; they have a limit of their own, an eighth of the first, so that a million empty files end in
//! 'no space' too.

use super::Options;
use super::claims::ClaimCounts;
use crate::error::{Error, Result};
use alloc::sync::Arc;
use cache::PageCache;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use frames::{FRAME_SIZE, FrameRun, Memory, Zones};

/// The largest order that is asked for at once: 2^6 frames are 256 KiB.
const MAX_ORDER: u32 = 6;

/// A count that stays below its limit.
#[derive(Debug)]
struct Account {
    used: AtomicU64,
    limit: u64,
}

impl Account {
    fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit }
    }

    fn charge(&self, amount: u64) -> Result<()> {
        let fits = |used: u64| used.checked_add(amount).filter(|&sum| sum <= self.limit);
        self.used.fetch_update(Relaxed, Relaxed, fits).map(drop).map_err(|_| Error::NoSpace)
    }

    fn force(&self, amount: u64) {
        self.used.fetch_add(amount, Relaxed);
    }

    fn release(&self, amount: u64) {
        self.used.fetch_sub(amount, Relaxed);
    }

    fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used.load(Relaxed))
    }
}

/// The limits of one tmpfs, and what it holds.
pub(super) struct Space {
    cache: Arc<PageCache>,
    /// Where frames may lie.
    zones: Zones,
    frames: Account,
    metadata: Account,
    /// Files some of whose content has no checksum.
    unsettled: AtomicU64,
    pub(super) claims: ClaimCounts,
}

impl Space {
    /// Room for what `options` say; for half of memory if they leave that open.
    pub(super) fn new(cache: Arc<PageCache>, options: &Options) -> Self {
        let zones = if options.handover { Zones::Preservable } else { Zones::Ephemeral };
        let frames = options.size.map_or(cache.memory().stats().total / 2, |bytes| bytes / FRAME_SIZE as u64);
        let metadata = frames.saturating_mul(FRAME_SIZE as u64) / 8;
        Self {
            cache,
            zones,
            frames: Account::new(frames),
            metadata: Account::new(metadata),
            unsettled: AtomicU64::new(0),
            claims: ClaimCounts::default(),
        }
    }

    pub(super) fn memory(&self) -> &'static Memory {
        self.cache.memory()
    }

    /// Consecutive frames, at least one and at most `goal`, their bytes unspecified. More than one is given where memory is
    /// plentiful; it is not worth evicting pages for, which frees frames here and there.
    pub(super) fn run(&self, goal: u64) -> Result<FrameRun> {
        let memory = self.memory();
        let plenty = u64::from(memory.free_frames(self.zones).saturating_sub(memory.watermarks().high));
        for order in (1..=goal.max(1).ilog2().min(MAX_ORDER)).rev() {
            if plenty.min(self.frames.free()) >= 1 << order
                && let Some(run) = memory.allocate_run(self.zones, order).and_then(|run| self.charged(run))
            {
                return Ok(run);
            }
        }
        // No page is evicted for what will not be had.
        let frame = (self.frames.free() > 0).then(|| self.cache.allocate(self.zones).ok()).flatten();
        frame.and_then(|frame| self.charged(frame.into())).ok_or(Error::NoSpace)
    }

    /// A run is counted once it is there: what is not to be had must not be missing to somebody else meanwhile.
    fn charged(&self, run: FrameRun) -> Option<FrameRun> {
        self.frames.charge(run.len() as u64).ok().map(|()| run)
    }

    /// Frames that came with a handover count too, even past the limit.
    pub(super) fn adopt_frames(&self, frames: u64) {
        self.frames.force(frames);
    }

    /// Frames were given back to memory.
    pub(super) fn release_frames(&self, frames: u64) {
        self.frames.release(frames);
    }

    /// Bytes of heap are about to be used.
    pub(super) fn charge_metadata(&self, bytes: u64) -> Result<()> {
        self.metadata.charge(bytes)
    }

    /// Names and inodes that came with a handover count too, even past the limit.
    pub(super) fn adopt_metadata(&self, bytes: u64) {
        self.metadata.force(bytes);
    }

    /// Bytes of heap were given back.
    pub(super) fn release_metadata(&self, bytes: u64) {
        self.metadata.release(bytes);
    }

    /// The content of one file more is without some checksum.
    pub(super) fn unsettled(&self) {
        self.unsettled.fetch_add(1, Relaxed);
    }

    /// That of one has all its checksums, or wants none any more.
    pub(super) fn settled(&self) {
        self.unsettled.fetch_sub(1, Relaxed);
    }

    /// Files some of whose content has no checksum.
    pub(super) fn without_sums(&self) -> u64 {
        self.unsettled.load(Relaxed)
    }

    /// Frames of content: the limit, and how many are left of it.
    pub(super) fn frames(&self) -> (u64, u64) {
        (self.frames.limit, self.frames.free())
    }

    /// Bytes of metadata: the limit, and how many are left of it.
    pub(super) fn metadata(&self) -> (u64, u64) {
        (self.metadata.limit, self.metadata.free())
    }
}
