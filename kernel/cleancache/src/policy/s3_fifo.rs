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

    fn keepsake(&self, queue: u16, _: u16) -> Keepsake {
        if queue == SMALL { PROVEN } else { USED }
    }

    fn stay(&mut self, _: u16, _: u16) -> Place {
        Place { queue: MAIN, end: End::Young, bits: 1 }
    }

    fn miss(&mut self, key: Key) -> Keepsake {
        match self.ghosts.recall(key) {
            Some(ghost) if ghost.age(self.clock) <= self.remembered => PROVEN,
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

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// The two queues, the main one with its bits, and the ghosts, each a vector, the oldest first.
    #[derive(Default)]
    struct Model {
        small: Vec<u32>,
        main: Vec<(u32, bool)>,
        ghosts: Vec<u32>,
    }

    impl Model {
        fn touch(&mut self, index: u32, frames: usize) -> bool {
            let place = self.small.iter().position(|&other| other == index);
            let was_small = place.map(|place| self.small.remove(place)).is_some();
            let place = self.main.iter().position(|&(other, _)| other == index);
            let was_main = place.map(|place| self.main.remove(place)).is_some();
            // A ghost that is recalled leaves a gap, so that the others grow no younger.
            let ghost = self.ghosts.iter_mut().rev().take(frames - frames / 10).find(|other| **other == index);
            let ghost = !was_small && !was_main && ghost.map(|ghost| *ghost = u32::MAX).is_some();
            if self.small.len() + self.main.len() == frames {
                if self.small.len() > frames / 10 || self.main.is_empty() {
                    self.ghosts.push(self.small.remove(0));
                } else {
                    for _ in 0..ROUNDS {
                        if self.main[0].1 {
                            let (used, _) = self.main.remove(0);
                            self.main.push((used, false));
                        }
                    }
                    self.main.remove(0);
                }
            }
            match was_small || was_main || ghost {
                true => self.main.push((index, was_main)),
                false => self.small.push(index),
            }
            was_small || was_main
        }
    }

    proptest! {
        #[test]
        fn it_is_the_two_queues_of_the_paper(frames in 2usize..33, reads in prop::collection::vec(0u32..48, 0..400)) {
            let policy = S3Fifo { ghosts: Ghosts::new(1 << 14), ..S3Fifo::new(frames) };
            let (mut trial, mut model) = (Trial::new(policy, frames), Model::default());
            for index in reads {
                prop_assert_eq!(trial.touch(index), model.touch(index, frames), "page {}", index);
            }
        }
    }

    #[test]
    fn a_page_used_in_the_main_queue_has_another_round() {
        let mut trial = Trial::new(S3Fifo::new(10), 10);
        // Nine pages in the main queue, the first of them used there.
        trial.touch_all((0..9).flat_map(|index| [index, index]));
        trial.touch(0);
        trial.touch(100);
        // Another page into the main queue, which is full: the oldest without the bit goes.
        trial.touch_all([100, 101, 102]);
        assert!(trial.has(0) && !trial.has(1));
    }
}
