//! The kernel image in memory. This is the only file that names symbols of the linker script.

use core::ops::Range;

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
}

/// Addresses of the kernel's code.
pub fn code() -> Range<u64> {
    (&raw const __text_start) as u64..(&raw const __text_end) as u64
}

/// Whether `address` lies in the kernel's code.
pub fn is_code(address: u64) -> bool {
    code().contains(&address)
}
