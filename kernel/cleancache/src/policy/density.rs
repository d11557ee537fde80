//! The default: the page goes whose frame has the least worth, by what was learned of pages like it.
//!
//! Pages fall into classes, by how often they were wanted since they were last forgotten, and whether the page cache counted them to its
//! working set; a class has a queue, in order of storing. For each class and age [`Lessons`] tell the worth of holding such a page;
//! along a queue it rises or falls, so the least is at one of its ends. In a loop the worth rises with age, since the oldest page's
//! turn is next: the youngest goes, and the others stay until the loop comes back to them. Where pages are wanted soon or
//! never it falls: the oldest goes, as in LRU. What is wanted often outlives what is wanted once, as in MQ. None of this is
//! decided anywhere: it follows from the worth.
//!
//! Before anything is known all is worth nothing, and newcomers replace one another: what came first stays.

use super::{Arrival, End, Entry, Keepsake, Place, Policy, QUEUES, Queues};
use crate::ghost::Ghosts;
use crate::lessons::Lessons;
use frames::Key;

/// Ticks in a round, which is as many stores as there are frames.
const TICKS: usize = 8;
/// The fewest stores in a tick: lessons have a price.
const SHORTEST: usize = 64;
/// Evictions from one end before all ends are compared again.
const STINT: u32 = 16;
/// Times wanted that are counted.
const MOST: u8 = 16;
const CLASSES: usize = QUEUES as usize;

/// The bits of an entry that tell the tick it was stored in; the others are the times it was wanted before.
const STAMP: u16 = 0x7ff;
const SEEN: u32 = 11;
/// Bits of a ghost's note for the class; the others are the times it was wanted.
const CLASS: u32 = 3;

/// Which end to evict from.
#[derive(Clone, Copy, Debug)]
struct Plan {
    queue: u16,
    end: End,
    /// What the entry there is worth, or was when it was looked at.
    worth: u32,
    /// Evictions until the next look.
    left: u32,
}

/// The policy.
#[derive(Debug)]
pub struct Density {
    classes: [Lessons; CLASSES],
    /// Pages that were evicted, by the tick that they were stored in.
    ghosts: Ghosts,
    now: u32,
    /// Stores until the next tick.
    left: u32,
    plan: Plan,
}

/// The class of a page that was wanted so many times: none and one are told apart by `workingset`, more by their logarithm.
#[inline]
fn class(seen: u8, workingset: bool) -> u16 {
    match seen {
        0 => u16::from(workingset),
        1 => 2 + u16::from(workingset),
        _ => (3 + seen.ilog2() as u16).min(QUEUES - 1),
    }
}

impl Density {
    /// For up to `frames` frames: it remembers four times as many evicted pages.
    pub fn new(frames: usize) -> Self {
        Self {
            classes: [const { Lessons::new() }; CLASSES],
            ghosts: Ghosts::new(frames * 4),
            now: 0,
            left: stores_in_tick(frames),
            plan: Plan { queue: 0, end: End::Young, worth: 0, left: 0 },
        }
    }

    #[inline]
    fn age(&self, entry: Entry) -> u32 {
        u32::from((self.now as u16).wrapping_sub(entry.bits) & STAMP)
    }

    fn place(&mut self, seen: u8, workingset: bool) -> Place {
        let queue = class(seen, workingset);
        self.classes[usize::from(queue)].stored(self.now);
        Place { queue, end: End::Young, bits: self.now as u16 & STAMP | u16::from(seen) << SEEN }
    }

    /// A page of `class`, stored `age` ticks ago, is wanted.
    #[inline]
    fn wanted(&mut self, class: u16, age: u32, seen: u8) -> Keepsake {
        self.classes[usize::from(class) % CLASSES].wanted(self.now, age);
        Keepsake((seen + 1).min(MOST))
    }

    /// A tick is over.
    #[cold]
    #[inline(never)]
    fn tick(&mut self, frames: usize) {
        self.left = stores_in_tick(frames);
        self.now = self.now.wrapping_add(1);
        for at in 0..CLASSES {
            let (before, rest) = self.classes.split_at_mut(at);
            if let Some(class) = rest.first_mut() {
                class.learn(self.now, before.last());
            }
        }
        self.plan.left = 0;
    }

    /// A page of class `newcomer` is about to take another's place.
    #[inline(never)]
    fn plan_for(&mut self, newcomer: u16, queues: &Queues<'_>) {
        if self.plan.left == 0 {
            self.look(queues);
        }
        self.plan.left -= 1;
        // Nothing here is worth less than the page that comes: it takes the place of the last one like it.
        let worth = self.classes[usize::from(newcomer)].worth(0);
        if worth <= self.plan.worth {
            self.plan = Plan { queue: newcomer, end: End::Young, worth, ..self.plan };
        }
    }

    /// Compare the ends of all queues.
    #[cold]
    #[inline(never)]
    fn look(&mut self, queues: &Queues<'_>) {
        self.plan = Plan { worth: u32::MAX, left: STINT, ..self.plan };
        for (queue, class) in (0..).zip(&self.classes) {
            for (end, entry) in [(End::Young, queues.back(queue)), (End::Old, queues.front(queue))] {
                if let Some(entry) = entry
                    && let worth = class.worth(self.age(entry))
                    && worth < self.plan.worth
                {
                    self.plan = Plan { queue, end, worth, left: STINT };
                }
            }
        }
    }

    #[inline]
    fn planned(&self, queues: &Queues<'_>) -> Option<Entry> {
        match self.plan.end {
            End::Young => queues.back(self.plan.queue),
            End::Old => queues.front(self.plan.queue),
        }
    }
}

fn stores_in_tick(frames: usize) -> u32 {
    (frames / TICKS).max(SHORTEST) as u32
}

impl Policy for Density {
    fn name(&self) -> &'static str {
        "density"
    }

    fn admit(&mut self, _: Key, arrival: Arrival, queues: &Queues<'_>, full: bool) -> Option<Place> {
        self.left -= 1;
        if self.left == 0 {
            self.tick(queues.frames());
        }
        let place = self.place(arrival.keepsake.0.min(MOST), arrival.workingset);
        if full {
            self.plan_for(place.queue, queues);
        }
        Some(place)
    }

    fn hit(&mut self, entry: Entry, _: &Queues<'_>) -> Keepsake {
        self.wanted(entry.queue, self.age(entry), (entry.bits >> SEEN) as u8)
    }

    fn stay(&mut self, entry: Entry, _: &Queues<'_>) -> Place {
        let seen = (entry.bits >> SEEN) as u8;
        self.place((seen + 1).min(MOST), false)
    }

    fn miss(&mut self, key: Key) -> Keepsake {
        let Some(ghost) = self.ghosts.recall(key) else { return Keepsake::default() };
        self.wanted(u16::from(ghost.note) & ((1 << CLASS) - 1), self.now.wrapping_sub(ghost.clock), ghost.note >> CLASS)
    }

    fn victim(&mut self, queues: &mut Queues<'_>) -> Option<Entry> {
        let entry = match self.planned(queues) {
            Some(entry) => entry,
            None => {
                self.look(queues);
                self.planned(queues)?
            }
        };
        let seen = (entry.bits >> SEEN) as u8;
        self.ghosts.remember(entry.key, self.now.wrapping_sub(self.age(entry)), entry.queue as u8 | seen << CLASS);
        Some(entry)
    }
}
