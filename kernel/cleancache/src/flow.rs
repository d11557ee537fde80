//! The ways of a page: in, out, and dropped.

use crate::entries::{State, slot_of};
use crate::names::FileId;
use crate::policy::{Arrival, End, Entry, Keepsake, Place, Policy, QUEUES, Queues};
use crate::pools::{Open, Pools};
use crate::stats::{Refusal, Stored};
use crate::{Offer, Wanted};
use alloc::boxed::Box;
use frames::{Frame, FrameMap, Key, Memory, Occupied, Taken, Vacant};

impl State {
    pub(crate) fn store_all(&mut self, offers: impl IntoIterator<Item = Offer>, mut done: impl FnMut(Stored, Frame)) {
        for offer in offers {
            let (stored, frame) = self.store(offer);
            done(stored, frame);
        }
    }

    #[inline]
    pub(crate) fn store(&mut self, offer: Offer) -> (Stored, Frame) {
        let Offer { file, index, frame, arrival } = offer;
        let key = Key { file: file.slot(), index };
        let Self { memory, config, policy, entries, pools, files, .. } = self;
        let Some(record) = files.get_mut(file) else { return (Stored::Refused(Refusal::Stale), frame) };
        let Some(vacant) = entries.vacancy(key) else { return self.store_over(file, key, frame, arrival) };
        if config.gate && !arrival.workingset {
            record.refused_gate += 1;
            return (Stored::Refused(Refusal::Gate), frame);
        }
        let Some(mut open) = pools.with_free() else { return self.store_full(file, vacant, frame, arrival) };
        let queues = Queues::new(entries, open.slot, open.pool.donated);
        let Some(place) = policy.admit(key, arrival, &queues, false) else {
            record.refused_policy += 1;
            return (Stored::Refused(Refusal::Policy), frame);
        };
        // The pool has a free frame; were there none, the page would be refused all the same.
        let Some(room) = open.take_free() else {
            record.refused_no_frame += 1;
            return (Stored::Refused(Refusal::NoFrame), frame);
        };
        record.stores += 1;
        (Stored::Inserted, settle(memory, entries, open, vacant, frame, room, place))
    }

    /// A page is stored that is not here, and no frame is free: another page goes, if one may.
    #[inline(never)]
    fn store_full(&mut self, file: FileId, vacant: Vacant, frame: Frame, arrival: Arrival) -> (Stored, Frame) {
        let Self { memory, config, policy, entries, pools, files, .. } = self;
        let Some(record) = files.get_mut(file) else { return (Stored::Refused(Refusal::Stale), frame) };
        let turn = if config.evict { pools.turn() } else { None };
        let Some(open) = turn else {
            record.refused_no_frame += 1;
            return (Stored::Refused(Refusal::NoFrame), frame);
        };
        let mut queues = Queues::new(entries, open.slot, open.pool.donated);
        let Some(place) = policy.admit(vacant.key(), arrival, &queues, true) else {
            record.refused_policy += 1;
            return (Stored::Refused(Refusal::Policy), frame);
        };
        // A pool with frames, none of them free, has a page, and the policy names it.
        let victim = policy.victim(&mut queues);
        let Some((taken, entries)) = victim.and_then(|entry| Some(entries.occupied(entry.key)?.take())) else {
            record.refused_no_frame += 1;
            return (Stored::Refused(Refusal::NoFrame), frame);
        };
        open.pool.evictions += 1;
        record.stores += 1;
        (Stored::Inserted, settle(memory, entries, open, vacant, frame, taken.frame, place))
    }

    /// A page is stored of which an older copy is here: that goes, and the page takes its room if it is kept.
    #[cold]
    fn store_over(&mut self, file: FileId, key: Key, frame: Frame, arrival: Arrival) -> (Stored, Frame) {
        let Self { memory, config, policy, entries, pools, files, .. } = self;
        let (Some(record), Some(old)) = (files.get_mut(file), entries.take(key)) else {
            return (Stored::Refused(Refusal::Stale), frame);
        };
        let slot = slot_of(&old);
        let donated = pools.donated(slot);
        let place = policy.admit(key, arrival, &Queues::new(entries, slot, donated), false);
        let refusal = match place {
            _ if config.gate && !arrival.workingset => {
                record.refused_gate += 1;
                Refusal::Gate
            }
            None => {
                record.refused_policy += 1;
                Refusal::Policy
            }
            Some(place) => {
                if let (Some(vacant), Some(open)) = (entries.vacancy(key), pools.open(slot)) {
                    record.stores += 1;
                    record.replaced += 1;
                    return (Stored::Replaced, settle(memory, entries, open, vacant, frame, old.frame, place));
                }
                Refusal::Stale
            }
        };
        record.invalidations += 1;
        drop_entry(pools, old);
        (Stored::Refused(refusal), frame)
    }

    pub(crate) fn restore_run(&mut self, file: FileId, pages: &mut [Wanted]) {
        for page in pages {
            (page.found, page.keepsake) = self.restore(file, page.index, &mut page.frame);
        }
    }

    /// Whether the page was found, and what it takes along.
    #[inline]
    pub(crate) fn restore(&mut self, file: FileId, index: u32, frame: &mut Frame) -> (bool, Keepsake) {
        let key = Key { file: file.slot(), index };
        let Self { memory, config, policy, entries, pools, files, .. } = self;
        let Some(record) = files.get_mut(file) else { return (false, Keepsake::default()) };
        let Some(place) = entries.occupied(key) else {
            record.misses += 1;
            return (false, policy.miss(key));
        };
        let found = match config.exclusive {
            true => restore_out(memory, policy, pools, place, frame),
            false => restore_copy(policy, entries, pools, key, frame),
        };
        match found {
            Some(keepsake) => {
                record.hits += 1;
                (true, keepsake)
            }
            None => {
                record.misses += 1;
                (false, policy.miss(key))
            }
        }
    }

    #[inline]
    pub(crate) fn invalidate(&mut self, file: FileId, index: u32) {
        let Self { entries, pools, files, .. } = self;
        let Some(record) = files.get_mut(file) else { return };
        let Some(place) = entries.occupied(Key { file: file.slot(), index }) else { return };
        record.invalidations += 1;
        drop_entry(pools, place.take().0);
    }

    pub(crate) fn invalidate_range(&mut self, file: FileId, first: u32, last: u32) {
        let Self { entries, pools, files, .. } = self;
        let Some(record) = files.get_mut(file) else { return };
        entries.remove_range(file.slot(), first, last, |taken| {
            record.invalidations += 1;
            drop_entry(pools, taken);
        });
    }
}

/// The page in `frame` moves into a pool, which has `room` for it; what frame is left over.
#[inline(always)]
fn settle(
    memory: &Memory,
    entries: &mut FrameMap,
    mut open: Open<'_>,
    vacant: Vacant,
    frame: Frame,
    mut room: Frame,
    place: Place,
) -> Frame {
    let pool = &mut *open.pool;
    pool.stores += 1;
    let (kept, returned) = if pool.exchange && memory.is_ordinary(&frame) {
        (frame, room)
    } else {
        if pool.checked {
            pool.note(room.pfn(), frame.bytes());
        }
        room.copy_frame(&frame);
        (room, frame)
    };
    let order = open.slot as u16 * QUEUES + place.queue % QUEUES;
    if let Err(kept) = entries.fill(vacant, kept, order, place.bits, place.end == End::Old) {
        // It cannot be: the pool's orders are there, and its frames are of this machine.
        open.release(kept);
    }
    returned
}

/// Restore, and let the entry go.
#[inline(always)]
fn restore_out(
    memory: &Memory,
    policy: &mut Box<dyn Policy>,
    pools: &mut Pools,
    place: Occupied<'_>,
    frame: &mut Frame,
) -> Option<Keepsake> {
    let mut open = pools.open(u32::from(place.order() / QUEUES))?;
    let (taken, entries) = place.take();
    let entry = Entry { key: taken.key, queue: taken.order % QUEUES, bits: taken.private };
    let mut kept = taken.frame;
    let sound = if open.pool.exchange && memory.is_ordinary(frame) {
        core::mem::swap(frame, &mut kept);
        true
    } else {
        frame.copy_frame(&kept);
        !open.pool.checked || open.pool.confirms(kept.pfn(), frame.bytes())
    };
    open.release(kept);
    if !sound {
        return None;
    }
    open.pool.hits += 1;
    Some(policy.hit(entry, &Queues::new(entries, open.slot, open.pool.donated)))
}

/// The page in a frame has changed or gone.
#[inline(always)]
fn drop_entry(pools: &mut Pools, taken: Taken) {
    if let Some(mut open) = pools.open(slot_of(&taken)) {
        open.pool.invalidations += 1;
        open.release(taken.frame);
    }
}

/// Restore, and keep the entry.
fn restore_copy(
    policy: &mut Box<dyn Policy>,
    entries: &mut FrameMap,
    pools: &mut Pools,
    key: Key,
    frame: &mut Frame,
) -> Option<Keepsake> {
    let found = entries.get(key)?;
    let (order, bits, pfn) = (found.order(), found.private(), found.pfn());
    found.copy_to(frame);
    let slot = u32::from(order / QUEUES);
    let mut open = pools.open(slot)?;
    if open.pool.checked && !open.pool.confirms(pfn, frame.bytes()) {
        open.release(entries.take(key)?.frame);
        return None;
    }
    open.pool.hits += 1;
    let entry = Entry { key, queue: order % QUEUES, bits };
    let mut queues = Queues::new(entries, slot, open.pool.donated);
    let keepsake = policy.hit(entry, &queues);
    let place = policy.stay(entry, &queues);
    queues.move_to(key, place);
    Some(keepsake)
}
