//! Virtio: which devices there are, over PCI or over memory-mapped slots, and the drivers for them.

pub mod blk;
pub mod hal;

use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;

use frames::{FRAME_SIZE, Memory, Pfn, PfnRange, PhysAddr};
use log::{debug, warn};
use virtio_drivers::transport::mmio::{MmioError, MmioTransport, MmioVersion, VirtIOHeader};
use virtio_drivers::transport::pci::bus::{Command, DeviceFunction};
use virtio_drivers::transport::pci::{PciTransport, VirtioPciError, virtio_device_type};
use virtio_drivers::transport::{DeviceType, DeviceTypeError, SomeTransport, Transport};

use self::hal::GuestHal;
use crate::arch::paging::{self, PagingError};
use crate::cmdline::MmioSlot;
use crate::drivers::pci;

/// Where a device was found.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A PCI function.
    Pci(DeviceFunction),
    /// A slot of registers at a physical address.
    Mmio(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(function) => write!(f, "pci {function}"),
            Self::Mmio(address) => write!(f, "mmio {address:#x}"),
        }
    }
}

/// Why a device that is there is not used.
#[derive(Debug)]
pub enum ProbeError {
    /// Its PCI capabilities make no sense.
    Pci(VirtioPciError),
    /// Its capabilities form a circle.
    EndlessCapabilities,
    /// Its registers cannot be mapped.
    Unmappable(PagingError),
    /// The slot's registers are not those of a virtio device.
    Mmio(MmioError),
    /// The slot speaks the interface from before virtio 1.0.
    Legacy,
    /// The slot's addresses lie outside the range that machines keep for devices.
    BadSlot(MmioSlot),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(error) => error.fmt(f),
            Self::EndlessCapabilities => f.write_str("its PCI capabilities have no end"),
            Self::Unmappable(error) => write!(f, "its registers cannot be mapped: {error}"),
            Self::Mmio(error) => error.fmt(f),
            Self::Legacy => f.write_str("legacy interface; QEMU wants -global virtio-mmio.force-legacy=false"),
            Self::BadSlot(slot) => write!(f, "no device can have {} bytes at {:#x}", slot.size, slot.address),
        }
    }
}

impl core::error::Error for ProbeError {}

/// Every virtio device of the machine that answers. Those that do not are named in the log.
pub fn find(memory: &'static Memory, slots: impl Iterator<Item = MmioSlot>) -> Vec<(Place, SomeTransport<'static>)> {
    hal::init(memory);
    let mut found = Vec::new();
    let mut keep = |place, probed: Result<SomeTransport<'static>, ProbeError>| match probed {
        Ok(transport) => {
            debug!(target: "virtio", "{:?} at {place}", transport.device_type());
            found.push((place, transport));
        }
        Err(error) => warn!(target: "virtio", "device at {place} not used: {error}"),
    };
    let (mut root, functions) = pci::find();
    let has_pci = !functions.is_empty();
    for (function, info) in functions {
        if virtio_device_type(&info).is_some() {
            keep(Place::Pci(function), probe_pci(memory, &mut root, function));
        }
    }
    let mut announced = false;
    for slot in slots {
        announced = true;
        if let Some(probed) = probe_slot(slot).transpose() {
            keep(Place::Mmio(slot.address), probed);
        }
    }
    if !has_pci && !announced {
        for slot in usual_slots() {
            if let Ok(Some(transport)) = probe_slot(slot) {
                keep(Place::Mmio(slot.address), Ok(transport));
            }
        }
    }
    found
}

/// Where a microvm has its slots. With ACPI on, QEMU describes them in tables instead of words, which we do not read.
fn usual_slots() -> impl Iterator<Item = MmioSlot> {
    const SLOT: u64 = 0x200;
    (0..24).map(|index| MmioSlot { size: SLOT, address: 0xfeb0_0000 + index * SLOT, irq: 0 })
}

/// More capabilities than fit into a function's configuration space.
const MAX_CAPABILITIES: usize = 48;

fn probe_pci(
    memory: &'static Memory,
    root: &mut pci::Root,
    function: DeviceFunction,
) -> Result<SomeTransport<'static>, ProbeError> {
    if root.capabilities(function).take(MAX_CAPABILITIES).count() == MAX_CAPABILITIES {
        return Err(ProbeError::EndlessCapabilities);
    }
    let bars = root.bars(function).map_err(|error| ProbeError::Pci(error.into()))?;
    for (address, size) in bars.iter().flatten().filter_map(|bar| bar.memory_address_size()) {
        if address != 0 {
            map_registers(memory, address, size).map_err(ProbeError::Unmappable)?;
        }
    }
    // Completion is polled, so the device's interrupt line stays quiet.
    root.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE);
    PciTransport::new::<GuestHal, _>(root, function).map(SomeTransport::Pci).map_err(ProbeError::Pci)
}

/// Makes sure that the window shows a device's registers, wherever firmware put them.
fn map_registers(memory: &'static Memory, address: u64, size: u64) -> Result<(), PagingError> {
    let end = address.checked_add(size).ok_or(PagingError::BadAddress(address))?;
    let behind = PhysAddr::new(end.saturating_add(FRAME_SIZE as u64 - 1)).pfn();
    paging::show_registers(memory, PfnRange::new(PhysAddr::new(address).pfn(), behind))
}

/// Where slots may lie: above the RAM that machines put below 4 GiB, and below the interrupt controllers.
const SLOTS: PfnRange = PfnRange::new(Pfn::new(0xc_0000), Pfn::new(0xf_ec00));
/// Registers that every slot has, and the most configuration space that a device could want.
const SLOT_SIZES: core::ops::RangeInclusive<u64> = 0x100..=0x1000;

/// A slot may be empty: then there is no device and no error.
fn probe_slot(slot: MmioSlot) -> Result<Option<SomeTransport<'static>>, ProbeError> {
    let first = PhysAddr::new(slot.address).pfn();
    let end = slot.address.saturating_add(slot.size);
    let possible = SLOT_SIZES.contains(&slot.size)
        && slot.address.is_multiple_of(4)
        && SLOTS.contains(first)
        && SLOTS.contains(PhysAddr::new(end - 1).pfn());
    let header = paging::window(PhysAddr::new(slot.address))
        .filter(|_| possible)
        .and_then(|address| NonNull::new(address as *mut VirtIOHeader))
        .ok_or(ProbeError::BadSlot(slot))?;
    // SAFETY: the window maps the first 4 GiB, there is no RAM in the range that was just checked, and each slot is
    // probed once, so nothing else refers to these registers.
    match unsafe { MmioTransport::new(header, slot.size as usize) } {
        Ok(transport) if transport.version() == MmioVersion::Legacy => Err(ProbeError::Legacy),
        Ok(transport) => Ok(Some(SomeTransport::Mmio(transport))),
        Err(MmioError::InvalidDeviceID(DeviceTypeError::InvalidDeviceType(0))) => Ok(None),
        Err(error) => Err(ProbeError::Mmio(error)),
    }
}

/// The block devices among `devices`, ready for use; the others are dropped, which resets them.
pub fn disks(memory: &'static Memory, devices: Vec<(Place, SomeTransport<'static>)>) -> Vec<blk::Disk> {
    let mut disks = Vec::new();
    for (place, transport) in devices {
        if transport.device_type() != DeviceType::Block {
            continue;
        }
        match blk::Disk::new(memory, transport, disks.len(), place) {
            Ok(disk) => disks.push(disk),
            Err(error) => warn!(target: "virtio", "disk at {place} not used: {error}"),
        }
    }
    disks
}
