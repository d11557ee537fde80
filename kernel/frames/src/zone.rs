//! The free frames of one zone: blocks on the buddy allocator's lists, behind a lock, single frames at hand of each processor, and
//! perhaps memory that nobody has touched yet.
//!
//! It deals in slots and trusts its caller ([`Memory`](crate::Memory)) that what is freed was taken. Its invariant: what it has been
//! given and has not handed out is on a list or in a stash or untouched, and counted. The count is exact while nobody moves frames; meanwhile it may miss or
//! count twice some of what is on its way, so whoever is about to give up [gathers](FreeFrames::gather) first.

use crate::buddy::{Buddy, MAX_ORDER};
use crate::lock::{Lock, Rank};
use crate::percpu::{Open, Stashes};
use crate::sections::Records;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The free frames of a zone, in cache lines of their own: each processor reads the count, and few write it.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct FreeFrames {
    /// How many are on the lists or untouched. It changes with the lock held.
    listed: AtomicU32,
    /// While no more than this many are there, nothing is kept at hand.
    floor: AtomicU32,
    /// Whether untouched memory is of this zone.
    grows: bool,
    stashes: Stashes,
    lists: Lock<Buddy>,
}

impl FreeFrames {
    pub(crate) fn new(span: Range<u32>, hole: Range<u32>, grows: bool) -> Self {
        Self {
            listed: AtomicU32::new(0),
            floor: AtomicU32::new(0),
            grows,
            stashes: Stashes::new(),
            lists: Lock::new(Rank::Frames, Buddy::new(span, hole)),
        }
    }

    /// Keep up to `floor` frames at hand of `processors` processors.
    pub(crate) fn keep_at_hand(&self, processors: usize, floor: u32) {
        self.floor.store(floor, Relaxed);
        self.stashes.begin(processors, floor);
    }

    /// Count what is untouched, too: after a change of that alone.
    pub(crate) fn count(&self, records: &Records) {
        self.change(records, |_| ());
    }

    /// How many are on the lists or untouched: at least so many are free.
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
    pub(crate) fn take_one(&self, records: &Records) -> Option<u32> {
        let mut stash = self.stashes.own();
        stash.as_mut().and_then(Open::pop).or_else(|| self.refill(records, stash))
    }

    /// One frame of the lists, and some more to be at hand.
    #[inline(never)]
    fn refill(&self, records: &Records, stash: Option<Open<'_>>) -> Option<u32> {
        if self.listed() == 0 {
            return None;
        }
        self.change(records, |lists| {
            let first = self.find(records, lists, |lists| lists.take(records.all(), 0))?;
            if let Some(mut stash) = stash {
                let spare = self.there(records, lists).saturating_sub(self.floor.load(Relaxed));
                stash.fill(stash.batch().min(spare as usize), |slots| lists.take_some(records.all(), slots));
            }
            Some(first)
        })
    }

    /// A block of 2^`order` frames of the lists.
    #[inline(never)]
    pub(crate) fn take(&self, records: &Records, order: u32) -> Option<u32> {
        if order > MAX_ORDER {
            return None;
        }
        self.change(records, |lists| self.find(records, lists, |lists| lists.take(records.all(), order)))
    }

    /// The largest block of at least 2^`order` frames that the hypervisor was not told of, with its order.
    pub(crate) fn take_untold(&self, records: &Records, order: u32) -> Option<(u32, u32)> {
        self.change(records, |lists| self.find(records, lists, |lists| lists.take_untold(records.all(), order)))
    }

    /// Give back one frame.
    #[inline]
    pub(crate) fn give_one(&self, records: &Records, slot: u32) {
        let mut stash = self.stashes.own();
        let kept = stash.as_mut().is_some_and(|stash| self.listed() > self.floor.load(Relaxed) && stash.push(slot));
        if !kept {
            self.spill(records, slot, stash);
        }
    }

    /// Give one frame to the lists, and with it some of a stash that is full.
    #[inline(never)]
    fn spill(&self, records: &Records, slot: u32, stash: Option<Open<'_>>) {
        self.change(records, |lists| {
            lists.give(records.all(), slot, 0, false);
            if let Some(mut stash) = stash {
                stash.shift(stash.batch(), |slot| lists.give(records.all(), slot, 0, false));
            }
        });
    }

    /// Give back 2^`order` frames, of which the hypervisor was told or not.
    #[inline(never)]
    pub(crate) fn give(&self, records: &Records, slot: u32, order: u32, told: bool) {
        self.change(records, |lists| lists.give(records.all(), slot, order, told));
    }

    /// Give back the slots `start..end`.
    pub(crate) fn give_range(&self, records: &Records, slots: Range<u32>) {
        self.change(records, |lists| lists.give_range(records.all(), slots.start, slots.end));
    }

    /// Put what is at hand of any processor on the lists.
    pub(crate) fn gather(&self, records: &Records) {
        for mut stash in self.stashes.all() {
            if !stash.is_empty() {
                self.change(records, |lists| stash.shift(usize::MAX, |slot| lists.give(records.all(), slot, 0, false)));
            }
        }
    }

    /// What `take` finds on the lists, if need be with memory that was untouched: one section of that serves anybody.
    #[inline(always)]
    fn find<R>(&self, records: &Records, lists: &mut Buddy, take: impl Fn(&mut Buddy) -> Option<R>) -> Option<R> {
        take(lists).or_else(|| {
            let slots = self.open_next(records)?;
            lists.give_range(records.all(), slots.start, slots.end);
            take(lists)
        })
    }

    #[cold]
    fn open_next(&self, records: &Records) -> Option<Range<u32>> {
        if self.grows { records.open_next() } else { None }
    }

    fn there(&self, records: &Records, lists: &Buddy) -> u32 {
        lists.free_frames() + if self.grows { records.untouched() } else { 0 }
    }

    /// Change the lists, and say how many frames are there.
    #[inline(always)]
    fn change<R>(&self, records: &Records, change: impl FnOnce(&mut Buddy) -> R) -> R {
        let mut lists = self.lists.lock();
        let result = change(&mut lists);
        self.listed.store(self.there(records, &lists), Relaxed);
        result
    }
}
