//! MQ (Zhou, Philbin, Li, USENIX ATC 2001), made for second-level caches: a queue for each power of two of uses, so that pages used
//! often outlive those used seldom, and a lifetime after which an unused page sinks to the queue below.
//!
//! How often a page was used travels with it in the keepsake, and is remembered for a while after its eviction.

use super::{Arrival, End, Entry, Keepsake, Place, Policy, Queues};
use crate::ghost::Ghosts;
use frames::Key;

/// Queues, for 1, 2 to 3, 4 to 7 and more uses.
const LEVELS: u16 = 4;

/// The policy. An entry's bits: uses in the low byte, in the high one when it sinks, in sixteenths of a lifetime.
#[derive(Debug)]
pub struct Mq {
    ghosts: Ghosts,
    /// Accesses of the cache.
    clock: u32,
    /// Accesses in a sixteenth of a lifetime.
    tick: u32,
    /// Evictions that are remembered: four times the frames, as in the paper.
    remembered: u32,
}

impl Mq {
    /// For up to `frames` frames.
    pub fn new(frames: usize) -> Self {
        let frames = frames as u32;
        Self {
            ghosts: Ghosts::new(frames as usize * 4),
            clock: 0,
            tick: frames.div_ceil(8).max(1),
            remembered: frames * 4,
        }
    }

    fn now(&self) -> u8 {
        (self.clock / self.tick) as u8
    }

    fn place(&self, uses: u8) -> Place {
        let queue = (uses.max(1).ilog2() as u16).min(LEVELS - 1);
        Place { queue, end: End::Young, bits: u16::from(uses) | u16::from(self.now().wrapping_add(16)) << 8 }
    }
}

fn uses(bits: u16) -> u8 {
    bits as u8
}

impl Policy for Mq {
    fn name(&self) -> &'static str {
        "mq"
    }

    fn admit(&mut self, _: Key, arrival: Arrival, _: &Queues<'_>, _: bool) -> Option<Place> {
        Some(self.place(arrival.keepsake.0.max(1)))
    }

    fn keepsake(&self, _: u16, bits: u16) -> Keepsake {
        Keepsake(uses(bits).saturating_add(1))
    }

    fn hit(&mut self, _: u16, _: u16, pages: u32) {
        self.clock = self.clock.wrapping_add(pages);
    }

    fn stay(&mut self, _: u16, bits: u16) -> Place {
        self.place(uses(bits).saturating_add(1))
    }

    fn miss(&mut self, key: Key) -> Keepsake {
        self.clock = self.clock.wrapping_add(1);
        match self.ghosts.recall(key) {
            Some(ghost) if ghost.age(self.clock) <= self.remembered => Keepsake(ghost.note.saturating_add(1)),
            _ => Keepsake(1),
        }
    }

    fn victim(&mut self, queues: &mut Queues<'_>) -> Option<Entry> {
        // At most one page sinks from each queue.
        for queue in 1..LEVELS {
            if let Some(oldest) = queues.front(queue)
                && self.now().wrapping_sub((oldest.bits >> 8) as u8) < 128
            {
                let place = Place { queue: queue - 1, ..self.place(uses(oldest.bits)) };
                queues.move_to(oldest.key, place);
            }
        }
        let entry = (0..LEVELS).find_map(|queue| queues.front(queue))?;
        self.ghosts.remember(entry.key, self.clock, uses(entry.bits));
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn a_page_used_often_outlives_those_used_once() {
        let mut trial = Trial::new(Mq::new(64), 64);
        trial.touch_all([0, 0, 0, 0]);
        trial.touch_all(100..190);
        assert!(trial.has(0));
    }

    #[test]
    fn a_page_that_is_not_used_any_more_sinks_from_queue_to_queue_and_goes() {
        let mut trial = Trial::new(Mq::new(64), 64);
        trial.touch_all([0, 0, 0, 0]);
        // A lifetime is twice the frames; three of them until the lowest queue, and a round through it.
        trial.touch_all(100..100 + 3 * 2 * 64 + 100);
        assert!(!trial.has(0));
    }

    #[test]
    fn uses_are_remembered_after_an_eviction() {
        let mut trial = Trial::new(Mq::new(64), 64);
        trial.touch_all([0, 0, 0, 0]);
        trial.touch_all(100..100 + 64 * 8);
        assert!(!trial.touch(0), "it was evicted");
        trial.touch_all(1000..1100);
        assert!(trial.has(0), "but with five uses it stays longer than one with one");
    }
}
