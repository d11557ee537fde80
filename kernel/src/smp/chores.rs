//! Chores: what a processor does of itself that has nothing else to do, so that nobody else needs to wait for it: making frames free
//! before they run out, and writing behind.
//!
//! Who sees that a chore is due asks for it, which takes no lock and wakes one idle processor, or is told that there is none and does it
//! as if there were no others. A chore is done by one processor at a time, a bounded step at a time; work that is lent comes before
//! the next step. A processor at a chore may hold locks and wait for disks, so it is never stopped in the midst of it but by a
//! panic: whoever wants them all for himself lets them [rest] first.

use alloc::boxed::Box;
use core::hint;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use spin::Once;

use super::CPUS;
use crate::arch::apic::{self, Command};
use crate::arch::local::MOST;
use crate::arch::trap::VECTOR_WAKE;

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Making frames free, of all zones.
    Room,
    /// Making frames free of those that outlive a kexec.
    PreservableRoom,
    /// Writing behind.
    WriteBehind,
}

impl Chore {
    /// All of them, in the order in which they are done.
    const ALL: [Chore; 3] = [Chore::Room, Chore::PreservableRoom, Chore::WriteBehind];

    fn desk(self) -> &'static Desk {
        static DESKS: [Desk; Chore::ALL.len()] = [const { Desk::new() }; Chore::ALL.len()];
        &DESKS[self as usize]
    }
}

/// A bounded piece of a chore, done where nothing is locked; says whether there is more to do at once.
pub type Step = Box<dyn Fn() -> bool + Send + Sync>;

struct Desk {
    step: Once<Step>,
    wanted: AtomicBool,
    /// Somebody is at it.
    busy: AtomicBool,
    /// Who was woken for it and is not up yet; 0 for nobody, as the boot processor never is.
    woken: AtomicUsize,
    /// How often each processor has begun with it.
    begun: [AtomicU64; MOST],
}

impl Desk {
    const fn new() -> Self {
        Self {
            step: Once::new(),
            wanted: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            woken: AtomicUsize::new(0),
            begun: [const { AtomicU64::new(0) }; MOST],
        }
    }
}

/// The processors that halt or are about to, a bit each. One that is woken takes its bit away.
static IDLE: AtomicU64 = AtomicU64::new(0);
/// How many are at chores.
static AT_IT: AtomicUsize = AtomicUsize::new(0);
/// How many want none to be.
static RESTS: AtomicUsize = AtomicUsize::new(0);

/// Says how a chore is done. Until then, and where no other processor takes part, nobody does it.
pub fn begin(chore: Chore, step: Step) {
    chore.desk().step.call_once(|| step);
}

/// Asks for a chore. Whether somebody is at it, or about to be. Any lock may be held.
pub fn ask(chore: Chore) -> bool {
    let desk = chore.desk();
    if RESTS.load(Ordering::Relaxed) > 0 || !desk.step.is_completed() {
        return false;
    }
    if desk.busy.load(Ordering::Relaxed) {
        return true;
    }
    // Before the look at who is idle: whoever becomes so looks for chores once more.
    desk.wanted.store(true, Ordering::SeqCst);
    let idle = IDLE.load(Ordering::SeqCst);
    if idle == 0 {
        return false;
    }
    if idle & 1 << desk.woken.load(Ordering::Relaxed) == 0 {
        let number = idle.trailing_zeros() as usize;
        desk.woken.store(number, Ordering::Relaxed);
        apic::send(CPUS[number].id.load(Ordering::Relaxed), Command::Interrupt(VECTOR_WAKE));
    }
    true
}

/// This processor is about to halt; whether it may, since nothing is to be done. Interrupts are off.
pub(super) fn may_halt(this: usize) -> bool {
    for woken in Chore::ALL.map(|chore| &chore.desk().woken) {
        let _ = woken.compare_exchange(this, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
    IDLE.fetch_or(1 << this, Ordering::SeqCst);
    RESTS.load(Ordering::Relaxed) > 0 || Chore::ALL.iter().all(|chore| !chore.desk().wanted.load(Ordering::SeqCst))
}

/// It does not halt any more.
pub(super) fn awake(this: usize) {
    IDLE.fetch_and(!(1 << this), Ordering::SeqCst);
}

/// Does what is wanted and nobody is at, until all of it is done or this processor is `called_away`.
pub(super) fn go_on(this: usize, called_away: impl Fn() -> bool) {
    for chore in Chore::ALL {
        let desk = chore.desk();
        if !desk.wanted.load(Ordering::Relaxed) || desk.busy.swap(true, Ordering::Acquire) {
            continue;
        }
        AT_IT.fetch_add(1, Ordering::SeqCst);
        // Whoever wants rest says so before he counts those at it.
        if RESTS.load(Ordering::SeqCst) == 0
            && let Some(step) = desk.step.get()
        {
            desk.begun[this % MOST].fetch_add(1, Ordering::Relaxed);
            desk.wanted.store(false, Ordering::SeqCst);
            while step() {
                if called_away() || RESTS.load(Ordering::Relaxed) > 0 {
                    desk.wanted.store(true, Ordering::SeqCst);
                    break;
                }
            }
        }
        AT_IT.fetch_sub(1, Ordering::SeqCst);
        desk.busy.store(false, Ordering::Release);
    }
}

/// How often the processor with this number has begun with a chore.
pub fn begun(chore: Chore, number: usize) -> u64 {
    chore.desk().begun.get(number).map_or(0, |begun| begun.load(Ordering::Relaxed))
}

/// As long as there is one, nobody is at a chore.
#[derive(Debug)]
pub struct Rest(());

/// Waits until nobody is at a chore any more, which may take as long as a disk does. No lock may be held.
pub fn rest() -> Rest {
    RESTS.fetch_add(1, Ordering::SeqCst);
    while AT_IT.load(Ordering::SeqCst) > 0 {
        hint::spin_loop();
    }
    Rest(())
}

impl Drop for Rest {
    fn drop(&mut self) {
        RESTS.fetch_sub(1, Ordering::SeqCst);
    }
}
