//! The global descriptor table: one code segment, one data segment, and the task state that names the trap stacks. Each processor
//! has tables of its own.

use alloc::boxed::Box;

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use super::local;
use super::stacks::TrapStack;

/// The tables of one processor.
pub struct Tables {
    gdt: GlobalDescriptorTable,
    code: SegmentSelector,
    data: SegmentSelector,
    task: SegmentSelector,
}

static TASK: Once<TaskStateSegment> = Once::new();
static TABLES: Once<Tables> = Once::new();

/// Builds the boot processor's tables and points every segment register at them.
pub fn init() {
    let task = TASK.call_once(|| task_state(TrapStack::ALL.map(TrapStack::top)));
    load(TABLES.call_once(|| tables(task)), 0);
}

/// Tables for another processor, whose trap stacks begin at `tops`. They stay for good.
pub fn build(tops: [u64; 3]) -> &'static Tables {
    Box::leak(Box::new(tables(Box::leak(Box::new(task_state(tops))))))
}

fn task_state(tops: [u64; 3]) -> TaskStateSegment {
    let mut task = TaskStateSegment::new();
    for (stack, top) in TrapStack::ALL.into_iter().zip(tops) {
        task.interrupt_stack_table[stack as usize] = VirtAddr::new(top);
    }
    task
}

fn tables(task: &'static TaskStateSegment) -> Tables {
    let mut gdt = GlobalDescriptorTable::new();
    Tables {
        code: gdt.append(Descriptor::kernel_code_segment()),
        data: gdt.append(Descriptor::kernel_data_segment()),
        task: gdt.append(Descriptor::tss_segment(task)),
        gdt,
    }
}

/// Points the segment registers of this processor, which is to be called `number`, at tables that no other has loaded.
pub fn load(tables: &'static Tables, number: usize) {
    tables.gdt.load();
    // SAFETY: the selectors were made in the table that is now loaded: a 64-bit code segment, a data segment, and an available task
    // state segment, which would be a busy one if another processor had it. All of it is static, so nothing dangles later.
    unsafe {
        CS::set_reg(tables.code);
        SS::set_reg(tables.data);
        DS::set_reg(tables.data);
        ES::set_reg(tables.data);
        FS::set_reg(SegmentSelector::NULL);
        GS::set_reg(SegmentSelector::NULL);
        load_tss(tables.task);
    }
    local::set(number);
}
