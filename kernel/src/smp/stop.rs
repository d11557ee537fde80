//! Stopping the other processors: for a panic, whose words nobody is to interrupt, and before a jump into another kernel.
//!
//! They are told by NMI, so it does not matter what they do, and what they have locked stays locked. Before a jump they get an INIT
//! too: after that a processor is as it was when the machine was switched on, executes nothing, needs no memory, and waits for the
//! next kernel to start it. The boot processor never gets one: it would start the firmware.

use core::hint;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{CPUS, KNOWN};
use crate::arch::apic::{self, Command};
use crate::arch::cpu;
use crate::arch::local::{self, MOST};
use crate::time::Deadline;

/// How long the others may take to stop.
const PATIENCE_MILLIS: u64 = 1_000;

/// Who stops the others: its number, and one more; 0 for nobody.
static STOPPER: AtomicUsize = AtomicUsize::new(0);
static STOPPED: [AtomicBool; MOST] = [const { AtomicBool::new(false) }; MOST];
/// The boot processor is to leave by the way back, which is not for others.
static LEAVE: AtomicBool = AtomicBool::new(false);

/// All others that have a number, whether they have answered once or not.
fn others() -> impl Iterator<Item = usize> {
    let this = local::number();
    (0..KNOWN.load(Ordering::Acquire).min(MOST)).filter(move |&number| number != this)
}

fn send(number: usize, command: Command) {
    apic::send(CPUS[number].id.load(Ordering::Relaxed), command);
}

/// Stops all other processors, as far as they can be stopped. Of two that try only one comes back from here.
pub fn stop_others() {
    let this = local::number();
    if STOPPER.compare_exchange(0, this + 1, Ordering::AcqRel, Ordering::Acquire).is_err_and(|by| by != this + 1) {
        rest();
    }
    let online = |number: &usize| CPUS[*number].online.load(Ordering::Acquire);
    // One that has never come up has nothing that could handle an NMI.
    others().for_each(|number| send(number, if online(&number) { Command::Nmi } else { Command::Init }));
    let patience = Deadline::after_millis(PATIENCE_MILLIS);
    while others().filter(online).any(|number| !STOPPED[number].load(Ordering::Acquire)) && !patience.passed() {
        hint::spin_loop();
    }
}

/// Handles an NMI; comes back if it is none of ours.
pub fn on_nmi() {
    let stopper = STOPPER.load(Ordering::Acquire);
    if stopper != 0 && stopper != local::number() + 1 {
        rest();
    }
}

/// Does nothing any more, except what only the boot processor can.
fn rest() -> ! {
    let this = local::number();
    STOPPED[this % MOST].store(true, Ordering::Release);
    if this > 0 {
        cpu::halt_forever();
    }
    while !LEAVE.load(Ordering::Acquire) {
        hint::spin_loop();
    }
    crate::panic::leave()
}

/// Stops all others and leaves them waiting for a start. This is the boot processor.
pub fn park_others() {
    if others().next().is_some() {
        stop_others();
        reset_others();
    }
}

/// Leaves all others, which have stopped, waiting for a start. This is the boot processor.
pub fn reset_others() {
    others().for_each(|number| send(number, Command::Init));
}

/// Lets the boot processor, which has stopped, carry out the end of a panic; says whether it will.
pub fn leave_to_boot_processor() -> bool {
    let stopped = STOPPED[0].load(Ordering::Acquire);
    if stopped {
        LEAVE.store(true, Ordering::Release);
    }
    stopped
}
