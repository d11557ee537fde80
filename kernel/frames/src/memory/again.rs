//! A machine that is over, for the next one: on the host, where a test plays many machines, or many generations of one.
//!
//! May touch: everything of a machine. Invariant: a machine is set up again only by whoever has all of its frames. [`Memory::retire`]
//! takes them, one by one, from where they lie, so that it cannot be wrong about that; it keeps them for ever, so a reference
//! to the old machine, which a test may still hold, finds nothing in it that could be allocated or claimed.

use super::Memory;
use super::table::TABLE;
use crate::addr::{Page, PfnRange, Zones};
use crate::buddy::MAX_ORDER;
use crate::layout::{Layout, LayoutError};
use crate::run::FrameRun;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::Ordering;

/// Every frame of a machine's span, owned, and nothing else left of it. A machine with an annex may have owners of frames in that.
#[derive(Debug)]
pub(crate) struct Retired {
    memory: &'static Memory,
}

impl Memory {
    /// Take all frames of the span, those that are set aside too. `None`, and they are all free, when somebody owns one.
    pub(crate) fn retire(&'static self) -> Option<Retired> {
        let aside: Vec<PfnRange> = self.set_aside.lock().ranges().collect();
        let mut runs: Vec<FrameRun> = aside.into_iter().filter_map(|range| self.claim(range).ok()).collect();
        for order in (0..=MAX_ORDER).rev() {
            runs.extend(core::iter::from_fn(|| self.allocate_run(Zones::Ephemeral, order)));
        }
        if runs.iter().map(|run| run.len() as u64).sum::<u64>() != self.total {
            return None;
        }
        for run in runs {
            let _ = run.into_range();
        }
        Some(Retired { memory: self })
    }
}

impl Retired {
    /// The bytes of the frame at `slot` of the span, to change.
    pub(crate) fn page_mut(&mut self, slot: u32) -> &mut Page {
        assert!(slot < self.memory.span, "slot {slot:#x} is not of the span");
        // SAFETY: the frame is one of the span's, all of which this owns, and this is borrowed uniquely.
        unsafe { self.memory.page(slot).as_mut() }
    }

    /// The machine as if it had just been installed, in the place that it had. What `layout` sets aside holds the bytes that it
    /// holds now.
    pub(crate) fn install(self, layout: &Layout<'_>) -> Result<&'static Memory, LayoutError> {
        let old = self.memory;
        assert_eq!(layout.span, old.span(), "the span of another machine");
        let mut memory = Memory::assemble(old.window, old.meta(), layout)?;
        memory.place = old.place;
        let memory: &'static Memory = Box::leak(memory);
        // The old machine leaves the table, and is not freed: no frame names it, but a test may.
        TABLE[usize::from(old.place)].store(ptr::from_ref(memory).cast_mut(), Ordering::Release);
        Ok(memory)
    }
}
