//! Two clocks: time since this kernel started, from the time-stamp counter, and the date, from the clock chip at boot.

use core::time::Duration;
use spin::Once;

use crate::arch::tsc::{self, Source};
use crate::drivers::rtc;

/// What was found out at boot; never changed afterwards.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// The counter when the kernel was entered.
    start: u64,
    /// Ticks per second, and who says so.
    frequency: u64,
    source: Source,
    /// Microseconds per tick, as a 32.32 fixed-point number.
    micros_per_tick: u64,
    /// The date when the kernel was entered, in seconds since 1970; 0 if there is no clock.
    boot_date: u64,
}

static CLOCK: Once<Clock> = Once::new();

/// Finds the counter's frequency and the date. `start` is the counter at the kernel's first instruction, `known` what the kernel before had
/// found the frequency to be, or 0.
pub fn init(start: u64, known: u64) -> Source {
    let (frequency, source) = tsc::frequency(known);
    CLOCK.call_once(|| Clock {
        start,
        frequency,
        source,
        micros_per_tick: (1_000_000 << 32) / frequency.max(1),
        boot_date: rtc::seconds_since_epoch().unwrap_or(0),
    });
    source
}

/// Ticks of the time-stamp counter per second.
pub fn frequency() -> u64 {
    CLOCK.get().map_or(1_000_000_000, |clock| clock.frequency)
}

/// The same for the next kernel to go by; 0 where it is a mere assumption.
pub fn known_frequency() -> u64 {
    CLOCK.get().filter(|clock| clock.source != Source::Assumed).map_or(0, |clock| clock.frequency)
}

/// Microseconds since the kernel was entered; 0 before [`init`].
pub fn uptime_micros() -> u64 {
    CLOCK.get().map_or(0, |clock| ticks_to_micros(tsc::now().saturating_sub(clock.start)))
}

/// Time since the kernel was entered.
pub fn uptime() -> Duration {
    Duration::from_micros(uptime_micros())
}

/// Time since 1970-01-01 UTC; without a clock chip, since this boot.
pub fn now() -> Duration {
    let date = CLOCK.get().map_or(0, |clock| clock.boot_date);
    Duration::from_secs(date).saturating_add(uptime())
}

/// How long `ticks` of the time-stamp counter are.
pub fn ticks_to_micros(ticks: u64) -> u64 {
    let per_tick = CLOCK.get().map_or(0, |clock| clock.micros_per_tick);
    u64::try_from((u128::from(ticks) * u128::from(per_tick)) >> 32).unwrap_or(u64::MAX)
}

/// How long `ticks` of the time-stamp counter are.
pub fn ticks_to_nanos(ticks: u64) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000_000_000 / u128::from(frequency().max(1))).unwrap_or(u64::MAX)
}

/// A moment by which something has to be done.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: u64,
    ticks: u64,
}

impl Deadline {
    /// The moment `seconds` from now.
    pub fn after_seconds(seconds: u64) -> Self {
        Self { start: tsc::now(), ticks: frequency().saturating_mul(seconds) }
    }

    /// The moment `millis` milliseconds from now.
    pub fn after_millis(millis: u64) -> Self {
        Self { start: tsc::now(), ticks: (frequency() / 1000).saturating_mul(millis) }
    }

    /// Whether the moment has passed.
    pub fn passed(&self) -> bool {
        tsc::now().saturating_sub(self.start) > self.ticks
    }
}
