//! What is kept about each frame: 32 bytes (Linux: 64), all of them numbers, in one array indexed by frame.
//!
//! The links are *slots* (frame numbers less the first one of the machine), so that 32 bits reach 16 TiB. Who may change which
//! field follows from ownership: the owner of a frame writes its fields, with the owner's own lock held. They are
//! atomics so that reading a neighbour's keeper (the buddy allocator does) is defined; the order between threads comes from the
//! owners' locks, so every access is relaxed.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// No slot: the end of a chain.
pub(crate) const NIL: u32 = u32::MAX;

/// `keeper` of a frame that nothing here keeps.
pub(crate) const LOOSE: u16 = 0;
/// `keeper` of a frame on a `FrameList`.
pub(crate) const ON_LIST: u16 = 0x7fff;
/// The most orders that a map can have.
pub(crate) const MAX_ORDERS: usize = ON_LIST as usize - 1;

/// `keeper` of a block on a free list; the low bits are its order.
const FREE: u16 = 0x8000;
/// Beside it: the hypervisor was told that the block is free.
const TOLD: u16 = 0x4000;

/// The record of one frame. Where `keeper` and `private` are zero it is that of a frame that nobody here keeps.
#[derive(Debug, Default)]
#[repr(C)]
pub struct FrameMeta {
    /// Neighbours on the list that the frame is on: a free list, a `FrameList`, one of a map's orders.
    pub(crate) next: AtomicU32,
    pub(crate) prev: AtomicU32,
    /// The next frame of the same hash bucket in a map.
    pub(crate) bucket_next: AtomicU32,
    /// Neighbours among the frames of the same file in a map.
    pub(crate) file_next: AtomicU32,
    pub(crate) file_prev: AtomicU32,
    /// Bits that belong to whoever keeps the frame: page flags, what an eviction policy knows.
    pub(crate) private: AtomicU16,
    /// What keeps the frame: nothing here, a `FrameList`, a map on its order `keeper - 1`, or, as the beginning of a free block,
    /// the allocator.
    pub(crate) keeper: AtomicU16,
    /// The key in a map, packed. On a `FrameList`, the number of the list.
    pub(crate) key: AtomicU64,
}

const _: () = assert!(size_of::<FrameMeta>() == 32);

impl FrameMeta {
    /// The order of the free block that begins here.
    pub(crate) fn free_order(&self) -> Option<u32> {
        let keeper = self.keeper.load(Relaxed);
        (keeper & FREE != 0).then_some(u32::from(keeper & !(FREE | TOLD)))
    }

    /// Whether the hypervisor was told of the free block that begins here.
    pub(crate) fn is_told(&self) -> bool {
        self.keeper.load(Relaxed) & (FREE | TOLD) == FREE | TOLD
    }

    pub(crate) fn set_free(&self, order: u32, told: bool) {
        self.keeper.store(FREE | if told { TOLD } else { 0 } | order as u16, Relaxed);
    }

    /// Write the record of a frame that nobody has. What else is in it has no meaning before somebody keeps the frame, who writes it.
    pub(crate) fn reset(&self) {
        self.private.store(0, Relaxed);
        self.keeper.store(LOOSE, Relaxed);
    }

    pub(crate) fn set_taken(&self) {
        self.keeper.store(LOOSE, Relaxed);
    }
}

/// A doubly linked list through `next` and `prev`. It neither owns nor checks: its users do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    pub(crate) head: u32,
    pub(crate) tail: u32,
    pub(crate) len: u32,
}

impl Links {
    pub(crate) const EMPTY: Self = Self { head: NIL, tail: NIL, len: 0 };

    #[inline(always)]
    pub(crate) fn push_front(&mut self, meta: &[FrameMeta], slot: u32) {
        let this = &meta[slot as usize];
        this.prev.store(NIL, Relaxed);
        this.next.store(self.head, Relaxed);
        match meta.get(self.head as usize) {
            Some(head) => head.prev.store(slot, Relaxed),
            None => self.tail = slot,
        }
        self.head = slot;
        self.len += 1;
    }

    #[inline(always)]
    pub(crate) fn push_back(&mut self, meta: &[FrameMeta], slot: u32) {
        let this = &meta[slot as usize];
        this.next.store(NIL, Relaxed);
        this.prev.store(self.tail, Relaxed);
        match meta.get(self.tail as usize) {
            Some(tail) => tail.next.store(slot, Relaxed),
            None => self.head = slot,
        }
        self.tail = slot;
        self.len += 1;
    }

    /// Take `slot`, which is on this list, off it.
    #[inline(always)]
    pub(crate) fn unlink(&mut self, meta: &[FrameMeta], slot: u32) {
        self.unlink_record(meta, &meta[slot as usize]);
    }

    /// As [`Links::unlink`], for who has the record at hand.
    #[inline(always)]
    pub(crate) fn unlink_record(&mut self, meta: &[FrameMeta], this: &FrameMeta) {
        let (next, prev) = (this.next.load(Relaxed), this.prev.load(Relaxed));
        match meta.get(prev as usize) {
            Some(before) => before.next.store(next, Relaxed),
            None => self.head = next,
        }
        match meta.get(next as usize) {
            Some(after) => after.prev.store(prev, Relaxed),
            None => self.tail = prev,
        }
        self.len -= 1;
    }
}
