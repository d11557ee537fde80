//! The work that need not wait for a kexec, so that the machine need not stand still for it: checksums of what is in tmpfs and of
//! cached pages, and pages moved to where they can be handed over.
//!
//! It is done when the next kernel is loaded, and goes on with what changed since whenever the shell has nothing to do. What is left
//! when the kexec begins is done then, up to a bound; what is beyond that crosses without a checksum.

use core::fmt;

use cache::Progress;
use log::warn;

use super::{Generation, KexecError, Step};
use crate::system::System;

/// Pages of each kind that are worked on before anybody else may have a say.
const STEP: u64 = 256;
/// Pages of tmpfs that are hashed while the machine stands still, at most: ten million instructions.
const MOST_AT_LAST: u64 = 16 * 1024;
/// Cached pages that are moved out of the scratch area then, at most.
const MOST_MOVED: usize = 2048;

/// How far the work is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead {
    /// Frames given back that files had ahead of their growth.
    trimmed: u64,
    /// Pages of tmpfs that were hashed.
    hashed: u64,
    /// Cached pages that were hashed, and that were moved; whether all have been looked at since the last command.
    cached: Progress,
}

impl Ahead {
    /// Does all of it. `called_off` is asked now and then.
    ///
    /// # Errors
    /// [`KexecError::CalledOff`].
    pub fn all(system: &System, called_off: &mut dyn FnMut() -> bool) -> Result<Self, KexecError> {
        let trimmed = system.tmpfs().iter().map(|(_, tmpfs)| tmpfs.trim()).sum();
        let mut ahead = Self { trimmed, ..Self::default() };
        system.cache.prepare_again();
        while ahead.go_on(system) {
            if called_off() {
                return Err(KexecError::CalledOff(Step::Ahead));
            }
        }
        Ok(ahead)
    }

    /// Does some of it; says whether there is more.
    fn go_on(&mut self, system: &System) -> bool {
        let mut left = 0;
        for (_, tmpfs) in system.tmpfs() {
            let progress = tmpfs.take_sums(STEP);
            self.hashed += progress.hashed;
            left += progress.left;
        }
        if !self.cached.done {
            let Progress { hashed, moved, done } = system.cache.prepare_handover(STEP as usize);
            self.cached.hashed += hashed;
            self.cached.moved += moved;
            self.cached.done = done;
        }
        left > 0 || !self.cached.done
    }
}

impl fmt::Display for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trimmed, hashed, cached } = self;
        write!(
            f,
            "{hashed} pages of tmpfs hashed, {} cached pages hashed, {} moved, {trimmed} frames given back",
            cached.hashed, cached.moved
        )
    }
}

impl Generation {
    /// Something may have changed since the last work ahead.
    pub fn look_again(&self, system: &System) {
        let loaded = self.loaded.lock().as_mut().map(|loaded| loaded.ahead.cached.done = false);
        if loaded.is_some() {
            system.cache.prepare_again();
        }
    }

    /// Does some work ahead, if a kernel is loaded; says whether there is more. No lock may be held.
    pub fn work_ahead(&self, system: &System) -> bool {
        // Taken out meanwhile, since the work needs other locks.
        let Some(mut loaded) = self.take_loaded() else { return false };
        let more = loaded.ahead.go_on(system);
        self.put_loaded(loaded);
        more
    }
}

/// Does for what changed since the work ahead what can be done now that the machine stands still.
pub fn the_rest(system: &System) {
    system.cache.prepare_at_last(MOST_MOVED);
    let mut most = MOST_AT_LAST;
    let mut left = 0;
    for (_, tmpfs) in system.tmpfs() {
        let progress = tmpfs.take_sums(most);
        most = most.saturating_sub(progress.hashed);
        left += progress.left;
    }
    if left > 0 {
        warn!(target: "kexec", "content of {left} files crosses without a checksum: too much of it changed since the load");
    }
}
