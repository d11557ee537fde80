//! The free frames of one zone: blocks on the buddy allocator's lists, behind a lock, and single frames at hand of each processor.
//!
//! It deals in slots and trusts its caller ([`Memory`](crate::Memory)) that what is freed was taken. Its invariant: what it has been
//! given and has not handed out is on a list or in a stash, and counted. The count is exact while nobody moves frames; meanwhile it may miss or
//! count twice some of what is on its way, and never so that no more than the floor seems to be there when more is.

use crate::buddy::Buddy;
use crate::lock::{Lock, Rank};
use crate::meta::FrameMeta;
use crate::percpu::{Open, Stashes};
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The free frames of a zone, in cache lines of their own: each processor reads the count, and few write it.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct FreeFrames {
    /// How many are on the lists. It changes with the lock held.
    listed: AtomicU32,
    /// While no more than this many are on the lists, nothing is kept at hand.
    floor: AtomicU32,
    stashes: Stashes,
    lists: Lock<Buddy>,
}

impl FreeFrames {
    pub(crate) fn new(span: Range<u32>, hole: Range<u32>) -> Self {
        Self {
            listed: AtomicU32::new(0),
            floor: AtomicU32::new(0),
            stashes: Stashes::new(),
            lists: Lock::new(Rank::Frames, Buddy::new(span, hole)),
        }
    }

    /// Keep up to `floor` frames at hand of `processors` processors.
    pub(crate) fn keep_at_hand(&self, processors: usize, floor: u32) {
        self.floor.store(floor, Relaxed);
        self.stashes.begin(processors, floor);
    }

    /// How many are on the lists: at least so many are free.
    #[inline]
    pub(crate) fn listed(&self) -> u32 {
        self.listed.load(Relaxed)
    }

    /// How many are free.
    pub(crate) fn frames(&self) -> u32 {
        self.listed() + self.stashes.frames()
    }

    /// One frame, if there is one on the lists or at hand of this processor.
    #[inline]
    pub(crate) fn take_one(&self, meta: &[FrameMeta]) -> Option<u32> {
        let mut stash = self.stashes.own();
        stash.as_mut().and_then(Open::pop).or_else(|| self.refill(meta, stash))
    }

    /// One frame of the lists, and some more to be at hand.
    #[inline(never)]
    fn refill(&self, meta: &[FrameMeta], stash: Option<Open<'_>>) -> Option<u32> {
        if self.listed() == 0 {
            return None;
        }
        self.change(|lists| {
            let first = lists.take(meta, 0)?;
            if let Some(mut stash) = stash {
                let spare = lists.free_frames().saturating_sub(self.floor.load(Relaxed));
                stash.fill(stash.batch().min(spare as usize), |slots| lists.take_some(meta, slots));
            }
            Some(first)
        })
    }

    /// A block of 2^`order` frames of the lists.
    #[inline(never)]
    pub(crate) fn take(&self, meta: &[FrameMeta], order: u32) -> Option<u32> {
        self.change(|lists| lists.take(meta, order))
    }

    /// The largest block of at least 2^`order` frames that the hypervisor was not told of, with its order.
    pub(crate) fn take_untold(&self, meta: &[FrameMeta], order: u32) -> Option<(u32, u32)> {
        self.change(|lists| lists.take_untold(meta, order))
    }

    /// Give back one frame.
    #[inline]
    pub(crate) fn give_one(&self, meta: &[FrameMeta], slot: u32) {
        let mut stash = self.stashes.own();
        let kept = stash.as_mut().is_some_and(|stash| self.listed() > self.floor.load(Relaxed) && stash.push(slot));
        if !kept {
            self.spill(meta, slot, stash);
        }
    }

    /// Give one frame to the lists, and with it some of a stash that is full.
    #[inline(never)]
    fn spill(&self, meta: &[FrameMeta], slot: u32, stash: Option<Open<'_>>) {
        self.change(|lists| {
            lists.give(meta, slot, 0, false);
            if let Some(mut stash) = stash {
                stash.shift(stash.batch(), |slot| lists.give(meta, slot, 0, false));
            }
        });
    }

    /// Give back 2^`order` frames, of which the hypervisor was told or not.
    #[inline(never)]
    pub(crate) fn give(&self, meta: &[FrameMeta], slot: u32, order: u32, told: bool) {
        self.change(|lists| lists.give(meta, slot, order, told));
    }

    /// Give back the slots `start..end`.
    pub(crate) fn give_range(&self, meta: &[FrameMeta], slots: Range<u32>) {
        self.change(|lists| lists.give_range(meta, slots.start, slots.end));
    }

    /// Put what is at hand of any processor on the lists.
    pub(crate) fn gather(&self, meta: &[FrameMeta]) {
        for mut stash in self.stashes.all() {
            if !stash.is_empty() {
                self.change(|lists| stash.shift(usize::MAX, |slot| lists.give(meta, slot, 0, false)));
            }
        }
    }

    /// Change the lists, and say how many they hold.
    #[inline(always)]
    fn change<R>(&self, change: impl FnOnce(&mut Buddy) -> R) -> R {
        let mut lists = self.lists.lock();
        let result = change(&mut lists);
        self.listed.store(lists.free_frames(), Relaxed);
        result
    }
}
