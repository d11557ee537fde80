//! Stopping every virtio device without asking anybody: for a kernel that has failed and makes way for another, when whoever
//! drives a device may be in the middle of something.
//!
//! A device is noted before anything is asked of it, and only as an address: resetting it takes no lock and no driver. After that
//! it touches no memory until somebody sets it up again (virtio 1.2, 2.4).

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use frames::PhysAddr;

use crate::arch::paging;

/// More than a machine has slots.
const MAX_DEVICES: usize = 64;
/// How often a device is asked whether it has stopped. Those of QEMU have when the write is over.
const TRIES: usize = 1 << 16;
/// The lowest bit of an address says that the register has one byte rather than four.
const BYTE: u64 = 1;

/// Where the window shows the status registers; 0 where there is none. All are aligned to four bytes.
static REGISTERS: [AtomicU64; MAX_DEVICES] = [const { AtomicU64::new(0) }; MAX_DEVICES];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A device's status register, to which 0 is written to reset it.
#[derive(Clone, Copy, Debug)]
pub enum Status {
    /// One byte at this physical address, as in the common configuration of a PCI function.
    Byte(u64),
    /// Four bytes, as in a slot.
    Word(u64),
}

/// Notes a device; says whether there was room for it. One that is not noted must not be used.
#[must_use]
pub fn note(status: Status) -> bool {
    let (physical, width) = match status {
        Status::Byte(address) => (address, BYTE),
        Status::Word(address) => (address, 0),
    };
    let Some(address) = paging::window(PhysAddr::new(physical)).filter(|address| address.is_multiple_of(4)) else {
        return false;
    };
    let place = REGISTERS.get(COUNT.fetch_add(1, Ordering::Relaxed));
    place.is_some_and(|place| {
        place.store(address | width, Ordering::Relaxed);
        true
    })
}

/// Resets all devices that were noted. One that does not confirm it is left behind.
pub fn all() {
    for register in &REGISTERS {
        let register = register.load(Ordering::Relaxed);
        if register != 0 {
            reset(register);
        }
    }
}

fn reset(register: u64) {
    let address = register & !BYTE;
    for _ in 0..TRIES {
        // SAFETY: whoever noted the address has had it mapped and said that a device has its status register there, of this
        // width. No reference to registers is kept by anybody, and the driver never runs again.
        let stopped = unsafe {
            if register & BYTE != 0 {
                let status = address as *mut u8;
                status.write_volatile(0);
                status.read_volatile() == 0
            } else {
                let status = address as *mut u32;
                status.write_volatile(0);
                status.read_volatile() == 0
            }
        };
        if stopped {
            return;
        }
    }
}
