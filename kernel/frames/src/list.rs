//! An owning list of frames. It runs through the frames' records, so that keeping a frame on a list never needs memory.

use crate::addr::Pfn;
use crate::frame::Frame;
use crate::map::Key;
use crate::memory::Memory;
use crate::meta::{FrameMeta, LOOSE, Links, NIL, ON_LIST};
use crate::sync;
use core::fmt;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The number of lists that have none.
const UNNAMED: u32 = 0;

/// A list of owned frames of one machine. Dropping it gives all of them back.
pub struct FrameList {
    memory: &'static Memory,
    links: Links,
    number: u32,
}

/// What stands in the place of a key: the number, where a key has its file.
fn list_key(number: u32) -> u64 {
    Key { file: number, index: 0 }.packed()
}

impl FrameList {
    /// An empty list for frames of `memory`.
    pub fn new(memory: &'static Memory) -> Self {
        Self { memory, links: Links::EMPTY, number: memory.next_list() }
    }

    /// The machine that its frames are of.
    pub fn memory(&self) -> &'static Memory {
        self.memory
    }

    /// An empty list whose frames cannot be asked for by their numbers. Of these any number can be made.
    pub fn unnamed(memory: &'static Memory) -> Self {
        Self { memory, links: Links::EMPTY, number: UNNAMED }
    }

    /// How many frames are on it.
    pub fn len(&self) -> usize {
        self.links.len as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.links.len == 0
    }

    /// Put a frame at the front.
    ///
    /// # Panics
    /// When the frame is another machine's.
    #[inline]
    pub fn push_front(&mut self, frame: Frame) {
        let (meta, slot) = self.adopt(frame);
        self.links.push_front(meta, slot);
    }

    /// Put a frame at the back.
    ///
    /// # Panics
    /// When the frame is another machine's.
    pub fn push_back(&mut self, frame: Frame) {
        let (meta, slot) = self.adopt(frame);
        self.links.push_back(meta, slot);
    }

    /// Take the frame at the front.
    #[inline]
    pub fn pop_front(&mut self) -> Option<Frame> {
        self.release(self.links.head)
    }

    /// Take the frame at the back.
    pub fn pop_back(&mut self) -> Option<Frame> {
        self.release(self.links.tail)
    }

    /// The number of the frame at the front.
    pub fn front(&self) -> Option<Pfn> {
        (self.links.head != NIL).then(|| self.memory.name(self.links.head).pfn())
    }

    /// The numbers of its frames, from front to back.
    pub fn pfns(&self) -> impl Iterator<Item = Pfn> + '_ {
        let follow = |&slot: &u32| self.memory.meta().get(slot as usize).map(|record| record.next.load(Relaxed));
        // Each frame is met once, whatever the records say.
        let slots = core::iter::successors(Some(self.links.head), follow).take(self.len());
        slots.map(|slot| self.memory.name(slot).pfn())
    }

    /// Whether the frame `pfn` is on this list.
    pub fn contains(&self, pfn: Pfn) -> bool {
        self.memory.checked_slot(pfn).is_some_and(|slot| self.holds(slot))
    }

    /// Take the frame `pfn`; `None` when it is not on this list.
    pub fn remove(&mut self, pfn: Pfn) -> Option<Frame> {
        let slot = self.memory.checked_slot(pfn).filter(|&slot| self.holds(slot))?;
        self.release(slot)
    }

    fn holds(&self, slot: u32) -> bool {
        let record = &self.memory.meta()[slot as usize];
        let is_on_one = || record.keeper.load(Acquire) == ON_LIST;
        // Once more when it is known to be written, or what another kernel wrote there might be believed.
        self.number != UNNAMED
            && is_on_one()
            && self.memory.records.is_written(slot)
            && is_on_one()
            && record.key.load(Relaxed) == list_key(self.number)
    }

    #[inline(always)]
    fn adopt(&self, frame: Frame) -> (&'static [FrameMeta], u32) {
        assert!(frame.is_of(self.memory), "a frame of another machine");
        let slot = frame.disown().slot();
        let meta = self.memory.meta();
        let record = &meta[slot as usize];
        // In this order, or who looks meanwhile whether the frame is on the list that it was on before would find it there.
        record.key.store(list_key(self.number), Relaxed);
        sync::window();
        record.keeper.store(ON_LIST, Release);
        (meta, slot)
    }

    /// Take `slot`, which is on this list or `NIL`.
    #[inline]
    fn release(&mut self, slot: u32) -> Option<Frame> {
        let meta = self.memory.meta();
        let record = meta.get(slot as usize)?;
        self.links.unlink_record(meta, record);
        record.keeper.store(LOOSE, Relaxed);
        Some(Frame::own(self.memory.name(slot)))
    }
}

impl Drop for FrameList {
    fn drop(&mut self) {
        while self.pop_front().is_some() {}
    }
}

impl fmt::Debug for FrameList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameList({} frames)", self.len())
    }
}
