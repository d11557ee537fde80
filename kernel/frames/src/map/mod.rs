//! An owning map from (file, page index) to frame, with the frames of each file chained together and every frame in one of a few
//! orders: all that a page cache and a victim cache need to keep.
//!
//! Everything but the hash index lies in the frames' own records. After the map is made, and files and orders are
//! [made](FrameMap::add_file) [known](FrameMap::add_orders), no operation allocates; each costs the same however many frames
//! there are.

mod glance;
mod index;
mod places;
mod refs;

pub use glance::Glance;
pub use places::{Occupied, Taken, Vacant};
pub use refs::{FrameMut, FrameRef};

use self::places::Found;
use crate::addr::Pfn;
use crate::chunks::{Chunks, piece};
use crate::frame::Frame;
use crate::memory::Memory;
use crate::meta::{FrameMeta, LOOSE, Links, MAX_ORDERS, NIL};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::Ordering::{Relaxed, Release};
use index::{Bucket, Index};

/// Where a page belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The file, by a number of the caller's.
    pub file: u32,
    /// The page of the file, from 0.
    pub index: u32,
}

impl Key {
    /// The key in one word.
    #[inline]
    pub const fn packed(self) -> u64 {
        (self.file as u64) << 32 | self.index as u64
    }

    /// The key that was [packed](Key::packed).
    #[inline]
    pub const fn unpacked(word: u64) -> Self {
        Self { file: (word >> 32) as u32, index: word as u32 }
    }
}

impl Memory {
    /// The key in the record of a frame, which says where to look for it and no more: whoever has the frame may change that at any
    /// moment, and the record of one that is in no map has any.
    #[inline]
    pub fn key_in_record(&self, pfn: Pfn) -> Option<Key> {
        self.checked_slot(pfn).map(|slot| key_of(&self.meta()[slot as usize]))
    }
}

/// The frames of one file, chained through their records.
#[derive(Clone, Copy, Debug)]
struct Chain {
    head: u32,
    len: u32,
}

/// The map. Dropping it gives every frame back.
pub struct FrameMap {
    memory: &'static Memory,
    index: Arc<Index>,
    orders: Vec<Links>,
    files: Chunks<Chain, { piece::<Chain>() }>,
}

impl FrameMap {
    /// An empty map for about `capacity` frames of `memory` (more make it slower, not wrong), with `orders` orders.
    pub fn new(memory: &'static Memory, capacity: usize, orders: u16) -> Self {
        Self {
            memory,
            index: Arc::new(Index::new(capacity)),
            orders: vec![Links::EMPTY; usize::from(orders).min(MAX_ORDERS)],
            files: Chunks::new(),
        }
    }

    /// Make the orders below `orders` known. This allocates, 12 bytes an order. `false` when a map cannot have so many.
    pub fn add_orders(&mut self, orders: usize) -> bool {
        if orders > MAX_ORDERS {
            return false;
        }
        if orders > self.orders.len() {
            self.orders.resize(orders, Links::EMPTY);
        }
        true
    }

    /// Make `file` known, so that pages of it can be inserted. This allocates (8 bytes for each number up to it).
    pub fn add_file(&mut self, file: u32) {
        self.files.grow(file as usize, |_| Chain { head: NIL, len: 0 });
    }

    /// How many pages of `file` are here.
    pub fn file_len(&self, file: u32) -> usize {
        self.files.get(file as usize).map_or(0, |chain| chain.len as usize)
    }

    /// How many orders are known.
    pub fn orders(&self) -> u16 {
        self.orders.len() as u16
    }

    /// How many frames are in `order`.
    #[inline]
    pub fn order_len(&self, order: u16) -> usize {
        self.orders.get(usize::from(order)).map_or(0, |links| links.len as usize)
    }

    /// How many frames are here.
    pub fn len(&self) -> usize {
        self.orders.iter().map(|links| links.len as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Put `frame` under `key`, at the back of `order`, with `private` as its bits. The frame comes back when the key is taken, or
    /// its file or the order is not known, or it is another machine's.
    pub fn insert(&mut self, key: Key, frame: Frame, order: u16, private: u16) -> Result<(), Frame> {
        match self.vacancy(key) {
            Some(vacant) => self.fill(vacant, frame, order, private, false),
            None => Err(frame),
        }
    }

    /// The place of a key that is not taken; `None` when it is.
    #[inline]
    pub fn vacancy(&self, key: Key) -> Option<Vacant> {
        let bucket = self.index.bucket(key);
        self.search(bucket, key).is_none().then_some(Vacant { key, bucket })
    }

    /// The place of a key that is taken; `None` when it is not.
    #[inline]
    pub fn occupied(&mut self, key: Key) -> Option<Occupied<'_>> {
        let bucket = self.index.bucket(key);
        let found = self.search(bucket, key)?;
        Some(Occupied { map: self, key, bucket, found })
    }

    /// Put `frame` into a place that is free, at the back (or front) of `order`, with `private` as its bits. The frame comes back when the file or
    /// the order is not known, or it is another machine's.
    #[inline(always)]
    pub fn fill(
        &mut self,
        vacant: Vacant,
        frame: Frame,
        order: u16,
        private: u16,
        at_front: bool,
    ) -> Result<(), Frame> {
        let Vacant { key, bucket } = vacant;
        debug_assert!(self.search(bucket, key).is_none(), "{key:?} was filled twice");
        let Some(links) = self.orders.get_mut(usize::from(order)) else { return Err(frame) };
        let Some(chain) = self.files.get_mut(key.file as usize) else { return Err(frame) };
        if !frame.is_of(self.memory) {
            return Err(frame);
        }
        let slot = frame.disown().slot();
        let meta = self.memory.meta();
        let record = &meta[slot as usize];
        record.key.store(key.packed(), Relaxed);
        record.private.store(private, Relaxed);
        record.keeper.store(order + 1, Relaxed);
        match at_front {
            true => links.push_front(meta, slot),
            false => links.push_back(meta, slot),
        }

        let head = self.index.head(bucket);
        record.bucket_next.store(head.load(Relaxed), Relaxed);
        head.store(slot, Release);

        record.file_prev.store(NIL, Relaxed);
        record.file_next.store(chain.head, Relaxed);
        if let Some(next) = meta.get(chain.head as usize) {
            next.file_prev.store(slot, Relaxed);
        }
        chain.head = slot;
        chain.len += 1;
        Ok(())
    }

    /// The frame under `key`.
    #[inline]
    pub fn get(&self, key: Key) -> Option<FrameRef<'_>> {
        self.slot_of(key).map(|slot| self.frame_ref(slot))
    }

    /// The frame under `key`, to change.
    pub fn get_mut(&mut self, key: Key) -> Option<FrameMut<'_>> {
        let bucket = self.index.bucket(key);
        let Found { slot, .. } = self.search(bucket, key)?;
        self.index.begin_change(bucket);
        Some(FrameMut { memory: self.memory, index: &self.index, bucket, slot, life: PhantomData })
    }

    /// The frame with this number, if it is here.
    pub fn find(&self, pfn: Pfn) -> Option<FrameRef<'_>> {
        let slot = self.memory.checked_slot(pfn)?;
        // The record may be of another map's frame, or of a list's, so the key has to lead back to it in this one.
        let key = key_of(&self.memory.meta()[slot as usize]);
        (self.slot_of(key) == Some(slot)).then(|| self.frame_ref(slot))
    }

    /// Take the frame with this number, if it is here and in one of `orders`.
    pub fn take_pfn(&mut self, pfn: Pfn, orders: Range<u16>) -> Option<Taken> {
        let slot = self.memory.checked_slot(pfn)?;
        let record = &self.memory.meta()[slot as usize];
        if !orders.contains(&record.keeper.load(Relaxed).wrapping_sub(1)) {
            return None;
        }
        let key = key_of(record);
        let bucket = self.index.bucket(key);
        let found = self.search(bucket, key)?;
        (found.slot == slot).then(|| self.unlink(bucket, found, key))
    }

    /// Take the frame under `key`.
    pub fn remove(&mut self, key: Key) -> Option<Frame> {
        self.take(key).map(|taken| taken.frame)
    }

    /// Take the frames of pages `first..=last` of `file`, and give each to `sink`. The cost is that of the
    /// fewer: the pages in the range, or the pages of the file that are here.
    pub fn remove_range(&mut self, file: u32, first: u32, last: u32, mut sink: impl FnMut(Taken)) {
        let resident = self.file_len(file);
        if resident == 0 || first > last {
            return;
        }
        if ((last - first) as usize) < resident {
            for index in first..=last {
                if let Some(taken) = self.take(Key { file, index }) {
                    sink(taken);
                }
            }
            return;
        }
        let meta = self.memory.meta();
        let mut slot = self.files.get(file as usize).map_or(NIL, |chain| chain.head);
        while let Some(record) = meta.get(slot as usize) {
            slot = record.file_next.load(Relaxed);
            let key = key_of(record);
            if (first..=last).contains(&key.index)
                && let Some(taken) = self.take(key)
            {
                sink(taken);
            }
        }
    }

    /// Take the frame under `key`, with what is known of it.
    pub fn take(&mut self, key: Key) -> Option<Taken> {
        self.occupied(key).map(|place| place.take().0)
    }

    /// Take the frame that was found under `key`.
    #[inline(always)]
    fn unlink(&mut self, bucket: Bucket, found: Found, key: Key) -> Taken {
        let Found { before, record, slot, order, private } = found;
        let meta = self.memory.meta();

        let next = record.bucket_next.load(Relaxed);
        let link = before.map_or_else(|| self.index.head(bucket), |before| &before.bucket_next);
        link.store(next, Release);
        self.index.taken(bucket);

        let (next, prev) = (record.file_next.load(Relaxed), record.file_prev.load(Relaxed));
        if let Some(after) = meta.get(next as usize) {
            after.file_prev.store(prev, Relaxed);
        }
        let before = meta.get(prev as usize);
        if let Some(before) = before {
            before.file_next.store(next, Relaxed);
        }
        if let Some(chain) = self.files.get_mut(key.file as usize) {
            if before.is_none() {
                chain.head = next;
            }
            chain.len -= 1;
        }

        record.keeper.store(LOOSE, Relaxed);
        if let Some(links) = self.orders.get_mut(usize::from(order)) {
            links.unlink_record(meta, record);
        }
        let frame = Frame::own(self.memory.name(slot));
        Taken { frame, key, order, private }
    }

    /// Move the frame under `key` to the back of `order`.
    pub fn move_to_back(&mut self, key: Key, order: u16) -> bool {
        let Some(slot) = self.slot_of(key) else { return false };
        self.relink(slot, order, |links, meta| links.push_back(meta, slot))
    }

    /// Move the frame under `key` to the front of `order`.
    pub fn move_to_front(&mut self, key: Key, order: u16) -> bool {
        let Some(slot) = self.slot_of(key) else { return false };
        self.relink(slot, order, |links, meta| links.push_front(meta, slot))
    }

    fn relink(&mut self, slot: u32, order: u16, push: impl FnOnce(&mut Links, &[FrameMeta])) -> bool {
        if usize::from(order) >= self.orders.len() {
            return false;
        }
        let meta = self.memory.meta();
        let keeper = &meta[slot as usize].keeper;
        let old = keeper.load(Relaxed) - 1;
        keeper.store(order + 1, Relaxed);
        self.orders[usize::from(old)].unlink(meta, slot);
        push(&mut self.orders[usize::from(order)], meta);
        true
    }

    /// The frame at the front of `order`: the one that came there, or was moved there, longest ago.
    #[inline]
    pub fn front(&self, order: u16) -> Option<FrameRef<'_>> {
        let links = self.orders.get(usize::from(order))?;
        (links.head != NIL).then(|| self.frame_ref(links.head))
    }

    /// The frame at the back of `order`: the one that came there, or was moved there, last.
    #[inline]
    pub fn back(&self, order: u16) -> Option<FrameRef<'_>> {
        let links = self.orders.get(usize::from(order))?;
        (links.tail != NIL).then(|| self.frame_ref(links.tail))
    }

    /// The frames of `order` from the front.
    pub fn in_order(&self, order: u16) -> impl Iterator<Item = FrameRef<'_>> {
        let meta = self.memory.meta();
        let first = self.orders.get(usize::from(order)).map_or(NIL, |links| links.head);
        core::iter::successors(slot_in(meta, first), move |&slot| slot_in(meta, meta[slot as usize].next.load(Relaxed)))
            .map(|slot| self.frame_ref(slot))
    }

    /// The frames of `file`, the newest first.
    pub fn of_file(&self, file: u32) -> impl Iterator<Item = FrameRef<'_>> {
        let meta = self.memory.meta();
        let first = self.files.get(file as usize).map_or(NIL, |chain| chain.head);
        core::iter::successors(slot_in(meta, first), move |&slot| {
            slot_in(meta, meta[slot as usize].file_next.load(Relaxed))
        })
        .map(|slot| self.frame_ref(slot))
    }

    #[inline]
    fn frame_ref(&self, slot: u32) -> FrameRef<'_> {
        FrameRef { memory: self.memory, slot, life: PhantomData }
    }

    #[inline]
    fn slot_of(&self, key: Key) -> Option<u32> {
        let meta = self.memory.meta();
        let mut slot = self.index.head(self.index.bucket(key)).load(Relaxed);
        while let Some(record) = meta.get(slot as usize) {
            if record.key.load(Relaxed) == key.packed() {
                return Some(slot);
            }
            slot = record.bucket_next.load(Relaxed);
        }
        None
    }

    /// Where `key` is.
    #[inline]
    fn search(&self, bucket: Bucket, key: Key) -> Option<Found> {
        let meta = self.memory.meta();
        let mut before = None;
        let mut slot = self.index.head(bucket).load(Relaxed);
        while let Some(record) = meta.get(slot as usize) {
            if record.key.load(Relaxed) == key.packed() {
                let (order, private) = (record.keeper.load(Relaxed) - 1, record.private.load(Relaxed));
                return Some(Found { before, record, slot, order, private });
            }
            before = Some(record);
            slot = record.bucket_next.load(Relaxed);
        }
        None
    }
}

#[inline]
fn key_of(record: &FrameMeta) -> Key {
    Key::unpacked(record.key.load(Relaxed))
}

fn slot_in(meta: &[FrameMeta], slot: u32) -> Option<u32> {
    ((slot as usize) < meta.len()).then_some(slot)
}

impl Drop for FrameMap {
    fn drop(&mut self) {
        for order in 0..self.orders.len() as u16 {
            while let Some(key) = self.front(order).map(|frame| frame.key()) {
                self.remove(key);
            }
        }
    }
}

impl fmt::Debug for FrameMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameMap({} frames of {} files)", self.len(), self.files.len())
    }
}
