//! The owned frame.

use crate::addr::{Page, Pfn};
use crate::copy;
use crate::memory::{ALONE, Memory};
use core::fmt;
use core::mem::ManuallyDrop;
use core::num::NonZeroU64;
use core::ptr::NonNull;

const PLACE_SHIFT: u32 = 48;

/// A frame's machine (16 bits) and slot (32 bits), above a bit that is always set, so that no name is zero.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Name(NonZeroU64);

impl Name {
    #[inline]
    pub(crate) fn new(place: u16, slot: u32) -> Self {
        Self(NonZeroU64::MIN | (u64::from(place) << PLACE_SHIFT | u64::from(slot) << 1))
    }

    /// The machine's place in the table of machines.
    #[inline]
    pub(crate) fn place(self) -> u16 {
        if ALONE { 0 } else { (self.0.get() >> PLACE_SHIFT) as u16 }
    }

    #[inline]
    pub(crate) fn memory(self) -> &'static Memory {
        Memory::at(self.place())
    }

    #[inline]
    pub(crate) fn pfn(self) -> Pfn {
        self.memory().pfn_of(self.slot())
    }

    #[inline]
    pub(crate) fn slot(self) -> u32 {
        (self.0.get() >> 1) as u32
    }
}

/// One frame of memory, owned. Dropping it gives it back to its machine.
///
/// It is one word, and `Option<Frame>` is too.
pub struct Frame(Name);

impl Frame {
    /// The owner of the frame `name`. Whoever calls this has just ended another form of ownership of it.
    #[inline]
    pub(crate) fn own(name: Name) -> Self {
        Self(name)
    }

    /// Give up ownership without giving the frame back: the caller owns it in another form.
    #[inline]
    pub(crate) fn disown(self) -> Name {
        ManuallyDrop::new(self).0
    }

    /// The frame's number.
    #[inline]
    pub fn pfn(&self) -> Pfn {
        self.0.pfn()
    }

    /// Its slot.
    #[inline]
    pub(crate) fn slot(&self) -> u32 {
        self.0.slot()
    }

    /// Whether it is a frame of this machine.
    #[inline]
    pub(crate) fn is_of(&self, memory: &Memory) -> bool {
        self.0.place() == memory.place()
    }

    /// The machine that it is of.
    #[inline]
    pub fn memory(&self) -> &'static Memory {
        self.0.memory()
    }

    /// Its bytes.
    #[inline]
    pub fn bytes(&self) -> &Page {
        // SAFETY: this value is the frame's one owner, and it is borrowed.
        unsafe { self.page().as_ref() }
    }

    /// Its bytes, to change.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut Page {
        // SAFETY: this value is the frame's one owner, and it is borrowed uniquely.
        unsafe { self.page().as_mut() }
    }

    /// Set every byte to zero. Good for a frame that somebody else may write to, too.
    pub fn zero(&mut self) {
        // SAFETY: this value is the frame's one owner, and it is borrowed uniquely.
        unsafe { copy::zero(self.page()) };
    }

    /// Set every byte to those of `page`. Good for a frame that somebody else may write to, too.
    #[inline]
    pub fn copy_from(&mut self, page: &Page) {
        // SAFETY: both pages are borrowed, this one uniquely, so they are valid and do not overlap.
        unsafe { copy::page(NonNull::from(page), self.page()) };
    }

    /// Set every byte to those of another frame: the one way to read a frame that somebody else may write to (see
    /// [`Memory::annex`]), as no reference to its bytes is made.
    #[inline]
    pub fn copy_frame(&mut self, from: &Frame) {
        // SAFETY: the other frame's owner is borrowed, so its page is valid, and it is not this one.
        unsafe { self.copy_page(from.page()) };
    }

    /// Set every byte to those of another page.
    ///
    /// # Safety
    /// `from` is the page of another frame, whose owner is borrowed.
    #[inline]
    pub(crate) unsafe fn copy_page(&mut self, from: NonNull<Page>) {
        // SAFETY: this value is its frame's one owner, borrowed uniquely; the rest is the caller's promise.
        unsafe { copy::page(from, self.page()) };
    }

    #[inline]
    fn page(&self) -> NonNull<Page> {
        self.memory().page(self.0.slot())
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.memory().give_one(self.0.slot());
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:#x})", self.pfn().get())
    }
}
