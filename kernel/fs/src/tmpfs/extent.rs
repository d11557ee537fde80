//! Extents: consecutive pages of a file in consecutive frames, owned or still where the previous kernel left them.

use super::extents::{PAGE, Part};
use frames::{ClaimError, FrameRun, Memory, PfnRange};

/// Frames that the previous kernel preserved and that nobody has claimed. It owns them as a [`FrameRun`] does, but gives no
/// access to their bytes: those are first needed when a page is, which may be never.
#[derive(Debug)]
pub(super) struct Unclaimed {
    memory: &'static Memory,
    range: PfnRange,
}

impl Unclaimed {
    /// The frames `range`, at most 2^32 - 1 of them, which are set aside in `memory`.
    pub(super) fn new(memory: &'static Memory, range: PfnRange) -> Self {
        Self { memory, range }
    }

    /// The frames as they are from now on.
    fn claim(self) -> Result<FrameRun, ClaimError> {
        let (memory, range) = self.dissolve();
        memory.claim(range)
    }

    fn split_at(self, at: u64) -> (Self, Self) {
        let (memory, range) = self.dissolve();
        let middle = range.start.offset(at);
        (Self::new(memory, PfnRange::new(range.start, middle)), Self::new(memory, PfnRange::new(middle, range.end())))
    }

    /// The name alone; what it owned is the caller's to look after.
    fn dissolve(mut self) -> (&'static Memory, PfnRange) {
        let range = self.range;
        self.range.count = 0;
        (self.memory, range)
    }
}

/// Frames that were never wanted are freed unread.
impl Drop for Unclaimed {
    fn drop(&mut self) {
        if !self.range.is_empty() {
            // A range that cannot be claimed is not set aside any more, so there is nothing to free.
            drop(self.memory.claim(self.range));
        }
    }
}

/// Where the pages of an extent are.
#[derive(Debug)]
pub(super) enum Store {
    /// In frames of this kernel's.
    Owned(FrameRun),
    /// Where the previous kernel left them.
    Unclaimed(Unclaimed),
}

/// Consecutive pages in consecutive frames.
#[derive(Debug)]
pub(super) struct Extent {
    pub(super) store: Store,
    /// The frames are reserved only: their bytes mean nothing and the pages read as zeros.
    pub(super) preallocated: bool,
}

impl Extent {
    /// The frames.
    pub(super) fn frames(&self) -> PfnRange {
        match &self.store {
            Store::Owned(run) => run.range(),
            Store::Unclaimed(unclaimed) => unclaimed.range,
        }
    }

    /// How many pages.
    pub(super) fn pages(&self) -> u32 {
        match &self.store {
            Store::Owned(run) => run.len() as u32,
            Store::Unclaimed(unclaimed) => unclaimed.range.count as u32,
        }
    }

    /// Whether nobody has claimed the frames yet.
    pub(super) fn is_unclaimed(&self) -> bool {
        matches!(self.store, Store::Unclaimed(_))
    }

    /// The bytes of a part of it, if they can be seen.
    pub(super) fn bytes(&self, part: &Part) -> Option<&[u8]> {
        let Store::Owned(run) = &self.store else { return None };
        let at = |page: u64| ((page - part.extent) * PAGE) as usize;
        run.bytes().get(at(part.start)..at(part.end))
    }

    /// Whether `next`, whose pages follow in the file, can be a part of this extent.
    pub(super) fn continues(&self, next: &Self) -> bool {
        let same = matches!(
            (&self.store, &next.store),
            (Store::Owned(_), Store::Owned(_)) | (Store::Unclaimed(_), Store::Unclaimed(_))
        );
        same && self.preallocated == next.preallocated
            && self.frames().end() == next.frames().start
            && self.pages().checked_add(next.pages()).is_some()
    }

    /// Take `next` in, or hand it back where it does not [continue](Self::continues) this one.
    pub(super) fn join(&mut self, next: Self) -> Result<(), Self> {
        if !self.continues(&next) {
            return Err(next);
        }
        let preallocated = next.preallocated;
        match (&mut self.store, next.store) {
            (Store::Owned(run), Store::Owned(next)) => {
                run.append(next).map_err(|next| Self { store: Store::Owned(next), preallocated })
            }
            (Store::Unclaimed(first), Store::Unclaimed(next)) => {
                first.range.count += next.dissolve().1.count;
                Ok(())
            }
            (_, store) => Err(Self { store, preallocated }),
        }
    }

    /// The first `at` pages and the others: 0 < `at` < `pages`.
    pub(super) fn split_at(self, at: u32) -> (Self, Self) {
        let preallocated = self.preallocated;
        let (first, rest) = match self.store {
            Store::Owned(run) => {
                let (first, rest) = run.split_at(at as usize);
                (Store::Owned(first), Store::Owned(rest))
            }
            Store::Unclaimed(unclaimed) => {
                let (first, rest) = unclaimed.split_at(u64::from(at));
                (Store::Unclaimed(first), Store::Unclaimed(rest))
            }
        };
        (Self { store: first, preallocated }, Self { store: rest, preallocated })
    }

    /// The frames, claimed if they were not.
    pub(super) fn into_run(self) -> Result<FrameRun, ClaimError> {
        match self.store {
            Store::Owned(run) => Ok(run),
            Store::Unclaimed(unclaimed) => unclaimed.claim(),
        }
    }
}
