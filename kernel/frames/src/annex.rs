//! Annexes: memory that is not in the machine's memory map and still holds pages, such as what a hypervisor plugs in or shares.
//!
//! An annex gives a range of frames records of their own, so that lists and maps can keep them; the allocator never has them.
//! Whoever brought the range in makes [runs](crate::FrameRun::from_range) of it, and a frame that is dropped is merely forgotten.
//! Room for the records is set aside when memory is installed ([`Layout::annex`](crate::Layout)), since it must lie behind
//! that of the others. An annex stays for good.

use crate::addr::{Pfn, PfnRange};
use core::fmt;
use core::ops::Range;
use spin::{Mutex, Once};

/// The most annexes.
const MAX_ANNEXES: usize = 8;

/// Why a range got no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnexError {
    /// It is empty, or overlaps with memory that has records.
    Range(PfnRange),
    /// So many records were not set aside.
    NoRecords {
        /// How many are left.
        left: u32,
    },
    /// There are as many annexes as there can be.
    TooMany,
}

impl fmt::Display for AnnexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => write!(f, "frames {range:?} are none, or have records already"),
            Self::NoRecords { left } => write!(f, "records for {left} more frames only were set aside"),
            Self::TooMany => f.write_str("too many annexes"),
        }
    }
}

impl core::error::Error for AnnexError {}

#[derive(Clone, Copy, Debug)]
struct Annex {
    range: PfnRange,
    first: u32,
}

/// The annexes of a machine. Those that are there are at the front.
#[derive(Debug)]
pub(crate) struct Annexes {
    places: [Once<Annex>; MAX_ANNEXES],
    /// The first slot that no annex has.
    next: Mutex<u32>,
    end: u32,
}

impl Annexes {
    /// None yet, with the slots `first..end` to give away.
    pub(crate) fn new(first: u32, end: u32) -> Self {
        Self { places: [const { Once::new() }; MAX_ANNEXES], next: Mutex::new(first), end }
    }

    /// Give `range`, which has no records, slots, whose records `clear` writes.
    pub(crate) fn add(&self, range: PfnRange, clear: impl FnOnce(Range<u32>)) -> Result<(), AnnexError> {
        // Held to the end, so that of two who come at once the second finds the first.
        let mut next = self.next.lock();
        if range.is_empty() || self.iter().any(|annex| !annex.range.intersect(range).is_empty()) {
            return Err(AnnexError::Range(range));
        }
        let place = self.places.iter().find(|place| !place.is_completed()).ok_or(AnnexError::TooMany)?;
        let first = *next;
        let behind = u32::try_from(range.count).ok().and_then(|count| first.checked_add(count));
        let behind = behind.filter(|&behind| behind <= self.end);
        *next = behind.ok_or(AnnexError::NoRecords { left: self.end - first })?;
        clear(first..*next);
        place.call_once(|| Annex { range, first });
        Ok(())
    }

    /// The slot of a frame.
    #[cold]
    pub(crate) fn slot(&self, pfn: Pfn) -> Option<u32> {
        let annex = self.iter().find(|annex| annex.range.contains(pfn))?;
        Some(annex.first + (pfn.get() - annex.range.start.get()) as u32)
    }

    /// The frame at a slot.
    #[cold]
    pub(crate) fn pfn(&self, slot: u32) -> Option<Pfn> {
        self.iter().find_map(|annex| {
            let distance = u64::from(slot.checked_sub(annex.first)?);
            (distance < annex.range.count).then(|| annex.range.start.offset(distance))
        })
    }

    /// How many frames a slot's frame lies above `base`.
    #[cold]
    pub(crate) fn distance(&self, slot: u32, base: Pfn) -> usize {
        self.pfn(slot).map_or(0, |pfn| (pfn.get() - base.get()) as usize)
    }

    fn iter(&self) -> impl Iterator<Item = &Annex> {
        self.places.iter().filter_map(Once::get)
    }
}
