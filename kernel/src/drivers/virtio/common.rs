//! What crate `virtio-drivers` keeps to itself of a PCI function: the common configuration, for the vectors of interrupts, and the
//! registers by which a queue's owner tells the device of new buffers, with no lock but the queue's (virtio 1.2, 4.1.4).

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use frames::PhysAddr;
use virtio_drivers::transport::pci::bus::{BarInfo, DeviceFunction, PCI_CAP_ID_VNDR};
use virtio_drivers::transport::pci::{VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG};

use crate::arch::paging;
use crate::drivers::pci;

/// Offsets in a `virtio_pci_cap`; the last is only in the one for notifications.
const CAP_BAR: u8 = 4;
const CAP_OFFSET: u8 = 8;
const CAP_LENGTH: u8 = 12;
const CAP_MULTIPLIER: u8 = 16;
/// Registers of the common configuration, all 16 bits wide, and its length.
pub const CONFIG_VECTOR: usize = 0x10;
pub const QUEUE_VECTOR: usize = 0x1a;
const QUEUE_SELECT: usize = 0x16;
const QUEUE_NOTIFY_OFF: usize = 0x1e;
const COMMON_LEN: u64 = 0x38;
/// What a vector register answers when there is no such entry.
const NO_VECTOR: u16 = 0xffff;
/// A slot's register for notifications (virtio 1.2, 4.2.2).
const SLOT_NOTIFY: u64 = 0x50;

/// The registers of a device's common configuration.
#[derive(Clone, Copy, Debug)]
pub struct CommonConfig(NonNull<u8>);

// SAFETY: the address of device registers, which any processor may use; the device's owner uses them one access at a time.
unsafe impl Send for CommonConfig {}

impl CommonConfig {
    /// That of a function whose `bars` are mapped.
    pub fn find(root: &pci::Root, function: DeviceFunction, bars: &[Option<BarInfo>; 6]) -> Option<Self> {
        let found = structure(root, function, bars, VIRTIO_PCI_CAP_COMMON_CFG)?;
        (found.len >= COMMON_LEN && found.start.is_multiple_of(4))
            .then_some(Self(NonNull::new(found.start as *mut u8)?))
    }

    /// Chooses the queue that the queues' registers are about.
    pub fn select(self, queue: u16) {
        self.write(QUEUE_SELECT, queue);
    }

    /// Sets a vector register; whether the device accepts the entry.
    pub fn set_vector(self, register: usize, entry: u16) -> bool {
        self.write(register, entry);
        self.read(register) != NO_VECTOR
    }

    fn read(self, register: usize) -> u16 {
        // SAFETY: as in `write`.
        unsafe { self.0.byte_add(register).cast::<u16>().read_volatile() }
    }

    fn write(self, register: usize, value: u16) {
        // SAFETY: the structure lies in the function's own memory, which the window shows and which is as long as all
        // registers here reach (`find` checked); the registers are 16 bits wide and aligned.
        unsafe { self.0.byte_add(register).cast::<u16>().write_volatile(value) };
    }
}

/// Where the device is told of what is in a queue.
#[derive(Debug)]
pub struct Notifier {
    register: Register,
    queue: u16,
}

#[derive(Clone, Copy, Debug)]
enum Register {
    Half(NonNull<u16>),
    Word(NonNull<u32>),
}

// SAFETY: the address of a device register, which any processor may write to at any time.
unsafe impl Send for Notifier {}

impl Notifier {
    /// Tells the device that there is something new.
    pub fn notify(&self) {
        // The device must see the new index before it is told.
        fence(Ordering::SeqCst);
        // SAFETY: the register is the device's own, mapped (`Notifiers::of_queue`), and aligned; it takes the number of a queue.
        unsafe {
            match self.register {
                Register::Half(register) => register.write_volatile(self.queue),
                Register::Word(register) => register.write_volatile(u32::from(self.queue)),
            }
        }
    }
}

/// Where a device's notifiers are.
#[derive(Debug)]
pub enum Notifiers {
    /// In a structure of a PCI function, at a distance that each queue has.
    Function {
        /// Where each queue's is, in units of `multiplier`.
        common: CommonConfig,
        /// Where the window shows the structure, and its length.
        structure: (u64, u64),
        /// Bytes between two that follow one another.
        multiplier: u64,
    },
    /// In a slot at this physical address: one for all queues.
    Slot(u64),
}

impl Notifiers {
    /// Those of a function whose `bars` are mapped.
    pub fn of_function(root: &pci::Root, function: DeviceFunction, bars: &[Option<BarInfo>; 6]) -> Option<Self> {
        let found = structure(root, function, bars, VIRTIO_PCI_CAP_NOTIFY_CFG)?;
        let multiplier = u64::from(pci::read(function, found.capability.checked_add(CAP_MULTIPLIER)?));
        let common = CommonConfig::find(root, function, bars)?;
        Some(Self::Function { common, structure: (found.start, found.len), multiplier })
    }

    /// That of one queue.
    pub fn of_queue(&self, queue: u16) -> Option<Notifier> {
        let register = match *self {
            Self::Function { common, structure: (start, len), multiplier } => {
                common.select(queue);
                let offset = u64::from(common.read(QUEUE_NOTIFY_OFF)) * multiplier;
                let address = start + offset;
                let inside = offset + size_of::<u16>() as u64 <= len && address.is_multiple_of(2);
                Register::Half(NonNull::new(inside.then_some(address)? as *mut u16)?)
            }
            Self::Slot(address) => {
                let register = paging::window(PhysAddr::new(address + SLOT_NOTIFY))?;
                Register::Word(NonNull::new(register as *mut u32)?)
            }
        };
        Some(Notifier { register, queue })
    }
}

/// A structure of registers.
struct Structure {
    /// The capability that leads to it.
    capability: u8,
    /// Where the window shows it.
    start: u64,
    len: u64,
}

/// The first structure of a kind that a function has. Its `bars` are mapped.
fn structure(root: &pci::Root, function: DeviceFunction, bars: &[Option<BarInfo>; 6], kind: u8) -> Option<Structure> {
    let capability = pci::capabilities(root, function)
        .find(|found| found.id == PCI_CAP_ID_VNDR && (found.private_header >> 8) as u8 == kind)?
        .offset;
    let read = |field: u8| Some(pci::read(function, capability.checked_add(field)?));
    let (bar, offset, len) = (read(CAP_BAR)? as u8, u64::from(read(CAP_OFFSET)?), u64::from(read(CAP_LENGTH)?));
    let (address, size) = bars.get(usize::from(bar))?.as_ref()?.memory_address_size()?;
    if address == 0 || offset + len > size {
        return None;
    }
    Some(Structure { capability, start: paging::window(PhysAddr::new(address + offset))?, len })
}
