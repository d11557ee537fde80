//! The carve-out: memory set aside at boot and lent to cleancache until somebody wants a piece of it, in one piece.
//!
//! That any range of it can be had at once, whatever is in it, is what a carve-out is for: nothing has to be moved or written
//! first. A range that was [allocated](CarveOut::allocate) is on the list of what is out until it is [freed](CarveOut::free).
//! Frames that are [taken back](CarveOut::take_back) become ordinary memory for good, from the top. Under one lock: what is
//! lent and what is out are sorted lists of disjoint ranges, and the pool has exactly what is lent, but for frames in which inherited
//! pages are: those it gets as the page cache gives them up, at once where they are wanted.

use alloc::sync::Arc;
use alloc::vec::Vec;
use cache::PageCache;
use cleancache::{Kind, PoolId};
use core::fmt;
use frames::{FrameRun, Lock, PfnRange, Rank};
use log::{info, warn};

use crate::{Donor, TooManyPools, pool};

/// What the pool is called.
pub const NAME: &str = "carveout";

/// A carve-out that was lent.
#[derive(Debug)]
pub struct CarveOut {
    cache: Arc<PageCache>,
    pool: PoolId,
    state: Lock<State>,
}

#[derive(Debug, Default)]
struct State {
    lent: Ranges,
    out: Ranges,
    /// Frames that became ordinary memory.
    gone: u64,
}

/// How many frames were taken back, and what was in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Frames that held nothing.
    pub free: u64,
    /// Frames that held a page, which is gone.
    pub used: u64,
}

impl Taken {
    /// All of them.
    pub fn frames(&self) -> u64 {
        self.free + self.used
    }
}

/// Why a range cannot be had, or not be given back.
#[derive(Debug)]
pub enum RangeError {
    /// No lent range is so long.
    NoRange {
        /// Frames asked for.
        wanted: u64,
        /// The longest range that is lent.
        longest: u64,
    },
    /// These frames are not out.
    NotOut(FrameRun),
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRange { wanted, longest } => {
                write!(f, "no {wanted} frames in one piece; the longest has {longest}")
            }
            Self::NotOut(run) => write!(f, "frames {:?} were not allocated here", run.range()),
        }
    }
}

impl core::error::Error for RangeError {}

impl CarveOut {
    /// Lends the frames of `range`, which are set aside. Those of `inherited` (sorted, disjoint) hold pages that the page cache is
    /// about to inherit, and come to the pool when it gives them up.
    ///
    /// # Errors
    /// [`TooManyPools`].
    pub fn lend(
        cache: Arc<PageCache>,
        range: PfnRange,
        inherited: impl Iterator<Item = PfnRange>,
    ) -> Result<Self, TooManyPools> {
        let pool = pool(cache.cleancache(), NAME, Kind::Fixed)?;
        let carve_out = Self { cache, pool, state: Lock::new(Rank::Donation, State::default()) };
        let mut held = 0;
        if !range.is_empty() {
            carve_out.cache.lodge(range, pool);
            let mut from = range.start;
            for page in inherited.map(|page| page.intersect(range)).filter(|page| !page.is_empty()) {
                carve_out.lend_aside(PfnRange::new(from, page.start));
                carve_out.state.lock().lent.insert(page);
                held += page.count;
                from = page.end();
            }
            carve_out.lend_aside(PfnRange::new(from, range.end()));
        }
        let lent = carve_out.state.lock().lent.frames();
        match held {
            0 => info!(target: "donate", "{NAME}: {lent} frames lent to cleancache"),
            _ => {
                info!(target: "donate", "{NAME}: {lent} frames lent to cleancache, {held} of them with inherited pages")
            }
        }
        Ok(carve_out)
    }

    /// Lends frames that are set aside.
    fn lend_aside(&self, range: PfnRange) {
        if range.is_empty() {
            return;
        }
        match self.cache.memory().claim(range) {
            Ok(run) => self.lend_run(&mut self.state.lock(), run),
            Err(error) => warn!(target: "donate", "{NAME}: {error}"),
        }
    }

    /// `frames` frames in one piece, the first that are found; pages in them are gone.
    ///
    /// # Errors
    /// [`RangeError::NoRange`].
    pub fn allocate(&self, frames: u64) -> Result<FrameRun, RangeError> {
        let mut state = self.state.lock();
        let longest = state.lent.longest();
        let error = RangeError::NoRange { wanted: frames, longest };
        let Some(range) = state.lent.first_of(frames) else { return Err(error) };
        self.cache.vacate(range);
        match self.cache.cleancache().take_range(self.pool, range) {
            Ok(run) => {
                state.lent.remove(range);
                state.out.insert(range);
                Ok(run)
            }
            // The pool has every frame that is lent, so this does not come about.
            Err(reason) => {
                warn!(target: "donate", "{NAME}: {reason}");
                Err(error)
            }
        }
    }

    /// Lends a range again that was allocated, or a part of it.
    ///
    /// # Errors
    /// [`RangeError::NotOut`] hands the frames back.
    pub fn free(&self, run: FrameRun) -> Result<(), RangeError> {
        let mut state = self.state.lock();
        if !state.out.remove(run.range()) {
            return Err(RangeError::NotOut(run));
        }
        self.lend_run(&mut state, run);
        Ok(())
    }

    /// What was allocated and not freed.
    pub fn out(&self) -> Vec<PfnRange> {
        self.state.lock().out.0.clone()
    }

    /// Takes up to `wanted` frames back; they become free memory.
    pub fn take_back(&self, wanted: u64) -> Taken {
        let mut state = self.state.lock();
        let used_before = self.used();
        let (mut frames, mut inherited) = (0, 0);
        while frames < wanted
            && let Some(top) = state.lent.top(wanted - frames)
        {
            inherited += self.cache.vacate(top);
            state.lent.remove(top);
            for at in (0..top.count).rev() {
                // The pool has every frame that is lent, so this fails for none of them.
                match self.cache.cleancache().take_back(self.pool, top.start.offset(at)) {
                    Ok(frame) => {
                        drop(frame);
                        frames += 1;
                    }
                    Err(error) => warn!(target: "donate", "{NAME}: {error}"),
                }
            }
        }
        state.gone += frames;
        let used = self.used() - used_before + inherited;
        Taken { free: frames - used, used }
    }

    fn lend_run(&self, state: &mut State, run: FrameRun) {
        let range = run.range();
        match self.cache.cleancache().donate_run(self.pool, run) {
            Ok(()) => state.lent.insert(range),
            // The pool lives as long as this and the frames are this machine's, so this does not come about.
            Err((error, rest)) => {
                warn!(target: "donate", "{NAME}: {} frames not lent: {error}", rest.len());
            }
        }
    }

    /// Frames of the pool that were taken back with a page in them, so far.
    fn used(&self) -> u64 {
        self.cache.cleancache().pool_stats().iter().filter(|pool| pool.name == NAME).map(|pool| pool.taken_used).sum()
    }
}

/// Nobody asks but the guest itself. It does not relieve, since it is kept for those who need one piece.
impl Donor for CarveOut {
    fn name(&self) -> &str {
        NAME
    }

    fn report(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let state = self.state.lock();
        if state.lent.frames() + state.out.frames() + state.gone == 0 {
            return Ok(());
        }
        writeln!(
            out,
            "{NAME}: {} frames lent, the longest piece {}; {} allocated in {} pieces; {} are ordinary memory now",
            state.lent.frames(),
            state.lent.longest(),
            state.out.frames(),
            state.out.0.len(),
            state.gone
        )
    }
}

/// Disjoint ranges, sorted; none is empty, and neighbours are joined.
#[derive(Debug, Default)]
struct Ranges(Vec<PfnRange>);

impl Ranges {
    fn frames(&self) -> u64 {
        self.0.iter().map(|range| range.count).sum()
    }

    fn longest(&self) -> u64 {
        self.0.iter().map(|range| range.count).max().unwrap_or(0)
    }

    /// Up to `most` frames of the topmost range, its last ones.
    fn top(&self, most: u64) -> Option<PfnRange> {
        let range = self.0.last().filter(|_| most > 0)?;
        let count = range.count.min(most);
        Some(PfnRange { start: range.start.offset(range.count - count), count })
    }

    /// The first `count` frames of the first range that is long enough.
    fn first_of(&self, count: u64) -> Option<PfnRange> {
        let fits = |range: &&PfnRange| count > 0 && range.count >= count;
        self.0.iter().find(fits).map(|range| PfnRange { start: range.start, count })
    }

    /// Adds `range`, of which nothing is here.
    fn insert(&mut self, range: PfnRange) {
        if range.is_empty() {
            return;
        }
        let at = self.0.partition_point(|other| other.start < range.start);
        self.0.insert(at, range);
        self.join(at);
        if let Some(before) = at.checked_sub(1) {
            self.join(before);
        }
    }

    /// Joins the range at `at` with the next one, if they touch.
    fn join(&mut self, at: usize) {
        if let (Some(&this), Some(&next)) = (self.0.get(at), self.0.get(at + 1))
            && this.end() == next.start
        {
            self.0.remove(at + 1);
            if let Some(this) = self.0.get_mut(at) {
                this.count += next.count;
            }
        }
    }

    /// Takes `range` out; says whether all of it was here.
    fn remove(&mut self, range: PfnRange) -> bool {
        let Some(at) = self.0.iter().position(|from| from.covers(range)).filter(|_| !range.is_empty()) else {
            return false;
        };
        let from = self.0.remove(at);
        let rest = [PfnRange::new(from.start, range.start), PfnRange::new(range.end(), from.end())];
        for part in rest.into_iter().rev().filter(|part| !part.is_empty()) {
            self.0.insert(at, part);
        }
        true
    }
}
