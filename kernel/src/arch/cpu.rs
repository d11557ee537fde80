//! Single instructions with a name: the interrupt flag, halting, and the registers a panic wants to show.

use x86_64::registers::control::{Cr2, Cr3};

pub use x86_64::instructions::interrupts::{
    are_enabled as are_interrupts_enabled, disable as disable_interrupts, enable as enable_interrupts,
    enable_and_hlt as enable_interrupts_and_halt, without_interrupts,
};

/// Stops this processor for good.
pub fn halt_forever() -> ! {
    loop {
        disable_interrupts();
        x86_64::instructions::hlt();
    }
}

/// The address whose access caused the latest page fault.
pub fn fault_address() -> u64 {
    Cr2::read_raw()
}

/// The physical address of the top-level page table in use.
pub fn page_table_root() -> u64 {
    Cr3::read().0.start_address().as_u64()
}

/// Answers of one CPUID leaf, or `None` if the processor knows no such leaf in its range (basic, hypervisor, extended).
pub fn cpuid(leaf: u32) -> Option<core::arch::x86_64::CpuidResult> {
    let range = leaf & 0xf000_0000;
    let highest = core::arch::x86_64::__cpuid(range).eax;
    (highest >= leaf && highest & 0xf000_0000 == range).then(|| core::arch::x86_64::__cpuid(leaf))
}

/// A number that nobody outside can guess, from the processor's generator; on a processor without one, from the time-stamp
/// counter, which is better than nothing.
pub fn random() -> u64 {
    const TRIES: usize = 16;
    let generator = x86_64::instructions::random::RdRand::new();
    let number = generator.and_then(|generator| (0..TRIES).find_map(|_| generator.get_u64()));
    number.unwrap_or_else(|| super::tsc::now().wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32))
}
