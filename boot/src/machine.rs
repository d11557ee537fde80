//! The machine as the boot stage sees it: the first 4 GiB of memory at their own addresses, a serial port, and the
//! port that ends QEMU.

use crate::entry::IDENTITY_MAPPED;
use boot::handoff::PhysicalMemory;
use boot::scratch::{Bump, ScratchError};
use bootproto::Span;
use core::fmt::{self, Write};
use protocol::event::{FALLBACK, REFUSED};
use protocol::exit::{self, Exit};
use uart_16550::{Config, Uart16550};
use x86_64::instructions::{hlt, port::Port};

const COM1: u16 = 0x3f8;

/// Memory where it lies.
pub struct Identity;

impl PhysicalMemory for Identity {
    fn read(&self, address: u64, out: &mut [u8]) -> Option<()> {
        let wanted = Span { start: address, len: out.len() as u64 };
        if address == 0 || !(Span { start: 0, len: IDENTITY_MAPPED }).contains(wanted) {
            return None;
        }
        // SAFETY: the range is mapped, and reading memory or a device of a virtual machine by mistake does no harm
        // here. `out` is on the boot stage's stack; if a hostile address makes the two overlap, `copy` bears it.
        unsafe { core::ptr::copy(pointer::<u8>(address), out.as_mut_ptr(), out.len()) };
        Some(())
    }
}

/// The pointer to a physical address below [`IDENTITY_MAPPED`].
pub fn pointer<T>(address: u64) -> *mut T {
    core::ptr::with_exposed_provenance_mut(address as usize)
}

/// Allocates `len` bytes, whole pages, and clears them. Returns their address.
pub fn zeroed(room: &mut Bump, len: u64) -> Result<u64, ScratchError> {
    let address = room.allocate(len)?;
    if address + len > IDENTITY_MAPPED {
        return Err(ScratchError::Full { wanted: len, left: 0 });
    }
    // SAFETY: `room` gave these pages out just now and to nobody else; they are memory, mapped, and part of the
    // scratch area, which is ours to write.
    unsafe { core::ptr::write_bytes(pointer::<u8>(address), 0, len as usize) };
    Ok(address)
}

/// Says why there will be no kernel, and ends the machine.
pub fn refuse(reason: impl fmt::Display) -> ! {
    say(REFUSED, "reason", reason);
    // SAFETY: the port is QEMU's debug exit; without such a device the write goes nowhere.
    unsafe { Port::new(exit::PORT).write(Exit::Refused.value()) };
    loop {
        hlt();
    }
}

/// Says why the kernel before is started again.
pub fn say_fallback(reason: impl fmt::Display) {
    say(FALLBACK, "message", format_args!("the boot stage refused: {reason}"));
}

fn say(event: &str, key: &str, reason: impl fmt::Display) {
    // SAFETY: nobody else uses the first serial port while the boot stage runs.
    if let Ok(mut uart) = unsafe { Uart16550::new_port(COM1) }
        && uart.init(Config::DEFAULT).is_ok()
    {
        // A line that cannot be sent cannot be complained about either.
        let _ = protocol::emit::event(&mut Serial(uart), event).field(key, reason).end();
    }
}

struct Serial(Uart16550<uart_16550::backend::PioBackend>);

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.send_bytes_exact(text.as_bytes());
        Ok(())
    }
}
