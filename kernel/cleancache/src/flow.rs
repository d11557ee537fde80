//! The ways of a page in, and those that are dropped. The way back out is in [`restore`](crate::restore).

use crate::Offer;
use crate::entries::{State, slot_of};
use crate::names::FileId;
use crate::policy::{Arrival, End, Place, QUEUES, Queues};
use crate::pools::{Open, Pools};
use crate::stats::{Refusal, Stored};
use frames::{Frame, FrameMap, Key, Memory, Taken, Vacant};

/// Why a run of stores ended.
enum Ended {
    /// Before this offer, of another file or when the pool is full; or there are no more.
    Before(Option<Offer>),
    /// At a page of a file that is not known.
    Stale(Frame),
    /// At a page that is not to be kept.
    Refused(FileId, Key, Frame, Refusal),
    /// At a page of which an older copy is here.
    Over(FileId, Key, Frame, Place),
    /// At a page for which no frame is free.
    Full(FileId, Key, Frame, Arrival),
}

impl State {
    /// Offers that follow one another are mostly of one file and find room in one pool, so those are looked up once for a run of
    /// offers.
    pub(crate) fn store_all(&mut self, offers: impl IntoIterator<Item = Offer>, mut done: impl FnMut(Stored, Frame)) {
        let mut offers = offers.into_iter();
        let mut next = offers.next();
        while let Some(first) = next.take() {
            let ended = self.store_run(first, &mut offers, &mut done);
            let (stored, frame) = match ended {
                Ended::Before(offer) => {
                    next = offer;
                    continue;
                }
                Ended::Stale(frame) => (Stored::Refused(Refusal::Stale), frame),
                Ended::Refused(file, key, frame, why) => self.refuse(file, key, frame, why),
                Ended::Over(file, key, frame, place) => self.store_over(file, key, frame, place),
                Ended::Full(file, key, frame, arrival) => self.store_full(file, key, frame, arrival),
            };
            done(stored, frame);
            next = offers.next();
        }
    }

    /// One page.
    pub(crate) fn store(&mut self, offer: Offer) -> (Stored, Frame) {
        let file = offer.file;
        let mut outcome = None;
        self.store_all(core::iter::once(offer), |stored, frame| outcome = Some((stored, frame)));
        debug_assert!(outcome.is_some(), "an offer of {file:?} went without an answer");
        outcome.unwrap_or_else(|| unreachable!("each offer is answered once"))
    }

    /// Stores pages of one file in one pool, from `first` on, for as long as nothing is odd about them.
    #[inline(always)]
    fn store_run(
        &mut self,
        first: Offer,
        offers: &mut impl Iterator<Item = Offer>,
        done: &mut impl FnMut(Stored, Frame),
    ) -> Ended {
        let Self { memory, config, policy, entries, pools, files, .. } = self;
        let file = first.file;
        let Some(record) = files.get_mut(file) else { return Ended::Stale(first.frame) };
        let Offer { mut index, mut frame, mut arrival, .. } = first;
        let Some(mut open) = pools.with_free() else {
            return match config.gate && !arrival.workingset {
                true => Ended::Refused(file, Key { file: file.slot(), index }, frame, Refusal::Gate),
                false => Ended::Full(file, Key { file: file.slot(), index }, frame, arrival),
            };
        };
        loop {
            let key = Key { file: file.slot(), index };
            if config.gate && !arrival.workingset {
                return Ended::Refused(file, key, frame, Refusal::Gate);
            }
            let queues = Queues::new(entries, open.slot, open.pool.donated, open.all_frames());
            let Some(place) = policy.admit(key, arrival, &queues, false) else {
                return Ended::Refused(file, key, frame, Refusal::Policy);
            };
            let Some(vacant) = entries.vacancy(key) else { return Ended::Over(file, key, frame, place) };
            // The pool has a free frame; were there none, the page would be refused all the same.
            let Some(room) = open.take_free() else { return Ended::Refused(file, key, frame, Refusal::NoFrame) };
            record.stores += 1;
            done(Stored::Inserted, settle(memory, entries, &mut open, vacant, frame, room, place));
            match offers.next() {
                Some(next) if next.file == file && !open.pool.free.is_empty() => {
                    Offer { index, frame, arrival, .. } = next;
                }
                next => return Ended::Before(next),
            }
        }
    }

    /// A page is stored when no frame is free: its older copy goes, or else another page, if one may.
    #[inline(never)]
    fn store_full(&mut self, file: FileId, key: Key, frame: Frame, arrival: Arrival) -> (Stored, Frame) {
        let Self { memory, config, policy, entries, pools, files, .. } = self;
        let Some(record) = files.get_mut(file) else { return (Stored::Refused(Refusal::Stale), frame) };
        let vacant = entries.vacancy(key);
        let turn = if config.evict || vacant.is_none() { pools.turn() } else { None };
        let Some(mut open) = turn else { return self.refuse(file, key, frame, Refusal::NoFrame) };
        let mut queues = Queues::new(entries, open.slot, open.pool.donated, open.all_frames());
        let Some(place) = policy.admit(key, arrival, &queues, vacant.is_some()) else {
            return self.refuse(file, key, frame, Refusal::Policy);
        };
        let Some(vacant) = vacant else { return self.store_over(file, key, frame, place) };
        // A pool with frames, none of them free, has a page, and the policy names it.
        let victim = policy.victim(&mut queues);
        let Some((taken, entries)) = victim.and_then(|entry| Some(entries.occupied(entry.key)?.take())) else {
            return self.refuse(file, key, frame, Refusal::NoFrame);
        };
        open.pool.evictions += 1;
        record.stores += 1;
        (Stored::Inserted, settle(memory, entries, &mut open, vacant, frame, taken.frame, place))
    }

    /// A page is kept of which an older copy is here: that goes, and the page takes its room.
    #[cold]
    fn store_over(&mut self, file: FileId, key: Key, frame: Frame, place: Place) -> (Stored, Frame) {
        let Self { memory, entries, pools, files, .. } = self;
        let old = entries.take(key);
        let (Some(record), Some(old), Some(vacant)) = (files.get_mut(file), old, entries.vacancy(key)) else {
            return (Stored::Refused(Refusal::Stale), frame);
        };
        let Some(mut open) = pools.open(slot_of(&old)) else { return (Stored::Refused(Refusal::Stale), frame) };
        record.stores += 1;
        record.replaced += 1;
        (Stored::Replaced, settle(memory, entries, &mut open, vacant, frame, old.frame, place))
    }

    /// A page is not kept, and an older copy of it does not stay either.
    #[cold]
    fn refuse(&mut self, file: FileId, key: Key, frame: Frame, why: Refusal) -> (Stored, Frame) {
        let Self { entries, pools, files, .. } = self;
        if let Some(record) = files.get_mut(file) {
            match why {
                Refusal::Gate => record.refused_gate += 1,
                Refusal::Policy => record.refused_policy += 1,
                Refusal::NoFrame => record.refused_no_frame += 1,
                Refusal::Stale | Refusal::InUse => {}
            }
            if let Some(old) = entries.take(key) {
                record.invalidations += 1;
                drop_entry(pools, old);
            }
        }
        (Stored::Refused(why), frame)
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
    open: &mut Open<'_>,
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

/// The page in a frame has changed or gone.
#[inline(always)]
fn drop_entry(pools: &mut Pools, taken: Taken) {
    if let Some(mut open) = pools.open(slot_of(&taken)) {
        open.pool.invalidations += 1;
        open.release(taken.frame);
    }
}
