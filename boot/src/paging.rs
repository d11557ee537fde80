//! The kernel's page tables.
//!
//! They are built in the scratch area, one table a page, and describe a virtual range in the largest pages that fit.

use crate::machine;
use boot::scratch::{Bump, ScratchError};
use bootproto::{PAGE_SIZE, Span};
use x86_64::PhysAddr;
use x86_64::structures::paging::{PageTable, PageTableFlags};

/// What a page may be used for. No page is writable and executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Constant,
    /// Reading and executing.
    Code,
    /// Reading and writing.
    Data,
    /// Reading and writing past the caches: devices.
    Device,
}

impl Access {
    /// The access that a kernel segment's rights amount to.
    pub fn new(writable: bool, executable: bool) -> Access {
        match (writable, executable) {
            (true, _) => Access::Data,
            (false, true) => Access::Code,
            (false, false) => Access::Constant,
        }
    }

    fn flags(self) -> PageTableFlags {
        let rights = match self {
            Access::Constant => PageTableFlags::NO_EXECUTE,
            Access::Code => PageTableFlags::empty(),
            Access::Data => PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE,
            Access::Device => {
                PageTableFlags::WRITABLE
                    | PageTableFlags::NO_EXECUTE
                    | PageTableFlags::NO_CACHE
                    | PageTableFlags::WRITE_THROUGH
            }
        };
        PageTableFlags::PRESENT | rights
    }
}

/// Rights in the upper levels, which only ever take away.
const TABLE_FLAGS: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);

/// A set of page tables under construction.
pub struct Tables {
    root: u64,
}

impl Tables {
    /// Tables that map nothing.
    pub fn new(room: &mut Bump) -> Result<Tables, ScratchError> {
        Ok(Tables { root: new_table(room)? })
    }

    /// The physical address of the top table.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Maps `physical` at the virtual address `start`. Both are whole pages, and nothing is mapped there.
    pub fn map(&mut self, room: &mut Bump, start: u64, physical: Span, access: Access) -> Result<(), ScratchError> {
        map_in(self.root, 4, room, Span { start, len: physical.len }, physical.start, access.flags())
    }
}

/// Maps `virt` in the table at `table` of level `level` (4 is the top), which covers all of it.
fn map_in(
    table: u64,
    level: u32,
    room: &mut Bump,
    virt: Span,
    mut physical: u64,
    flags: PageTableFlags,
) -> Result<(), ScratchError> {
    let shift = 12 + 9 * (level - 1);
    let entry_size = 1 << shift;
    // SAFETY: `table` came from `new_table` and is not part of any other live reference: the levels above hold
    // references to other pages.
    let table = unsafe { &mut *machine::pointer::<PageTable>(table) };

    let (mut at, mut left) = (virt.start, virt.len);
    while left > 0 {
        let here = (entry_size - at % entry_size).min(left);
        let entry = &mut table[(at >> shift) as usize % 512];
        let whole = here == entry_size && physical.is_multiple_of(entry_size);
        match level {
            1 => entry.set_addr(PhysAddr::new_truncate(physical), flags),
            2 if whole => entry.set_addr(PhysAddr::new_truncate(physical), flags | PageTableFlags::HUGE_PAGE),
            _ => {
                if entry.is_unused() {
                    entry.set_addr(PhysAddr::new_truncate(new_table(room)?), TABLE_FLAGS);
                }
                let below = entry.addr().as_u64();
                map_in(below, level - 1, room, Span { start: at, len: here }, physical, flags)?;
            }
        }
        at = at.wrapping_add(here);
        physical += here;
        left -= here;
    }
    Ok(())
}

fn new_table(room: &mut Bump) -> Result<u64, ScratchError> {
    machine::zeroed(room, PAGE_SIZE)
}
