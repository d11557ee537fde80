//! The table of all machines. There is one in a guest, and on the host each test has its own: a frame carries its machine's place in it, and so finds its way home when it is dropped.
//!
//! Invariant: a machine that entered is valid for ever.

use super::Memory;
use alloc::boxed::Box;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Machines that can exist at a time. A guest has one; the tests of one process run side by side.
const MACHINES: usize = 1024;
/// Whether there is one machine only, at place 0: then no instruction is spent on which.
pub(crate) const ALONE: bool = cfg!(target_os = "none");

pub(super) static TABLE: [AtomicPtr<Memory>; MACHINES] = [const { AtomicPtr::new(ptr::null_mut()) }; MACHINES];

impl Memory {
    /// The machine at `place`, which a live frame names.
    #[inline]
    pub(crate) fn at(place: u16) -> &'static Memory {
        let entry = TABLE[usize::from(place) % MACHINES].load(Ordering::Relaxed);
        debug_assert!(!entry.is_null());
        // SAFETY: a frame carries the place of the machine that made it, which entered the table before it made any; none is ever
        // freed, and only one that has all of its frames, for ever, makes place for another (`again`).
        unsafe { &*entry }
    }

    pub(super) fn enter_table(mut self: Box<Self>) -> Option<&'static Memory> {
        let places = if ALONE { 1 } else { MACHINES };
        for (place, entry) in TABLE.iter().enumerate().take(places) {
            if !entry.load(Ordering::Relaxed).is_null() {
                continue;
            }
            self.place = place as u16;
            let raw = Box::into_raw(self);
            match entry.compare_exchange(ptr::null_mut(), raw, Ordering::Release, Ordering::Relaxed) {
                // SAFETY: `raw` is a leaked box, so it is valid for ever, and from here on only shared.
                Ok(_) => return Some(unsafe { &*raw }),
                // SAFETY: the entry did not take `raw`, so it is still the box that it was.
                Err(_) => self = unsafe { Box::from_raw(raw) },
            }
        }
        None
    }
}
