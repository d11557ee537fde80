//! How much may be dirty, and for how long.
//!
//! As in Linux: past a tenth of the memory that could hold pages of files they are written whenever somebody has the time
//! ([`PageCache::write_back_some`]), past a fifth those who dirty more have to write some first, or wait while another does; and no page waits longer than
//! two rounds of age. A disk that takes nothing slows nobody down: nothing comes of waiting for it. But when what it did not take
//! has become too much by itself, no more is accepted.

use crate::PageCache;
use crate::backing::FillError;
use crate::dirty::Next;
use crate::pages::Pages;
use crate::write_back::Flown;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

/// Percent of memory that may be dirty before it is written in the background, and before writers have to write.
const BACKGROUND: usize = 10;
const LIMIT: usize = 20;
/// So many may always be dirty.
const FLOOR: usize = 8;

/// A page is written when it has been dirty for one to two of these.
const ROUND: Duration = Duration::from_secs(15);

/// A writer looks whether there is too much after as many pages.
const EVERY: u32 = 8;
/// Runs that a writer writes at once when there is.
const RUNS_OF_A_WRITER: usize = 4;
/// Runs that are written at one safe point.
const RUNS_AT_ONCE: usize = 4;

impl PageCache {
    /// Write some of what has been dirty for long, and of what is too much; `now` is the time since some moment. To be called now
    /// and then, where nothing is locked. Whether there is more to write at once.
    pub fn write_back_some(&self, now: Duration) -> bool {
        let mut state = self.state.lock();
        if now.saturating_sub(state.round) >= ROUND {
            state.round = now;
            state.pages.grow_old();
        }
        drop(state);
        for _ in 0..RUNS_AT_ONCE {
            let state = self.state.lock();
            let writable = state.pages.dirty_len() - state.pages.failed_len();
            if state.pages.owed_len() == 0 && writable <= self.share(&state.pages, BACKGROUND) {
                return false;
            }
            match self.fly(state, Next::Any) {
                Flown::Landed(Err(FillError::NoMemory)) | Flown::Nothing | Flown::Busy(_) | Flown::Within => {
                    return false;
                }
                Flown::Landed(_) => {}
            }
        }
        true
    }

    /// Whoever is about to dirty pages writes some first, when too many are.
    #[inline]
    pub(crate) fn pace(&self) -> Result<(), FillError> {
        if self.dirtied.load(Relaxed) < EVERY { Ok(()) } else { self.slow_down() }
    }

    #[cold]
    fn slow_down(&self) -> Result<(), FillError> {
        self.dirtied.store(0, Relaxed);
        for _ in 0..RUNS_OF_A_WRITER {
            let state = self.state.lock();
            let (limit, failed) = (self.share(&state.pages, LIMIT), state.pages.failed_len());
            if failed > limit {
                // The next one looks again.
                self.dirtied.store(EVERY, Relaxed);
                return Err(state.files.last_failure().unwrap_or(FillError::DeadDevice));
            }
            if state.pages.dirty_len() - failed <= limit {
                break;
            }
            match self.fly(state, Next::Any) {
                Flown::Landed(Err(FillError::NoMemory)) | Flown::Nothing | Flown::Within => break,
                Flown::Busy(flight) => self.wait_out(flight),
                Flown::Landed(_) => {}
            }
        }
        Ok(())
    }

    /// So many percent of the frames that hold pages of files, or could.
    fn share(&self, pages: &Pages, percent: usize) -> usize {
        let frames = pages.len() + self.memory.free_frames(frames::Zones::Ephemeral) as usize;
        (frames / 100 * percent + frames % 100 * percent / 100).max(FLOOR)
    }
}
