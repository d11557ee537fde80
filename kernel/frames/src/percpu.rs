//! What each processor keeps at hand: some single free frames of one zone, so that taking one and giving one back writes nothing
//! that another processor writes too.
//!
//! A frame in a stash is free and counted as free, and belongs to no block: its record says that nothing keeps it. The stashes of all
//! processors together hold no more than the zone's *floor*, the reserve that it has anyway. While the zone's own lists hold no more than
//! that, nothing is put into a stash, so whoever empties all stashes to find a last frame does so once. A stash has a lock, since
//! others empty it; its own processor only tries it, and does without. Nothing but the zone's lists is locked while it is held.

use crate::cpu;
use crate::lock::{Lock, LockGuard, Rank};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use spin::Once;

/// The most frames in a stash. Half of it comes and goes at a time.
const MOST: usize = 32;
/// With less room than this a stash is not worth the look at it.
const LEAST: u32 = 4;

/// One processor's, in cache lines of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Stash {
    /// How many there are. It changes with the lock held, and anybody may read it.
    len: AtomicU32,
    slots: Lock<[u32; MOST]>,
}

/// All of a zone.
#[derive(Debug)]
struct Shelf {
    /// The most in each.
    room: u32,
    stashes: Box<[Stash]>,
}

/// The stashes of a zone; none until it is known how many processors there are.
#[derive(Debug)]
pub(crate) struct Stashes(Once<Shelf>);

/// A stash that is open.
pub(crate) struct Open<'a> {
    room: usize,
    len: &'a AtomicU32,
    slots: LockGuard<'a, [u32; MOST]>,
}

impl Stashes {
    pub(crate) const fn new() -> Self {
        Self(Once::new())
    }

    /// Begin to keep frames at hand for `processors` processors, at most `floor` of them. What was said first stays. One
    /// that is alone has them too: a frame at hand costs half of what one of the lists does.
    pub(crate) fn begin(&self, processors: usize, floor: u32) {
        let room = (floor / (processors as u32).max(1)).min(MOST as u32);
        if room >= LEAST {
            let stash = |_| Stash { len: AtomicU32::new(0), slots: Lock::new(Rank::Stash, [0; MOST]) };
            self.0.call_once(|| Shelf { room, stashes: (0..processors).map(stash).collect() });
        }
    }

    /// How many frames are in all stashes.
    pub(crate) fn frames(&self) -> u32 {
        self.0.get().map_or(0, |shelf| shelf.stashes.iter().map(|stash| stash.len.load(Relaxed)).sum())
    }

    /// This processor's own, unless it has none or somebody empties it just now.
    #[inline]
    pub(crate) fn own(&self) -> Option<Open<'_>> {
        let shelf = self.0.get()?;
        let stash = shelf.stashes.get(cpu::number())?;
        Some(Open { room: shelf.room as usize, len: &stash.len, slots: stash.slots.try_lock()? })
    }

    /// All of them, one after the other.
    pub(crate) fn all(&self) -> impl Iterator<Item = Open<'_>> {
        self.0.get().into_iter().flat_map(|shelf| {
            let room = shelf.room as usize;
            shelf.stashes.iter().map(move |stash| Open { room, len: &stash.len, slots: stash.slots.lock() })
        })
    }
}

impl Open<'_> {
    /// Take the frame that came last.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let left = self.len.load(Relaxed).checked_sub(1)?;
        self.len.store(left, Relaxed);
        Some(self.slots[left as usize % MOST])
    }

    /// Put a frame in; `false` when it is full.
    #[inline]
    pub(crate) fn push(&mut self, slot: u32) -> bool {
        let len = self.len.load(Relaxed) as usize;
        if len >= self.room {
            return false;
        }
        self.slots[len % MOST] = slot;
        self.len.store(len as u32 + 1, Relaxed);
        true
    }

    /// How many come or go at a time.
    pub(crate) fn batch(&self) -> usize {
        self.room / 2
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Relaxed) == 0
    }

    /// Fill it, which is empty, with what `take` writes, `most` frames at most: the first of them comes out first, so that what is
    /// allocated together lies together.
    pub(crate) fn fill(&mut self, most: usize, take: impl FnOnce(&mut [u32]) -> usize) {
        let count = take(&mut self.slots[..most.min(self.room)]);
        self.slots[..count].reverse();
        self.len.store(count as u32, Relaxed);
    }

    /// Take out the `count` frames that came first, and give them to `to`.
    pub(crate) fn shift(&mut self, count: usize, to: impl FnMut(u32)) {
        let len = self.len.load(Relaxed) as usize;
        let count = len.min(count);
        self.slots[..count].iter().copied().for_each(to);
        self.slots.copy_within(count..len, 0);
        self.len.store((len - count) as u32, Relaxed);
    }
}
