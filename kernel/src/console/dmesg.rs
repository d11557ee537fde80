//! The latest lines of the log, kept in memory for `dmesg`: a ring of fixed size that forgets the oldest bytes. What happens too often
//! to be logged is counted, and `dmesg` ends with it.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

use frames::waits::waits;
use protocol::{Level, emit};

use crate::time;

/// Bytes kept: some 250 lines.
const CAPACITY: usize = 16 * 1024;

/// The bytes of the one ring, whose owner reads and writes them. They are all zeros at first, so outside the console's lock, which is
/// not, they take no room in the file.
static BYTES: [AtomicU8; CAPACITY] = [const { AtomicU8::new(0) }; CAPACITY];

/// The ring. `written` counts every byte ever put in, so the newest lies before `written % CAPACITY`.
pub struct Ring {
    written: usize,
}

impl Ring {
    /// A ring with nothing in it.
    pub(super) const fn new() -> Self {
        Self { written: 0 }
    }

    /// The bytes kept, oldest first.
    fn kept(&self) -> impl Iterator<Item = u8> {
        let (newer, older) = BYTES.split_at(self.written % CAPACITY);
        let older = if self.written < CAPACITY { &[] } else { older };
        older.iter().chain(newer).map(|byte| byte.load(Ordering::Relaxed))
    }
}

impl fmt::Write for Ring {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if let Some(slot) = BYTES.get(self.written % CAPACITY) {
                slot.store(byte, Ordering::Relaxed);
            }
            self.written += 1;
        }
        Ok(())
    }
}

/// A copy of the log as it stands, whole lines only. `None` if there is no memory for the copy.
pub fn snapshot() -> Option<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(CAPACITY).ok()?;
    let console = super::lock();
    copy.extend(console.log.kept());
    if console.log.written > CAPACITY {
        let first_line = copy.iter().position(|&byte| byte == b'\n').map_or(copy.len(), |end| end + 1);
        copy.drain(..first_line);
    }
    Some(copy)
}

/// A line like those of the log for each rank of locks that some processor has waited for.
///
/// # Errors
/// Those of `out`.
pub fn contention(out: &mut impl fmt::Write) -> fmt::Result {
    let now = time::uptime_micros();
    waits().try_for_each(|waits| emit::log_line(out, now, Level::Info, "locks", format_args!("{waits}")))
}
