//! What is typed: from the serial port's interrupt, through a ring, to whoever reads.
//!
//! One writer, the interrupt handler, and one reader, the shell, so two atomic counters suffice and the handler takes no
//! lock. When the ring is full the handler leaves bytes in the port and switches its interrupt off; the host then sees a
//! full port and waits, so that nothing is lost however much is sent ahead.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use crate::arch::cpu;
use crate::drivers::{attention, uart};

const CAPACITY: usize = 1024;
/// What Control-C sends.
const END_OF_TEXT: u8 = 3;

static RING: [AtomicU8; CAPACITY] = [const { AtomicU8::new(0) }; CAPACITY];
/// Bytes ever put in and taken out.
static PUT: AtomicUsize = AtomicUsize::new(0);
static TAKEN: AtomicUsize = AtomicUsize::new(0);
static HELD_UP: AtomicBool = AtomicBool::new(false);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Starts listening. The interrupt controllers must be set up.
pub fn init() {
    uart::set_receive_interrupt(true);
}

/// Stops listening; what is typed from now on waits in the port for the next kernel.
pub fn stop() {
    uart::set_receive_interrupt(false);
}

/// Handles the serial port's interrupt: moves what has arrived into the ring.
pub fn on_interrupt() {
    // Bounded, because a port that never runs empty must not keep us here.
    for _ in 0..CAPACITY {
        let put = PUT.load(Ordering::Relaxed);
        if put.wrapping_sub(TAKEN.load(Ordering::Acquire)) == CAPACITY {
            HELD_UP.store(true, Ordering::Relaxed);
            uart::set_receive_interrupt(false);
            return;
        }
        let Some(byte) = uart::receive() else { return };
        if byte == END_OF_TEXT {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
        if let Some(slot) = RING.get(put % CAPACITY) {
            slot.store(byte, Ordering::Relaxed);
        }
        PUT.store(put.wrapping_add(1), Ordering::Release);
    }
}

/// The next byte, if one has been typed.
pub fn try_read() -> Option<u8> {
    let taken = TAKEN.load(Ordering::Relaxed);
    if taken == PUT.load(Ordering::Acquire) {
        return None;
    }
    let byte = RING.get(taken % CAPACITY)?.load(Ordering::Relaxed);
    TAKEN.store(taken.wrapping_add(1), Ordering::Release);
    if HELD_UP.swap(false, Ordering::Relaxed) {
        // The port still holds bytes, so switching the interrupt on raises it.
        uart::set_receive_interrupt(true);
    }
    Some(byte)
}

/// What ended the waiting for a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// This was typed.
    Byte(u8),
    /// A device wants to be served; nothing was typed yet.
    Bell,
    /// The alarm that was set has gone off.
    Alarm,
}

/// Waits for the next byte, with the processor halted, for a device that wants to be served, or for the alarm.
pub fn wait() -> Woken {
    loop {
        // With interrupts off nothing can arrive between the look and the halt: `sti` takes effect after the `hlt` that
        // follows it.
        cpu::disable_interrupts();
        let woken = match try_read() {
            Some(byte) => Some(Woken::Byte(byte)),
            None if attention::is_rung() => Some(Woken::Bell),
            None => attention::take_alarm().then_some(Woken::Alarm),
        };
        match woken {
            Some(woken) => {
                cpu::enable_interrupts();
                return woken;
            }
            None => cpu::enable_interrupts_and_halt(),
        }
    }
}

/// Whether Control-C was typed and nobody has taken notice yet.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Whether Control-C was typed since the last call. Commands that run for long ask this now and then.
pub fn take_interruption() -> bool {
    INTERRUPTED.swap(false, Ordering::Relaxed)
}
