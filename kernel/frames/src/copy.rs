//! Copying and clearing pages.
//!
//! One string instruction each, which is the least that a processor takes (512 counted instructions for a page), and opaque to
//! the compiler: it may assume nothing of the bytes, so a page that a host changes meanwhile is merely copied as it is found.

use crate::addr::Page;
use core::ptr::NonNull;

/// Copy a page.
///
/// # Safety
/// `from` is valid for reads and `to` for writes of a page, and they do not overlap. Others may write to either meanwhile,
/// if nothing in this program does.
#[inline]
pub(crate) unsafe fn page(from: NonNull<Page>, to: NonNull<Page>) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise covers every byte; pages are aligned to 8, the direction flag is clear in Rust code, and
    // nothing but the three registers and the destination changes.
    unsafe {
        core::arch::asm!(
            "rep movsq",
            inout("rcx") size_of::<Page>() / 8 => _,
            inout("rsi") from.as_ptr() => _,
            inout("rdi") to.as_ptr() => _,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        to.copy_from_nonoverlapping(from, 1);
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
