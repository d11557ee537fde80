//! The structures of the PVH entry protocol.
//!
//! The layouts are those of Xen's `public/arch-x86/hvm/start_info.h`. All fields are little-endian and all addresses
//! physical; `ebx` holds the address of [`StartInfo`] at the entry.

use crate::memmap::{MemoryRange, MemoryType};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `StartInfo::magic`: the letters `xEn3` with the high bit of the E set.
pub const START_INFO_MAGIC: u32 = 0x336e_c578;

/// The first version with a memory map in it, and the one that we write.
pub const START_INFO_VERSION: u32 = 1;

/// Type of the ELF note, owner [`NOTE_OWNER`], that holds the physical 32-bit entry address.
pub const NOTE_PHYS32_ENTRY: u64 = 18;

/// Owner of the ELF note that makes a file enterable by PVH.
pub const NOTE_OWNER: &[u8] = b"Xen";

/// `hvm_start_info`: what the boot stage is told. 56 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct StartInfo {
    /// [`START_INFO_MAGIC`].
    pub magic: U32,
    /// 0 or 1; the memory map exists from 1 on.
    pub version: U32,
    /// SIF_xxx flags; none concerns us.
    pub flags: U32,
    /// Number of entries behind `modlist_paddr`.
    pub nr_modules: U32,
    /// Address of an array of [`Module`].
    pub modlist_paddr: U64,
    /// Address of the NUL-terminated command line, or 0.
    pub cmdline_paddr: U64,
    /// Address of the ACPI RSDP, or 0.
    pub rsdp_paddr: U64,
    /// Address of an array of [`MemmapEntry`].
    pub memmap_paddr: U64,
    /// Number of entries behind `memmap_paddr`.
    pub memmap_entries: U32,
    /// Zero.
    pub reserved: U32,
}

/// `hvm_modlist_entry`: a file that was loaded along. 32 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Module {
    /// Where the module lies.
    pub paddr: U64,
    /// Its length in bytes.
    pub size: U64,
    /// Address of its NUL-terminated command line, or 0.
    pub cmdline_paddr: U64,
    /// Zero.
    pub reserved: U64,
}

/// `hvm_memmap_table_entry`: one range of the memory map. 24 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MemmapEntry {
    /// Where the range starts.
    pub addr: U64,
    /// Its length in bytes.
    pub size: U64,
    /// Its type, with the numbers of the E820 map.
    pub kind: U32,
    /// Zero.
    pub reserved: U32,
}

impl From<MemoryRange> for MemmapEntry {
    fn from(range: MemoryRange) -> MemmapEntry {
        MemmapEntry {
            addr: range.start.into(),
            size: range.end.saturating_sub(range.start).into(),
            kind: range.kind.0.into(),
            reserved: U32::ZERO,
        }
    }
}

impl MemmapEntry {
    /// The range that the entry describes, or `None` if it ends beyond 64 bits.
    pub fn range(&self) -> Option<MemoryRange> {
        Some(MemoryRange {
            start: self.addr.get(),
            end: self.addr.get().checked_add(self.size.get())?,
            kind: MemoryType(self.kind.get()),
        })
    }
}

const _: () = {
    assert!(size_of::<StartInfo>() == 56);
    assert!(size_of::<Module>() == 32);
    assert!(size_of::<MemmapEntry>() == 24);
};
