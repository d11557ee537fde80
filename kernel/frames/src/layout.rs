//! How a machine's memory is divided, and how much there is of what: numbers and ranges only.

use crate::addr::PfnRange;
use core::fmt;

/// The parts that memory falls into. Ranges are sorted and disjoint.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    /// Every frame that there is, and perhaps holes. The first frame's number is a multiple of 1024.
    pub span: PfnRange,
    /// The scratch area.
    pub scratch: PfnRange,
    /// What may be handed out.
    pub usable: &'a [PfnRange],
    /// What is held back from `usable` until somebody [claims](crate::Memory::claim) it: pages handed over by the previous kernel,
    /// a carve-out.
    pub set_aside: &'a [PfnRange],
    /// Frames outside the span that may get records later, in an [annex](crate::Memory::annex).
    pub annex: u32,
}

/// Why a [`Layout`] is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// The span is empty, begins at an odd place, or is longer than 2^32 - 1 frames.
    Span,
    /// This range is outside the span or out of order, or has frame 0, which is never handed out.
    Range(PfnRange),
    /// There are as many machines as there can be.
    TooMany,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Span => f.write_str("the span of memory is empty, unaligned or too long"),
            Self::Range(range) => write!(f, "memory range {range:?} is out of order or outside the span"),
            Self::TooMany => f.write_str("too many machines"),
        }
    }
}

impl core::error::Error for LayoutError {}

/// How many frames there are of what, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames that were usable at the start, those set aside included.
    pub total: u64,
    /// Free frames of the scratch area.
    pub free_scratch: u64,
    /// Free frames of all other memory.
    pub free_normal: u64,
    /// Frames set aside and not claimed.
    pub set_aside: u64,
}

impl Stats {
    /// Frames that have an owner.
    pub fn owned(&self) -> u64 {
        self.total - self.free_scratch - self.free_normal - self.set_aside
    }
}

/// How many free frames are few. Below `low` reclaim begins, and it goes on up to `high`; `min` is kept for those who
/// cannot wait for reclaim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The reserve.
    pub min: u32,
    /// Reclaim begins.
    pub low: u32,
    /// Reclaim ends.
    pub high: u32,
}

/// Whether `ranges` follow one another inside `span`.
pub(crate) fn in_order(span: PfnRange, ranges: &[PfnRange]) -> Result<(), LayoutError> {
    let mut from = span.start;
    for &range in ranges {
        if range.start < from || !span.covers(range) {
            return Err(LayoutError::Range(range));
        }
        from = range.end();
    }
    Ok(())
}
