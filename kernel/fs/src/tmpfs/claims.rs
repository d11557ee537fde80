//! What became of what a handover brought: how much was claimed and verified, and what was lost by that.

use core::iter::Sum;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What became of what a handover brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Frames that were claimed.
    pub frames: u64,
    /// Windows that had a checksum, and it was right.
    pub windows: u64,
    /// Pages of data in them.
    pub pages: u64,
    /// Files that were quarantined when some of their content was claimed.
    pub lost: u64,
}

impl Sum for Claims {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            frames: a.frames + b.frames,
            windows: a.windows + b.windows,
            pages: a.pages + b.pages,
            lost: a.lost + b.lost,
        })
    }
}

/// [`Claims`], while they are counted.
#[derive(Debug, Default)]
pub(super) struct ClaimCounts {
    frames: AtomicU64,
    windows: AtomicU64,
    pages: AtomicU64,
    lost: AtomicU64,
}

impl ClaimCounts {
    pub(super) fn claimed(&self, frames: u64) {
        self.frames.fetch_add(frames, Relaxed);
    }

    pub(super) fn verified(&self, pages: u64) {
        self.windows.fetch_add(1, Relaxed);
        self.pages.fetch_add(pages, Relaxed);
    }

    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    pub(super) fn get(&self) -> Claims {
        Claims {
            frames: self.frames.load(Relaxed),
            windows: self.windows.load(Relaxed),
            pages: self.pages.load(Relaxed),
            lost: self.lost.load(Relaxed),
        }
    }
}
