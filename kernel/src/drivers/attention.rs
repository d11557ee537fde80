//! The bell that devices ring to be served when it suits the guest.
//!
//! An interrupt handler only rings it, taking no lock; the shell looks at safe points, where nothing is held, and serves.
//! A device whose interrupt could not be had is *polled*: it is looked at whenever the shell passes a safe point, though
//! not more often than every so many microseconds.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::time;

/// Between two looks at polled devices.
const POLL_MICROS: u64 = 20_000;

static RUNG: AtomicBool = AtomicBool::new(false);
static ALARM: AtomicBool = AtomicBool::new(false);
static POLLED: AtomicBool = AtomicBool::new(false);
static LAST_LOOK: AtomicU64 = AtomicU64::new(0);

/// Some device wants to be served.
pub fn ring() {
    RUNG.store(true, Ordering::Release);
}

/// Whether the bell was rung and nobody has answered yet.
pub fn is_rung() -> bool {
    RUNG.load(Ordering::Acquire)
}

/// The alarm has gone off.
pub fn alarm() {
    ALARM.store(true, Ordering::Release);
}

/// Whether the alarm has gone off since this was asked last.
pub fn take_alarm() -> bool {
    ALARM.swap(false, Ordering::AcqRel)
}

/// Some device cannot ring.
pub fn poll() {
    POLLED.store(true, Ordering::Relaxed);
}

/// Answers the bell: whether somebody has to be served now.
pub fn answer() -> bool {
    if RUNG.load(Ordering::Acquire) {
        return RUNG.swap(false, Ordering::AcqRel);
    }
    if !POLLED.load(Ordering::Relaxed) {
        return false;
    }
    let now = time::uptime_micros();
    let due = now.saturating_sub(LAST_LOOK.load(Ordering::Relaxed)) >= POLL_MICROS;
    if due {
        LAST_LOOK.store(now, Ordering::Relaxed);
    }
    due
}
