//! Work that one processor lends to others: a closure that may borrow from the lender's stack, for as long as the lender waits.

use core::hint;
use core::sync::atomic::{AtomicUsize, Ordering};

use frames::{Lock, Rank};

/// What can be lent. It is told the number of the processor that runs it.
pub type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// Where work lies that is lent.
pub struct Desk {
    place: Lock<Place>,
    /// How many are at it that have taken it from there.
    takers: AtomicUsize,
}

struct Place {
    /// The number of the latest work; 0 before there was any.
    number: u64,
    work: Option<&'static Work<'static>>,
}

impl Desk {
    /// An empty one.
    pub const fn new() -> Self {
        Self { place: Lock::new(Rank::Work, Place { number: 0, work: None }), takers: AtomicUsize::new(0) }
    }

    /// Lends `work` for as long as `meanwhile` runs, and comes back when all who have taken it are done. Does nothing, and says so, if
    /// something is lent already.
    pub fn lend(&self, work: &Work<'_>, meanwhile: impl FnOnce()) -> bool {
        // SAFETY: only the lifetime changes. The reference is on the desk until `meanwhile` is over, and with takers until none is left,
        // which is waited for; nothing unwinds past this, since a panic ends the kernel. So nobody has it when this returns.
        let work = unsafe { core::mem::transmute::<&Work<'_>, &'static Work<'static>>(work) };
        {
            let mut place = self.place.lock();
            // Takers that are not done may be waiting for this one.
            if place.work.is_some() || self.takers.load(Ordering::Relaxed) > 0 {
                return false;
            }
            place.number += 1;
            place.work = Some(work);
        }
        meanwhile();
        self.place.lock().work = None;
        while self.takers.load(Ordering::Acquire) > 0 {
            hint::spin_loop();
        }
        true
    }

    /// Whether work is lent other than the one with the number `done`.
    pub fn has_more_than(&self, done: u64) -> bool {
        let place = self.place.lock();
        place.work.is_some() && place.number != done
    }

    /// Runs what is lent on this processor, whose number is `this`, unless it was `done` here already; notes that it is.
    pub fn take(&self, done: &mut u64, this: usize) {
        let work = {
            let place = self.place.lock();
            let Some(work) = place.work.filter(|_| place.number != *done) else { return };
            *done = place.number;
            // With the lock held: the lender takes it off the desk before he counts takers.
            self.takers.fetch_add(1, Ordering::Relaxed);
            work
        };
        work(this);
        self.takers.fetch_sub(1, Ordering::Release);
    }
}
