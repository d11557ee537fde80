//! The work that need not wait for a kexec, so that the machine need not stand still for it: checksums of what is in tmpfs and of
//! cached pages, and pages moved to where they can be handed over.
//!
//! It is done when the next kernel is loaded, and goes on with what changed since whenever the shell has nothing to do. What is left
//! when the kexec begins is done then, up to a bound; what is beyond that crosses without a checksum. Files of tmpfs are hashed by all
//! processors that have nothing else to do.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use cache::Progress;
use fs::tmpfs;
use log::warn;

use super::{Generation, KexecError, Step};
use crate::smp;
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
        let tmpfs::Progress { hashed, left } = hash(system, STEP * smp::online().count() as u64);
        self.hashed += hashed;
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
    let left = hash(system, MOST_AT_LAST).left;
    if left > 0 {
        warn!(target: "kexec", "content of {left} files crosses without a checksum: too much of it changed since the load");
    }
}

/// Takes checksums of up to `most` pages of the filesystems in memory, on all processors; each hashes one window of a file at least,
/// where there is one without a checksum.
fn hash(system: &System, most: u64) -> tmpfs::Progress {
    // What is left is what the processor says who has found the least.
    let all: Vec<_> = system.tmpfs().into_iter().map(|(_, tmpfs)| (tmpfs, AtomicU64::new(u64::MAX))).collect();
    let (hashed, allowed) = (AtomicU64::new(0), AtomicU64::new(most));
    smp::spread(&|_| {
        for (tmpfs, left) in &all {
            loop {
                let take = |allowed: u64| Some(allowed.saturating_sub(STEP));
                let step = allowed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0).min(STEP);
                let progress = tmpfs.take_sums(step);
                hashed.fetch_add(progress.hashed, Ordering::Relaxed);
                let unused = step.saturating_sub(progress.hashed);
                let allowed = allowed.fetch_add(unused, Ordering::Relaxed).saturating_add(unused);
                left.fetch_min(progress.left, Ordering::Relaxed);
                if progress.hashed == 0 || progress.left == 0 || allowed == 0 {
                    break;
                }
            }
        }
    });
    let left = all.into_iter().map(|(_, left)| left.into_inner()).sum();
    tmpfs::Progress { hashed: hashed.into_inner(), left }
}
