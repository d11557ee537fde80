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

    fn hit(&mut self, _: Entry, _: &Queues<'_>) -> Keepsake {
        Keepsake::default()
    }

    fn stay(&mut self, _: Entry, _: &Queues<'_>) -> Place {
        YOUNG
    }

    fn miss(&mut self, _: Key) -> Keepsake {
        Keepsake::default()
    }

    fn victim(&mut self, queues: &mut Queues<'_>) -> Option<Entry> {
        queues.front(ALL)
    }
}
