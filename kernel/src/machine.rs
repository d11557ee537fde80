//! What the rest of the kernel may know of the machine, found out once at boot.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bootloader_api::info::MemoryRegion;
use bootproto::Parcel;
use frames::Memory;

use crate::drivers::virtio::blk::Disk;
use crate::memory::{Census, heap};
use crate::smp;

/// The name of this build, as `kho` shows it and the next kernel hears of it.
pub const BUILD: &str = match option_env!("HOLDOVER_BUILD") {
    Some(build) => build,
    None => env!("CARGO_PKG_VERSION"),
};

/// The machine.
#[derive(Debug)]
pub struct Machine {
    /// What this boot was told: generation, scratch area, handover, image.
    pub parcel: Parcel<'static>,
    /// All frames.
    pub memory: &'static Memory,
    /// The boot stage's memory map, which the next kernel is given again.
    pub memory_map: &'static [MemoryRegion],
    /// Where the firmware's tables begin, if the boot stage was told.
    pub rsdp: Option<u64>,
    /// Where every frame of the machine went at boot.
    pub census: Census,
    /// The disks, in the order in which they were found.
    pub disks: Vec<Arc<Disk>>,
}

impl Machine {
    /// The disk that is mounted at /disk.
    pub fn disk(&self) -> Option<&Arc<Disk>> {
        self.disks.first()
    }

    /// Who holds how much of the kernel heap.
    pub fn heap(&self) -> heap::HeapStats {
        heap::stats()
    }

    /// Stops everything but the donors that could touch memory or interrupt, so that another kernel can take over: the other
    /// processors too, which wait for it to start them.
    pub fn quiesce(&self) {
        smp::stop::park_others();
        for disk in &self.disks {
            disk.quiesce();
        }
        crate::arch::cpu::disable_interrupts();
        crate::console::input::stop();
        crate::arch::apic::quiesce();
    }
}
