//! The balloon: a share of the guest's own memory that cleancache uses until the host wants it.
//!
//! The share is allocated at the start and lent to a pool whose frames are interchangeable. When the host raises its target,
//! frames go from the pool to the host, and only then frames that are the guest's own, as long as those are not few. When it
//! lowers it, they come back in the opposite order. Invariants, under one lock:
//! - a frame is the host's from before it is named in an inflate request until a deflate request with its name has been
//!   answered, and all that time it is on the list `held`, which nobody reads or writes;
//! - share = frames of the pool + (held − borrowed) + debt + those in which there are inherited pages, where `borrowed` are frames of
//!   the guest's own among those held, and `debt` frames of the share that the guest uses as its own because memory was
//!   short; inherited pages that were in cleancache lie in frames that would otherwise be the pool's, and make way for whoever
//!   asks the pool;
//! - the device is told how many are held after every change.
//!
//! The lock is taken before those of the caches, and held while the device answers, which it does at once or never, but not while the
//! guest looks for frames of its own. When memory is short the balloon may be asked from below: then the lock is only tried, and not by the
//! processor that serves the balloon.

mod device;
mod found;
mod steps;

use alloc::sync::Arc;
use cache::PageCache;
use cleancache::{Cleancache, Kind, PoolId};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::{fmt, hint};
use frames::lock::LockGuard;
use frames::{FrameList, Lock, Rank, Zones, cpu};
use log::{error, info, warn};

pub use self::device::BalloonDevice;
use self::found::{lend, spare};
pub use crate::statistics::{Statistic, Tag};
use crate::{Donor, Fault, TooManyPools, pool};

/// What the pool is called.
pub const NAME: &str = "balloon";
/// The most frames in one request.
pub const BATCH: usize = 256;
/// How often the lock is tried when memory is short: longer than another processor has it for a request.
const LOOKS: usize = 100_000;
/// No processor.
const NOBODY: usize = usize::MAX;

/// The balloon.
pub struct Balloon<D> {
    cache: Arc<PageCache>,
    pool: PoolId,
    state: Lock<State<D>>,
    /// The processor that serves it, with the lock or without, or [`NOBODY`].
    serving: AtomicUsize,
}

struct State<D> {
    /// `None` when it broke the rules.
    device: Option<D>,
    /// It did so at a moment when nothing could be done about it.
    fault: Option<Fault>,
    /// What the host has, or might have.
    held: FrameList,
    /// How many of those are the guest's own.
    borrowed: u64,
    /// Frames of the share that the guest uses as its own.
    debt: u64,
    /// The host's last target, and whether it was too absurd to follow.
    target: u32,
    absurd: bool,
    /// What happened.
    inflated: u64,
    deflated: u64,
    relieved: u64,
    reported: u64,
    statistics: u64,
}

impl<D: BalloonDevice> Balloon<D> {
    /// Takes `share` frames of the guest's memory, or as many as there are, and lends them to cleancache.
    ///
    /// # Errors
    /// [`TooManyPools`]; the device is then reset.
    pub fn start(cache: Arc<PageCache>, mut device: D, share: u64) -> Result<Self, TooManyPools> {
        let memory = cache.memory();
        let pool = pool(cache.cleancache(), NAME, Kind::Exchangeable).inspect_err(|_| {
            device.reset();
        })?;
        let mut frames = FrameList::unnamed(memory);
        let owed = cache.owe(pool, share);
        // Whatever is asked for, an eighth stays the guest's: tmpfs and the next kexec need some of it. What was inherited beside
        // that is as good as free.
        let others = cache.inherited().left - cache.inherited().cold;
        let free = u64::from(memory.free_frames(Zones::Preservable)) + others;
        let most = (share - owed).min(free - free / 8);
        while (frames.len() as u64) < most
            && let Some(frame) = spare(&cache)
        {
            frames.push_back(frame);
        }
        let lent = frames.len() as u64;
        lend(cache.cleancache(), pool, frames);
        match owed {
            0 => info!(target: "donate", "{NAME}: {lent} frames lent to cleancache"),
            _ => info!(target: "donate", "{NAME}: {lent} frames lent to cleancache, {owed} more as inherited pages go"),
        }
        if lent + owed < share {
            warn!(target: "donate", "{NAME}: there is no memory for more of {share} frames");
        }
        let state = State {
            device: Some(device),
            fault: None,
            held: FrameList::unnamed(memory),
            borrowed: 0,
            debt: 0,
            target: 0,
            absurd: false,
            inflated: 0,
            deflated: 0,
            relieved: 0,
            reported: 0,
            statistics: 0,
        };
        Ok(Self { cache, pool, state: Lock::new(Rank::Donation, state), serving: AtomicUsize::new(NOBODY) })
    }

    fn cleancache(&self) -> &Cleancache {
        self.cache.cleancache()
    }

    fn state_for_relief(&self) -> Option<LockGuard<'_, State<D>>> {
        // What is found for the host must not come from the host.
        if self.serving.load(Ordering::Relaxed) == cpu::number() {
            return None;
        }
        // Whoever asks may have the lock himself, and must not wait for ever.
        (0..LOOKS).find_map(|_| {
            hint::spin_loop();
            self.state.try_lock()
        })
    }

    /// Up to `most` frames of the pool: those in which nothing newer is first.
    fn of_pool(&self, most: usize) -> FrameList {
        if self.cache.claim_of(self.pool) > 0 {
            self.cache.settle(self.pool, most);
        }
        self.cleancache().take_any(self.pool, most).unwrap_or_else(|_| self.no_frames())
    }

    fn no_frames(&self) -> FrameList {
        FrameList::unnamed(self.cache.memory())
    }

    /// Up to `most` frames of the pool, then of the host, become free memory; adds to `freed` how many.
    fn relieve_now(&self, state: &mut State<D>, most: usize, freed: &mut usize) -> Result<(), Fault> {
        let lent = self.of_pool(most).len();
        state.debt += lent as u64;
        *freed += lent;
        self.deflate_for_guest(state, most, freed)
    }

    /// Up to `most` frames, less those in `freed`, come from the host and become free memory, if it permits that.
    fn deflate_for_guest(&self, state: &mut State<D>, most: usize, freed: &mut usize) -> Result<(), Fault> {
        let willing = state.fault.is_none() && state.device.as_ref().is_some_and(D::deflates_on_oom);
        while willing && *freed < most {
            let count = self.take_from_host(state, most - *freed)?.len();
            if count == 0 {
                break;
            }
            let own = state.borrowed.min(count as u64);
            state.borrowed -= own;
            state.debt += count as u64 - own;
            *freed += count;
        }
        Ok(())
    }
}

impl<D: BalloonDevice> Donor for Balloon<D> {
    fn name(&self) -> &str {
        NAME
    }

    fn serve(&self) -> bool {
        self.serving.store(cpu::number(), Ordering::Relaxed);
        let more = self.follow();
        self.serving.store(NOBODY, Ordering::Relaxed);
        more
    }

    /// Where the host wants to be told before its frames are used, it is told; everywhere else the reset says enough, and the
    /// next kernel starts with an empty balloon.
    fn quiesce(&self) {
        let mut state = self.state.lock();
        while state.device.as_ref().is_some_and(D::must_tell) && !state.held.is_empty() {
            if self.take_from_host(&mut state, BATCH).is_err() {
                break;
            }
        }
        if let Some(mut device) = state.device.take()
            && !device.reset()
        {
            error!(target: "donate", "{NAME}: the device does not stop");
        }
    }

    fn relieve(&self, frames: usize) -> usize {
        let Some(mut state) = self.state_for_relief() else { return 0 };
        let mut freed = 0;
        if let Err(fault) = self.relieve_now(&mut state, frames, &mut freed) {
            self.give_up(&mut state, fault);
        }
        state.relieved += freed as u64;
        freed
    }

    /// The pool is behind a lock that the caller may hold, so only the host is asked. A fault is dealt with when the balloon is
    /// served again.
    fn relieve_at_once(&self, frames: usize) -> usize {
        let Some(mut state) = self.state_for_relief() else { return 0 };
        let mut freed = 0;
        if let Err(fault) = self.deflate_for_guest(&mut state, frames, &mut freed) {
            state.fault = Some(fault);
        }
        state.relieved += freed as u64;
        freed
    }

    fn away(&self) -> u64 {
        self.state.lock().held.len() as u64
    }

    fn report(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let state = self.state.lock();
        let held = state.held.len() as u64;
        write!(
            out,
            "{NAME}: the host has {held} frames, {} of them the guest's own; it wants {}",
            state.borrowed, state.target
        )?;
        match (&state.device, state.absurd) {
            (None, _) if held > 0 => writeln!(out, " (device given up; those frames are lost)")?,
            (None, _) => writeln!(out, " (device given up)")?,
            (_, true) => writeln!(out, " (refused)")?,
            _ => writeln!(out)?,
        }
        writeln!(
            out,
            "  given {}  taken back {}  statistics told {}",
            state.inflated, state.deflated, state.statistics
        )?;
        writeln!(out, "  freed when memory was short {}, still in use {}", state.relieved, state.debt)?;
        writeln!(out, "  free frames reported {}", state.reported)
    }
}

impl<D> fmt::Debug for Balloon<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balloon").finish_non_exhaustive()
    }
}
