//! The boot info in memory, with the memory map that it points to.

use crate::machine::{self, pointer};
use boot::regions::{self, MAX_REGIONS};
use boot::scratch::{Bump, ScratchError};
use bootloader_api::BootInfo;
use bootloader_api::info::MemoryRegion;
use bootproto::memmap::MemoryMap;
use bootproto::{PAGE_SIZE, Span};
use core::mem::offset_of;

/// What lies in the pages.
#[repr(C)]
struct Content {
    boot_info: BootInfo,
    regions: [MemoryRegion; MAX_REGIONS],
}

/// Pages that a boot info will be written to, when it is known.
pub struct BootPages {
    physical: u64,
}

impl BootPages {
    /// How many bytes they are.
    pub const LEN: u64 = (size_of::<Content>() as u64).next_multiple_of(PAGE_SIZE);

    /// Allocates them.
    pub fn allocate(room: &mut Bump) -> Result<BootPages, ScratchError> {
        Ok(BootPages { physical: machine::zeroed(room, BootPages::LEN)? })
    }

    /// Where they are.
    pub fn span(&self) -> Span {
        Span { start: self.physical, len: BootPages::LEN }
    }

    /// Writes a boot info that the kernel will find at the address `at`, with the memory map of which the boot stage has
    /// `used` a part. `fill` sets all other fields. `None`, if the map has too many regions.
    pub fn write(self, at: u64, map: &MemoryMap, used: Span, fill: impl FnOnce(&mut BootInfo)) -> Option<()> {
        let content = pointer::<Content>(self.physical);
        // SAFETY: the pages were given to `self` alone, and are large and aligned enough. They are zeros, which are valid
        // regions.
        let regions = unsafe { &mut (*content).regions };
        let count = regions::write(map, used, regions)?;
        let regions_at = pointer::<MemoryRegion>(at.checked_add(offset_of!(Content, regions) as u64)?);
        // SAFETY: this is where the kernel finds the regions once its page tables are in use, and nobody follows the
        // reference before that.
        let regions: &'static mut [MemoryRegion] = unsafe { core::slice::from_raw_parts_mut(regions_at, count) };
        let mut boot_info = BootInfo::new(regions.into());
        fill(&mut boot_info);
        // SAFETY: as for the regions; the borrow of those has ended.
        unsafe { (&raw mut (*content).boot_info).write(boot_info) };
        Some(())
    }
}
