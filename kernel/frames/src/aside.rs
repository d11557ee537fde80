//! Frames that are set aside: held back from the allocator until somebody claims them, each once. Pages that the previous
//! kernel handed over begin here, and so does a carve-out.

use crate::addr::{Pfn, PfnRange};
use alloc::collections::BTreeMap;
use core::fmt;

/// Why a range that was set aside cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// Some frame of it is not set aside, or was claimed before.
    NotSetAside(PfnRange),
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSetAside(range) => write!(f, "frames {range:?} are not set aside, or were claimed before"),
        }
    }
}

impl core::error::Error for ClaimError {}

/// What is set aside and not claimed.
#[derive(Debug, Default)]
pub(crate) struct SetAside {
    /// First frame to number of frames; disjoint, neighbours joined as they come.
    ranges: BTreeMap<u64, u64>,
    frames: u64,
}

impl SetAside {
    pub(crate) const fn new() -> Self {
        Self { ranges: BTreeMap::new(), frames: 0 }
    }

    /// How many frames.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    #[cfg(not(target_os = "none"))]
    pub(crate) fn ranges(&self) -> impl Iterator<Item = PfnRange> + '_ {
        self.ranges.iter().map(|(&start, &count)| PfnRange { start: Pfn::new(start), count })
    }

    /// Add `range`, which lies above all that is here.
    pub(crate) fn push(&mut self, range: PfnRange) {
        self.frames += range.count;
        if let Some(mut last) = self.ranges.last_entry()
            && last.key() + last.get() == range.start.get()
        {
            *last.get_mut() += range.count;
            return;
        }
        self.ranges.insert(range.start.get(), range.count);
    }

    pub(crate) fn contains(&self, pfn: Pfn) -> bool {
        self.around(pfn).is_some_and(|range| range.contains(pfn))
    }

    /// Take `range` out; it is the caller's from here on.
    pub(crate) fn remove(&mut self, range: PfnRange) -> Result<(), ClaimError> {
        let from = self.around(range.start).filter(|from| from.covers(range) && !range.is_empty());
        let from = from.ok_or(ClaimError::NotSetAside(range))?;
        self.ranges.remove(&from.start.get());
        for rest in [PfnRange::new(from.start, range.start), PfnRange::new(range.end(), from.end())] {
            if !rest.is_empty() {
                self.ranges.insert(rest.start.get(), rest.count);
            }
        }
        self.frames -= range.count;
        Ok(())
    }

    /// The range that begins at or below `pfn`.
    fn around(&self, pfn: Pfn) -> Option<PfnRange> {
        let (&start, &count) = self.ranges.range(..=pfn.get()).next_back()?;
        Some(PfnRange { start: Pfn::new(start), count })
    }
}
