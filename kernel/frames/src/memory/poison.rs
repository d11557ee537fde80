//! Poison: in a debug build a frame that is written to after it was freed is noticed when it is handed out again.
//!
//! May touch: the bytes of frames on their way from an owner to a free list, and back.

use super::Memory;
use crate::addr::FRAME_SIZE;
use core::sync::atomic::Ordering;

/// What a debug build writes over freed frames, and expects to find when it hands them out again.
const POISON: u8 = 0x6b;
/// The private bits of a free frame that was poisoned.
const POISONED: u16 = 0x6b6b;

impl Memory {
    /// Look at a block that was just taken, in a debug build, and expect nothing of its bytes from here on.
    pub(crate) fn check(&self, slot: u32, order: u32) {
        if cfg!(debug_assertions) {
            self.check_poison(slot, order);
        }
    }

    pub(super) fn poison(&self, slot: u32, frames: u32) {
        for slot in slot..slot + frames {
            // SAFETY: the frame is on its way from its owner to a free list, so nobody else has it.
            unsafe { self.page(slot).cast::<u8>().write_bytes(POISON, FRAME_SIZE) };
            self.meta()[slot as usize].private.store(POISONED, Ordering::Relaxed);
        }
    }

    /// A frame that came back and was then written to shows here. One that was never handed out is as it was found at boot.
    fn check_poison(&self, slot: u32, order: u32) {
        for slot in slot..slot + (1 << order) {
            if self.meta()[slot as usize].private.swap(0, Ordering::Relaxed) != POISONED {
                continue;
            }
            // SAFETY: the block was just taken off its free list, so nobody else has it.
            let page = unsafe { self.page(slot).as_ref() };
            let changed = page.iter().position(|&byte| byte != POISON);
            assert!(changed.is_none(), "free frame {slot:#x} was written to at byte {changed:?}");
        }
    }
}
