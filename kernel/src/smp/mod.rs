//! All processors: which there are, starting them, and what they do when nobody wants anything of them.
//!
//! The boot processor has number 0, runs the kernel's one thread, the shell, and serves devices. The others are started at boot, one
//! after the other, and wait in `hlt` until they are given something to do. One that does not answer is named and left out.

pub mod calls;
pub mod chores;
mod spread;
pub mod stop;

pub use spread::{each, spread};

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use firmware::{AcpiError, Physical, Processors};
use frames::{Memory, PhysAddr};
use log::{info, warn};

use crate::arch::apic::{self, Command};
use crate::arch::local::{self, MOST};
use crate::arch::start::{self, Trampoline};
use crate::arch::{cpu, paging, segments, stacks};
use crate::time::Deadline;

/// What is known of one processor.
struct Cpu {
    /// The id of its local APIC.
    id: AtomicU8,
    /// It has arrived, and takes part.
    online: AtomicBool,
}

static CPUS: [Cpu; MOST] = [const { Cpu { id: AtomicU8::new(0), online: AtomicBool::new(false) } }; MOST];
/// How many have a number; they are consecutive.
static KNOWN: AtomicUsize = AtomicUsize::new(1);

/// A processor that was started begins within microseconds; here its thread may have to wait for the host's others.
const PATIENCE_MILLIS: u64 = 3_000;
/// Until it is started a second time, as the manual has it (Intel SDM vol. 3, 9.4.4); one that runs already does not mind.
const SECOND_START_MILLIS: u64 = 20;

/// The firmware's tables, as they lie below 4 GiB. The window shows all of that, be it memory or not; nothing is written.
struct Tables;

impl Physical for Tables {
    fn read(&self, address: u64, out: &mut [u8]) -> Option<()> {
        const SHOWN: u64 = 1 << 32;
        let end = address.checked_add(out.len() as u64)?;
        if address == 0 || end > SHOWN {
            return None;
        }
        paging::read_bytes(PhysAddr::new(address), out)
    }
}

/// The processors that the firmware lists. Tables may lie where memory is handed out, so they are read before that.
///
/// # Errors
/// [`AcpiError`]; there is the boot processor then.
pub fn find(rsdp: Option<u64>) -> Result<Processors, AcpiError> {
    rsdp.map_or(Ok(Processors::NONE), |rsdp| firmware::processors(&Tables, rsdp))
}

/// Starts all `processors` but this one, which is the boot processor and runs already. `frame_zero` says whether frame 0 is memory.
/// The one that would have the number `mute` is not told to start, to show what becomes of such a one.
pub fn start(memory: &'static Memory, processors: &Processors, frame_zero: bool, mute: Option<usize>) {
    let this = apic::id();
    CPUS[0].id.store(this, Ordering::Relaxed);
    CPUS[0].online.store(true, Ordering::Relaxed);
    if processors.left_out > 0 {
        warn!(target: "smp", "{} CPUs are more than can be used", processors.left_out);
    }
    let mut others = processors.ids().iter().copied().filter(|&id| id != this).take(MOST - 1).peekable();
    if others.peek().is_some() {
        match frame_zero.then(|| Trampoline::lay(memory, enter)) {
            Some(Ok(trampoline)) => {
                others.for_each(|id| start_one(memory, &trampoline, id, mute));
                if let Err(reason) = trampoline.clear() {
                    warn!(target: "smp", "frame 0 stays mapped at address 0: {reason}");
                }
            }
            Some(Err(reason)) => warn!(target: "smp", "no other CPU is started: {reason}"),
            None => warn!(target: "smp", "no other CPU is started: frame 0 is no memory"),
        }
    }
    match online().count() {
        1 => info!(target: "smp", "1 CPU"),
        count => info!(target: "smp", "{count} CPUs"),
    }
}

/// Starts the processor with this local APIC as the next number.
fn start_one(memory: &'static Memory, trampoline: &Trampoline, id: u8, mute: Option<usize>) {
    let number = KNOWN.load(Ordering::Relaxed);
    let Some(cpu) = CPUS.get(number) else { return };
    let tops = match stacks::make(memory) {
        Ok(tops) => tops,
        Err(reason) => return warn!(target: "smp", "CPU {number} (APIC {id}) is left out: no stack: {reason}"),
    };
    cpu.id.store(id, Ordering::Relaxed);
    KNOWN.store(number + 1, Ordering::Release);
    trampoline.offer(number, segments::build(tops.traps), tops.ordinary);
    apic::send(id, Command::Init);
    let start = || {
        if mute != Some(number) {
            apic::send(id, Command::Start(start::PAGE));
        }
    };
    start();
    let (patience, second) = (Deadline::after_millis(PATIENCE_MILLIS), Deadline::after_millis(SECOND_START_MILLIS));
    let mut started_again = false;
    while !cpu.online.load(Ordering::Acquire) {
        if second.passed() && !started_again {
            start();
            started_again = true;
        }
        if patience.passed() {
            // Should it come after all: it is told to wait for another start, and finds no stack.
            apic::send(id, Command::Init);
            if !trampoline.withdraw() {
                // It came at this very moment, and the INIT ends that.
                let gone = Deadline::after_millis(SECOND_START_MILLIS);
                while !gone.passed() {
                    core::hint::spin_loop();
                }
                cpu.online.store(false, Ordering::Release);
            }
            return warn!(target: "smp", "CPU {number} (APIC {id}) does not answer and is left out");
        }
        core::hint::spin_loop();
    }
}

/// Where another processor arrives.
fn enter() -> ! {
    let cpu = &CPUS[local::number() % MOST];
    if cpu.id.load(Ordering::Relaxed) != apic::id() {
        // Not the one that was meant, but with its stack: it must not be two.
        cpu::halt_forever();
    }
    cpu.online.store(true, Ordering::Release);
    spread::idle()
}

/// All processors that have a number, with the ids of their local APICs.
pub fn all() -> impl Iterator<Item = (usize, u8)> {
    let known = KNOWN.load(Ordering::Acquire);
    CPUS.iter().take(known).enumerate().map(|(number, cpu)| (number, cpu.id.load(Ordering::Relaxed)))
}

/// Whether any other processor takes part.
#[inline]
pub fn has_others() -> bool {
    online().nth(1).is_some()
}

/// The processors that take part, by number; the boot processor first.
pub fn online() -> impl Iterator<Item = usize> {
    let known = KNOWN.load(Ordering::Acquire);
    CPUS.iter().take(known).enumerate().filter(|(_, cpu)| cpu.online.load(Ordering::Acquire)).map(|(number, _)| number)
}
