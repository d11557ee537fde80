//! What donors do, and what the model knows of that.

use crate::Op;
use crate::bench::Sort;
use crate::model::{Model, Pool, add, of_pool};
use cleancache::{PoolStats, TakeError};
use frames::{Frame, Pfn, PfnRange, Zones};

impl Model {
    /// The page in a frame that the donor has now is gone.
    pub fn forget_page_in(&mut self, frame: &Frame) {
        let mut copy = self.memory.allocate(Zones::Ephemeral).expect("memory");
        copy.copy_frame(frame);
        let value = u32::from_le_bytes(copy.bytes()[..4].try_into().expect("four bytes"));
        self.entries.retain(|entry| entry.value != value);
    }

    pub fn take_home(&mut self, at: usize, frame: Frame, used: bool) {
        if used {
            self.forget_page_in(&frame);
        }
        self.pools[at].donated -= 1;
        self.pools[at].names.retain(|&name| name != frame.pfn());
        if self.annex.contains(frame.pfn()) {
            self.home.push(frame);
        }
    }

    pub fn pool_stats(&self, at: usize) -> PoolStats {
        let id = self.pools[at].id;
        self.stats().into_iter().find(|&(known, _)| known == id).expect("registered").1
    }

    pub fn take_any(&mut self, at: usize, most: usize) {
        let before = self.pool_stats(at);
        let id = self.pools[at].id;
        let mut taken = self.cleancache.take_any(id, most).expect("registered");
        assert_eq!(taken.len(), most.min(self.pools[at].donated), "fewer than there are");
        let used = self.pool_stats(at).taken_used - before.taken_used;
        assert_eq!(used, (taken.len() as u64).saturating_sub(before.free), "free ones go first");
        if self.exact {
            let mut left = used;
            self.entries.retain(|entry| {
                let goes = entry.pool == id && left > 0;
                left -= u64::from(goes);
                !goes
            });
        }
        for nth in 0..taken.len() as u64 {
            let frame = taken.pop_front().expect("counted");
            self.take_home(at, frame, nth >= before.free);
        }
    }

    pub fn donate(&mut self, at: usize, frames: usize) {
        let pool = &mut self.pools[at];
        for _ in 0..frames {
            let frame = match pool.sort {
                Sort::Untrusted => self.home.pop(),
                _ => self.memory.allocate(Zones::Preservable),
            };
            let Some(mut frame) = frame else { return };
            frame.zero();
            pool.names.push(frame.pfn());
            assert!(self.cleancache.donate(pool.id, frame).is_ok());
            pool.donated += 1;
        }
    }

    pub fn apply_donor(&mut self, op: Op) {
        let count = self.pools.len();
        let pool = |at: usize| at.checked_rem(count);
        match op {
            Op::Donate { pool: at, frames } => {
                if let Some(at) = pool(at) {
                    self.donate(at, frames);
                }
            }
            Op::TakeBack { pool: at, which } => {
                let Some(at) = pool(at) else { return };
                let Pool { id, sort, donated, ref names } = self.pools[at];
                let all = self.memory.span();
                // The donor of exchangeable frames has to look for one; any frame of the arena may be its.
                let candidates: Vec<Pfn> = match sort {
                    Sort::Exchangeable => (0..all.count).map(|at| all.start.offset(at)).collect(),
                    _ => names.clone(),
                };
                let before = self.pool_stats(at).taken_used;
                let taken = (0..candidates.len()).find_map(|nth| {
                    let pfn = candidates[which.wrapping_add(nth) % candidates.len()];
                    let taken = self.cleancache.take_back(id, pfn).ok();
                    assert!(taken.is_some() || sort == Sort::Exchangeable, "a frame that does not come back");
                    taken
                });
                assert_eq!(taken.is_some(), donated > 0);
                if let Some(frame) = taken {
                    let used = self.pool_stats(at).taken_used > before;
                    self.take_home(at, frame, used);
                }
            }
            Op::TakeAny { pool: at, most } => {
                if let Some(at) = pool(at) {
                    self.take_any(at, most);
                }
            }
            Op::TakeRange { pool: at, which, len } => {
                let Some(at) = pool(at).filter(|&at| self.pools[at].sort != Sort::Exchangeable) else { return };
                let Pool { id, ref names, .. } = self.pools[at];
                let Some(&start) = which.checked_rem(names.len()).and_then(|which| names.get(which)) else { return };
                let missing = (0..len).map(|nth| start.offset(nth)).find(|pfn| !names.contains(pfn));
                // From the one that is missing on, when one is: what was taken before it would be lent again without its page.
                let range = PfnRange { start: missing.unwrap_or(start), count: len };
                match self.cleancache.take_range(id, range) {
                    Ok(run) => {
                        assert_eq!((missing, run.range()), (None, range));
                        // A frame that held nothing has the bytes of a page that is gone already.
                        run.into_iter().for_each(|frame| self.take_home(at, frame, true));
                    }
                    Err(error) => assert_eq!(Some(error), missing.map(TakeError::NotHere)),
                }
            }
            Op::Unregister { pool: at } => {
                let Some(at) = pool(at) else { return };
                let stats = self.pool_stats(at);
                let Pool { id, donated, .. } = self.pools[at];
                let mut frames = self.cleancache.unregister_pool(id).expect("registered");
                assert_eq!(frames.len(), donated);
                add(&mut self.gone.pools, of_pool(&stats));
                self.gone.lost += stats.cached;
                if self.exact {
                    self.entries.retain(|entry| entry.pool != id);
                }
                while let Some(frame) = frames.pop_front() {
                    self.take_home(at, frame, !self.exact);
                }
                self.pools.remove(at);
            }
            of_a_user => unreachable!("{of_a_user:?}"),
        }
    }
}
