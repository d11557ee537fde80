//! An owning map from (file, page index) to frame, with the frames of each file chained together and every frame in one of a few
//! orders: all that a page cache and a victim cache need to keep.
//!
//! Everything but the bucket heads lies in the frames' own records. After the map is made, and a file
//! [made known](FrameMap::add_file), no operation allocates; each costs the same however many frames there are.

use crate::addr::{Page, Pfn};
use crate::chunks::Chunks;
use crate::frame::Frame;
use crate::memory::Memory;
use crate::meta::{FrameMeta, LOOSE, Links, NIL, ON_LIST};
use alloc::boxed::Box;
use alloc::vec;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering::Relaxed;

/// The most buckets: 4 MiB of them, which is the largest block that there is.
const MAX_BUCKETS: usize = 1 << 20;

/// Where a page belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The file, by a number of the caller's.
    pub file: u32,
    /// The page of the file, from 0.
    pub index: u32,
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
    /// Heads of the hash chains; their number is a power of two.
    buckets: Box<[u32]>,
    /// Bits to shift a 64-bit hash down by.
    shift: u32,
    orders: Box<[Links]>,
    files: Chunks<Chain>,
}

impl FrameMap {
    /// An empty map for about `capacity` frames of `memory` (more make it slower, not wrong), with `orders` orders, at most
    /// 254.
    ///
    /// # Panics
    /// When `orders` is more than 254.
    pub fn new(memory: &'static Memory, capacity: usize, orders: usize) -> Self {
        assert!(orders <= 254, "{orders} orders");
        let buckets = capacity.next_power_of_two().clamp(2, MAX_BUCKETS);
        Self {
            memory,
            buckets: vec![NIL; buckets].into_boxed_slice(),
            shift: u64::BITS - buckets.trailing_zeros(),
            orders: vec![Links::EMPTY; orders].into_boxed_slice(),
            files: Chunks::new(),
        }
    }

    /// Make `file` known, so that pages of it can be inserted. This allocates (8 bytes for each number up to it); nothing
    /// else does.
    pub fn add_file(&mut self, file: u32) {
        self.files.grow(file as usize, |_| Chain { head: NIL, len: 0 });
    }

    /// How many pages of `file` are here.
    pub fn file_len(&self, file: u32) -> usize {
        self.files.get(file as usize).map_or(0, |chain| chain.len as usize)
    }

    /// How many frames are in `order`.
    pub fn order_len(&self, order: u8) -> usize {
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
    pub fn insert(&mut self, key: Key, frame: Frame, order: u8, private: u16) -> Result<(), Frame> {
        let known = (key.file as usize) < self.files.len() && usize::from(order) < self.orders.len();
        if !known || frame.memory().place() != self.memory.place() || self.slot_of(key).is_some() {
            return Err(frame);
        }
        let slot = frame.disown().slot();
        let meta = self.memory.meta();
        let record = &meta[slot as usize];
        record.file.store(key.file, Relaxed);
        record.index.store(key.index, Relaxed);
        record.private.store(private, Relaxed);
        record.list.store(order + 1, Relaxed);
        self.orders[usize::from(order)].push_back(meta, slot);

        let bucket = self.bucket(key);
        record.bucket_next.store(self.buckets[bucket], Relaxed);
        self.buckets[bucket] = slot;

        if let Some(chain) = self.files.get_mut(key.file as usize) {
            record.file_prev.store(NIL, Relaxed);
            record.file_next.store(chain.head, Relaxed);
            if let Some(next) = meta.get(chain.head as usize) {
                next.file_prev.store(slot, Relaxed);
            }
            chain.head = slot;
            chain.len += 1;
        }
        Ok(())
    }

    /// The frame under `key`.
    #[inline]
    pub fn get(&self, key: Key) -> Option<FrameRef<'_>> {
        self.slot_of(key).map(|slot| self.frame_ref(slot))
    }

    /// The frame under `key`, to change.
    pub fn get_mut(&mut self, key: Key) -> Option<FrameMut<'_>> {
        let slot = self.slot_of(key)?;
        Some(FrameMut { memory: self.memory, slot, life: PhantomData })
    }

    /// The frame with this number, if it is here.
    pub fn find(&self, pfn: Pfn) -> Option<FrameRef<'_>> {
        let slot = self.memory.checked_slot(pfn)?;
        let record = &self.memory.meta()[slot as usize];
        if matches!(record.list.load(Relaxed), LOOSE | ON_LIST) {
            return None;
        }
        // The record may be of another map's frame, so the key has to lead back to it in this one.
        (self.slot_of(key_of(record)) == Some(slot)).then(|| self.frame_ref(slot))
    }

    /// Take the frame under `key`.
    pub fn remove(&mut self, key: Key) -> Option<Frame> {
        self.take(key).map(|(frame, _)| frame)
    }

    /// Take the frames of pages `first..=last` of `file`, and give each to `sink` with its bits. The cost is that of the
    /// fewer: the pages in the range, or the pages of the file that are here.
    pub fn remove_range(&mut self, file: u32, first: u32, last: u32, mut sink: impl FnMut(Frame, u16)) {
        let resident = self.file_len(file);
        if resident == 0 || first > last {
            return;
        }
        if ((last - first) as usize) < resident {
            for index in first..=last {
                if let Some((frame, private)) = self.take(Key { file, index }) {
                    sink(frame, private);
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
                && let Some((frame, private)) = self.take(key)
            {
                sink(frame, private);
            }
        }
    }

    /// Take the frame under `key`, with its bits.
    pub fn take(&mut self, key: Key) -> Option<(Frame, u16)> {
        let bucket = self.bucket(key);
        let meta = self.memory.meta();
        let (before, slot) = self.search(bucket, key)?;
        let record = &meta[slot as usize];

        let next = record.bucket_next.load(Relaxed);
        match before {
            Some(before) => before.bucket_next.store(next, Relaxed),
            None => self.buckets[bucket] = next,
        }

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

        let order = record.list.swap(LOOSE, Relaxed) - 1;
        self.orders[usize::from(order)].unlink(meta, slot);
        Some((Frame::own(self.memory.name(slot)), record.private.load(Relaxed)))
    }

    /// Put `frame` in the place of the one under `key`, which comes out; order and bits stay. `Err` hands `frame` back when there
    /// is none, or it is another machine's.
    pub fn replace(&mut self, key: Key, frame: Frame) -> Result<Frame, Frame> {
        let Some((order, private)) = self.get(key).map(|old| (old.order(), old.private())) else {
            return Err(frame);
        };
        if frame.memory().place() != self.memory.place() {
            return Err(frame);
        }
        match self.remove(key) {
            Some(old) => self.insert(key, frame, order, private).map(|()| old),
            None => Err(frame),
        }
    }

    /// Move the frame under `key` to the back of `order`.
    pub fn move_to_back(&mut self, key: Key, order: u8) -> bool {
        let Some(slot) = self.slot_of(key) else { return false };
        self.relink(slot, order, |links, meta| links.push_back(meta, slot))
    }

    /// Move the frame under `key` to the front of `order`.
    pub fn move_to_front(&mut self, key: Key, order: u8) -> bool {
        let Some(slot) = self.slot_of(key) else { return false };
        self.relink(slot, order, |links, meta| links.push_front(meta, slot))
    }

    fn relink(&mut self, slot: u32, order: u8, push: impl FnOnce(&mut Links, &[FrameMeta])) -> bool {
        if usize::from(order) >= self.orders.len() {
            return false;
        }
        let meta = self.memory.meta();
        let old = meta[slot as usize].list.swap(order + 1, Relaxed) - 1;
        self.orders[usize::from(old)].unlink(meta, slot);
        push(&mut self.orders[usize::from(order)], meta);
        true
    }

    /// The frame at the front of `order`: the one that came there, or was moved there, longest ago.
    pub fn front(&self, order: u8) -> Option<FrameRef<'_>> {
        self.in_order(order).next()
    }

    /// The frames of `order` from the front.
    pub fn in_order(&self, order: u8) -> impl Iterator<Item = FrameRef<'_>> {
        let meta = self.memory.meta();
        let first = self.orders.get(usize::from(order)).map_or(NIL, |links| links.head);
        core::iter::successors(slot_in(meta, first), move |&slot| slot_in(meta, meta[slot as usize].next.load(Relaxed)))
            .map(|slot| self.frame_ref(slot))
    }

    /// The frame after the one under `key` in its order.
    pub fn after(&self, key: Key) -> Option<FrameRef<'_>> {
        let meta = self.memory.meta();
        let next = meta[self.slot_of(key)? as usize].next.load(Relaxed);
        slot_in(meta, next).map(|slot| self.frame_ref(slot))
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

    /// Fibonacci hashing (Knuth, TAOCP 3, 6.4): the high bits of a product with 2^64 over the golden ratio.
    #[inline]
    fn bucket(&self, key: Key) -> usize {
        let wide = u64::from(key.file) << 32 | u64::from(key.index);
        (wide.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    #[inline]
    fn slot_of(&self, key: Key) -> Option<u32> {
        let meta = self.memory.meta();
        let mut slot = self.buckets[self.bucket(key)];
        while let Some(record) = meta.get(slot as usize) {
            if key_of(record) == key {
                return Some(slot);
            }
            slot = record.bucket_next.load(Relaxed);
        }
        None
    }

    /// The slot under `key`, and the record before it in its bucket.
    fn search(&self, bucket: usize, key: Key) -> Option<(Option<&'static FrameMeta>, u32)> {
        let meta = self.memory.meta();
        let mut before = None;
        let mut slot = self.buckets[bucket];
        while let Some(record) = meta.get(slot as usize) {
            if key_of(record) == key {
                return Some((before, slot));
            }
            before = Some(record);
            slot = record.bucket_next.load(Relaxed);
        }
        None
    }
}

#[inline]
fn key_of(record: &FrameMeta) -> Key {
    Key { file: record.file.load(Relaxed), index: record.index.load(Relaxed) }
}

fn slot_in(meta: &[FrameMeta], slot: u32) -> Option<u32> {
    ((slot as usize) < meta.len()).then_some(slot)
}

impl Drop for FrameMap {
    fn drop(&mut self) {
        for order in 0..self.orders.len() as u8 {
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

/// A look at a frame in a map.
#[derive(Clone, Copy)]
pub struct FrameRef<'a> {
    memory: &'static Memory,
    slot: u32,
    life: PhantomData<&'a FrameMap>,
}

impl<'a> FrameRef<'a> {
    fn record(&self) -> &'static FrameMeta {
        &self.memory.meta()[self.slot as usize]
    }

    /// The frame's number.
    pub fn pfn(&self) -> Pfn {
        self.memory.name(self.slot).pfn()
    }

    /// Its key.
    pub fn key(&self) -> Key {
        key_of(self.record())
    }

    /// The order that it is in.
    pub fn order(&self) -> u8 {
        self.record().list.load(Relaxed) - 1
    }

    /// The bits that belong to the map's user.
    #[inline]
    pub fn private(&self) -> u16 {
        self.record().private.load(Relaxed)
    }

    /// Change those bits.
    #[inline]
    pub fn set_private(&self, bits: u16) {
        self.record().private.store(bits, Relaxed);
    }

    /// Its bytes.
    #[inline]
    pub fn bytes(&self) -> &'a Page {
        // SAFETY: the map owns the frame and is borrowed for `'a`, so nobody changes or frees it.
        unsafe { self.memory.page(self.slot).as_ref() }
    }
}

impl fmt::Debug for FrameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.pfn(), self.key())
    }
}

/// A frame in a map, to change its bytes.
#[derive(Debug)]
pub struct FrameMut<'a> {
    memory: &'static Memory,
    slot: u32,
    life: PhantomData<&'a mut FrameMap>,
}

impl FrameMut<'_> {
    /// The frame's number.
    pub fn pfn(&self) -> Pfn {
        self.memory.name(self.slot).pfn()
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Page {
        // SAFETY: the map owns the frame and is borrowed uniquely for as long as this value lives.
        unsafe { self.memory.page(self.slot).as_ref() }
    }

    /// Its bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut Page {
        // SAFETY: as above, and this value is borrowed uniquely.
        unsafe { self.memory.page(self.slot).as_mut() }
    }

    /// The bits that belong to the map's user.
    pub fn private(&self) -> u16 {
        self.memory.meta()[self.slot as usize].private.load(Relaxed)
    }

    /// Change those bits.
    pub fn set_private(&mut self, bits: u16) {
        self.memory.meta()[self.slot as usize].private.store(bits, Relaxed);
    }
}
