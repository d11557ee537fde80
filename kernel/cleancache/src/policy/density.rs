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
const TICKS: usize = 16;
/// The fewest stores in a tick, and from lesson to lesson: both have a price.
const SHORTEST: usize = 224;
const LESSON: u32 = 384;
/// Evictions from one end before all ends are compared again.
const STINT: u32 = 16;
/// Times wanted that are counted.
const MOST: usize = 16;
const CLASSES: usize = QUEUES as usize;

/// The bits of an entry that tell the tick it was stored in; the others are the times it was wanted before.
const STAMP: u16 = 0x7ff;
const SEEN: u32 = 11;
const SEEN_BITS: u32 = 5;
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
    /// Stores since the last lesson.
    unlearned: u32,
    plan: Plan,
}

/// The class of a page that was wanted so many times: none and one are told apart by `workingset`, more by their logarithm.
const fn class(seen: usize, workingset: bool) -> u16 {
    match seen {
        0 => workingset as u16,
        1 => 2 + workingset as u16,
        2..4 => 4,
        4..8 => 5,
        8..16 => 6,
        _ => 7,
    }
}

/// For a page wanted so many times, and then for one of the working set: the class, and above [`STAMP`] the times that count.
const MARKS: [u16; 2 << SEEN_BITS] = {
    let mut marks = [0; 2 << SEEN_BITS];
    let mut at = 0;
    while at < marks.len() {
        let seen = at % (1 << SEEN_BITS);
        let counted = if seen < MOST { seen } else { MOST };
        marks[at] = class(seen, at != seen) | (counted as u16) << SEEN;
        at += 1;
    }
    marks
};

impl Density {
    /// For up to `frames` frames: it remembers four times as many evicted pages.
    pub fn new(frames: usize) -> Self {
        Self {
            classes: [const { Lessons::new() }; CLASSES],
            ghosts: Ghosts::new(frames * 4),
            now: 0,
            left: stores_in_tick(frames),
            unlearned: 0,
            plan: Plan { queue: 0, end: End::Young, worth: 0, left: 0 },
        }
    }

    #[inline]
    fn age(&self, bits: u16) -> u32 {
        u32::from((self.now as u16).wrapping_sub(bits) & STAMP)
    }

    #[inline]
    fn place(&mut self, seen: u8, workingset: bool) -> Place {
        let mark = MARKS[(usize::from(seen) | usize::from(workingset) << SEEN_BITS) % MARKS.len()];
        let queue = mark % QUEUES;
        self.classes[usize::from(queue)].stored(self.now);
        Place { queue, end: End::Young, bits: mark & !STAMP | self.now as u16 & STAMP }
    }

    #[inline]
    fn admit_now(&mut self, arrival: Arrival) -> Place {
        self.left -= 1;
        self.place(arrival.keepsake.0, arrival.workingset)
    }

    #[inline(never)]
    fn admit_full(&mut self, arrival: Arrival, queues: &Queues<'_>) -> Place {
        if self.plan.left == 0 {
            self.look(queues);
        }
        self.plan.left -= 1;
        let place = self.admit_now(arrival);
        // All that is here is worth more than the page that comes: it takes the place of the last one like it.
        let worth = self.classes[usize::from(place.queue) % CLASSES].worth(0);
        if worth < self.plan.worth {
            self.plan = Plan { queue: place.queue, end: End::Young, worth, ..self.plan };
        }
        place
    }

    #[cold]
    #[inline(never)]
    fn admit_late(&mut self, arrival: Arrival, queues: &Queues<'_>, full: bool) -> Place {
        self.tick(queues.all_frames());
        match full {
            true => self.admit_full(arrival, queues),
            false => self.admit_now(arrival),
        }
    }

    fn tick(&mut self, frames: usize) {
        self.now = self.now.wrapping_add(1);
        self.classes.iter_mut().for_each(|class| class.count(self.now));
        self.left = stores_in_tick(frames);
        self.unlearned += self.left;
        if self.unlearned >= LESSON {
            self.unlearned = 0;
            for at in 0..CLASSES {
                let (before, rest) = self.classes.split_at_mut(at);
                if let Some(class) = rest.first_mut() {
                    class.learn(before.last());
                }
            }
            self.plan.left = 0;
        }
    }

    /// Compare the ends of all queues.
    #[cold]
    fn look(&mut self, queues: &Queues<'_>) {
        self.plan = Plan { worth: u32::MAX, left: STINT, ..self.plan };
        for (queue, class) in (0..).zip(&self.classes) {
            for (end, entry) in [(End::Young, queues.back(queue)), (End::Old, queues.front(queue))] {
                if let Some(entry) = entry
                    && let worth = class.worth(self.age(entry.bits))
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

    #[inline]
    fn admit(&mut self, _: Key, arrival: Arrival, queues: &Queues<'_>, full: bool) -> Option<Place> {
        // What is done now and then is elsewhere, so that what is done each time is short.
        if self.left <= 1 {
            return Some(self.admit_late(arrival, queues, full));
        }
        if full {
            return Some(self.admit_full(arrival, queues));
        }
        Some(self.admit_now(arrival))
    }

    #[inline]
    fn keepsake(&self, _: u16, bits: u16) -> Keepsake {
        Keepsake((bits >> SEEN) as u8 + 1)
    }

    fn hit(&mut self, queue: u16, bits: u16, pages: u32) {
        let age = self.age(bits);
        self.classes[usize::from(queue) % CLASSES].wanted(u32::from(bits), age, pages);
    }

    fn stay(&mut self, _: u16, bits: u16) -> Place {
        self.place((bits >> SEEN) as u8 + 1, false)
    }

    #[inline]
    fn miss(&mut self, key: Key) -> Keepsake {
        let Some(ghost) = self.ghosts.recall(key) else { return Keepsake::default() };
        let age = ghost.age(self.now);
        self.classes[usize::from(ghost.note) % CLASSES].wanted(ghost.clock, age, 1);
        Keepsake((ghost.note >> CLASS) + 1)
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
        self.ghosts.remember(entry.key, self.now.wrapping_sub(self.age(entry.bits)), entry.queue as u8 | seen << CLASS);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    const FRAMES: u32 = 1024;

    fn trial() -> Trial<Density> {
        Trial::new(Density::new(FRAMES as usize), FRAMES as usize)
    }

    #[test]
    fn of_a_loop_larger_than_the_pool_the_pool_finds_what_it_can_hold() {
        let (mut trial, length) = (trial(), FRAMES * 3 / 2);
        trial.touch_all((0..10).flat_map(|_| 0..length));
        let found = trial.touch_all(0..length);
        assert!(found > FRAMES as usize * 9 / 10, "{found} of {FRAMES}");
    }

    #[test]
    fn of_pages_wanted_again_soon_or_never_all_are_found() {
        let mut trial = trial();
        // Each page is wanted again after half a poolful of others, and that is all.
        let mut run = |from: u32, to: u32| {
            trial
                .touch_all((from..to).flat_map(|index| [index, index.saturating_sub(FRAMES / 2)]).skip(FRAMES as usize))
        };
        run(0, FRAMES * 10);
        let found = run(FRAMES * 10, FRAMES * 12);
        assert!(found > FRAMES as usize * 9 / 10, "{found}");
    }

    #[test]
    fn pages_wanted_often_outlive_a_scan() {
        let mut trial = trial();
        let mut scan = 1_000_000..;
        let mut found = 0;
        for _ in 0..40 {
            found = 0;
            for index in 0..FRAMES * 3 / 4 {
                found += usize::from(trial.touch(index));
                // Four times as many pages that never come back.
                trial.touch_all(scan.by_ref().take(4));
            }
        }
        assert!(found > FRAMES as usize * 3 / 4 * 9 / 10, "{found}");
    }

    #[test]
    fn before_anything_is_known_what_came_first_stays() {
        let mut trial = trial();
        trial.touch_all(0..FRAMES * 4);
        assert_eq!((0..FRAMES - 1).filter(|&index| trial.has(index)).count(), FRAMES as usize - 1);
        assert!(trial.has(FRAMES * 4 - 1), "the newest is kept until the next one comes");
    }

    #[test]
    fn classes_are_in_order_and_within_the_queues() {
        assert_eq!(
            [(0, false), (0, true), (1, false), (1, true), (2, true), (3, false)].map(|(s, w)| class(s, w)),
            [0, 1, 2, 3, 4, 4]
        );
        assert_eq!([4, 8, MOST].map(|seen| class(seen, false)), [5, 6, 7]);
    }
}
