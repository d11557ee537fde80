//! Inter-VM shared memory (QEMU, docs/specs/ivshmem-spec): a PCI function whose third address range is memory of the host's.
//!
//! The plain kind has no interrupts, and its registers are of no use here.

use alloc::vec::Vec;
use frames::{FRAME_SIZE, PfnRange, PhysAddr};
use virtio_drivers::transport::pci::bus::{Command, DeviceFunction};

use super::pci::Bus;

const VENDOR: u16 = 0x1af4;
const DEVICE: u16 = 0x1110;
/// The address range that is the memory.
const MEMORY_BAR: u8 = 2;

/// A piece of shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// The function.
    pub function: DeviceFunction,
    /// Where the guest sees the memory; empty if firmware gave it no place.
    pub range: PfnRange,
}

/// Every such function of the machine, its memory switched on.
pub fn find(bus: &mut Bus) -> Vec<Shared> {
    let mut found = Vec::new();
    for (function, info) in &bus.functions {
        if (info.vendor_id, info.device_id) != (VENDOR, DEVICE) {
            continue;
        }
        let bar = bus.root.bar_info(*function, MEMORY_BAR).ok().flatten();
        let place = bar.and_then(|bar| bar.memory_address_size()).filter(|&(address, size)| {
            address != 0 && size.is_power_of_two() && address.is_multiple_of(FRAME_SIZE as u64)
        });
        let (address, size) = place.unwrap_or((0, 0));
        bus.root.set_command(*function, Command::MEMORY_SPACE | Command::INTERRUPT_DISABLE);
        let range = PfnRange { start: PhysAddr::new(address).pfn(), count: size / FRAME_SIZE as u64 };
        found.push(Shared { function: *function, range });
    }
    found
}
