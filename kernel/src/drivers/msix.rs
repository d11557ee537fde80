//! Message-signalled interrupts (PCI Local Bus specification 3.0, 6.8.2): a table of messages, each led to a processor and a vector.
//!
//! The table lies in one of the function's own address ranges, which has to be mapped before. An entry sends nothing before it is
//! led somewhere.

use core::fmt;
use core::ptr::NonNull;

use frames::PhysAddr;
use virtio_drivers::transport::pci::bus::{BarInfo, DeviceFunction};

use super::pci;
use crate::arch::apic;
use crate::arch::paging;

/// The capability's id, and what lies where in it.
const CAPABILITY: u8 = 0x11;
const TABLE: u8 = 4;
const TABLE_BAR: u32 = 7;
/// Bits of the control word, which is the upper half of the capability's first register.
const ENABLE: u32 = 1 << 31;
const MASK_ALL: u32 = 1 << 30;
/// How many entries there are, less one.
const SIZE_AT: u32 = 16;
const SIZE: u32 = 0x7ff;
/// An entry: address, its upper half, data, vector control.
const ENTRY_WORDS: usize = 4;
const ENTRY_LEN: u64 = 16;
const CONTROL: usize = 3;
const ENTRY_MASKED: u32 = 1;

/// Why a function cannot send messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsixError {
    /// It has no such capability.
    Missing,
    /// Its table is not in memory that the function has.
    BadTable {
        /// Which of the function's address ranges.
        bar: u32,
        /// Where in it.
        offset: u64,
    },
}

impl fmt::Display for MsixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it has no MSI-X capability"),
            Self::BadTable { bar, offset } => write!(f, "its MSI-X table is said to be at {offset:#x} of BAR {bar}"),
        }
    }
}

impl core::error::Error for MsixError {}

/// A function's table of messages.
#[derive(Debug)]
pub struct Table {
    entries: NonNull<u32>,
    len: u16,
}

// SAFETY: the address of device registers, which any processor may use; the table's owner uses them one access at a time.
unsafe impl Send for Table {}

/// Lets `function` send messages, of which none leads anywhere yet. Its `bars` are mapped.
///
/// # Errors
/// [`MsixError`]; nothing has changed then.
pub fn enable(root: &pci::Root, function: DeviceFunction, bars: &[Option<BarInfo>; 6]) -> Result<Table, MsixError> {
    let at = pci::capabilities(root, function).find(|found| found.id == CAPABILITY).ok_or(MsixError::Missing)?.offset;
    let place = pci::read(function, at.checked_add(TABLE).ok_or(MsixError::Missing)?);
    let (bar, offset) = (place & TABLE_BAR, u64::from(place & !TABLE_BAR));
    let control = pci::read(function, at);
    let len = (control >> SIZE_AT & SIZE) as u16 + 1;
    let entries = bars
        .get(bar as usize)
        .and_then(|found| found.as_ref()?.memory_address_size())
        .filter(|&(address, size)| address != 0 && offset + u64::from(len) * ENTRY_LEN <= size)
        .and_then(|(address, _)| paging::window(PhysAddr::new(address + offset)))
        .and_then(|address| NonNull::new(address as *mut u32))
        .ok_or(MsixError::BadTable { bar, offset })?;
    let table = Table { entries, len };
    pci::write(function, at, control | ENABLE | MASK_ALL);
    (0..len).for_each(|entry| table.write(entry, CONTROL, ENTRY_MASKED));
    pci::write(function, at, (control | ENABLE) & !MASK_ALL);
    Ok(table)
}

impl Table {
    /// Whether there is such an entry.
    pub fn has(&self, entry: u16) -> bool {
        entry < self.len
    }

    /// Leads the message of an entry to the processor whose local APIC has this id. It is masked while it is half written.
    pub fn lead(&self, entry: u16, to: u8, vector: u8) {
        let message = [apic::message_address(to), 0, u32::from(vector)];
        self.write(entry, CONTROL, ENTRY_MASKED);
        for (index, word) in message.into_iter().enumerate() {
            self.write(entry, index, word);
        }
        self.write(entry, CONTROL, 0);
    }

    fn write(&self, entry: u16, word: usize, value: u32) {
        let at = usize::from(entry.min(self.len - 1)) * ENTRY_WORDS + word;
        // SAFETY: the entry is a register of this function, inside a range of its own that the window shows (both checked by
        // `enable`), and nobody else writes there.
        unsafe { self.entries.add(at).write_volatile(value) };
    }
}
