//! Looks at frames in a map.

use super::index::{Bucket, Index};
use super::{FrameMap, Key, key_of};
use crate::addr::{Page, Pfn};
use crate::copy;
use crate::frame::Frame;
use crate::memory::Memory;
use crate::meta::FrameMeta;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering::Relaxed;

/// A look at a frame in a map.
#[derive(Clone, Copy)]
pub struct FrameRef<'a> {
    pub(super) memory: &'static Memory,
    pub(super) slot: u32,
    pub(super) life: PhantomData<&'a FrameMap>,
}

impl<'a> FrameRef<'a> {
    fn record(&self) -> &'static FrameMeta {
        &self.memory.meta()[self.slot as usize]
    }

    /// The frame's number.
    pub fn pfn(&self) -> Pfn {
        self.memory.pfn_of(self.slot)
    }

    /// Its key.
    pub fn key(&self) -> Key {
        key_of(self.record())
    }

    /// The order that it is in.
    pub fn order(&self) -> u16 {
        self.record().keeper.load(Relaxed) - 1
    }

    /// The bits that belong to the map's user.
    #[inline]
    pub fn private(&self) -> u16 {
        self.record().private.load(Relaxed)
    }

    /// Change those bits.
    #[inline]
    pub fn set_private(&self, bits: u16) {
        self.record().private.store(bits, Relaxed);
    }

    /// Copy its bytes; the way to read a frame that somebody else may write to.
    pub fn copy_to(&self, to: &mut Frame) {
        // SAFETY: the map owns this frame and is borrowed for as long as this value lives; `to` is a frame with another owner.
        unsafe { to.copy_page(self.memory.page(self.slot)) };
    }

    /// Copy its bytes from byte `at` on into `out`, as far as there are some.
    #[inline(always)]
    pub fn read(&self, at: usize, out: &mut [u8]) {
        // SAFETY: the map owns this frame and is borrowed, so nobody changes or frees it, and `out` is somebody else's.
        unsafe { copy::part(self.memory.page(self.slot), at, out) };
    }

    /// Its bytes.
    #[inline]
    pub fn bytes(&self) -> &'a Page {
        // SAFETY: the map owns the frame and is borrowed for `'a`, so nobody changes or frees it.
        unsafe { self.memory.page(self.slot).as_ref() }
    }
}

impl fmt::Debug for FrameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.pfn(), self.key())
    }
}

/// A frame in a map, to change its bytes. While it lives nobody reads them from beside the map.
#[derive(Debug)]
pub struct FrameMut<'a> {
    pub(super) memory: &'static Memory,
    pub(super) index: &'a Index,
    pub(super) bucket: Bucket,
    pub(super) slot: u32,
    pub(super) life: PhantomData<&'a mut FrameMap>,
}

impl FrameMut<'_> {
    /// The frame's number.
    pub fn pfn(&self) -> Pfn {
        self.memory.pfn_of(self.slot)
    }

    /// The order that it is in.
    #[inline]
    pub fn order(&self) -> u16 {
        self.memory.meta()[self.slot as usize].keeper.load(Relaxed) - 1
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Page {
        // SAFETY: the map owns the frame and is borrowed uniquely for as long as this value lives.
        unsafe { self.memory.page(self.slot).as_ref() }
    }

    /// Its bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut Page {
        // SAFETY: as above, and this value is borrowed uniquely.
        unsafe { self.memory.page(self.slot).as_mut() }
    }

    /// The bits that belong to the map's user.
    pub fn private(&self) -> u16 {
        self.memory.meta()[self.slot as usize].private.load(Relaxed)
    }

    /// Change those bits.
    pub fn set_private(&mut self, bits: u16) {
        self.memory.meta()[self.slot as usize].private.store(bits, Relaxed);
    }
}

impl Drop for FrameMut<'_> {
    #[inline]
    fn drop(&mut self) {
        self.index.end_change(self.bucket);
    }
}
