//! The global descriptor table: one code segment, one data segment, and the task state that names the trap stacks.

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use super::stacks::TrapStack;

struct Tables {
    gdt: GlobalDescriptorTable,
    code: SegmentSelector,
    data: SegmentSelector,
    task: SegmentSelector,
}

static TASK: Once<TaskStateSegment> = Once::new();
static TABLES: Once<Tables> = Once::new();

/// Builds the tables and points every segment register at them.
pub fn init() {
    let task = TASK.call_once(|| {
        let mut task = TaskStateSegment::new();
        for stack in TrapStack::ALL {
            task.interrupt_stack_table[stack as usize] = VirtAddr::new(stack.top());
        }
        task
    });
    let tables = TABLES.call_once(|| {
        let mut gdt = GlobalDescriptorTable::new();
        Tables {
            code: gdt.append(Descriptor::kernel_code_segment()),
            data: gdt.append(Descriptor::kernel_data_segment()),
            task: gdt.append(Descriptor::tss_segment(task)),
            gdt,
        }
    });
    tables.gdt.load();
    // SAFETY: the selectors were just made in the table that is now loaded: a 64-bit code segment, a data segment, and
    // an available task state segment. All of it is static, so nothing dangles later.
    unsafe {
        CS::set_reg(tables.code);
        SS::set_reg(tables.data);
        DS::set_reg(tables.data);
        ES::set_reg(tables.data);
        FS::set_reg(SegmentSelector::NULL);
        GS::set_reg(SegmentSelector::NULL);
        load_tss(tables.task);
    }
}
