//! The first serial port, a 16550A at the ISA address.
//!
//! Sending and receiving use different registers, so the interrupt handler may receive while anybody sends. Nothing here
//! takes a lock or keeps state about the line; that is the console's business.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use uart_16550::spec::FIFO_SIZE;
use uart_16550::spec::registers::{FCR, IER, LCR, LSR, MCR, WordLength, offsets};
use x86_64::instructions::port::Port;

use crate::arch::tsc;

const BASE: u16 = 0x3f8;

/// How long a full transmitter is waited for, in ticks: 20 to 60 seconds. A reader who paused the terminal for longer
/// loses output instead of stopping the kernel.
const PATIENCE: u64 = 1 << 36;

/// Set when the transmitter used up our patience; output is then dropped until it takes bytes again.
static STALLED: AtomicBool = AtomicBool::new(false);

fn register(offset: usize) -> Port<u8> {
    Port::new(BASE + (offset & 7) as u16)
}

fn read(offset: usize) -> u8 {
    // SAFETY: the port is one of the eight registers of the UART. Reads may pop the receive FIFO, which only `receive`
    // asks for.
    unsafe { register(offset).read() }
}

fn write(offset: usize, value: u8) {
    // SAFETY: as in `read`; no register of a UART can touch memory.
    unsafe { register(offset).write(value) };
}

/// Sets 8 data bits, no parity, FIFOs on, and the interrupt output connected, with every interrupt still off. What
/// already waits in the receive FIFO stays there: it may have been typed while the kernel replaced itself. The speed is
/// left alone, because it means nothing to a virtual port.
pub fn init() {
    write(offsets::IER, IER::empty().bits());
    write(offsets::LCR, LCR::empty().set_word_length(WordLength::EightBits).bits());
    write(offsets::FCR, FCR::FIFO_ENABLE.bits());
    write(offsets::MCR, (MCR::DTR | MCR::RTS | MCR::OUT_2_INT_ENABLE).bits());
}

/// Whether the port interrupts when it has received something.
pub fn set_receive_interrupt(on: bool) {
    let interrupts = if on { IER::DATA_READY } else { IER::empty() };
    write(offsets::IER, interrupts.bits());
}

/// The next received byte, if there is one.
pub fn receive() -> Option<u8> {
    let status = LSR::from_bits_retain(read(offsets::LSR));
    // A port that is not there reads as all ones; a real one never reports every condition at once.
    if !status.contains(LSR::DATA_READY) || status.bits() == 0xff {
        return None;
    }
    Some(read(offsets::DATA))
}

/// Sends all of `bytes`, a FIFO's worth for each look at the status register.
pub fn send(bytes: &[u8]) {
    for chunk in bytes.chunks(FIFO_SIZE) {
        if !wait_for_room() {
            return;
        }
        // SAFETY: the string instruction reads exactly `chunk.len()` bytes from `chunk` and writes them to the data
        // register; the direction flag is clear, as the ABI demands.
        unsafe {
            asm!(
                "rep outsb",
                in("dx") BASE,
                inout("rsi") chunk.as_ptr() => _,
                inout("rcx") chunk.len() => _,
                options(readonly, nostack, preserves_flags),
            );
        }
    }
}

/// Waits until the transmit FIFO is empty; says no when it does not become empty.
fn wait_for_room() -> bool {
    let room = || LSR::from_bits_retain(read(offsets::LSR)).contains(LSR::THR_EMPTY);
    if room() {
        STALLED.store(false, Ordering::Relaxed);
        return true;
    }
    if STALLED.load(Ordering::Relaxed) {
        return false;
    }
    let start = tsc::now();
    while tsc::now().wrapping_sub(start) < PATIENCE {
        core::hint::spin_loop();
        if room() {
            return true;
        }
    }
    STALLED.store(true, Ordering::Relaxed);
    false
}
