//! The donors' side: pools come and go, frames are lent, and taken back.
//!
//! A frame is lent to the shard that it is [dealt](crate::deal) to, and is found there when it is taken back; where frames are exchanged it may
//! be in another, so all are asked. Nothing here waits for a page: what is in a frame that is taken back is dropped.

use crate::{Cleancache, DonateError, PoolConfig, PoolId, StaleId, TakeError};
use frames::{Frame, FrameList, FrameRun, Memory, Pfn, PfnRange};

/// Frames that a donor is given in one hold of the lock, when it wants many: stores and restores go on in between.
const TAKE_BATCH: usize = 64;

impl Cleancache {
    /// A new pool, without frames. Everything that its frames will need is set aside here. `None` when there are as many pools
    /// as there can be, some 4,000, or its range is larger than all memory that there are records for.
    pub fn register_pool(&self, config: PoolConfig) -> Option<PoolId> {
        let _names = self.names.lock();
        let pool = self.shard(0).register_pool(config.clone(), None)?;
        for at in 1..self.deal.shards() {
            if self.shard(at).register_pool(config.clone(), Some(pool)).is_none() {
                (0..at).for_each(|at| drop(self.shard(at).unregister_pool(pool)));
                return None;
            }
        }
        Some(pool)
    }

    /// Close a pool: every frame of it comes out, whatever is in it.
    pub fn unregister_pool(&self, pool: PoolId) -> Result<FrameList, StaleId> {
        let _names = self.names.lock();
        let mut frames = self.shard(0).unregister_pool(pool)?;
        for mut shard in self.others() {
            let mut more = shard.unregister_pool(pool)?;
            while let Some(frame) = more.pop_front() {
                frames.push_back(frame);
            }
        }
        Ok(frames)
    }

    /// Lend a frame. An error hands the frame back.
    pub fn donate(&self, pool: PoolId, frame: Frame) -> Result<(), (DonateError, Frame)> {
        self.shard(self.deal.frame(frame.pfn())).donate(pool, frame)
    }

    /// Lend many frames. Those that are refused come back, all of them and no other, with the reason of the first.
    pub fn donate_list(&self, pool: PoolId, mut frames: FrameList) -> Result<(), (DonateError, FrameList)> {
        let count = frames.len();
        let memory = frames.memory();
        self.donate_all(pool, memory, core::iter::from_fn(|| frames.pop_front()).take(count))
    }

    /// Lend a run of frames. Those that are refused come back, all of them and no other, with the reason of the first.
    pub fn donate_run(&self, pool: PoolId, run: FrameRun) -> Result<(), (DonateError, FrameList)> {
        self.donate_all(pool, run.memory(), run.into_iter())
    }

    fn donate_all(
        &self,
        pool: PoolId,
        memory: &'static Memory,
        frames: impl Iterator<Item = Frame>,
    ) -> Result<(), (DonateError, FrameList)> {
        let mut rejects: Option<(DonateError, FrameList)> = None;
        let mut frames = frames.peekable();
        while let Some(first) = frames.peek() {
            let at = self.deal.frame(first.pfn());
            let mut shard = self.shard(at);
            while let Some(frame) = frames.next_if(|frame| self.deal.frame(frame.pfn()) == at) {
                if let Err((error, frame)) = shard.donate(pool, frame) {
                    rejects.get_or_insert_with(|| (error, FrameList::unnamed(memory))).1.push_back(frame);
                }
            }
        }
        rejects.map_or(Ok(()), Err)
    }

    /// The donor wants this frame back. An entry in it is dropped and misses from here on.
    ///
    /// # Errors
    /// [`TakeError`], when there is no such pool or the frame is none of it (taken already, or never donated).
    #[inline]
    pub fn take_back(&self, pool: PoolId, pfn: Pfn) -> Result<Frame, TakeError> {
        match self.others.is_empty() {
            true => self.first.0.lock().take_back(pool, pfn),
            false => self.take_from_shards(pool, pfn),
        }
    }

    #[inline(never)]
    fn take_from_shards(&self, pool: PoolId, pfn: Pfn) -> Result<Frame, TakeError> {
        // It is where it was dealt to, or else, by exchange, somewhere else.
        let dealt = self.deal.frame(pfn);
        for at in dealt..dealt + self.deal.shards() {
            match self.shard(at).take_back(pool, pfn) {
                Err(TakeError::NotHere(_)) => {}
                taken => return taken,
            }
        }
        Err(TakeError::NotHere(pfn))
    }

    /// The donor wants `most` frames back, any of them: free ones first, then those whose pages are the next to go. The shards keep
    /// about as many each. Fewer come only when the pool has no more, or another takes from it or closes it just now.
    ///
    /// # Errors
    /// [`TakeError::NoPool`].
    pub fn take_any(&self, pool: PoolId, most: usize) -> Result<FrameList, TakeError> {
        let mut taken = FrameList::unnamed(self.memory);
        while taken.len() < most {
            let before = taken.len();
            match self.take_some(pool, (TAKE_BATCH / self.deal.shards()).min(most - taken.len()), &mut taken) {
                // Closed since the last hold of a lock: what came out until then is the donor's all the same.
                Err(error) if taken.is_empty() => return Err(error),
                _ if taken.len() == before => break,
                _ => {}
            }
        }
        Ok(taken)
    }

    /// Take up to `most` frames from the shard that can best do without, in one hold of its lock.
    fn take_some(&self, pool: PoolId, most: usize, taken: &mut FrameList) -> Result<(), TakeError> {
        let (mut from, mut richest) = (0, (false, 0));
        // With one shard there is nothing to choose.
        for at in (0..self.deal.shards()).filter(|_| !self.others.is_empty()) {
            let (free, all) = self.shard(at).frames_of(pool)?;
            if (free > 0, all) > richest {
                (from, richest) = (at, (free > 0, all));
            }
        }
        let mut shard = self.shard(from);
        // Free ones of other shards go before pages of this one. But if a store took the last just now, one page goes.
        let (free, _) = shard.frames_of(pool)?;
        let most = if richest.0 { most.min(free.max(1)) } else { most };
        for _ in 0..most {
            let Some(frame) = shard.take_any(pool)? else { break };
            taken.push_back(frame);
        }
        Ok(())
    }

    /// The donor wants consecutive frames back, `range` and no other.
    ///
    /// # Errors
    /// [`TakeError`], with the first frame that is not in the pool; no frame is taken then, but the pages in those before it are
    /// gone. (But whoever closes the pool meanwhile,
    /// with frames of the range out of it already, has them freed: there is no pool any more to lend them to again.)
    pub fn take_range(&self, pool: PoolId, range: PfnRange) -> Result<FrameRun, TakeError> {
        let mut run: Option<FrameRun> = None;
        let mut next = range.start;
        while next < range.end() {
            let joined = self.take_back(pool, next).and_then(|frame| match &mut run {
                None => {
                    run = Some(frame.into());
                    Ok(())
                }
                // Neighbours in two annexes are not one run.
                Some(run) => run.append(frame.into()).map_err(|frame| {
                    let _ = frame.into_frame().map(|frame| self.donate(pool, frame));
                    TakeError::NotHere(next)
                }),
            });
            if let Err(error) = joined {
                for frame in run.into_iter().flatten() {
                    // It was in this pool just now.
                    let _ = self.donate(pool, frame);
                }
                return Err(error);
            }
            next = next.offset(1);
        }
        run.ok_or(TakeError::NotHere(range.start))
    }
}
