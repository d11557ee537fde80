//! Frames on their way: those of the guest's own that were found for the host, and the names of those in a request.

use cache::PageCache;
use cleancache::{Cleancache, PoolId};
use frames::{Frame, FrameList, Pfn, Zones};
use log::error;

use super::{BATCH, NAME};

/// Frames of the guest's own that were found for the host, or to pay a debt.
pub(super) struct Own {
    pub(super) frames: FrameList,
    /// The guest cannot spare more.
    pub(super) none_left: bool,
}

impl Own {
    /// Finds up to `frames` frames.
    pub(super) fn find(&mut self, cache: &PageCache, frames: usize) {
        while self.frames.len() < frames
            && let Some(frame) = spare(cache)
        {
            self.frames.push_back(frame);
        }
        self.none_left = self.frames.is_empty();
    }

    /// Moves up to `most` of those that were found to `list`.
    pub(super) fn take(&mut self, most: usize, mut list: FrameList) -> FrameList {
        while list.len() < most
            && let Some(frame) = self.frames.pop_front()
        {
            list.push_back(frame);
        }
        list
    }
}

/// A frame outside the scratch area, as long as that leaves the guest as many free ones as reclaim sees to.
pub(super) fn spare(cache: &PageCache) -> Option<Frame> {
    let frame = cache.allocate(Zones::Preservable).ok()?;
    let (memory, marks) = (cache.memory(), cache.memory().watermarks());
    let free = || memory.free_frames(Zones::Ephemeral);
    if free() < marks.low {
        // Another processor may be about to make frames free, which the host does not wait for.
        cache.reclaim(marks.high.saturating_sub(free()) as usize);
    }
    (free() >= marks.low).then_some(frame)
}

pub(super) fn lend(cleancache: &Cleancache, pool: PoolId, frames: FrameList) {
    if frames.is_empty() {
        return;
    }
    // The pool lives as long as the balloon and the frames are the guest's, so none is refused.
    if let Err((error, rest)) = cleancache.donate_list(pool, frames) {
        error!(target: "donate", "{NAME}: {} frames not lent: {error}", rest.len());
    }
}

/// The names of the frames in a request.
pub(super) struct Names {
    pfns: [Pfn; BATCH],
    len: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self { pfns: [Pfn::new(0); BATCH], len: 0 }
    }
}

impl Names {
    pub(super) fn push(&mut self, pfn: Pfn) {
        if let Some(place) = self.pfns.get_mut(self.len) {
            *place = pfn;
            self.len += 1;
        }
    }

    pub(super) fn as_slice(&self) -> &[Pfn] {
        self.pfns.get(..self.len).unwrap_or_default()
    }
}
