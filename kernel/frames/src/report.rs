//! Telling a hypervisor which memory nobody uses, so that it can put it to other use in the meantime.
//!
//! A block is told once: it carries a mark for as long as it is free, which its halves inherit when it is split and which is lost
//! when it joins a block that is not marked. Marked blocks stand at the back of the free lists, so that memory that was given
//! up is used last. While the hypervisor is told, the blocks have an owner; nobody can be given them.

use crate::addr::Zones;
use crate::memory::Memory;
use crate::run::FrameRun;
use alloc::vec::Vec;

impl Memory {
    /// Take up to `most` free blocks of at least 2^`min_order` frames that were not told yet, let `tell` tell of them, and make them free
    /// again, marked. Returns how many blocks that was.
    ///
    /// `tell` may change their bytes. When it answers `false` they are lost: somebody else may still change them.
    pub fn report_free(
        &'static self,
        min_order: u32,
        most: usize,
        tell: impl FnOnce(&mut [FrameRun]) -> bool,
    ) -> usize {
        // Single frames at hand of some processor would keep their blocks apart.
        self.gather(Zones::Ephemeral);
        let mut blocks = Vec::with_capacity(most);
        blocks.extend(core::iter::from_fn(|| self.take_untold(min_order)).take(most));
        let count = blocks.len();
        if count == 0 {
            return 0;
        }
        let may_be_used = tell(&mut blocks);
        for block in blocks {
            let (slot, order) = (self.slot(block.start()), block.len().ilog2());
            // Not dropped, which would write to it in a debug build.
            let _ = block.into_range();
            if may_be_used {
                self.give_told(slot, order);
            }
        }
        count
    }

    fn take_untold(&'static self, min_order: u32) -> Option<FrameRun> {
        let (slot, order) = self.zones(Zones::Ephemeral).find_map(|zone| zone.take_untold(&self.records, min_order))?;
        // Its bytes are about to be lost, so what they should be is checked now and not expected later.
        self.check(slot, order);
        Some(FrameRun::own(self.name(slot), 1 << order))
    }
}
