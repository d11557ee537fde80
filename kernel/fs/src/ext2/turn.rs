//! Changes take turns.
//!
//! A change reads what it needs from the disk while it is on its way, so what keeps changes apart cannot be a lock: no lock is
//! held across disk I/O. A turn is a promise among those who change things; whoever reads, and the page cache on its way to the
//! disk, neither takes a turn nor waits for one. Nothing may be locked when one is taken.

use core::hint;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whose turn it is: somebody's or nobody's.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: AtomicBool,
}

impl Turns {
    /// Wait until nobody else has the turn, and have it until what is returned is dropped.
    #[inline]
    pub(super) fn take(&self) -> Turn<'_> {
        while self.taken.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            hint::spin_loop();
        }
        Turn { turns: self }
    }
}

/// The turn.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.turns.taken.store(false, Ordering::Release);
    }
}
