//! The buddy allocator of one zone (Knuth, TAOCP 1, 2.5): free blocks of 2^order frames, aligned to their size, on one list an
//! order; a freed block joins its buddy as long as that is free too.
//!
//! The lists run through the frames' records, so it needs no memory of its own. It deals in slots and trusts its caller
//! ([`Memory`](crate::Memory)) that what is freed was taken.

use crate::meta::{FrameMeta, Links};
use core::ops::Range;

/// The largest order: 2^10 frames are 4 MiB.
pub(crate) const MAX_ORDER: u32 = 10;

/// The free blocks of a zone: of the slots in `span` that are not in `hole`.
#[derive(Debug)]
pub(crate) struct Buddy {
    span: Range<u32>,
    hole: Range<u32>,
    free: u32,
    /// Bit n: the list of order n is not empty.
    occupied: u32,
    lists: [Links; MAX_ORDER as usize + 1],
}

impl Buddy {
    pub(crate) fn new(span: Range<u32>, hole: Range<u32>) -> Self {
        Self { span, hole, free: 0, occupied: 0, lists: [Links::EMPTY; MAX_ORDER as usize + 1] }
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.span.contains(&slot) && !self.hole.contains(&slot)
    }

    pub(crate) fn free_frames(&self) -> u32 {
        self.free
    }

    /// Take a block of 2^`order` frames: the smallest that serves, its upper halves put back.
    #[inline(always)]
    pub(crate) fn take(&mut self, meta: &[FrameMeta], order: u32) -> Option<u32> {
        if order > MAX_ORDER {
            return None;
        }
        let fitting = self.occupied & !((1 << order) - 1);
        if fitting == 0 {
            return None;
        }
        let mut have = fitting.trailing_zeros();
        let slot = self.lists[have as usize].head;
        let told = meta[slot as usize].is_told();
        self.remove(meta, slot, have);
        while have > order {
            have -= 1;
            self.insert(meta, slot + (1 << have), have, told);
        }
        self.free -= 1 << order;
        Some(slot)
    }

    /// Take single frames, as many as `slots` has room for or there are: whole small blocks, if it can be, in the order in which they lie.
    /// Returns how many.
    pub(crate) fn take_some(&mut self, meta: &[FrameMeta], slots: &mut [u32]) -> usize {
        let mut count = 0;
        while self.occupied != 0
            && let Some(order) = (slots.len() - count).checked_ilog2()
        {
            let order = order.min(self.occupied.trailing_zeros());
            let Some(first) = self.take(meta, order) else { break };
            (first..first + (1 << order)).zip(&mut slots[count..]).for_each(|(slot, place)| *place = slot);
            count += 1 << order;
        }
        count
    }

    /// Take the largest block of at least 2^`order` frames that the hypervisor was not told of, with its order.
    pub(crate) fn take_untold(&mut self, meta: &[FrameMeta], order: u32) -> Option<(u32, u32)> {
        // Those that were not told of stand at the front.
        let untold =
            |order: &u32| meta.get(self.lists[*order as usize].head as usize).is_some_and(|head| !head.is_told());
        let order = (order..=MAX_ORDER).rev().find(untold)?;
        let slot = self.lists[order as usize].head;
        self.remove(meta, slot, order);
        self.free -= 1 << order;
        Some((slot, order))
    }

    /// Give back the block of 2^`order` frames at `slot`, of which the hypervisor was told or not.
    #[inline(always)]
    pub(crate) fn give(&mut self, meta: &[FrameMeta], mut slot: u32, mut order: u32, mut told: bool) {
        self.free += 1 << order;
        while order < MAX_ORDER {
            let buddy = slot ^ (1 << order);
            if !self.contains(buddy) || meta[buddy as usize].free_order() != Some(order) {
                break;
            }
            told &= meta[buddy as usize].is_told();
            self.remove(meta, buddy, order);
            slot = slot.min(buddy);
            order += 1;
        }
        self.insert(meta, slot, order, told);
    }

    /// Give back the slots `start..end`, in as few blocks as alignment allows.
    pub(crate) fn give_range(&mut self, meta: &[FrameMeta], mut start: u32, end: u32) {
        while start < end {
            let fits = (end - start).ilog2();
            let order = start.trailing_zeros().min(fits).min(MAX_ORDER);
            self.give(meta, start, order, false);
            start += 1 << order;
        }
    }

    /// A freed block goes to the front, and the front is what `take` takes: its bytes are the ones most likely to be in the
    /// processor's cache. One that the hypervisor was told of is nowhere at all, perhaps, so it goes to the back.
    fn insert(&mut self, meta: &[FrameMeta], slot: u32, order: u32, told: bool) {
        meta[slot as usize].set_free(order, told);
        let list = &mut self.lists[order as usize];
        if told {
            list.push_back(meta, slot)
        } else {
            list.push_front(meta, slot)
        }
        self.occupied |= 1 << order;
    }

    fn remove(&mut self, meta: &[FrameMeta], slot: u32, order: u32) {
        meta[slot as usize].set_taken();
        let list = &mut self.lists[order as usize];
        list.unlink(meta, slot);
        if list.len == 0 {
            self.occupied &= !(1 << order);
        }
    }
}
