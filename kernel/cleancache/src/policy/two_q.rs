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

    fn keepsake(&self, queue: u16, _: u16) -> Keepsake {
        if queue == NEW { STRANGER } else { PROVEN }
    }

    fn stay(&mut self, queue: u16, _: u16) -> Place {
        // A newcomer does not move in its queue; but where it was is not known here, and its twin in the page cache is younger.
        Place { queue, end: End::Young, bits: 0 }
    }

    fn miss(&mut self, key: Key) -> Keepsake {
        match self.ghosts.recall(key) {
            Some(ghost) if ghost.age(self.clock) <= self.remembered => PROVEN,
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

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// The two queues and the ghosts, each a vector, the oldest first.
    #[derive(Default)]
    struct Model {
        new: Vec<u32>,
        main: Vec<u32>,
        ghosts: Vec<u32>,
    }

    impl Model {
        fn touch(&mut self, index: u32, frames: usize) -> bool {
            let taken = |list: &mut Vec<u32>| {
                let place = list.iter().position(|&other| other == index)?;
                Some(list.remove(place))
            };
            let was_new = taken(&mut self.new).is_some();
            let was_main = taken(&mut self.main).is_some();
            // A ghost that is recalled leaves a gap, so that the others grow no younger.
            let ghost = self.ghosts.iter_mut().rev().take(frames / 2).find(|other| **other == index);
            let proven = was_main || !was_new && ghost.map(|ghost| *ghost = u32::MAX).is_some();
            if self.new.len() + self.main.len() == frames {
                if self.new.len() > frames / 4 || self.main.is_empty() {
                    self.ghosts.push(self.new.remove(0));
                } else {
                    self.main.remove(0);
                }
            }
            if proven {
                self.main.push(index)
            } else {
                self.new.push(index)
            }
            was_new || was_main
        }
    }

    proptest! {
        #[test]
        fn it_is_the_two_queues_of_the_paper(frames in 2usize..17, reads in prop::collection::vec(0u32..32, 0..400)) {
            let policy = TwoQ { ghosts: Ghosts::new(1 << 14), ..TwoQ::new(frames) };
            let (mut trial, mut model) = (Trial::new(policy, frames), Model::default());
            for index in reads {
                prop_assert_eq!(trial.touch(index), model.touch(index, frames), "page {}", index);
            }
        }
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_proven() {
        let mut trial = Trial::new(TwoQ::new(16), 16);
        trial.touch_all(0..20);
        trial.touch_all(0..4);
        trial.touch_all(100..200);
        assert_eq!(trial.touch_all(0..4), 4);
    }
}
