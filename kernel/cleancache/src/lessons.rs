//! What pages of one class have taught: how likely one is to be wanted in the next moment, at each age, and what that makes a frame
//! worth that holds one.
//!
//! Every page that was stored *waits* until it is wanted, whether it is still here or only remembered; so what is learned does not
//! depend on what was evicted. For each age there are two sums, of the pages that waited through it and of those that were
//! wanted in it; their ratio is the chance. The sums fade, so that the last rounds count most.

/// Ticks that ages are told apart in: eight rounds of eight.
pub(crate) const AGES: usize = 64;
/// The first eight ticks, and four parts of each doubling from there to [`AGES`].
const BUCKETS: usize = 20;
/// What one page adds to a sum, so that sums can fade by parts of it.
const PAGE: u32 = 64;
/// A sum loses one part in so many at each lesson, as a shift.
const FADE: u32 = 4;
/// Pages, times ticks, that have to be seen at an age before anything is said about it.
const KNOWN: u64 = 32 * PAGE as u64;

#[derive(Clone, Debug)]
pub(crate) struct Lessons {
    /// Pages stored in each of the last ticks that were not wanted since, by tick modulo [`AGES`].
    waiting: [u32; AGES],
    /// The same by age now.
    at_age: [u32; BUCKETS],
    waited: [u64; BUCKETS],
    wanted: [u32; BUCKETS],
    worth: [u32; BUCKETS + 1],
    /// Whether a page of the class was seen lately.
    active: bool,
}

fn bucket(age: u32) -> usize {
    if age < 8 {
        return age as usize;
    }
    let octave = age.ilog2();
    ((octave - 1) * 4 + (age >> (octave - 2) & 3)) as usize
}

/// Ticks that a bucket is wide.
fn width(bucket: usize) -> u32 {
    if bucket < 8 { 1 } else { 2 << ((bucket - 8) / 4) }
}

impl Lessons {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: [0; AGES],
            at_age: [0; BUCKETS],
            waited: [0; BUCKETS],
            wanted: [0; BUCKETS],
            worth: [0; BUCKETS + 1],
            active: false,
        }
    }

    /// What a frame is worth that holds a page of this age.
    #[inline]
    pub(crate) fn worth(&self, age: u32) -> u32 {
        self.worth[bucket(age).min(BUCKETS)]
    }

    /// A page is stored in tick `now`.
    #[inline]
    pub(crate) fn stored(&mut self, now: u32) {
        self.waiting[now as usize % AGES] += PAGE;
        self.at_age[0] += PAGE;
        self.active = true;
    }

    /// A page that was stored `age` ticks before `now` is wanted.
    #[inline]
    pub(crate) fn wanted(&mut self, now: u32, age: u32) {
        let bucket = bucket(age);
        if let Some(wanted) = self.wanted.get_mut(bucket) {
            *wanted += PAGE;
            let waiting = &mut self.waiting[now.wrapping_sub(age) as usize % AGES];
            let less = PAGE.min(*waiting);
            *waiting -= less;
            self.at_age[bucket] -= less;
        }
    }

    /// Tick `now` begins: learn from the one that is over. A class of which nothing is known is taken for `like`.
    pub(crate) fn learn(&mut self, now: u32, like: Option<&Self>) {
        if !self.active {
            if let Some(like) = like {
                self.worth = like.worth;
            }
            return;
        }
        let mut age = AGES as u32;
        // Those of the last tick of each age grow older than that; the oldest are not waited for any more.
        for at in (0..BUCKETS).rev() {
            self.waited[at] += u64::from(self.at_age[at]);
            let leaving = self.waiting[now.wrapping_sub(age) as usize % AGES];
            self.at_age[at] -= leaving;
            if let Some(older) = self.at_age.get_mut(at + 1) {
                *older += leaving;
            }
            age -= width(at);
        }
        self.waiting[now as usize % AGES] = 0;
        let seen = self.waited.iter().zip(&self.wanted).map(|(&waited, &wanted)| waited + u64::from(wanted));
        let known = BUCKETS - seen.rev().take_while(|&seen| seen < KNOWN).count();
        match like {
            Some(like) if known == 0 => self.worth = like.worth,
            _ => self.appraise(known),
        }
        self.active = false;
        for (at, (waited, wanted)) in self.waited.iter_mut().zip(&mut self.wanted).enumerate() {
            *waited -= *waited >> FADE;
            *wanted -= *wanted >> FADE;
            // What is too little to fade is as good as nothing.
            self.active |= *waited >> FADE != 0 || self.at_age[at] != 0;
        }
    }

    /// Set the worth for each age: with the best choice of how long to hold the page from there on, the pages wanted in that time for
    /// each tick of holding. (This is Gittins' index; Beckmann et al., NSDI 2018, rank by its like for the time that the
    /// cache happens to hold pages.) Ages that no page has reached are taken for the last one that some has.
    fn appraise(&mut self, known: usize) {
        // Of 2^24 pages: how many are still waiting when each bucket begins.
        let mut left = [0u64; BUCKETS + 1];
        left[0] = 1 << 24;
        for at in 0..known {
            let wanted = u64::from(self.wanted[at]);
            let chance = (wanted << 16) / (wanted / 2 + self.waited[at]).max(1);
            let gone = ((left[at] * chance) >> 16) * u64::from(width(at));
            left[at + 1] = left[at] - gone.min(left[at] - left[at] / 16);
        }
        // From the oldest age down, runs of buckets: one that lowers the yield of the younger ones before it stays apart, any other
        // is joined to them. So the first run is the best time to hold a page, and its yield the worth.
        let mut runs = [(0, 1); BUCKETS];
        let mut count = 0usize;
        for at in (0..known).rev() {
            let mut wanted = left[at] - left[at + 1];
            let mut held = ((left[at] + left[at + 1]) * u64::from(width(at)) / 2).max(1);
            while let Some(&(more, longer)) = count.checked_sub(1).and_then(|last| runs.get(last))
                && more * held >= wanted * longer
            {
                wanted += more;
                held += longer;
                count -= 1;
            }
            runs[count] = (wanted, held);
            count += 1;
            self.worth[at] = ((wanted << 20) / held) as u32;
        }
        let last = known.checked_sub(1).map_or(0, |last| self.worth[last]);
        self.worth[known..].fill(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_and_are_as_wide_as_they_say() {
        let mut widths = [0; BUCKETS];
        for age in 0..AGES as u32 {
            assert!(bucket(age + 1) - bucket(age) <= 1, "age {age}");
            widths[bucket(age)] += 1;
        }
        for (at, &wide) in widths.iter().enumerate() {
            assert_eq!(wide, width(at), "bucket {at}");
        }
        assert_eq!(bucket(AGES as u32), BUCKETS);
    }

    /// In each tick 100 pages are stored; of those, so many are wanted at each age as `wanted` says.
    fn taught(wanted: impl Fn(u32) -> u32) -> Lessons {
        let mut lessons = Lessons::new();
        for now in 0..500 {
            for _ in 0..100 {
                lessons.stored(now);
            }
            for age in 0..AGES as u32 {
                for _ in 0..wanted(age).min(if age <= now { u32::MAX } else { 0 }) {
                    lessons.wanted(now, age);
                }
            }
            lessons.learn(now + 1, None);
        }
        lessons
    }

    #[test]
    fn pages_of_a_loop_are_worth_more_the_nearer_their_turn_is() {
        let lessons = taught(|age| if age == 20 { 95 } else { 0 });
        for age in 1..20 {
            assert!(lessons.worth(age) >= lessons.worth(age - 1), "age {age}");
        }
        assert!(lessons.worth(19) > 3 * lessons.worth(0));
        assert!(lessons.worth(40) < lessons.worth(0) / 2, "past its turn a page is worth little");
    }

    #[test]
    fn pages_wanted_soon_or_never_are_worth_less_the_longer_they_wait() {
        let lessons = taught(|age| if age < 4 { 20 } else { 0 });
        assert!(lessons.worth(0) > 10 * lessons.worth(5));
        assert_eq!(lessons.worth(30), 0);
    }

    #[test]
    fn where_nothing_is_known_another_class_is_asked() {
        let other = taught(|age| if age < 4 { 20 } else { 0 });
        let mut lessons = Lessons::new();
        lessons.learn(1, None);
        assert_eq!(lessons.worth(0), 0);
        lessons.learn(2, Some(&other));
        assert_eq!(lessons.worth(2), other.worth(2));
    }

    #[test]
    fn what_was_wanted_long_ago_fades() {
        let mut lessons = taught(|age| if age < 4 { 20 } else { 0 });
        let before = lessons.worth(0);
        for now in 500..600 {
            for _ in 0..100 {
                lessons.stored(now);
            }
            lessons.learn(now + 1, None);
        }
        assert!(lessons.worth(0) < before / 20);
    }
}
