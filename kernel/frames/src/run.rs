//! Owned runs of consecutive frames: what a file's extent is made of.

use crate::addr::{Page, Pfn, PfnRange};
use crate::frame::{Frame, Name};
use crate::memory::Memory;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

/// One or more consecutive frames, owned. Dropping it gives all of them back.
pub struct FrameRun {
    first: Name,
    count: u32,
}

impl FrameRun {
    pub(crate) fn own(first: Name, count: u32) -> Self {
        Self { first, count }
    }

    /// The first frame's number.
    pub fn start(&self) -> Pfn {
        self.first.pfn()
    }

    /// The frames, by number.
    pub fn range(&self) -> PfnRange {
        PfnRange { start: self.start(), count: u64::from(self.count) }
    }

    /// How many frames, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a run is never empty")]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// The machine that they are of.
    pub fn memory(&self) -> &'static Memory {
        self.first.memory()
    }

    /// The bytes of frame `at`, counted from the run's first.
    ///
    /// # Panics
    /// When the run has no frame `at`.
    pub fn page(&self, at: usize) -> &Page {
        assert!(at < self.len(), "frame {at} of a run of {}", self.len());
        // SAFETY: the frame is one of this run's, which owns it and is borrowed.
        unsafe { self.memory().page(self.first.slot() + at as u32).as_ref() }
    }

    /// The bytes of frame `at`, to change.
    ///
    /// # Panics
    /// When the run has no frame `at`.
    pub fn page_mut(&mut self, at: usize) -> &mut Page {
        assert!(at < self.len(), "frame {at} of a run of {}", self.len());
        // SAFETY: the frame is one of this run's, which owns it and is borrowed uniquely.
        unsafe { self.memory().page(self.first.slot() + at as u32).as_mut() }
    }

    /// All bytes of the run.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the frames lie one after the other in the window, and this run owns them and is borrowed.
        unsafe { core::slice::from_raw_parts(self.as_ptr().as_ptr(), self.len() << crate::FRAME_SHIFT) }
    }

    /// All bytes of the run, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, borrowed uniquely.
        unsafe { core::slice::from_raw_parts_mut(self.as_ptr().as_ptr(), self.len() << crate::FRAME_SHIFT) }
    }

    /// Where the run's bytes begin. What may be done with the address is what may be done with the run.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.memory().page(self.first.slot()).cast()
    }

    /// The first `at` frames, and the others.
    ///
    /// # Panics
    /// When one of the two would be empty.
    pub fn split_at(self, at: usize) -> (FrameRun, FrameRun) {
        assert!(0 < at && at < self.len(), "a run of {} split at {at}", self.len());
        let run = ManuallyDrop::new(self);
        let (memory, slot) = (run.memory(), run.first.slot());
        let at = at as u32;
        (Self::own(run.first, at), Self::own(memory.name(slot + at), run.count - at))
    }

    /// Join `next` to the end of this run, or hand it back where it does not begin there.
    pub fn append(&mut self, next: FrameRun) -> Result<(), FrameRun> {
        let same = self.first.memory().place() == next.first.memory().place();
        // Frames of two annexes may be neighbours without their records being so.
        let adjacent =
            same && self.range().end() == next.start() && self.first.slot() + self.count == next.first.slot();
        match self.count.checked_add(next.count) {
            Some(count) if adjacent => {
                self.count = count;
                let _ = ManuallyDrop::new(next);
                Ok(())
            }
            _ => Err(next),
        }
    }

    /// The first frame as a run's only one, or the run again when it has more.
    pub fn into_frame(self) -> Result<Frame, FrameRun> {
        match self.count {
            1 => Ok(Frame::own(ManuallyDrop::new(self).first)),
            _ => Err(self),
        }
    }

    /// Give up the run without giving the frames back; [`FrameRun::from_range`] makes a run of them again.
    pub fn into_range(self) -> PfnRange {
        ManuallyDrop::new(self).range()
    }

    /// The owner of `range` again.
    ///
    /// # Safety
    /// `range` is (part of) what [`FrameRun::into_range`] of a run of `memory` gave, or lies in one [annex](Memory::annex) and is
    /// memory, valid at its distance from the window for as long as the frames are used. Each frame of it is made a run once,
    /// and nothing refers to its bytes any more. If somebody else may write to the memory, its bytes are never borrowed: pages go in
    /// and out by [`Frame::copy_from`] and [`Frame::copy_frame`] alone.
    pub unsafe fn from_range(memory: &'static Memory, range: PfnRange) -> FrameRun {
        Self::own(memory.name(memory.slot(range.start)), range.count as u32)
    }
}

impl From<Frame> for FrameRun {
    fn from(frame: Frame) -> Self {
        Self::own(frame.disown(), 1)
    }
}

/// The frames one by one; those not taken are given back.
impl IntoIterator for FrameRun {
    type Item = Frame;
    type IntoIter = IntoFrames;

    fn into_iter(self) -> IntoFrames {
        IntoFrames(Some(self))
    }
}

/// The frames of a run, one by one.
#[derive(Debug)]
pub struct IntoFrames(Option<FrameRun>);

impl Iterator for IntoFrames {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        match self.0.take()?.into_frame() {
            Ok(last) => Some(last),
            Err(run) => {
                let (first, rest) = run.split_at(1);
                self.0 = Some(rest);
                first.into_frame().ok()
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.0.as_ref().map_or(0, FrameRun::len);
        (len, Some(len))
    }
}

impl Drop for FrameRun {
    fn drop(&mut self) {
        let slot = self.first.slot();
        self.memory().give_slots(slot..slot + self.count);
    }
}

impl fmt::Debug for FrameRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameRun({:#x} + {})", self.start().get(), self.count)
    }
}
