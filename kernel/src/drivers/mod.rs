//! The devices: serial port, clock chip, PCI, virtio. Each file knows the registers of one device and nothing above it.

pub mod attention;
pub mod debug_exit;
pub mod ivshmem;
pub mod msix;
pub mod pci;
pub mod rtc;
pub mod stop;
pub mod uart;
pub mod virtio;
