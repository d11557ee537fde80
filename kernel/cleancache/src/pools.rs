//! All pools: which has a free frame, and whose turn it is to give one up.

use crate::names::PoolId;
use crate::pool::Pool;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use frames::{Frame, Pfn};

/// In how many parts a round of turns goes through a pool.
const TURNS: u64 = 8;

/// A pool that a frame may come back to.
pub(crate) struct Open<'a> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) slot: u32,
    with_free: &'a mut Vec<u32>,
    totals: &'a mut Totals,
}

impl Open<'_> {
    /// Frames of all pools.
    #[inline]
    pub(crate) fn all_frames(&self) -> u64 {
        self.totals.frames
    }

    /// A frame comes to the pool.
    pub(crate) fn join(&mut self, frame: Frame) {
        self.pool.donated += 1;
        self.totals.frames += 1;
        self.totals.everywhere.fetch_add(1, Relaxed);
        self.release(frame);
    }

    /// A frame that was taken out leaves the pool.
    pub(crate) fn part(&mut self) {
        self.pool.donated -= 1;
        self.totals.frames -= 1;
        self.totals.everywhere.fetch_sub(1, Relaxed);
    }

    /// Take a frame that holds nothing.
    #[inline(always)]
    pub(crate) fn take_free(&mut self) -> Option<Frame> {
        let frame = self.pool.free.pop_front();
        self.note_taken();
        frame
    }

    /// Take the frame `pfn`, if it holds nothing.
    pub(crate) fn take_free_at(&mut self, pfn: Pfn) -> Option<Frame> {
        let frame = self.pool.free.remove(pfn);
        self.note_taken();
        frame
    }

    #[inline(always)]
    fn note_taken(&mut self) {
        if self.pool.free.is_empty() && self.pool.stacked {
            self.leave_stack();
        }
    }

    #[cold]
    fn leave_stack(&mut self) {
        self.pool.stacked = false;
        self.with_free.retain(|&slot| slot != self.slot);
    }

    /// Put a frame that holds nothing on the pool's list.
    #[inline(always)]
    pub(crate) fn release(&mut self, frame: Frame) {
        self.pool.free.push_front(frame);
        if !self.pool.stacked {
            self.pool.stacked = true;
            self.with_free.push(self.slot);
        }
    }
}

/// Frames of all pools.
#[derive(Debug)]
struct Totals {
    frames: u64,
    /// In all shards together.
    everywhere: Arc<AtomicU64>,
}

#[derive(Debug)]
pub(crate) struct Pools {
    /// One after the other, since every operation looks here. They are few; that there is memory for one more is for whoever
    /// registers it to see.
    places: Vec<PoolPlace>,
    /// Places of the pools that have a free frame, so that a store need not look through all of them.
    with_free: Vec<u32>,
    totals: Totals,
    /// The pool whose turn it is, and for how many evictions more.
    turn: u32,
    left: u64,
}

#[derive(Debug)]
struct PoolPlace {
    serial: u32,
    pool: Option<Pool>,
}

impl Pools {
    pub(crate) fn new(everywhere: Arc<AtomicU64>) -> Self {
        let totals = Totals { frames: 0, everywhere };
        Self { places: Vec::new(), with_free: Vec::new(), totals, turn: 0, left: 0 }
    }

    /// A pool comes, under `name` if it has one already: then its place is free here too. `None` when there is no memory for another pool.
    pub(crate) fn insert(&mut self, pool: Pool, name: Option<PoolId>) -> Option<PoolId> {
        let free = || self.places.iter().position(|place| place.pool.is_none()).unwrap_or(self.places.len());
        let slot = name.map_or_else(free, |name| name.slot() as usize);
        if slot == self.places.len() {
            self.places.try_reserve(1).ok()?;
            self.places.push(PoolPlace { serial: 0, pool: None });
        }
        // Each pool stands on the stack once at most, so it never has to grow later.
        self.with_free.try_reserve(self.places.len() - self.with_free.len()).ok()?;
        let place = self.places.get_mut(slot)?;
        place.serial = name.map_or(place.serial, PoolId::serial);
        place.pool = Some(pool);
        Some(PoolId::from((slot as u32, place.serial)))
    }

    pub(crate) fn remove(&mut self, id: PoolId) -> Option<Pool> {
        let place = self.places.get_mut(id.slot() as usize).filter(|place| place.serial == id.serial())?;
        let pool = place.pool.take()?;
        place.serial = place.serial.wrapping_add(1);
        self.totals.frames -= pool.donated;
        self.totals.everywhere.fetch_sub(pool.donated, Relaxed);
        self.with_free.retain(|&slot| slot != id.slot());
        Some(pool)
    }

    /// The pool of that name.
    pub(crate) fn get(&mut self, id: PoolId) -> Option<Open<'_>> {
        self.places.get(id.slot() as usize).filter(|place| place.serial == id.serial())?;
        self.open(id.slot())
    }

    /// Frames of the pool at a place.
    #[inline]
    pub(crate) fn donated(&self, slot: u32) -> u64 {
        self.places.get(slot as usize).and_then(|place| place.pool.as_ref()).map_or(0, |pool| pool.donated)
    }

    /// Frames of all pools that hold nothing.
    pub(crate) fn free(&self) -> u64 {
        let with_free = self.with_free.iter().filter_map(|&slot| self.places.get(slot as usize)?.pool.as_ref());
        with_free.map(|pool| pool.free.len() as u64).sum()
    }

    /// Every pool, with its name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PoolId, &Pool)> {
        let places = self.places.iter().zip(0..);
        places.filter_map(|(place, slot)| Some((PoolId::from((slot, place.serial)), place.pool.as_ref()?)))
    }

    /// A pool that has a free frame.
    #[inline]
    pub(crate) fn with_free(&mut self) -> Option<Open<'_>> {
        let slot = *self.with_free.last()?;
        self.open(slot)
    }

    /// The pool that is to give up a page now; `None` when none has a frame. Pools take turns in proportion to their frames, so that
    /// a page stays about as long in one as in another.
    #[inline]
    pub(crate) fn turn(&mut self) -> Option<Open<'_>> {
        if self.left == 0 || self.donated(self.turn) == 0 {
            self.pass_turn();
        }
        self.left = self.left.checked_sub(1)?;
        self.open(self.turn)
    }

    /// The turn goes to the next pool that has frames.
    #[cold]
    fn pass_turn(&mut self) {
        let here = self.turn;
        let after = |slot: u32| (slot <= here, slot);
        let lent = self.iter().filter(|(_, pool)| pool.donated > 0);
        let next = lent.map(|(id, pool)| (id.slot(), pool.donated)).min_by_key(|&(slot, _)| after(slot));
        (self.turn, self.left) = next.map_or((here, 0), |(slot, donated)| (slot, donated / TURNS + 1));
    }

    /// The pool at a place, with the way to put frames on its list.
    #[inline]
    pub(crate) fn open(&mut self, slot: u32) -> Option<Open<'_>> {
        let Self { places, with_free, totals, .. } = self;
        places.get_mut(slot as usize)?.pool.as_mut().map(|pool| Open { pool, slot, with_free, totals })
    }

    /// Put a frame that holds nothing on its pool's list.
    pub(crate) fn release(&mut self, slot: u32, frame: Frame) {
        if let Some(mut pool) = self.open(slot) {
            pool.release(frame);
        }
    }
}
