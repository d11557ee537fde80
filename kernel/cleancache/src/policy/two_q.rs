//! 2Q (Johnson and Shasha, VLDB 1994): newcomers pass through a queue of their own, and only those that are wanted again after they
//! left it get into the main one.
//!
//! A page found in the newcomers' queue proves nothing, since its reads may belong together: it comes back as a newcomer. A page
//! that is missed while its ghost is remembered is proven, and stays so until it leaves the main queue.

use super::{Arrival, End, Entry, Keepsake, Place, Policy, Queues};
use crate::ghost::Ghosts;
use frames::Key;

/// Newcomers, in order of arrival.
const NEW: u16 = 0;
/// Proven pages, in order of last use.
const MAIN: u16 = 1;

const STRANGER: Keepsake = Keepsake(0);
const PROVEN: Keepsake = Keepsake(1);

/// The policy.
#[derive(Debug)]
pub struct TwoQ {
    ghosts: Ghosts,
    /// Newcomers evicted so far.
    clock: u32,
    /// Of them so many are remembered.
    remembered: u32,
}

impl TwoQ {
    /// For up to `frames` frames: it remembers half as many newcomers.
    pub fn new(frames: usize) -> Self {
        Self { ghosts: Ghosts::new(frames), clock: 0, remembered: (frames / 2) as u32 }
    }
}

fn place(keepsake: Keepsake) -> Place {
    Place { queue: if keepsake == STRANGER { NEW } else { MAIN }, end: End::Young, bits: 0 }
}

impl Policy for TwoQ {
    fn name(&self) -> &'static str {
        "2q"
    }

    fn admit(&mut self, _: Key, arrival: Arrival, _: &Queues<'_>, _: bool) -> Option<Place> {
        Some(place(arrival.keepsake))
    }

    fn hit(&mut self, entry: Entry, _: &Queues<'_>) -> Keepsake {
        if entry.queue == NEW { STRANGER } else { PROVEN }
    }

    fn stay(&mut self, entry: Entry, _: &Queues<'_>) -> Place {
        // A newcomer does not move in its queue; but where it was is not known here, and its twin in the page cache is younger.
        Place { queue: entry.queue, end: End::Young, bits: 0 }
    }

    fn miss(&mut self, key: Key) -> Keepsake {
        match self.ghosts.recall(key) {
            Some(ghost) if self.clock.wrapping_sub(ghost.clock) <= self.remembered => PROVEN,
            _ => STRANGER,
        }
    }

    fn victim(&mut self, queues: &mut Queues<'_>) -> Option<Entry> {
        let newcomers = queues.len(NEW);
        if newcomers > queues.frames() / 4 || queues.len(MAIN) == 0 {
            let entry = queues.front(NEW)?;
            self.ghosts.remember(entry.key, self.clock, 0);
            self.clock = self.clock.wrapping_add(1);
            return Some(entry);
        }
        queues.front(MAIN)
    }
}
