//! The interrupt descriptor table: which stub each vector enters, and on which stack.
//!
//! All gates are interrupt gates, so a handler runs with interrupts off. Vectors without a gate are never programmed
//! into any device; one that comes nevertheless ends in a general protection fault.

use spin::Once;
use x86_64::VirtAddr;
use x86_64::structures::idt::{Entry, InterruptDescriptorTable};

use super::stacks::TrapStack;
use super::trap::{
    VECTOR_ALARM, VECTOR_CALL, VECTOR_DEVICES, VECTOR_DISKS, VECTOR_SERIAL, VECTOR_SPURIOUS, VECTOR_WAKE, entry,
    entry_with_code,
};

static TABLE: Once<InterruptDescriptorTable> = Once::new();

type Stub = unsafe extern "C" fn() -> !;

/// Points `gate` at `stub`, on the interrupted stack.
fn plain<F>(gate: &mut Entry<F>, stub: Stub) {
    // SAFETY: every stub is written for exactly this use: it saves what it touches and ends in iretq or never.
    unsafe { gate.set_handler_addr(VirtAddr::new(stub as *const () as u64)) };
}

/// Points `gate` at `stub`, on a stack of its own.
fn on_stack<F>(gate: &mut Entry<F>, stub: Stub, stack: TrapStack) {
    // SAFETY: as in `plain`; the task state segment names a mapped stack for this index, and traps of one kind do not
    // nest, because each of them ends the kernel.
    unsafe {
        gate.set_handler_addr(VirtAddr::new(stub as *const () as u64)).set_stack_index(stack as u16);
    }
}

/// Fills the table, if no processor has done so before, and loads it.
pub fn init() {
    let table = TABLE.call_once(|| {
        let mut table = InterruptDescriptorTable::new();
        plain(&mut table.divide_error, entry::<0>);
        plain(&mut table.debug, entry::<1>);
        on_stack(&mut table.non_maskable_interrupt, entry::<2>, TrapStack::Urgent);
        plain(&mut table.breakpoint, entry::<3>);
        plain(&mut table.overflow, entry::<4>);
        plain(&mut table.bound_range_exceeded, entry::<5>);
        plain(&mut table.invalid_opcode, entry::<6>);
        plain(&mut table.device_not_available, entry::<7>);
        on_stack(&mut table.double_fault, entry_with_code::<8>, TrapStack::DoubleFault);
        plain(&mut table.invalid_tss, entry_with_code::<10>);
        plain(&mut table.segment_not_present, entry_with_code::<11>);
        plain(&mut table.stack_segment_fault, entry_with_code::<12>);
        plain(&mut table.general_protection_fault, entry_with_code::<13>);
        on_stack(&mut table.page_fault, entry_with_code::<14>, TrapStack::PageFault);
        plain(&mut table.x87_floating_point, entry::<16>);
        plain(&mut table.alignment_check, entry_with_code::<17>);
        on_stack(&mut table.machine_check, entry::<18>, TrapStack::Urgent);
        plain(&mut table.simd_floating_point, entry::<19>);
        plain(&mut table.virtualization, entry::<20>);
        plain(&mut table.cp_protection_exception, entry_with_code::<21>);
        plain(&mut table.hv_injection_exception, entry::<28>);
        plain(&mut table.vmm_communication_exception, entry_with_code::<29>);
        plain(&mut table.security_exception, entry_with_code::<30>);
        plain(&mut table[VECTOR_SERIAL], entry::<VECTOR_SERIAL>);
        plain(&mut table[VECTOR_DEVICES], entry::<VECTOR_DEVICES>);
        plain(&mut table[VECTOR_ALARM], entry::<VECTOR_ALARM>);
        plain(&mut table[VECTOR_CALL], entry::<VECTOR_CALL>);
        plain(&mut table[VECTOR_WAKE], entry::<VECTOR_WAKE>);
        plain(&mut table[VECTOR_DISKS], entry::<VECTOR_DISKS>);
        plain(&mut table[VECTOR_SPURIOUS], entry::<VECTOR_SPURIOUS>);
        table
    });
    table.load();
}
