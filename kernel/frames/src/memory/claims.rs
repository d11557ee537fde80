//! Frames that were set aside find owners: each can be claimed once.
//!
//! May touch: the bytes of frames that are set aside, to read them.

use super::Memory;
use crate::addr::{Page, Pfn, PfnRange};
use crate::aside::{ClaimError, SetAside};
use crate::run::FrameRun;

impl Memory {
    /// Take ownership of frames that were set aside. Each frame can be claimed once.
    ///
    /// # Errors
    /// [`ClaimError`], and nothing is claimed, when not all of `range` is set aside.
    pub fn claim(&'static self, range: PfnRange) -> Result<FrameRun, ClaimError> {
        let mut aside = self.set_aside.lock();
        self.claim_of(&mut aside, range)
    }

    /// As [`Memory::claim`], for callers that may hold any lock: `None` when what is set aside is being looked at just now.
    pub fn try_claim(&'static self, range: PfnRange) -> Option<Result<FrameRun, ClaimError>> {
        let mut aside = self.set_aside.try_lock()?;
        Some(self.claim_of(&mut aside, range))
    }

    fn claim_of(&'static self, aside: &mut SetAside, range: PfnRange) -> Result<FrameRun, ClaimError> {
        aside.remove(range)?;
        // With the lock held, so that two who claim of one section do not both open it.
        self.records.open(self.slots(range));
        Ok(FrameRun::own(self.name(self.slot(range.start)), range.count as u32))
    }

    /// Let `look` see the bytes of a frame that is set aside, without claiming it; `None` when it is not.
    pub fn peek<R>(&self, pfn: Pfn, look: impl FnOnce(&Page) -> R) -> Option<R> {
        let aside = self.set_aside.lock();
        if !aside.contains(pfn) {
            return None;
        }
        // SAFETY: a frame that is set aside has no owner, and cannot get one while the lock is held; it is never written to.
        Some(look(unsafe { self.page(self.slot(pfn)).as_ref() }))
    }
}
