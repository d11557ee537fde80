//! Reclaim: making frames free by evicting clean pages into cleancache; and allocation, which waits for it.

use crate::backing::FillError;
use crate::dirty::Next;
use crate::files::Files;
use crate::inherited::{Class, Inherited};
use crate::pages::Victim;
use crate::write_back::Flown;
use crate::{PageCache, State};
use alloc::boxed::Box;
use cleancache::Offer;
use core::fmt;
use frames::{Frame, FrameRef, FrameRun, Watermarks, Zone, Zones};

/// Evictions in one hold of the lock.
const BATCH: usize = 32;
/// Runs of dirty pages that are written at once to have clean ones.
const RUNS: usize = 16;

/// Makes frames free that were lent: see [`PageCache::on_shortage`].
pub type Relief = Box<dyn Fn(usize) -> usize + Send + Sync>;

/// Somebody who makes frames free meanwhile, in these zones: see [`PageCache::on_few`].
pub type Helper = Box<dyn Fn(Zones) -> bool + Send + Sync>;

/// No frame could be had, even by evicting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

impl core::error::Error for OutOfMemory {}

/// What [`PageCache::drop_caches`] drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropWhat {
    /// Every clean page, as if memory were short: cleancache gets them.
    Pages,
    /// Every clean page, all that is in cleancache, and all that was inherited.
    All,
}

/// What to do when a lock is taken.
#[derive(Clone, Copy)]
enum Wait {
    /// Wait: the caller holds no lock that comes later in the order.
    ForLocks,
    /// Do without: the caller may hold that very lock.
    Never,
}

impl PageCache {
    /// One frame, its bytes unspecified. When few are free, clean pages are evicted first; the last few of all are left to those
    /// who cannot wait.
    ///
    /// # Errors
    /// [`OutOfMemory`], when nothing is left to evict.
    pub fn allocate(&self, zones: Zones) -> Result<Frame, OutOfMemory> {
        let marks = self.memory.watermarks();
        if !self.memory.has_more(zones, marks.low) && !self.is_helped(zones) {
            let free = self.memory.free_frames(zones);
            self.reclaim_in(zones, (marks.high - free.min(marks.high)) as usize);
            if !self.memory.has_more(zones, marks.min) && !self.relieved(zones, marks.high) {
                return Err(OutOfMemory);
            }
        }
        self.memory.allocate(zones).ok_or(OutOfMemory)
    }

    /// Nothing is left to evict: whether there are frames after all, or whoever lent some gave them back to be ours.
    #[cold]
    fn relieved(&self, zones: Zones, want: u32) -> bool {
        self.memory.gather(zones);
        if self.memory.has_more(zones, self.memory.watermarks().min) {
            return true;
        }
        let Some(relief) = self.relief.get() else { return false };
        relief(want as usize) > 0 && self.memory.free_frames(zones) > self.memory.watermarks().min
    }

    /// Who is asked for frames when nothing is left to evict. It is told how many are wanted, answers how many became free, and
    /// is called without a lock of the cache held. The first one stays.
    pub fn on_shortage(&self, relief: Relief) {
        self.relief.call_once(|| relief);
    }

    /// Who is told when few frames are free, and answers whether somebody else makes more of them free now, by
    /// [`PageCache::reclaim_ahead`]; as long as that is so only the last of all are waited for. It may be called with any lock of the
    /// caller's held. The first one stays.
    pub fn on_few(&self, helper: Helper) {
        self.helper.call_once(|| helper);
    }

    /// Whether the frames that are free are enough since others become free.
    #[cold]
    fn is_helped(&self, zones: Zones) -> bool {
        let Watermarks { min, low, .. } = self.memory.watermarks();
        self.helper.get().is_some_and(|helper| helper(zones) && self.memory.has_more(zones, min + (low - min) / 2))
    }

    /// Make some frames free for those who will want them, as long as there are not as many as there should be. Whether there is more
    /// to do, and something came of it.
    pub fn reclaim_ahead(&self, zones: Zones) -> bool {
        let lacking = self.memory.watermarks().high.saturating_sub(self.memory.free_frames(zones)) as usize;
        lacking > 0 && self.reclaim_in(zones, lacking.min(BATCH)) > 0
    }

    /// 2^`order` consecutive frames. Evicting frees frames here and there, so a large order may fail with much memory
    /// reclaimable.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn allocate_run(&self, zones: Zones, order: u32) -> Result<FrameRun, OutOfMemory> {
        let marks = self.memory.watermarks();
        let frames = 1u32.checked_shl(order).ok_or(OutOfMemory)?;
        for attempt in 0..4 {
            if self.memory.free_frames(zones) > marks.min + frames
                && let Some(run) = self.memory.allocate_run(zones, order)
            {
                return Ok(run);
            }
            if self.reclaim_in(zones, (marks.high + (frames << attempt)) as usize) == 0 {
                break;
            }
        }
        Err(OutOfMemory)
    }

    /// Make up to `want` more frames free; returns how many.
    pub fn reclaim(&self, want: usize) -> usize {
        self.reclaim_in(Zones::Ephemeral, want)
    }

    /// As [`PageCache::reclaim`], for callers that may hold any lock: when the cache is in use, nothing is freed.
    pub fn try_reclaim(&self, want: usize) -> usize {
        match self.state.try_lock() {
            Some(mut state) => {
                let mut budget = state.pages.len() * 2 + BATCH;
                self.evict_some(&mut state, Zones::Ephemeral, want, &mut budget, Wait::Never)
            }
            None => 0,
        }
    }

    fn reclaim_in(&self, zones: Zones, want: usize) -> usize {
        let mut freed = 0;
        // Twice around: once to find what was read again, once to evict it after all.
        let mut budget = self.state.lock().pages.len() * 2 + BATCH;
        let mut runs = RUNS;
        while freed < want {
            let batch = BATCH.min(want - freed);
            let mut state = self.state.lock();
            let evicted = self.evict_some(&mut state, zones, batch, &mut budget, Wait::ForLocks);
            freed += evicted;
            if evicted == 0 {
                // Dirty pages are what is left, if anything is: still, since the lock was not let go. What the disk does not take is
                // not tried again here.
                match self.fly(state, Next::Any) {
                    Flown::Landed(Err(FillError::NoMemory)) | Flown::Nothing | Flown::Within => break,
                    Flown::Landed(_) | Flown::Busy(_) if runs == 0 => break,
                    Flown::Busy(flight) => self.wait_out(flight),
                    Flown::Landed(_) => {}
                }
                runs -= 1;
                budget = budget.max(BATCH * 2);
            }
        }
        freed
    }

    fn evict_some(&self, state: &mut State, zones: Zones, want: usize, budget: &mut usize, wait: Wait) -> usize {
        let memory = self.memory;
        let wanted = |page: &FrameRef<'_>| zones == Zones::Ephemeral || memory.zone_of(page.pfn()) == Zone::Normal;
        let State { pages, files, inherited, .. } = state;
        self.touched.drain(|key| pages.touch(key));
        let inherited = self.free_inherited(inherited, want, wait);
        let victims = core::iter::from_fn(|| pages.next_victim(budget, wanted)).take(want - inherited);
        inherited + self.part_with(files, victims, wait)
    }

    /// Inherited pages that are no pool's go before those that were read here; and where the pools have no frame for what is
    /// about to be evicted, inherited pages make room there. How many frames became free.
    #[inline]
    fn free_inherited(&self, inherited: &mut Inherited, want: usize, wait: Wait) -> usize {
        if inherited.is_empty() {
            return 0;
        }
        let freed = inherited.reclaim(want);
        if matches!(wait, Wait::ForLocks) && inherited.owes() {
            let lacking = (want - freed).saturating_sub(self.cleancache.free() as usize);
            let lodged = inherited.settle(Class::Lodged, lacking, &self.cleancache);
            inherited.settle(Class::Cold, lacking - lodged, &self.cleancache);
        }
        freed
    }

    /// Pages that leave the cache go to cleancache, or their old copies there are dropped; the frames that are left over become
    /// free. How many pages there were.
    fn part_with(&self, files: &Files, victims: impl Iterator<Item = Victim>, wait: Wait) -> usize {
        let mut parted = 0;
        let offers = victims.inspect(|_| parted += 1).filter_map(|Victim { key, frame, arrival }| {
            // Every page is of a file that is known; another would have nothing to come back for.
            let file = files.at(key.file)?;
            Some(Offer { file, index: key.index, frame, arrival })
        });
        match wait {
            Wait::ForLocks => self.cleancache.store_all(offers, |_, left_over| drop(left_over)),
            Wait::Never => self.cleancache.try_store_all(offers, |_, left_over| drop(left_over)),
        }
        parted
    }

    /// Drop every clean page; returns how many.
    pub fn drop_caches(&self, what: DropWhat) -> usize {
        let mut dropped = 0;
        loop {
            let mut state = self.state.lock();
            let State { pages, files, .. } = &mut *state;
            let parted = self.part_with(files, core::iter::from_fn(|| pages.any_victim()).take(BATCH), Wait::ForLocks);
            dropped += parted;
            if parted == 0 {
                break;
            }
        }
        if what == DropWhat::All {
            self.cleancache.clear();
            dropped += self.state.lock().inherited.clear(&self.cleancache) as usize;
        }
        dropped
    }
}
