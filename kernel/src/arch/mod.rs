//! The processors: descriptor tables, traps, stacks, page tables, interrupt controllers and the time-stamp counter.
//!
//! Nothing outside this directory and `drivers/` executes a privileged instruction. What happens here at boot happens
//! once, on the boot processor, before anything else runs; the tables made then never change. What each processor has to itself
//! is made by the boot processor too, before it [starts](start) the other.

pub mod apic;
pub mod backtrace;
pub mod cpu;
pub mod idt;
pub mod image;
pub mod loan;
pub mod local;
pub mod paging;
pub mod segments;
pub mod stacks;
pub mod start;
pub mod trap;
pub mod tsc;

use bootloader_api::BootInfo;

use self::paging::PagingError;

/// Takes the processor over from the boot stage: our own segments, traps on stacks of their own, and a hole under every
/// stack. From here on a bug ends in a readable panic instead of a reset.
///
/// # Errors
/// If there is no hole under some stack; everything works without it, only a stack overflow does not show as one.
pub fn init(boot_info: &BootInfo) -> Result<(), PagingError> {
    segments::init();
    idt::init();
    stacks::init(boot_info.kernel_stack_bottom, boot_info.kernel_stack_len)
}
