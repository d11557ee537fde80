//! Work for every processor: one closure, which each of them runs, on its own stack and with interrupts on, and which therefore may do
//! whatever the shell may do but for what is the boot processor's alone: serving devices.
//!
//! Who comes late finds nothing more to do, and is not waited for: so the closure must not count on anybody, and the work has to be
//! divided by who is there, as [`each`] does.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::{CPUS, chores, online};
use crate::arch::apic::{self, Command};
use crate::arch::cpu;
use crate::arch::loan::{Desk, Work};
use crate::arch::local;
use crate::arch::trap::VECTOR_WAKE;

static DESK: Desk = Desk::new();

/// Runs `work` on this processor and on all others that have nothing to do; it is told the number of the one that it runs on. Comes
/// back when all are done with it. Within such work there is nobody left, so it is run here only. No lock may be held.
pub fn spread(work: &Work<'_>) {
    let this = local::number();
    let others = || online().filter(move |&number| number != this);
    let run = || {
        others()
            .for_each(|number| apic::send(CPUS[number].id.load(Ordering::Relaxed), Command::Interrupt(VECTOR_WAKE)));
        work(this);
    };
    if others().next().is_none() || !DESK.lend(work, run) {
        work(this);
    }
}

/// Does `work` for each number below `count`, on all processors; each takes the next number when it is done with one.
pub fn each(count: usize, work: &(dyn Fn(usize, usize) + Sync)) {
    let next = AtomicUsize::new(0);
    spread(&|this| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            work(index, this);
        }
    });
}

/// What a processor does that has nothing to do: [chores], or it halts, until there is something.
pub(super) fn idle() -> ! {
    let this = local::number();
    let mut done = 0;
    loop {
        DESK.take(&mut done, this);
        chores::go_on(this, || DESK.has_more_than(done));
        // With interrupts off nobody can wake this processor between the look and the halt.
        cpu::disable_interrupts();
        match chores::may_halt(this) && !DESK.has_more_than(done) {
            true => cpu::enable_interrupts_and_halt(),
            false => cpu::enable_interrupts(),
        }
        chores::awake(this);
    }
}
