//! The records of a machine's frames, and which of them are written yet.
//!
//! Memory that nobody has touched costs nothing to have: its records are not written and it is on no list, though it is free and
//! counted. It is divided into *sections* of one largest block each. One is opened, that is its records are written and its block is
//! listed, when the lists have no block for somebody. One of which a part is free (the rest is set aside, or scratch, or a hole) is opened
//! at the start; one of which nothing is, when something that was set aside there is claimed. Invariant: who has a frame has one of an open section. What a
//! record says of a frame that was named from outside is believed only if it leads back: to the list, if the section is open, or by its
//! key to the map.

use crate::buddy::MAX_ORDER;
use crate::meta::FrameMeta;
use alloc::boxed::Box;
use core::ops::Range;
use core::sync::atomic::{
    AtomicU8, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

/// The records of the section are not written, and nothing of it is free.
const SHUT: u8 = 0;
/// They are not written, and all of it is free.
const UNTOUCHED: u8 = 1;
/// They are written.
const OPEN: u8 = 2;

/// Records, those of the span first. Annexes see to their own.
#[derive(Debug)]
pub(crate) struct Records {
    meta: &'static [FrameMeta],
    /// The slots of the span.
    span: u32,
    /// The state of each section of the span.
    sections: Box<[AtomicU8]>,
    /// The sections before this one are not untouched.
    next: AtomicU32,
    /// Frames of untouched sections.
    untouched: AtomicU32,
}

impl Records {
    /// Bytes of the heap for a span of `frames` frames.
    pub(crate) const fn heap_bytes(frames: u64) -> u64 {
        frames.div_ceil(1 << MAX_ORDER)
    }

    /// None is written yet: `meta` is nobody else's and has any content. The first `span` are the span's.
    pub(crate) fn new(meta: &'static [FrameMeta], span: u32) -> Self {
        let count = span.div_ceil(1 << MAX_ORDER);
        Self {
            meta,
            span,
            sections: (0..count).map(|_| AtomicU8::new(SHUT)).collect(),
            next: AtomicU32::new(0),
            untouched: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(crate) fn all(&self) -> &'static [FrameMeta] {
        self.meta
    }

    /// Whether the record of a slot is written. Annexes have theirs from the start.
    pub(crate) fn is_written(&self, slot: u32) -> bool {
        let state = self.sections.get((slot >> MAX_ORDER) as usize);
        slot >= self.span || state.is_some_and(|state| state.load(Acquire) == OPEN)
    }

    /// How many free frames are untouched.
    #[inline]
    pub(crate) fn untouched(&self) -> u32 {
        self.untouched.load(Relaxed)
    }

    /// Write the records of `slots` and of what is in the same sections. While the machine is being set up, or for frames that were
    /// set aside and that the caller alone has.
    pub(crate) fn open(&self, slots: Range<u32>) {
        for section in slots.start >> MAX_ORDER..slots.end.div_ceil(1 << MAX_ORDER) {
            if self.sections[section as usize].load(Relaxed) == SHUT {
                self.write(section);
            }
        }
    }

    /// Leave what makes whole sections of `slots`, all of them free, untouched; what is left of them comes back. Only while the machine is
    /// being set up.
    pub(crate) fn leave(&self, slots: Range<u32>) -> [Range<u32>; 2] {
        let (first, behind) = (slots.start.div_ceil(1 << MAX_ORDER), slots.end >> MAX_ORDER);
        if first >= behind {
            return [slots.clone(), slots.end..slots.end];
        }
        self.sections[first as usize..behind as usize].iter().for_each(|state| state.store(UNTOUCHED, Relaxed));
        self.untouched.fetch_add((behind - first) << MAX_ORDER, Relaxed);
        [slots.start..first << MAX_ORDER, behind << MAX_ORDER..slots.end]
    }

    /// Open the next untouched section: these free slots are to be listed. The caller has the lock of their zone. They are opened upwards, as
    /// blocks are handed out, so that what grows large lies in one piece, and crosses a kexec as one.
    pub(crate) fn open_next(&self) -> Option<Range<u32>> {
        let next = self.next.load(Relaxed);
        let mut sections = (next..).zip(&self.sections[next as usize..]);
        let section = sections.find(|(_, state)| state.load(Relaxed) == UNTOUCHED).map(|(section, _)| section);
        self.next.store(section.unwrap_or(self.sections.len() as u32), Relaxed);
        let section = section?;
        self.write(section);
        self.untouched.fetch_sub(1 << MAX_ORDER, Relaxed);
        Some(section << MAX_ORDER..(section + 1) << MAX_ORDER)
    }

    fn write(&self, section: u32) {
        self.clear(section << MAX_ORDER..((section + 1) << MAX_ORDER).min(self.span));
        self.sections[section as usize].store(OPEN, Release);
    }

    /// Write the records of `slots`, which nobody has yet. Who asks a map for such a frame by its number may read one meanwhile.
    pub(crate) fn clear(&self, slots: Range<u32>) {
        self.meta[slots.start as usize..slots.end as usize].iter().for_each(FrameMeta::reset);
    }
}
