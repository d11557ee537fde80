//! PCI configuration space through the ports of the old mechanism, and the list of what is plugged in.
//!
//! Firmware (SeaBIOS on q35) has numbered the buses and assigned the addresses before the boot stage ran; this only reads
//! them. A machine without PCI (microvm) answers every read with ones.

use alloc::vec::Vec;
use virtio_drivers::transport::pci::bus::{
    CapabilityInfo, ConfigurationAccess, DeviceFunction, DeviceFunctionInfo, HeaderType, PciRoot,
};
use x86_64::instructions::port::Port;

/// Offset of the bus numbers in a bridge's header: primary, secondary, subordinate, latency.
const BRIDGE_BUSES: u8 = 0x18;

/// Offset of the interrupt line and pin, and the line of a pin that leads nowhere.
const INTERRUPT: u8 = 0x3c;
const NO_LINE: u8 = 0xff;

/// Configuration access mechanism 1 (PCI Local Bus specification 3.0, 3.2.2.3.2): an address port and a data port.
#[derive(Debug)]
pub struct ConfigPorts(());

/// The machine's PCI root. There is one pair of ports, so there is one root: `find` makes it and gives it away.
pub type Root = PciRoot<ConfigPorts>;

/// What is plugged in.
pub struct Bus {
    /// The way to its registers.
    pub root: Root,
    /// Every function.
    pub functions: Vec<(DeviceFunction, DeviceFunctionInfo)>,
}

fn select(function: DeviceFunction, register: u8) {
    let address = 1 << 31
        | u32::from(function.bus) << 16
        | u32::from(function.device & 31) << 11
        | u32::from(function.function & 7) << 8
        | u32::from(register & !3);
    // SAFETY: writing the address port only chooses which register the data port shows.
    unsafe { Port::<u32>::new(0xcf8).write(address) };
}

impl ConfigurationAccess for ConfigPorts {
    fn read_word(&self, function: DeviceFunction, register: u8) -> u32 {
        select(function, register);
        // SAFETY: configuration reads have no side effect on the registers that the callers use.
        unsafe { Port::new(0xcfc).read() }
    }

    fn write_word(&mut self, function: DeviceFunction, register: u8, data: u32) {
        select(function, register);
        // SAFETY: the callers size address registers, with decoding off, set the command register, and switch messages on.
        unsafe { Port::new(0xcfc).write(data) };
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self(())
    }
}

/// More capabilities than fit into a function's configuration space.
pub const MAX_CAPABILITIES: usize = 48;

/// The capabilities of a function; cut off where a circle would begin.
pub fn capabilities(root: &Root, function: DeviceFunction) -> impl Iterator<Item = CapabilityInfo> {
    root.capabilities(function).take(MAX_CAPABILITIES)
}

/// Where firmware has led a function's interrupt pin: an input of the interrupt controllers.
pub fn line(function: DeviceFunction) -> Option<u32> {
    let [line, pin, ..] = read(function, INTERRUPT).to_le_bytes();
    (pin != 0 && line != 0 && line != NO_LINE).then_some(u32::from(line))
}

/// A register of a function's configuration space.
pub fn read(function: DeviceFunction, register: u8) -> u32 {
    ConfigPorts(()).read_word(function, register)
}

/// Sets a register of a function's configuration space.
pub(super) fn write(function: DeviceFunction, register: u8, value: u32) {
    ConfigPorts(()).write_word(function, register, value);
}

/// Every function on bus 0 and behind the bridges found there, bus by bus.
pub fn find() -> Bus {
    let root = Root::new(ConfigPorts(()));
    let mut found = Vec::new();
    let mut seen = [false; 256];
    let mut to_visit = Vec::from([0_u8]);
    // Each bus is visited once, whatever the bridges claim to lead to, so this ends.
    while let Some(bus) = to_visit.pop() {
        if core::mem::replace(&mut seen[usize::from(bus)], true) {
            continue;
        }
        for (function, info) in root.enumerate_bus(bus) {
            if info.header_type == HeaderType::PciPciBridge {
                let [_, secondary, ..] = ConfigPorts(()).read_word(function, BRIDGE_BUSES).to_le_bytes();
                to_visit.push(secondary);
            }
            found.push((function, info));
        }
    }
    Bus { root, functions: found }
}
