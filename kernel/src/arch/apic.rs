//! Interrupt controllers: the local APIC and one I/O APIC, for the serial port's interrupt; the 8259s are silenced.
//!
//! Both APICs lie at their standard addresses on q35 and on microvm. They are reached through the physical window; the
//! hypervisor traps these pages whatever the mapping's cache attributes say.

use x86_64::instructions::port::Port;

use super::paging;
use super::trap::{VECTOR_SERIAL, VECTOR_SPURIOUS};

/// Intel SDM vol. 3, 11.4.1.
const LOCAL_APIC: u64 = 0xfee0_0000;
const LOCAL_ID: u64 = 0x20;
const LOCAL_TASK_PRIORITY: u64 = 0x80;
const LOCAL_END_OF_INTERRUPT: u64 = 0xb0;
const LOCAL_SPURIOUS: u64 = 0xf0;
const LOCAL_LINT0: u64 = 0x350;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;

/// Intel 82093AA datasheet, 3.1: a selector and a window.
const IO_APIC: u64 = 0xfec0_0000;
const IO_SELECT: u64 = 0x00;
const IO_WINDOW: u64 = 0x10;
const IO_REDIRECTION: u32 = 0x10;

/// The line of the first serial port: ISA interrupt 4, which reaches the I/O APIC on the input of the same number.
const SERIAL_LINE: u32 = 4;

/// Masks the 8259s, switches the local APIC on, and routes the serial line to it.
pub fn init() {
    silence_legacy_controllers();
    write(LOCAL_APIC + LOCAL_LINT0, MASKED);
    write(LOCAL_APIC + LOCAL_TASK_PRIORITY, 0);
    write(LOCAL_APIC + LOCAL_SPURIOUS, SOFTWARE_ENABLE | u32::from(VECTOR_SPURIOUS));
    let here = read(LOCAL_APIC + LOCAL_ID) & 0xff00_0000;
    let entry = IO_REDIRECTION + 2 * SERIAL_LINE;
    write_io(entry + 1, here);
    // Fixed delivery, physical destination, active high, edge, not masked: all zero bits beside the vector.
    write_io(entry, u32::from(VECTOR_SERIAL));
}

/// Tells the local APIC that the interrupt in service has been handled.
pub fn end_of_interrupt() {
    write(LOCAL_APIC + LOCAL_END_OF_INTERRUPT, 0);
}

/// Masks the serial line and switches the local APIC off, as the next kernel expects to find it.
pub fn quiesce() {
    write_io(IO_REDIRECTION + 2 * SERIAL_LINE, MASKED);
    write(LOCAL_APIC + LOCAL_SPURIOUS, u32::from(VECTOR_SPURIOUS));
}

fn silence_legacy_controllers() {
    for port in [0x21, 0xa1] {
        // SAFETY: these are the interrupt mask registers of the two 8259s; all ones masks every line. Without 8259s
        // nobody listens on the ports.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
}

fn register(address: u64) -> *mut u32 {
    (paging::WINDOW + address) as *mut u32
}

fn read(address: u64) -> u32 {
    // SAFETY: every caller names a register of one of the APICs, whose page the window maps and nothing else uses.
    unsafe { register(address).read_volatile() }
}

fn write(address: u64, value: u32) {
    // SAFETY: as in `read`. The values written route one interrupt to a vector that has a handler, or mask it.
    unsafe { register(address).write_volatile(value) };
}

fn write_io(index: u32, value: u32) {
    write(IO_APIC + IO_SELECT, index);
    write(IO_APIC + IO_WINDOW, value);
}
