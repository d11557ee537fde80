//! Putting a batch in flight, and waiting for it: looking at the ring for some time, and then with the processor halted.
//!
//! A processor has a queue, puts its parts there and collects them there; it depends on no other, unless there are fewer queues than
//! processors. A queue calls the processor with its number, and only that one may halt, others that share the queue look on. The
//! device calls only while its processor says so, and it looks once more after it has, with interrupts off, so no call is missed;
//! should one not come all the same, the alarm of the processor wakes it. No lock is held meanwhile.

use core::hint;
use core::sync::atomic::{AtomicU64, Ordering};

use fs::block::BlockError;

use super::request::{Batch, Part, Parts};
use super::ring::{Finished, SLOTS};
use super::{Disk, Queue};
use crate::arch::local::{self, MOST};
use crate::arch::{apic, cpu};
use crate::time::Deadline;

/// How long a device may do nothing at all with requests in flight before it is reset.
const PATIENCE_SECONDS: u64 = 30;
/// After so many looks at a ring where nothing happens the processor halts, where it is called. A sound disk answers sooner, and then
/// nothing is lost by halting.
const LOOKS_BEFORE_HALT: u32 = 1 << 12;
/// Where it is not, the device is asked after so many looks how it is; that costs more than a look.
const LOOKS: u32 = 1 << 16;

/// How often each processor was called.
static CALLS: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];

/// Handles the interrupt of a disk: it is woken that is meant, and this is all.
pub fn on_interrupt() {
    CALLS[local::number() % MOST].fetch_add(1, Ordering::Relaxed);
}

/// How often disks have called the processor with this number.
pub fn calls(number: usize) -> u64 {
    CALLS.get(number).map_or(0, |calls| calls.load(Ordering::Relaxed))
}

/// The first sectors of parts in flight, by slot.
type InFlight = [Option<u64>; SLOTS];

impl Disk {
    /// Puts every part in flight, as many at a time as fit, and waits for all of them.
    pub(super) fn run(&self, mut batch: impl Batch) -> Result<(), BlockError> {
        self.admit(&mut batch)?;
        let queue = self.queue()?;
        let mut parts = Parts::new(&mut batch, self.max_segments);
        let mut in_flight: InFlight = [None; SLOTS];
        let mut waiting: Option<Part> = parts.next();
        let mut outcome = Ok(());
        let (mut patience, mut looks) = (Deadline::after_seconds(PATIENCE_SECONDS), 0);
        let mut seen = self.set_up.load(Ordering::Acquire);
        loop {
            if self.dead.load(Ordering::Acquire) {
                return Err(BlockError::Dead);
            }
            let mut ring = queue.ring.lock();
            let mut progress = false;
            while let Some((part, slot)) = waiting.as_ref().and_then(|part| Some((part, ring.submit(part)?))) {
                if let Some(entry) = in_flight.get_mut(slot) {
                    *entry = Some(part.sector);
                }
                waiting = parts.next();
                progress = true;
            }
            ring.notify();
            let sound = ring.reap();
            for (slot, entry) in in_flight.iter_mut().enumerate() {
                let Some((sector, finished)) = entry.and_then(|sector| Some((sector, ring.take_finished(slot)?)))
                else {
                    continue;
                };
                *entry = None;
                progress = true;
                match finished {
                    Finished::Done => {}
                    Finished::Failed => {
                        self.counters.errors.fetch_add(1, Ordering::Relaxed);
                        outcome = outcome.and(Err(BlockError::Io { sector }));
                    }
                    // Whatever else happened is found out again when all of it is done once more.
                    Finished::Lost => (outcome, waiting) = (Err(BlockError::Reset), None),
                }
            }
            drop(ring);
            if sound.is_err() {
                // It may be at this very moment that it writes to what is in flight, so it is stopped before anybody is told.
                self.kill(Some("it returned what it was not given"));
                continue;
            }
            if waiting.is_none() && in_flight.iter().all(Option::is_none) {
                return outcome;
            }
            if progress {
                (patience, looks) = (Deadline::after_seconds(PATIENCE_SECONDS), 0);
                seen = self.set_up.load(Ordering::Acquire);
                continue;
            }
            looks += 1;
            let may_halt = looks >= LOOKS_BEFORE_HALT && queue.may_halt();
            if patience.passed() {
                self.revive(seen, format_args!("no answer for {PATIENCE_SECONDS} s"));
                (patience, seen) = (Deadline::after_seconds(PATIENCE_SECONDS), self.set_up.load(Ordering::Acquire));
            } else if (may_halt || looks.is_multiple_of(LOOKS)) && self.is_lost() {
                self.revive(seen, format_args!("it was reset, or asks for it"));
                seen = self.set_up.load(Ordering::Acquire);
            } else if may_halt {
                queue.halt(&in_flight);
            }
            hint::spin_loop();
        }
    }
}

impl Queue {
    /// Whether this processor is the one that the queue calls, and can be interrupted.
    fn may_halt(&self) -> bool {
        self.calls.load(Ordering::Relaxed) && self.number == local::number() && cpu::are_interrupts_enabled()
    }

    /// Halts until the device calls, or something else interrupts; not at all if one of the parts is back, or none is out.
    fn halt(&self, in_flight: &InFlight) {
        // With interrupts off nothing can call between the look and the halt.
        cpu::disable_interrupts();
        let mut ring = self.ring.lock();
        ring.want_call(true);
        let mut slots = in_flight.iter().enumerate().filter(|(_, entry)| entry.is_some()).peekable();
        let wait = slots.peek().is_some() && !ring.has_news() && !slots.any(|(slot, _)| ring.is_finished(slot));
        drop(ring);
        if wait {
            apic::set_alarm();
            cpu::enable_interrupts_and_halt();
        } else {
            cpu::enable_interrupts();
        }
        self.ring.lock().want_call(false);
    }
}
