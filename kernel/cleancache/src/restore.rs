//! The way of a page back to who wants it: by exchange of frames or by copying, with or without a copy that stays.
//!
//! Pages that are wanted together mostly came together, so the policy cannot tell one from the next. Such a *streak* takes the same along,
//! and is counted when it ends, or before the policy is asked anything else.

use crate::entries::{File, State};
use crate::names::FileId;
use crate::policy::{Keepsake, Policy, QUEUES, Queues};
use crate::pools::{Open, Pools};
use alloc::boxed::Box;
use frames::{Frame, FrameMap, Key, Memory, Occupied};

/// Pages found one after the other in one queue of one pool, with the same bits noted.
struct Streak<'a> {
    open: Open<'a>,
    order: u16,
    bits: u16,
    keepsake: Keepsake,
    found: u32,
}

impl State {
    /// Restores pages of a file; `done` is told of each whether it was found, and what it takes along.
    #[inline(always)]
    pub(crate) fn restore_all<'f, T>(
        &mut self,
        file: FileId,
        pages: impl Iterator<Item = (u32, &'f mut Frame, T)>,
        mut done: impl FnMut(T, bool, Keepsake),
    ) {
        if !self.config.exclusive {
            for (index, frame, page) in pages {
                let (found, keepsake) = self.restore_copy(file, index, frame);
                done(page, found, keepsake);
            }
            return;
        }
        let Self { memory, policy, entries, pools, files, .. } = self;
        let Some(record) = files.get_mut(file) else {
            pages.for_each(|(_, _, page)| done(page, false, Keepsake::default()));
            return;
        };
        let mut streak: Option<Streak<'_>> = None;
        for (index, frame, page) in pages {
            let key = Key { file: file.slot(), index };
            if let Some(place) = entries.occupied(key) {
                let (order, bits) = (place.order(), place.private());
                if !streak.as_ref().is_some_and(|streak| streak.order == order && streak.bits == bits) {
                    Streak::count(&mut streak, policy, record);
                    streak = Streak::begin(pools, policy, order, bits);
                }
                if let Some(streak) = &mut streak
                    && streak.take(memory, place, frame)
                {
                    done(page, true, streak.keepsake);
                    continue;
                }
            }
            Streak::count(&mut streak, policy, record);
            record.misses += 1;
            done(page, false, policy.miss(key));
        }
        Streak::count(&mut streak, policy, record);
    }

    /// Restore one page, and keep the entry, for which the policy has another place. Whether the page was found, and what it takes along.
    #[inline(never)]
    fn restore_copy(&mut self, file: FileId, index: u32, frame: &mut Frame) -> (bool, Keepsake) {
        let key = Key { file: file.slot(), index };
        let Self { policy, entries, pools, files, .. } = self;
        let Some(record) = files.get_mut(file) else { return (false, Keepsake::default()) };
        let Some(keepsake) = copy_out(policy, entries, pools, key, frame) else {
            record.misses += 1;
            return (false, policy.miss(key));
        };
        record.hits += 1;
        (true, keepsake)
    }
}

impl<'a> Streak<'a> {
    /// One with no page yet.
    #[inline(never)]
    fn begin(pools: &'a mut Pools, policy: &mut Box<dyn Policy>, order: u16, bits: u16) -> Option<Self> {
        let open = pools.open(u32::from(order / QUEUES))?;
        Some(Self { open, order, bits, keepsake: policy.keepsake(order % QUEUES, bits), found: 0 })
    }

    /// Count the pages of a streak so far, if there are any.
    #[inline]
    fn count(streak: &mut Option<Self>, policy: &mut Box<dyn Policy>, record: &mut File) {
        if let Some(Self { open, order, bits, found, .. }) = streak
            && *found > 0
        {
            open.pool.hits += u64::from(*found);
            record.hits += u64::from(*found);
            policy.hit(*order % QUEUES, *bits, *found);
            *found = 0;
        }
    }

    /// Restore, and let the entry go. Whether the page was what had been stored.
    #[inline(always)]
    fn take(&mut self, memory: &Memory, place: Occupied<'_>, frame: &mut Frame) -> bool {
        let pool = &mut *self.open.pool;
        let mut kept = place.take().0.frame;
        if pool.exchange && memory.is_ordinary(frame) {
            core::mem::swap(frame, &mut kept);
        } else {
            frame.copy_frame(&kept);
            if pool.checked && !pool.confirms(kept.pfn(), frame.bytes()) {
                self.open.release(kept);
                return false;
            }
        }
        self.open.release(kept);
        self.found += 1;
        true
    }
}

fn copy_out(
    policy: &mut Box<dyn Policy>,
    entries: &mut FrameMap,
    pools: &mut Pools,
    key: Key,
    frame: &mut Frame,
) -> Option<Keepsake> {
    let found = entries.get(key)?;
    let (order, bits, pfn) = (found.order(), found.private(), found.pfn());
    let (slot, queue) = (u32::from(order / QUEUES), order % QUEUES);
    found.copy_to(frame);
    let mut open = pools.open(slot)?;
    if open.pool.checked && !open.pool.confirms(pfn, frame.bytes()) {
        open.release(entries.remove(key)?);
        return None;
    }
    open.pool.hits += 1;
    policy.hit(queue, bits, 1);
    let place = policy.stay(queue, bits);
    Queues::new(entries, slot, open.pool.donated, open.all_frames()).move_to(key, place);
    Some(policy.keepsake(queue, bits))
}
