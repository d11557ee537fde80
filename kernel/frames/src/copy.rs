//! Copying and clearing pages.
//!
//! One string instruction each, which is the least that a processor takes (512 counted instructions for a page), and opaque to
//! the compiler: it may assume nothing of the bytes, so a page that a host changes meanwhile is merely copied as it is found.

use crate::addr::Page;
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

/// Copy bytes, fewer than eight of them.
///
/// # Safety
/// As for [`words`].
#[inline(never)]
unsafe fn bytes(from: NonNull<u8>, to: NonNull<u8>, count: usize) {
    for at in 0..count {
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

/// Copy bytes of a page, from byte `at` on, as many as `to` has; no more than there are. Others in this program may write to the page
/// meanwhile: what was copied is then no particular state of it.
///
/// # Safety
/// The page is memory for as long as the program runs, and `to` is no part of it.
#[inline(always)]
pub(crate) unsafe fn part(from: NonNull<Page>, at: usize, to: &mut [u8]) {
    let at = at.min(size_of::<Page>());
    let len = to.len().min(size_of::<Page>() - at);
    let to = NonNull::from(to).cast::<u8>();
    // SAFETY: `at` is within the page, or its end; both are valid for `len` bytes from there on, apart from each other (the caller's
    // promise, and `to` is borrowed). The bytes are read by instructions that the compiler knows nothing of, so it assumes nothing
    // of them.
    unsafe {
        let from = from.cast::<u8>().byte_add(at);
        words(from, to, len / 8);
        let rest = len % 8;
        if rest != 0 {
            bytes(from.byte_add(len - rest), to.byte_add(len - rest), rest);
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
