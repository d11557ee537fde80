//! Calls: a function that other processors run at once, between two instructions of whatever they do.
//!
//! What is called runs in an interrupt handler, so it takes no lock and is short. Calls take turns; whoever waits, for a turn or for
//! answers, answers calls too, so two that call each other both come to an end. No lock may be held meanwhile: whoever waited for it
//! with interrupts off could not answer. The waiting is bounded, and a processor that has not answered is named; such a one runs the
//! function late, or not at all if another call was made until then.

use core::fmt;
use core::hint;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use frames::{Lock, Rank};

use super::{CPUS, online};
use crate::arch::apic::{self, Command};
use crate::arch::cpu;
use crate::arch::local::{self, MOST};
use crate::arch::trap::VECTOR_CALL;
use crate::time::Deadline;

/// How long an answer is waited for. A called function takes microseconds, but a virtual processor may not have its turn on the host.
const PATIENCE_MILLIS: u64 = 5_000;

/// Who is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Every processor but this one.
    Others,
    /// The one with this number, if it takes part and is not this one.
    One(usize),
}

/// This processor was called and did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAnswer(pub usize);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {} does not answer", self.0)
    }
}

impl core::error::Error for NoAnswer {}

/// What is to be run. Each call has a number of its own.
struct Job {
    number: u64,
    function: fn(u64),
    argument: u64,
}

/// The latest call of each processor: which it is to answer, and which it has answered.
struct Slip {
    due: AtomicU64,
    answered: AtomicU64,
}

/// Locked with interrupts off only, since the handler locks it.
static JOB: Lock<Job> = Lock::new(Rank::Call, Job { number: 0, function: |_| (), argument: 0 });
static SLIPS: [Slip; MOST] = [const { Slip { due: AtomicU64::new(0), answered: AtomicU64::new(0) } }; MOST];
/// Somebody calls.
static TAKEN: AtomicBool = AtomicBool::new(false);

impl Whom {
    fn has(self, number: usize) -> bool {
        match self {
            Whom::Others => true,
            Whom::One(one) => number == one,
        }
    }
}

/// Lets others run `function`, and waits until they have.
///
/// # Errors
/// [`NoAnswer`] names the first who has not.
pub fn call(whom: Whom, function: fn(u64), argument: u64) -> Result<(), NoAnswer> {
    let this = local::number();
    let called = || online().filter(move |&number| number != this && whom.has(number));
    if called().next().is_none() {
        return Ok(());
    }
    while TAKEN.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
        answer();
        hint::spin_loop();
    }
    let call = cpu::without_interrupts(|| {
        let mut job = JOB.lock();
        *job = Job { number: job.number + 1, function, argument };
        job.number
    });
    for number in called() {
        SLIPS[number].due.store(call, Ordering::Release);
        apic::send(CPUS[number].id.load(Ordering::Relaxed), Command::Interrupt(VECTOR_CALL));
    }
    let patience = Deadline::after_millis(PATIENCE_MILLIS);
    let answers = called().try_for_each(|number| {
        while SLIPS[number].answered.load(Ordering::Acquire) < call {
            if patience.passed() {
                return Err(NoAnswer(number));
            }
            answer();
            hint::spin_loop();
        }
        Ok(())
    });
    TAKEN.store(false, Ordering::Release);
    answers
}

/// Answers a call to this processor, if there is one. The handler of [`VECTOR_CALL`] does nothing else.
pub fn answer() {
    cpu::without_interrupts(|| {
        let slip = &SLIPS[local::number() % MOST];
        let due = slip.due.load(Ordering::Acquire);
        if slip.answered.load(Ordering::Relaxed) == due {
            return;
        }
        let (number, function, argument) = {
            let job = JOB.lock();
            (job.number, job.function, job.argument)
        };
        // A call that nobody waits for any more may have been followed by one to others.
        if number == due {
            function(argument);
        }
        slip.answered.store(due, Ordering::Release);
    });
}
