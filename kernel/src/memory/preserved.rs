//! Reading what the previous kernel left, before there is an allocator: the survey of memory lends bytes to the handover.

use frames::{FRAME_SIZE, Page, Pfn, PfnRange};
use handover::{PhysMap, PhysRead};

use super::{Survey, window};

impl PhysRead for Survey {
    fn read(&self, frame: Pfn, page: &mut Page) -> bool {
        if !self.preservable(PfnRange { start: frame, count: 1 }) {
            return false;
        }
        let Ok(start) = window(frame) else { return false };
        // SAFETY: the frame is ordinary memory, which the window maps, and nobody has been given any of it: the survey ends
        // when frames are handed out. The buffer is a page long and lies in memory that the boot stage gave us, not there.
        unsafe { core::ptr::copy_nonoverlapping(start.as_ptr(), page.as_mut_ptr(), FRAME_SIZE) };
        true
    }
}

impl PhysMap for Survey {
    fn span(&self) -> PfnRange {
        let end = self.usable.iter().map(|range| range.end()).max().unwrap_or(Pfn::new(0));
        PfnRange::new(Pfn::new(0), end)
    }

    fn preservable(&self, range: PfnRange) -> bool {
        range.intersect(self.scratch).is_empty() && self.usable.iter().any(|usable| usable.covers(range))
    }
}
