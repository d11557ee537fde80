//! Where a page goes in the order of eviction when every frame is taken.
//!
//! Put to the young end, pages leave in the order in which they came: good as long as they are wanted again before a poolful of
//! others has passed. In a scan or loop longer than the pools that never happens; every page leaves just before its turn,
//! and nothing is ever found. Then it is better to put newcomers to the old end, where the next one pushes them out, so
//! that the others stay until the loop comes back to them (Qureshi et al., ISCA 2007: LRU insertion).
//!
//! Which is right shows in hits, so: stay with what finds something, change what does not. The old end gets more patience, because
//! a loop must come round once before it can pay.

use super::{Arrival, End, Entry, Keepsake, Place, Policy, Queues};
use frames::Key;

const ALL: u16 = 0;

/// Stores for each frame after which the young end has to show hits.
const YOUNG_PATIENCE: u64 = 2;
/// The same for the old end.
const OLD_PATIENCE: u64 = 16;
/// One hit in so many stores is enough.
const ENOUGH: u64 = 32;

/// The choice, and how it is doing.
#[derive(Debug, Default)]
pub struct Insertion {
    at_old_end: bool,
    stores: u64,
    hits: u64,
}

impl Insertion {
    /// A page takes another's place, in pools of `frames` frames: whether it goes to the old end.
    fn store(&mut self, frames: u64) -> bool {
        self.stores += 1;
        let patience = if self.at_old_end { OLD_PATIENCE } else { YOUNG_PATIENCE };
        if self.stores > patience.saturating_mul(frames) {
            let failed = self.hits < self.stores / ENOUGH;
            *self = Self { at_old_end: self.at_old_end ^ failed, stores: 1, hits: 0 };
        }
        self.at_old_end
    }
}

impl Policy for Insertion {
    fn name(&self) -> &'static str {
        "insertion"
    }

    fn admit(&mut self, _: Key, _: Arrival, queues: &Queues<'_>, full: bool) -> Option<Place> {
        let at_old_end = full && self.store(queues.frames() as u64);
        Some(Place { queue: ALL, end: if at_old_end { End::Old } else { End::Young }, bits: 0 })
    }

    fn hit(&mut self, _: Entry, _: &Queues<'_>) -> Keepsake {
        self.hits += 1;
        Keepsake::default()
    }

    fn stay(&mut self, _: Entry, _: &Queues<'_>) -> Place {
        Place { queue: ALL, end: End::Young, bits: 0 }
    }

    fn miss(&mut self, _: Key) -> Keepsake {
        Keepsake::default()
    }

    fn victim(&mut self, queues: &mut Queues<'_>) -> Option<Entry> {
        queues.front(ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_nothing_is_changed_and_what_finds_something_stays() {
        let mut insertion = Insertion::default();
        // The choices that are made in so many stores: at the young end at all, at the old end at all.
        let mut run = |stores: u64, hits_every: u64| {
            (1..=stores).fold((false, false), |(young, old), at| {
                if at % hits_every == 0 {
                    insertion.hits += 1;
                }
                let at_old_end = insertion.store(100);
                (young | !at_old_end, old | at_old_end)
            })
        };
        assert_eq!(run(200, u64::MAX), (true, false), "young at first");
        assert_eq!(run(100, 10), (false, true), "twice the frames without a hit: the old end");
        assert_eq!(run(10_000, 10), (false, true), "hits: it stays");
        assert_eq!(run(3_300, u64::MAX), (true, true), "no more of them: the young end again");
    }
}
