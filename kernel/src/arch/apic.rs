//! Interrupt controllers: the local APIC and the I/O APICs, for the serial port's interrupt and those of devices that want to be
//! served, and for one alarm; the 8259s are silenced.
//!
//! The APICs lie at their standard addresses on q35 and on microvm. They are reached through the physical window; the
//! hypervisor traps these pages whatever the mapping's cache attributes say.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use x86_64::instructions::interrupts::without_interrupts;
use x86_64::instructions::port::Port;

use super::paging;
use super::trap::{VECTOR_ALARM, VECTOR_DEVICES, VECTOR_SERIAL, VECTOR_SPURIOUS};

/// Intel SDM vol. 3, 11.4.1.
const LOCAL_APIC: u64 = 0xfee0_0000;
const LOCAL_ID: u64 = 0x20;
const LOCAL_TASK_PRIORITY: u64 = 0x80;
const LOCAL_END_OF_INTERRUPT: u64 = 0xb0;
const LOCAL_SPURIOUS: u64 = 0xf0;
const LOCAL_COMMAND: u64 = 0x300;
const LOCAL_COMMAND_TO: u64 = 0x310;
const LOCAL_TIMER: u64 = 0x320;
const LOCAL_LINT0: u64 = 0x350;
const LOCAL_TIMER_COUNT: u64 = 0x380;
const LOCAL_TIMER_DIVIDE: u64 = 0x3e0;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;

/// The timer counts every 128th tick of its clock. QEMU's and KVM's have a thousand million a second, so this is a second; where it is
/// not, whoever set the alarm looks at a clock anyway.
const DIVIDE_BY_128: u32 = 0b1010;
const A_SECOND: u32 = 1_000_000_000 / 128;

/// Intel 82093AA datasheet, 3.1: a selector and a window. A microvm has a second one, whose inputs are lines 24 and up.
const IO_APICS: [u64; 2] = [0xfec0_0000, 0xfec1_0000];
const IO_SELECT: u64 = 0x00;
const IO_WINDOW: u64 = 0x10;
const IO_VERSION: u32 = 0x01;
const IO_REDIRECTION: u32 = 0x10;

/// The line of the first serial port: ISA interrupt 4, which reaches the I/O APIC on the input of the same number.
const SERIAL_LINE: u32 = 4;

/// Inputs of an I/O APIC.
const IO_INPUTS: u32 = 24;
const LINES: u32 = IO_INPUTS * IO_APICS.len() as u32;

/// Bits of a redirection entry beside [`MASKED`].
const LEVEL: u32 = 1 << 15;

/// Bits of a command to other processors (Intel SDM vol. 3, 11.6.1): how it is delivered, and whether the one before still is.
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const PENDING: u32 = 1 << 12;
/// Looks at that bit before a command is given up: some milliseconds.
const MOST_LOOKS: usize = 100_000;

/// The id of the processor that serves devices, in the place that registers have for it.
static SERVES_DEVICES: AtomicU32 = AtomicU32::new(0);

/// The inputs that were routed to the vector of devices, one bit each.
static ROUTED: AtomicU64 = AtomicU64::new(0);

/// Masks the 8259s, switches the local APIC on, and routes the serial line to it. All interrupts of devices come to this processor
/// from here on.
pub fn init() {
    silence_legacy_controllers();
    switch_on();
    SERVES_DEVICES.store(read(LOCAL_APIC + LOCAL_ID) & 0xff00_0000, Ordering::Relaxed);
    lead_home(SERIAL_LINE, u32::from(VECTOR_SERIAL));
}

/// Switches the local APIC of this processor on.
pub fn switch_on() {
    write(LOCAL_APIC + LOCAL_LINT0, MASKED);
    write(LOCAL_APIC + LOCAL_TASK_PRIORITY, 0);
    write(LOCAL_APIC + LOCAL_SPURIOUS, SOFTWARE_ENABLE | u32::from(VECTOR_SPURIOUS));
}

/// The id of this processor's local APIC.
pub fn id() -> u8 {
    (read(LOCAL_APIC + LOCAL_ID) >> 24) as u8
}

/// What one processor can do to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Reset it; it waits for a start then.
    Init,
    /// Start it in the page with this number, if it waits for that.
    Start(u8),
    /// Interrupt it, whatever it does.
    Nmi,
    /// Interrupt it with this vector.
    Interrupt(u8),
}

/// Sends a command to the processor whose local APIC has this id. No interrupt handler does so, but in a panic.
pub fn send(to: u8, command: Command) {
    let command = match command {
        Command::Init => DELIVER_INIT,
        Command::Start(page) => DELIVER_STARTUP | u32::from(page),
        Command::Nmi => DELIVER_NMI,
        Command::Interrupt(vector) => u32::from(vector),
    };
    without_interrupts(|| {
        write(LOCAL_APIC + LOCAL_COMMAND_TO, u32::from(to) << 24);
        write(LOCAL_APIC + LOCAL_COMMAND, ASSERT | command);
        for _ in 0..MOST_LOOKS {
            if read(LOCAL_APIC + LOCAL_COMMAND) & PENDING == 0 {
                return;
            }
        }
    });
}

/// Routes a line, which devices may share, to the vector of devices; says whether there is such a line. The line is high as long as
/// a device waits to be served, which takes a while, so [`on_devices`] closes it and [`listen`] opens it again.
pub fn route(line: u32) -> bool {
    // The low ones are the timer's, the keyboard's and the serial ports'.
    if line >= LINES || line <= SERIAL_LINE {
        return false;
    }
    without_interrupts(|| {
        // The byte that says which input is the last; there may be no such I/O APIC at all.
        let present = read_io(line, IO_VERSION) >> 16 & 0xff == IO_INPUTS - 1;
        if present {
            ROUTED.fetch_or(1 << line, Ordering::Relaxed);
            lead_home(line, u32::from(VECTOR_DEVICES) | LEVEL);
        }
        present
    })
}

/// Handles the interrupt of devices: closes their lines until they were served.
pub fn on_devices() {
    for line in routed() {
        write_entry(line, 0, u32::from(VECTOR_DEVICES) | LEVEL | MASKED);
    }
    end_of_interrupt();
}

/// The devices were served: opens their lines. One that is high still, or again, interrupts at once.
pub fn listen() {
    without_interrupts(|| routed().for_each(|line| lead_home(line, u32::from(VECTOR_DEVICES) | LEVEL)));
}

fn routed() -> impl Iterator<Item = u32> {
    let routed = ROUTED.load(Ordering::Relaxed);
    (0..LINES).filter(move |line| routed & 1 << line != 0)
}

/// The id of the local APIC of the processor that serves devices.
pub fn serves_devices() -> u8 {
    (SERVES_DEVICES.load(Ordering::Relaxed) >> 24) as u8
}

/// Where a device writes a message that is to interrupt the processor whose local APIC has this id (Intel SDM vol. 3, 11.11.1): fixed
/// delivery, physical destination.
pub fn message_address(to: u8) -> u32 {
    LOCAL_APIC as u32 | u32::from(to) << 12
}

/// Sets an entry to what `low` says: a vector, and perhaps [`LEVEL`]. The handler of devices writes to entries too, and an entry is
/// reached in two steps, so interrupts have to be off when they are routed.
fn lead_home(line: u32, low: u32) {
    write_entry(line, 1, SERVES_DEVICES.load(Ordering::Relaxed));
    // Fixed delivery, physical destination, active high, edge, not masked: all zero bits.
    write_entry(line, 0, low);
}

/// Sets the alarm of this processor, which rings once, in about a second.
pub fn set_alarm() {
    write(LOCAL_APIC + LOCAL_TIMER_DIVIDE, DIVIDE_BY_128);
    write(LOCAL_APIC + LOCAL_TIMER, u32::from(VECTOR_ALARM));
    write(LOCAL_APIC + LOCAL_TIMER_COUNT, A_SECOND);
}

/// Tells the local APIC that the interrupt in service has been handled.
pub fn end_of_interrupt() {
    write(LOCAL_APIC + LOCAL_END_OF_INTERRUPT, 0);
}

/// Masks every line that was routed, stops the timer and switches the local APIC off, as the next kernel expects to find it.
pub fn quiesce() {
    for line in routed().chain([SERIAL_LINE]) {
        write_entry(line, 0, MASKED);
    }
    write(LOCAL_APIC + LOCAL_TIMER_COUNT, 0);
    write(LOCAL_APIC + LOCAL_TIMER, MASKED);
    write(LOCAL_APIC + LOCAL_SPURIOUS, u32::from(VECTOR_SPURIOUS));
}

/// As [`quiesce`], for a kernel that may have failed in the middle of handling interrupts: those in service would keep the next
/// kernel's from coming.
pub fn quiesce_in_emergency() {
    const PRIORITIES: usize = 16;
    (0..PRIORITIES).for_each(|_| end_of_interrupt());
    quiesce();
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
    // SAFETY: as in `read`. The values written route interrupts to vectors that have a handler, or mask them.
    unsafe { register(address).write_volatile(value) };
}

/// Sets the lower or upper half of a line's redirection entry.
fn write_entry(line: u32, half: u32, value: u32) {
    let io_apic = io_apic(line);
    write(io_apic + IO_SELECT, IO_REDIRECTION + 2 * (line % IO_INPUTS) + half);
    write(io_apic + IO_WINDOW, value);
}

/// A register of the I/O APIC that a line leads to.
fn read_io(line: u32, index: u32) -> u32 {
    let io_apic = io_apic(line);
    write(io_apic + IO_SELECT, index);
    read(io_apic + IO_WINDOW)
}

fn io_apic(line: u32) -> u64 {
    IO_APICS[(line / IO_INPUTS) as usize % IO_APICS.len()]
}
