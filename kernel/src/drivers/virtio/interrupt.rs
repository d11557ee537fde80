//! How a virtio device calls: by a message, by a line to the I/O APIC, or not at all.
//!
//! QEMU's balloon and virtio-mem have no messages before version 9, so a PCI function's pin is what remains: firmware has led it to an
//! input below 16, whose number it wrote into the function's configuration space.
//! Crate `virtio-drivers` has no messages, so the two registers that choose them are found here from the function's
//! capabilities (virtio 1.2, 4.1.4.3). Disks are polled and use none of this.

use core::fmt;
use core::ptr::NonNull;

use frames::PhysAddr;
use log::info;
use virtio_drivers::transport::pci::VIRTIO_PCI_CAP_COMMON_CFG;
use virtio_drivers::transport::pci::bus::{BarInfo, DeviceFunction, PCI_CAP_ID_VNDR};

use crate::arch::{apic, paging};
use crate::drivers::msix::{self, MsixError};
use crate::drivers::{attention, pci};

/// Offsets in a `virtio_pci_cap`.
const CAP_BAR: u8 = 4;
const CAP_OFFSET: u8 = 8;
const CAP_LENGTH: u8 = 12;
/// Offsets in the common configuration, and what a register answers when there is no such entry.
const CONFIG_VECTOR: usize = 0x10;
const QUEUE_SELECT: usize = 0x16;
const QUEUE_VECTOR: usize = 0x1a;
const COMMON_LEN: u64 = 0x38;
const NO_VECTOR: u16 = 0xffff;

/// The one entry of the function's table that is used.
const ENTRY: u16 = 0;

/// What a device has for calling.
#[derive(Debug)]
pub enum Interrupt {
    /// A message, chosen in the common configuration at this address.
    Message(CommonConfig),
    /// A line that leads to this input of the I/O APIC.
    Line(u32),
    /// Nothing, for this reason.
    None(NoInterrupt),
}

/// The registers of a device's common configuration.
#[derive(Debug)]
pub struct CommonConfig(NonNull<u8>);

// SAFETY: the address of device registers, which any processor may use; the device's owner uses them one access at a time.
unsafe impl Send for CommonConfig {}

/// Why a device cannot call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoInterrupt {
    /// The function cannot send messages.
    Msix(MsixError),
    /// The common configuration is not where the function has memory.
    NoCommonConfig,
    /// The device does not accept the entry.
    Refused,
    /// Its line is unknown, or no input of the I/O APIC that we use.
    Line(u32),
}

impl fmt::Display for NoInterrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Msix(error) => error.fmt(f),
            Self::NoCommonConfig => f.write_str("its common configuration cannot be found"),
            Self::Refused => f.write_str("it does not accept an interrupt vector"),
            Self::Line(line) => write!(f, "interrupt line {line} leads nowhere"),
        }
    }
}

impl Interrupt {
    /// Prepares a PCI function, whose `bars` are mapped, for messages, or else for the use of its pin.
    pub fn of_function(root: &pci::Root, function: DeviceFunction, bars: &[Option<BarInfo>; 6]) -> Self {
        let prepared = common_config(root, function, bars)
            .ok_or(NoInterrupt::NoCommonConfig)
            .and_then(|common| msix::enable(root, function, bars).map(|()| common).map_err(NoInterrupt::Msix));
        match (prepared, pci::line(function)) {
            (Ok(common), _) => Self::Message(common),
            (Err(_), Some(line)) => Self::Line(line),
            (Err(reason), None) => Self::None(reason),
        }
    }

    /// Whether a PCI function needs its pin.
    pub fn uses_pin(&self) -> bool {
        matches!(self, Self::Line(_))
    }

    /// The line of a memory-mapped slot; 0 when nobody said which.
    pub fn of_line(line: u32) -> Self {
        if line == 0 { Self::None(NoInterrupt::Line(line)) } else { Self::Line(line) }
    }

    /// Lets the device call when its configuration changes and when it returns a buffer of one of `queues`. Where it cannot,
    /// it is said, and the device is polled. The device was just reset and does not run yet.
    pub fn attach(&self, name: &str, queues: &[u16]) {
        let attached = match self {
            Self::Message(common) => common.choose(queues),
            Self::Line(line) if apic::route(*line) => Ok(()),
            Self::Line(line) => Err(NoInterrupt::Line(*line)),
            Self::None(reason) => Err(*reason),
        };
        if let Err(reason) = attached {
            info!(target: "virtio", "{name}: no interrupt, so it is looked at between commands: {reason}");
            attention::poll();
        }
    }
}

impl CommonConfig {
    fn choose(&self, queues: &[u16]) -> Result<(), NoInterrupt> {
        let mut accepted = self.set(CONFIG_VECTOR);
        for &queue in queues {
            self.write(QUEUE_SELECT, queue);
            accepted &= self.set(QUEUE_VECTOR);
        }
        if accepted { Ok(()) } else { Err(NoInterrupt::Refused) }
    }

    fn set(&self, register: usize) -> bool {
        self.write(register, ENTRY);
        // SAFETY: as in `write`.
        let answer = unsafe { self.0.byte_add(register).cast::<u16>().read_volatile() };
        answer != NO_VECTOR
    }

    fn write(&self, register: usize, value: u16) {
        // SAFETY: the structure lies in the function's own memory, which the window shows and which is as long as all
        // registers here reach (`common_config` checked); the registers are 16 bits wide and aligned.
        unsafe { self.0.byte_add(register).cast::<u16>().write_volatile(value) };
    }
}

fn common_config(root: &pci::Root, function: DeviceFunction, bars: &[Option<BarInfo>; 6]) -> Option<CommonConfig> {
    let capability = pci::capabilities(root, function)
        .find(|found| found.id == PCI_CAP_ID_VNDR && (found.private_header >> 8) as u8 == VIRTIO_PCI_CAP_COMMON_CFG)?;
    let read = |field: u8| Some(pci::read(function, capability.offset.checked_add(field)?));
    let (bar, offset, length) = (read(CAP_BAR)? as u8, u64::from(read(CAP_OFFSET)?), u64::from(read(CAP_LENGTH)?));
    let (address, size) = bars.get(usize::from(bar))?.as_ref()?.memory_address_size()?;
    if address == 0 || length < COMMON_LEN || offset + length > size || !(address + offset).is_multiple_of(4) {
        return None;
    }
    let registers = paging::window(PhysAddr::new(address + offset))?;
    NonNull::new(registers as *mut u8).map(CommonConfig)
}
