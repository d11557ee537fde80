//! Where frames go that inherited pages give up: to the pools of cleancache that lend them, or to free memory.

use super::Class;
use crate::Cleancache;
use alloc::vec::Vec;
use cleancache::PoolId;
use frames::{Frame, FrameRun, Memory, PfnRange};

/// The pools that have a claim.
#[derive(Debug, Default)]
pub(crate) struct Homes {
    /// Pools that lend ranges: every frame of the range is theirs.
    ranges: Vec<(PfnRange, PoolId)>,
    /// The pool to which any frame is as good as another, and how many it is owed.
    any: Option<PoolId>,
    owed: u64,
}

impl Homes {
    pub(super) fn add_range(&mut self, range: PfnRange, pool: PoolId) {
        self.ranges.push((range, pool));
    }

    pub(super) fn owe(&mut self, pool: PoolId, frames: u64) {
        (self.any, self.owed) = (Some(pool), frames);
    }

    /// The pages in whose frames `pool` is interested.
    pub(super) fn class_of(&self, pool: PoolId) -> Option<Class> {
        match () {
            () if self.any == Some(pool) => Some(Class::Cold),
            () if self.ranges.iter().any(|&(_, other)| other == pool) => Some(Class::Lodged),
            () => None,
        }
    }

    /// How many frames the pool without a range is owed.
    pub(super) fn owed(&self) -> u64 {
        self.owed
    }

    /// The first frames of `range` that lie in a pool's range all of them, or none of them; and which.
    pub(super) fn split(&self, range: PfnRange) -> (PfnRange, bool) {
        for &(lent, _) in &self.ranges {
            let inside = lent.intersect(range);
            if inside.is_empty() {
                continue;
            }
            return match inside.start == range.start {
                true => (inside, true),
                false => (PfnRange::new(range.start, inside.start), false),
            };
        }
        (range, false)
    }

    /// Whether `frame` may be left in the place of one that holds a page of this class.
    #[inline]
    pub(super) fn may_exchange(&self, memory: &Memory, class: Class, frame: &Frame) -> bool {
        match class {
            Class::Lodged => false,
            Class::Cold => self.owed == 0 || memory.is_ordinary(frame),
            Class::Warm => true,
        }
    }

    /// Frames that hold nothing any more go where they belong.
    pub(super) fn release(&mut self, cleancache: &Cleancache, class: Class, mut run: FrameRun) {
        let pool = match class {
            Class::Lodged => self.ranges.iter().find(|(range, _)| range.contains(run.start())).map(|&(_, pool)| pool),
            Class::Cold if self.owed > 0 => {
                if run.len() as u64 > self.owed {
                    // The others are nobody's, and free.
                    run = run.split_at(self.owed as usize).0;
                }
                self.owed -= run.len() as u64;
                self.any
            }
            Class::Cold | Class::Warm => None,
        };
        // A pool that is closed has no claim any more: its frames are free, like those of no pool.
        match pool {
            Some(pool) => drop(cleancache.donate_run(pool, run)),
            None => drop(run),
        }
    }
}
