//! The owned frame.

use crate::addr::{FRAME_SIZE, Page, Pfn};
use crate::memory::Memory;
use core::fmt;
use core::mem::ManuallyDrop;
use core::num::NonZeroU64;

const PFN_BITS: u32 = 48;

/// A frame's machine (16 bits) and number (48 bits). Frame 0 is never handed out, so that it is not zero.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Name(NonZeroU64);

impl Name {
    pub(crate) fn new(place: u16, pfn: Pfn) -> Self {
        let value = u64::from(place) << PFN_BITS | pfn.get();
        // `Memory` frees no frame 0, so the other case cannot come about; `MIN` spares the panic.
        Self(NonZeroU64::new(value).unwrap_or(NonZeroU64::MIN))
    }

    #[inline]
    pub(crate) fn memory(self) -> &'static Memory {
        Memory::at((self.0.get() >> PFN_BITS) as u16)
    }

    #[inline]
    pub(crate) fn pfn(self) -> Pfn {
        Pfn::new(self.0.get() & ((1 << PFN_BITS) - 1))
    }

    #[inline]
    pub(crate) fn slot(self) -> u32 {
        self.memory().slot(self.pfn())
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

    /// The machine that it is of.
    #[inline]
    pub fn memory(&self) -> &'static Memory {
        self.0.memory()
    }

    /// Its bytes.
    #[inline]
    pub fn bytes(&self) -> &Page {
        // SAFETY: this value is the frame's one owner, and it is borrowed.
        unsafe { self.memory().page(self.0.slot()).as_ref() }
    }

    /// Its bytes, to change.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut Page {
        // SAFETY: this value is the frame's one owner, and it is borrowed uniquely.
        unsafe { self.memory().page(self.0.slot()).as_mut() }
    }

    /// Set every byte to zero.
    pub fn zero(&mut self) {
        *self.bytes_mut() = [0; FRAME_SIZE];
    }

    /// Set every byte to those of `page`.
    #[inline]
    pub fn copy_from(&mut self, page: &Page) {
        self.bytes_mut().copy_from_slice(page);
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.memory().give(self.0.slot(), 0);
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:#x})", self.pfn().get())
    }
}
