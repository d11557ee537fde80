//! A pool for the tests of policies, with nothing around it: a page that is read is here or it is not, and is offered at once when
//! it is left.

use super::{Arrival, End, Keepsake, Policy, QUEUES, Queues};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use frames::arena::Arena;
use frames::{Frame, FrameMap, Key, Zones};

pub(super) struct Trial<P> {
    pub(super) policy: P,
    entries: FrameMap,
    free: Vec<Frame>,
    frames: usize,
    /// Pages that are being read, with what they took along.
    reading: BTreeMap<u32, Keepsake>,
    // Last, so that it is dropped when every frame has come back.
    _arena: Arena,
}

impl<P: Policy> Trial<P> {
    pub(super) fn new(policy: P, frames: usize) -> Self {
        let arena = Arena::new(frames);
        let mut entries = FrameMap::new(arena.memory(), frames, QUEUES);
        entries.add_file(0);
        let free = (0..frames).map(|_| arena.memory().allocate(Zones::Ephemeral).expect("a frame")).collect();
        Self { policy, entries, free, frames, reading: BTreeMap::new(), _arena: arena }
    }

    /// Whether page `index` is found.
    pub(super) fn read(&mut self, index: u32) -> bool {
        let key = Key { file: 0, index };
        let taken = self.entries.take(key);
        let found = taken.is_some();
        let keepsake = match taken {
            Some(taken) => {
                self.free.push(taken.frame);
                self.policy.hit(taken.order, taken.private, 1);
                self.policy.keepsake(taken.order, taken.private)
            }
            None => self.policy.miss(key),
        };
        self.reading.insert(index, keepsake);
        found
    }

    /// Page `index`, which was read, is offered.
    pub(super) fn leave(&mut self, index: u32) {
        let key = Key { file: 0, index };
        let keepsake = self.reading.remove(&index).unwrap_or_default();
        let mut queues = Queues::new(&mut self.entries, 0, self.frames as u64, self.frames as u64);
        let full = self.free.is_empty();
        let arrival = Arrival { workingset: false, keepsake };
        let place = self.policy.admit(key, arrival, &queues, full).expect("no policy here refuses");
        if full {
            let victim = self.policy.victim(&mut queues).expect("a full pool has a victim");
            self.free.push(self.entries.remove(victim.key).expect("the victim is here"));
        }
        let frame = self.free.pop().expect("a free frame");
        self.entries.insert(key, frame, place.queue, place.bits).expect("the page is not here");
        if place.end == End::Old {
            self.entries.move_to_front(key, place.queue);
        }
    }

    /// Read a page and leave it; whether it was found.
    pub(super) fn touch(&mut self, index: u32) -> bool {
        let found = self.read(index);
        self.leave(index);
        found
    }

    /// Touch pages; how many of them were found.
    pub(super) fn touch_all(&mut self, indices: impl IntoIterator<Item = u32>) -> usize {
        indices.into_iter().filter(|&index| self.touch(index)).count()
    }

    /// Whether page `index` is here. The policy does not notice.
    pub(super) fn has(&self, index: u32) -> bool {
        self.entries.get(Key { file: 0, index }).is_some()
    }
}
