//! S3-FIFO with one bit (Yang et al., SOSP 2023): a small queue for newcomers, a main queue that gives a page used since its last
//! round another one, and ghosts of newcomers that left unused.
//!
//! Here a page that is used leaves the cache, so the bit is in the keepsake: a page that was found, or missed while its ghost was
//! remembered, goes to the main queue when it comes back; one found in the main queue has another round to its good there.

use super::{Arrival, End, Entry, Keepsake, Place, Policy, Queues};
use crate::ghost::Ghosts;
use frames::Key;

/// Newcomers.
const SMALL: u16 = 0;
/// The others.
const MAIN: u16 = 1;

const STRANGER: Keepsake = Keepsake(0);
const PROVEN: Keepsake = Keepsake(1);
const USED: Keepsake = Keepsake(2);

/// Rounds that one eviction gives away at most.
const ROUNDS: usize = 8;

/// The policy. An entry's bit: whether it has another round to its good.
#[derive(Debug)]
pub struct S3Fifo {
    ghosts: Ghosts,
    /// Newcomers evicted so far.
    clock: u32,
    /// Of them so many are remembered: as many as the main queue can hold.
    remembered: u32,
}

impl S3Fifo {
    /// For up to `frames` frames.
    pub fn new(frames: usize) -> Self {
        Self { ghosts: Ghosts::new(frames), clock: 0, remembered: (frames - frames / 10) as u32 }
    }
}

impl Policy for S3Fifo {
    fn name(&self) -> &'static str {
        "s3-fifo"
    }

    fn admit(&mut self, _: Key, arrival: Arrival, _: &Queues<'_>, _: bool) -> Option<Place> {
        let queue = if arrival.keepsake == STRANGER { SMALL } else { MAIN };
        Some(Place { queue, end: End::Young, bits: u16::from(arrival.keepsake == USED) })
    }

    fn hit(&mut self, entry: Entry, _: &Queues<'_>) -> Keepsake {
        if entry.queue == SMALL { PROVEN } else { USED }
    }

    fn stay(&mut self, _: Entry, _: &Queues<'_>) -> Place {
        Place { queue: MAIN, end: End::Young, bits: 1 }
    }

    fn miss(&mut self, key: Key) -> Keepsake {
        match self.ghosts.recall(key) {
            Some(ghost) if self.clock.wrapping_sub(ghost.clock) <= self.remembered => PROVEN,
            _ => STRANGER,
        }
    }

    fn victim(&mut self, queues: &mut Queues<'_>) -> Option<Entry> {
        if queues.len(SMALL) > queues.frames() / 10 || queues.len(MAIN) == 0 {
            let entry = queues.front(SMALL)?;
            self.ghosts.remember(entry.key, self.clock, 0);
            self.clock = self.clock.wrapping_add(1);
            return Some(entry);
        }
        for _ in 0..ROUNDS {
            let oldest = queues.front(MAIN).filter(|oldest| oldest.bits != 0);
            let Some(oldest) = oldest else { break };
            queues.move_to(oldest.key, Place { queue: MAIN, end: End::Young, bits: 0 });
        }
        queues.front(MAIN)
    }
}
