//! Setting up a machine's memory: what is usable and not set aside becomes free.
//!
//! May touch: everything of a machine that nobody else has yet. Invariant: a layout that contradicts itself makes none.

use super::Memory;
use crate::addr::{Pfn, PfnRange};
use crate::annex::Annexes;
use crate::aside::SetAside;
use crate::buddy::MAX_ORDER;
use crate::layout::{Layout, LayoutError, Watermarks, in_order};
use crate::lock::{Lock, Rank};
use crate::meta::{FrameMeta, NIL};
use crate::sections::Records;
use crate::zone::FreeFrames;
use alloc::boxed::Box;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;

impl Memory {
    /// Bytes that the records of `frames` frames take.
    pub const fn meta_bytes(frames: u64) -> u64 {
        frames * size_of::<FrameMeta>() as u64
    }

    /// Bytes of the heap that [`Memory::install`] takes because there are `frames` frames.
    pub const fn heap_bytes(frames: u64) -> u64 {
        Records::heap_bytes(frames)
    }

    /// Set up the memory of a machine: all that is usable and not set aside becomes free.
    ///
    /// `window` is the address of the first byte of the span's first frame, `meta` room for one [`FrameMeta`] a frame of
    /// the span and of the annexes. The cost is some instructions a range and a byte for each 4 MiB; records are written once somebody
    /// needs their frames.
    ///
    /// # Errors
    /// [`LayoutError`], when the layout contradicts itself; `meta` is then unused.
    ///
    /// # Safety
    /// - Every usable or set-aside frame is ordinary memory, readable and writable for ever at its distance from `window`, and
    ///   used by nothing else.
    /// - `meta` is valid for reads and writes of `span.count + annex` records of any content, for ever, used by nothing else, and outside those frames.
    pub unsafe fn install(
        window: NonNull<u8>,
        meta: NonNull<FrameMeta>,
        layout: &Layout<'_>,
    ) -> Result<&'static Memory, LayoutError> {
        // SAFETY: the caller's promise.
        let memory = unsafe { Self::build(window, meta, layout)? };
        memory.enter_table().ok_or(LayoutError::TooMany)
    }

    /// # Safety
    /// As for [`Memory::install`].
    unsafe fn build(
        window: NonNull<u8>,
        meta: NonNull<FrameMeta>,
        layout: &Layout<'_>,
    ) -> Result<Box<Memory>, LayoutError> {
        let records = records_of(layout)?;
        // SAFETY: the caller gives that many records of room, for ever; whatever is in it is a valid record, if a meaningless one.
        let meta = unsafe { core::slice::from_raw_parts(meta.as_ptr(), records as usize) };
        Self::assemble(window, meta, layout)
    }

    /// A machine of its parts: `meta` is as many records as it needs, of any content and nobody else's.
    pub(super) fn assemble(
        window: NonNull<u8>,
        meta: &'static [FrameMeta],
        layout: &Layout<'_>,
    ) -> Result<Box<Memory>, LayoutError> {
        let records = records_of(layout)?;
        let span = layout.span;
        let count = records - layout.annex;
        if count == 0 || records == NIL || !span.start.get().is_multiple_of(1 << MAX_ORDER) {
            return Err(LayoutError::Span);
        }
        if let Some(&range) = layout.usable.iter().find(|range| range.contains(Pfn::new(0))) {
            return Err(LayoutError::Range(range));
        }
        in_order(span, layout.usable)?;
        in_order(span, layout.set_aside)?;
        in_order(span, &[layout.scratch])?;

        let slot = |pfn: Pfn| (pfn.get() - span.start.get()) as u32;
        let scratch = slot(layout.scratch.start)..slot(layout.scratch.end());
        let mut memory = Box::new(Memory {
            place: 0,
            base: span.start,
            window,
            records: Records::new(meta, count),
            span: count,
            annexes: Annexes::new(count, records),
            scratch_area: scratch.clone(),
            scratch: FreeFrames::new(scratch.clone(), 0..0, false),
            normal: FreeFrames::new(0..count, scratch, true),
            total: 0,
            set_aside: Lock::new(Rank::SetAside, SetAside::new()),
            watermarks: Watermarks { min: 0, low: 0, high: 0 },
            lists: AtomicU32::new(0),
        });
        memory.fill(layout);
        Ok(memory)
    }

    /// Make the usable frames free, but for those set aside, which are noted.
    fn fill(&mut self, layout: &Layout<'_>) {
        let mut held = layout.set_aside.iter().copied().peekable();
        for &usable in layout.usable {
            self.total += usable.count;
            let mut from = usable.start;
            while let Some(&aside) = held.peek() {
                let here = aside.intersect(usable);
                if here.is_empty() && aside.start >= usable.end() {
                    break;
                }
                if !here.is_empty() {
                    self.lay(PfnRange::new(from, here.start));
                    self.set_aside.get_mut().push(here);
                    from = here.end();
                }
                if aside.end() > usable.end() {
                    break;
                }
                held.next();
            }
            self.lay(PfnRange::new(from, usable.end()));
        }
        self.normal.count(&self.records);
        // An eighth of a percent, and enough for one large batch of disk reads even in a tiny machine.
        let min = (self.total / 800).clamp(32, 2048) as u32;
        self.watermarks = Watermarks { min, low: min * 2, high: min * 3 };
    }

    /// Make `range` free, the whole sections of it that are not scratch without touching them.
    fn lay(&mut self, range: PfnRange) {
        let [below, within, above] = self.by_zone(self.slots(range));
        let [first, second] = [below, above].map(|part| self.records.leave(part));
        for part in first.into_iter().chain([within]).chain(second).filter(|part| !part.is_empty()) {
            self.records.open(part.clone());
            self.free_slots(part);
        }
    }
}

/// The records that a machine of this layout needs.
fn records_of(layout: &Layout<'_>) -> Result<u32, LayoutError> {
    let count = u32::try_from(layout.span.count).map_err(|_| LayoutError::Span)?;
    count.checked_add(layout.annex).ok_or(LayoutError::Span)
}
