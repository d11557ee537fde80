//! Virtio: which devices there are, over PCI or over memory-mapped slots, and the drivers for them.

pub mod balloon;
pub mod blk;
mod common;
pub mod hal;
pub mod interrupt;
pub mod mem;
pub mod port;
pub mod queue;

use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;

use frames::{FRAME_SIZE, Memory, Pfn, PfnRange, PhysAddr};
use log::{debug, warn};
use virtio_drivers::transport::mmio::{MmioError, MmioTransport, MmioVersion, VirtIOHeader};
use virtio_drivers::transport::pci::bus::{BarInfo, Command, DeviceFunction};
use virtio_drivers::transport::pci::{PciTransport, VirtioPciError, virtio_device_type};
use virtio_drivers::transport::{DeviceType, DeviceTypeError, SomeTransport, Transport};

use self::common::Notifiers;
use self::hal::GuestHal;
use self::interrupt::Interrupt;
use crate::arch::paging::{self, PagingError};
use crate::cmdline::MmioSlot;
use crate::drivers::pci::{self, Bus};
use crate::drivers::stop::{self, Status};

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

/// A device that answers.
#[derive(Debug)]
pub struct Found {
    /// Where.
    pub place: Place,
    /// Its registers.
    pub transport: SomeTransport<'static>,
    /// How it can call.
    pub interrupt: Interrupt,
    /// Where it is told of new buffers, for drivers that do so by themselves.
    pub notifiers: Option<Notifiers>,
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
    /// It could not be stopped when that is needed: there are too many, or it does not say where its status is.
    Unstoppable,
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
            Self::Unstoppable => f.write_str("there is no way to stop it in an emergency"),
            Self::BadSlot(slot) => write!(f, "no device can have {} bytes at {:#x}", slot.size, slot.address),
        }
    }
}

impl core::error::Error for ProbeError {}

/// Every virtio device of the machine that answers. Those that do not are named in the log.
pub fn find(memory: &'static Memory, pci: &mut Bus, slots: impl Iterator<Item = MmioSlot>) -> Vec<Found> {
    hal::init(memory);
    let mut found = Vec::new();
    let mut keep = |place, probed: Result<Probed, ProbeError>| match probed {
        Ok((transport, interrupt, notifiers)) => {
            debug!(target: "virtio", "{:?} at {place}", transport.device_type());
            found.push(Found { place, transport, interrupt, notifiers });
        }
        Err(error) => warn!(target: "virtio", "device at {place} not used: {error}"),
    };
    for (function, info) in &pci.functions {
        if let Some(kind) = virtio_device_type(info) {
            keep(Place::Pci(*function), probe_pci(memory, &mut pci.root, *function, kind));
        }
    }
    let mut announced = false;
    for slot in slots {
        announced = true;
        if let Some(probed) = probe_slot(slot).transpose() {
            keep(Place::Mmio(slot.address), probed.map(|transport| in_slot(slot, transport)));
        }
    }
    if pci.functions.is_empty() && !announced {
        for slot in usual_slots() {
            if let Ok(Some(transport)) = probe_slot(slot) {
                keep(Place::Mmio(slot.address), Ok(in_slot(slot, transport)));
            }
        }
    }
    found
}

type Probed = (SomeTransport<'static>, Interrupt, Option<Notifiers>);

fn in_slot(slot: MmioSlot, transport: SomeTransport<'static>) -> Probed {
    (transport, Interrupt::of_line(slot.irq), Some(Notifiers::Slot(slot.address)))
}

/// Takes the devices of one kind out of `devices`.
pub fn take(devices: &mut Vec<Found>, kind: DeviceType) -> Vec<Found> {
    let (these, others) = core::mem::take(devices).into_iter().partition(|found| found.transport.device_type() == kind);
    *devices = others;
    these
}

/// Where a microvm has its slots. With ACPI on, QEMU describes them in tables instead of words, which we do not read.
fn usual_slots() -> impl Iterator<Item = MmioSlot> {
    const SLOT: u64 = 0x200;
    // With ACPI there is a second I/O APIC, whose inputs the slots have.
    (0..24).map(|index| MmioSlot { size: SLOT, address: 0xfeb0_0000 + index * SLOT, irq: 24 + index as u32 })
}

fn probe_pci(
    memory: &'static Memory,
    root: &mut pci::Root,
    function: DeviceFunction,
    kind: DeviceType,
) -> Result<Probed, ProbeError> {
    if pci::capabilities(root, function).count() == pci::MAX_CAPABILITIES {
        return Err(ProbeError::EndlessCapabilities);
    }
    let bars = root.bars(function).map_err(|error| ProbeError::Pci(error.into()))?;
    for (address, size) in bars.iter().flatten().filter_map(|bar| bar.memory_address_size()) {
        if address != 0 {
            map_registers(memory, address, size).map_err(ProbeError::Unmappable)?;
        }
    }
    let status = status_register(root, function, &bars).ok_or(ProbeError::Unstoppable)?;
    if !stop::note(Status::Byte(status)) {
        return Err(ProbeError::Unstoppable);
    }
    // Disks send messages or are polled, so their interrupt pin stays quiet.
    let quiet = Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE;
    root.set_command(function, quiet);
    let transport =
        PciTransport::new::<GuestHal, _>(root, function).map(SomeTransport::Pci).map_err(ProbeError::Pci)?;
    let interrupt = match kind {
        DeviceType::MemoryBalloon | DeviceType::Memory => Interrupt::of_function(root, function, &bars),
        DeviceType::Block => Interrupt::by_message(root, function, &bars),
        _ => Interrupt::of_line(0),
    };
    if interrupt.uses_pin() {
        root.set_command(function, quiet - Command::INTERRUPT_DISABLE);
    }
    Ok((transport, interrupt, Notifiers::of_function(root, function, &bars)))
}

/// Where a function's status register is: in the common configuration, to which the first capability of that kind leads
/// (virtio 1.2, 4.1.4).
fn status_register(root: &pci::Root, function: DeviceFunction, bars: &[Option<BarInfo>; 6]) -> Option<u64> {
    const VENDOR: u8 = 9;
    const COMMON: u8 = 1;
    const BAR: u8 = 4;
    const OFFSET: u8 = 8;
    const DEVICE_STATUS: u64 = 0x14;

    let common = pci::capabilities(root, function)
        .find(|capability| capability.id == VENDOR && capability.private_header.to_le_bytes()[1] == COMMON)?;
    let word = |at: u8| Some(pci::read(function, common.offset.checked_add(at)?));
    let [bar, ..] = word(BAR)?.to_le_bytes();
    let offset = u64::from(word(OFFSET)?).checked_add(DEVICE_STATUS)?;
    let (address, size) = bars.get(usize::from(bar))?.as_ref()?.memory_address_size()?;
    (address != 0 && offset < size).then_some(address.checked_add(offset)?)
}

/// Makes sure that the window shows a device's registers, wherever firmware put them.
fn map_registers(memory: &'static Memory, address: u64, size: u64) -> Result<(), PagingError> {
    let end = address.checked_add(size).ok_or(PagingError::BadAddress(address))?;
    let behind = PhysAddr::new(end.saturating_add(FRAME_SIZE as u64 - 1)).pfn();
    paging::show_registers(memory, PfnRange::new(PhysAddr::new(address).pfn(), behind))
}

/// Where slots may lie: above the RAM that machines put below 4 GiB, and below the interrupt controllers.
const SLOTS: PfnRange = PfnRange::new(Pfn::new(0xc_0000), Pfn::new(0xf_ec00));
/// Where a slot has its status register (virtio 1.2, 4.2.2).
const SLOT_STATUS: u64 = 0x70;
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
        Ok(_) if !stop::note(Status::Word(slot.address + SLOT_STATUS)) => Err(ProbeError::Unstoppable),
        Ok(transport) => Ok(Some(SomeTransport::Mmio(transport))),
        Err(MmioError::InvalidDeviceID(DeviceTypeError::InvalidDeviceType(0))) => Ok(None),
        Err(error) => Err(ProbeError::Mmio(error)),
    }
}

/// The block devices among `devices`, ready for use by so many `processors`.
pub fn disks(memory: &'static Memory, devices: &mut Vec<Found>, processors: usize) -> Vec<blk::Disk> {
    let mut disks = Vec::new();
    for found in take(devices, DeviceType::Block) {
        let place = found.place;
        match blk::Disk::new(memory, found, disks.len(), processors) {
            Ok(disk) => disks.push(disk),
            Err(error) => warn!(target: "virtio", "disk at {place} not used: {error}"),
        }
    }
    disks
}
