//! Copying and clearing pages.
//!
//! One string instruction each, which is the least that a processor takes (512 counted instructions for a page), and opaque to
//! the compiler: it may assume nothing of the bytes, so a page that a host changes meanwhile is merely copied as it is found.

use crate::addr::{FRAME_SIZE, Page};
use core::ptr::NonNull;

/// Copy words of 8 bytes.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of so many words, of any alignment, and they do not overlap. Others may write to
/// either meanwhile, if nothing in this program does.
#[inline(always)]
unsafe fn words(from: NonNull<u8>, to: NonNull<u8>, count: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise covers every byte; the direction flag is clear in Rust code, and nothing but the three registers
    // and the destination changes.
    unsafe {
        core::arch::asm!(
            "rep movsq",
            inout("rcx") count => _,
            inout("rsi") from.as_ptr() => _,
            inout("rdi") to.as_ptr() => _,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        to.copy_from_nonoverlapping(from, count * 8);
    }
}

/// Of `len` bytes copy those that do not make a word any more.
///
/// # Safety
/// As for [`words`], of `len` bytes.
#[cold]
unsafe fn last_bytes(from: NonNull<u8>, to: NonNull<u8>, len: usize) {
    for at in len - len % 8..len {
        // SAFETY: the caller's promise. A volatile access is one of its own.
        unsafe { to.byte_add(at).write(from.byte_add(at).read_volatile()) };
    }
}

/// Copy a page.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of a page, and they do not overlap. Others may write to either meanwhile,
/// if nothing in this program does.
#[inline]
pub(crate) unsafe fn page(from: NonNull<Page>, to: NonNull<Page>) {
    // SAFETY: the caller's promise.
    unsafe { words(from.cast(), to.cast(), size_of::<Page>() / 8) };
}

/// A part of a page, as somebody wants to read it: from where on, and into what, which is no longer than the rest of the page.
#[derive(Debug)]
pub struct PagePart<'a> {
    at: usize,
    out: &'a mut [u8],
}

impl<'a> PagePart<'a> {
    /// All of `out`, from byte `pos` of a file on; `None` when that is more than the rest of a page.
    #[inline(always)]
    pub fn all(pos: u64, out: &'a mut [u8]) -> Option<Self> {
        let at = pos as usize % FRAME_SIZE;
        (at + out.len() <= FRAME_SIZE).then_some(Self { at, out })
    }

    /// As much of the beginning of `out` as the page has from byte `pos` of its file on.
    pub fn first(pos: u64, out: &'a mut [u8]) -> Self {
        let at = pos as usize % FRAME_SIZE;
        let len = out.len().min(FRAME_SIZE - at);
        Self { at, out: &mut out[..len] }
    }

    /// How many bytes it has.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }
}

/// Copy a part of a page. Others in this program may write to the page meanwhile: what was copied is then no particular state of it.
///
/// # Safety
/// The page is memory for as long as the program runs, and what the part is copied into is no part of it.
#[inline(always)]
pub(crate) unsafe fn part(from: NonNull<Page>, to: &mut PagePart<'_>) {
    let (at, len) = (to.at, to.out.len());
    let to = NonNull::from(&mut *to.out).cast::<u8>();
    // SAFETY: both are valid for `len` bytes (a `PagePart` ends with its page) apart from each other (the caller's promise, and
    // `to` is borrowed). The bytes are read by instructions that the compiler knows nothing of, so it assumes nothing of them.
    unsafe {
        let from = from.cast::<u8>().byte_add(at);
        words(from, to, len / 8);
        if !len.is_multiple_of(8) {
            last_bytes(from, to, len);
        }
    }
}

/// Set every byte of a page to zero.
///
/// # Safety
/// `page` is valid for writes of a page. Others may write to it meanwhile, if nothing in this program does.
#[inline]
pub(crate) unsafe fn zero(page: NonNull<Page>) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `page`.
    unsafe {
        core::arch::asm!(
            "rep stosq",
            inout("rcx") size_of::<Page>() / 8 => _,
            inout("rdi") page.as_ptr() => _,
            in("rax") 0_u64,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        page.write_bytes(0, 1);
    }
}
