//! Least recently used: the page that came longest ago goes.

use super::{Arrival, End, Entry, Keepsake, Place, Policy, Queues};
use frames::Key;

const ALL: u16 = 0;
const YOUNG: Place = Place { queue: ALL, end: End::Young, bits: 0 };

/// The policy. It remembers nothing.
#[derive(Clone, Copy, Debug)]
pub struct Lru;

impl Policy for Lru {
    fn name(&self) -> &'static str {
        "lru"
    }

    fn admit(&mut self, _: Key, _: Arrival, _: &Queues<'_>, _: bool) -> Option<Place> {
        Some(YOUNG)
    }

    fn keepsake(&self, _: u16, _: u16) -> Keepsake {
        Keepsake::default()
    }

    fn stay(&mut self, _: u16, _: u16) -> Place {
        YOUNG
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
    use super::super::trial::Trial;
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_list_that_a_page_goes_to_the_end_of(frames in 1usize..9, reads in prop::collection::vec(0u32..16, 0..200)) {
            let (mut trial, mut list) = (Trial::new(Lru, frames), Vec::new());
            for index in reads {
                let place = list.iter().position(|&other| other == index);
                prop_assert_eq!(trial.touch(index), place.is_some());
                place.map(|place| list.remove(place));
                if list.len() == frames {
                    list.remove(0);
                }
                list.push(index);
            }
        }
    }
}
