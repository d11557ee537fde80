//! Inter-VM shared memory (QEMU, docs/specs/ivshmem-spec): a PCI function whose third address range is memory of the host's.
//!
//! The plain kind has no interrupts, and its registers are of no use here. Frames that are no RAM of the memory map lie above all RAM,
//! and firmware puts the range below 4 GiB; so in a machine with RAM above that it is moved to the upper half of the
//! processor's addresses, where QEMU has nothing. A kernel that comes after a kexec finds it there.

use alloc::vec::Vec;
use frames::{FRAME_SIZE, Pfn, PfnRange, PhysAddr};
use virtio_drivers::transport::pci::bus::{BarInfo, Command, DeviceFunction, MemoryBarType};

use super::pci::{Bus, Root};
use crate::arch::cpu;
use crate::arch::paging::{WINDOW, WINDOW_END};

const VENDOR: u16 = 0x1af4;
const DEVICE: u16 = 0x1110;
/// The address range that is the memory.
const MEMORY_BAR: u8 = 2;

/// A piece of shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// The function.
    pub function: DeviceFunction,
    /// Where the guest sees the memory; empty if it has no place.
    pub range: PfnRange,
}

/// Every such function of the machine, its memory switched on. All RAM ends below `above`.
pub fn find(bus: &mut Bus, above: Pfn) -> Vec<Shared> {
    let mut found: Vec<Shared> = Vec::new();
    for (function, info) in &bus.functions {
        if (info.vendor_id, info.device_id) != (VENDOR, DEVICE) {
            continue;
        }
        let bar = bus.root.bar_info(*function, MEMORY_BAR).ok().flatten();
        // One of them is moved at most, and the first is the one that will be used.
        let moved =
            bar.as_ref().filter(|_| found.is_empty()).and_then(|bar| raise(&mut bus.root, *function, bar, above));
        let place = bar.and_then(|bar| bar.memory_address_size()).filter(|&(address, size)| {
            address != 0 && size.is_power_of_two() && address.is_multiple_of(FRAME_SIZE as u64)
        });
        let (address, size) = place.unwrap_or((0, 0));
        let address = moved.unwrap_or(address);
        bus.root.set_command(*function, Command::MEMORY_SPACE | Command::INTERRUPT_DISABLE);
        let range = PfnRange { start: PhysAddr::new(address).pfn(), count: size / FRAME_SIZE as u64 };
        found.push(Shared { function: *function, range });
    }
    found
}

/// Moves a range that does not lie above all RAM to where it does; where to. Behind a bridge it would not be seen there.
fn raise(root: &mut Root, function: DeviceFunction, bar: &BarInfo, above: Pfn) -> Option<u64> {
    let BarInfo::Memory { address_type: MemoryBarType::Width64, address, size, .. } = *bar else { return None };
    // Half of the addresses that the processor has (Intel SDM vol. 2, CPUID leaf 8000_0008), or that the window shows.
    let bits = (cpu::cpuid(0x8000_0008)?.eax & 0xff).min((WINDOW_END - WINDOW).ilog2());
    let upper = 1_u64.checked_shl(bits.checked_sub(1)?)?;
    let fits = upper >= above.addr().as_u64() && size.is_power_of_two() && size <= upper;
    if PhysAddr::new(address).pfn() >= above || function.bus != 0 || !fits {
        return None;
    }
    root.set_command(function, Command::INTERRUPT_DISABLE);
    root.set_bar_64(function, MEMORY_BAR, upper);
    Some(upper)
}
