//! Message-signalled interrupts (PCI Local Bus specification 3.0, 6.8.2): one message a function, to this processor.
//!
//! The table lies in one of the function's own address ranges, which has to be mapped before. Only entry 0 is used; what it
//! sends is [`VECTOR_DEVICES`], whose handler rings the [bell](super::attention).

use core::fmt;

use virtio_drivers::transport::pci::bus::{BarInfo, DeviceFunction};

use super::pci;
use crate::arch::apic;
use crate::arch::paging;
use crate::arch::trap::VECTOR_DEVICES;
use frames::PhysAddr;

/// The capability's id, and what lies where in it.
const CAPABILITY: u8 = 0x11;
const TABLE: u8 = 4;
const TABLE_BAR: u32 = 7;
/// Bits of the control word, which is the upper half of the capability's first register.
const ENABLE: u32 = 1 << 31;
const MASK_ALL: u32 = 1 << 30;
/// An entry: address, its upper half, data, vector control.
const ENTRY_LEN: u64 = 16;
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

/// Lets `function` send one message, to this processor. Its `bars` are mapped.
///
/// # Errors
/// [`MsixError`]; nothing has changed then.
pub fn enable(root: &pci::Root, function: DeviceFunction, bars: &[Option<BarInfo>; 6]) -> Result<(), MsixError> {
    let at = pci::capabilities(root, function).find(|found| found.id == CAPABILITY).ok_or(MsixError::Missing)?.offset;
    let place = pci::read(function, at.checked_add(TABLE).ok_or(MsixError::Missing)?);
    let (bar, offset) = (place & TABLE_BAR, u64::from(place & !TABLE_BAR));
    let entry = bars
        .get(bar as usize)
        .and_then(|found| found.as_ref()?.memory_address_size())
        .filter(|&(address, size)| address != 0 && offset + ENTRY_LEN <= size)
        .and_then(|(address, _)| paging::window(PhysAddr::new(address + offset)))
        .ok_or(MsixError::BadTable { bar, offset })? as *mut u32;
    let control = pci::read(function, at);
    pci::write(function, at, control | ENABLE | MASK_ALL);
    let message = [apic::message_address(), 0, u32::from(VECTOR_DEVICES), 0];
    // SAFETY: the entry is a register of this function, inside a range of its own that the window shows (both checked), and
    // nobody else writes there. It is masked while it is half written.
    unsafe {
        entry.add(3).write_volatile(ENTRY_MASKED);
        for (index, word) in message.into_iter().enumerate() {
            entry.add(index).write_volatile(word);
        }
    }
    pci::write(function, at, (control | ENABLE) & !MASK_ALL);
    Ok(())
}
