//! What pages of one class have taught: how likely one is to be wanted in the next moment, at each age, and what that makes a frame
//! worth that holds one.
//!
//! Every page that was stored *waits* until it is wanted, whether it is still here or only remembered; so what is learned does not
//! depend on what was evicted. For each age there are two sums, of the pages that waited through it and of those that were
//! wanted in it; their ratio is the chance. The sums fade, so that the last rounds count most.

/// Ticks that ages are told apart in: four rounds of the pool.
pub(crate) const AGES: usize = 64;
/// The first eight ticks, and four parts of each doubling from there to [`AGES`].
const BUCKETS: usize = 20;
/// What one page adds to a sum, so that sums can fade by parts of it.
const PAGE: u32 = 64;
/// A sum loses one part in so many at each lesson, as a shift.
const FADE: u32 = 4;
/// Pages, times ticks, that have to be seen at an age before anything is said about it.
const KNOWN: u64 = 4 * PAGE as u64;

#[derive(Clone, Debug)]
pub(crate) struct Lessons {
    /// Pages stored in each of the last ticks, by tick modulo [`AGES`]; how many of them were wanted; and how many of those were
    /// counted. Only these are touched when a page comes or goes.
    stored: [u32; AGES],
    found: [u32; AGES],
    counted: [u32; AGES],
    /// Ticks since a page was stored. After [`AGES`] of them nobody waits any more.
    idle: usize,
    waited: [u64; BUCKETS],
    wanted: [u32; BUCKETS],
    worth: [u32; BUCKETS + 1],
    /// Whether anything is known.
    known: bool,
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
            stored: [0; AGES],
            found: [0; AGES],
            counted: [0; AGES],
            idle: AGES,
            waited: [0; BUCKETS],
            wanted: [0; BUCKETS],
            worth: [0; BUCKETS + 1],
            known: false,
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
        self.stored[now as usize % AGES] += 1;
    }

    /// So many pages of this age are wanted, which were stored in tick `then`.
    #[inline]
    pub(crate) fn wanted(&mut self, then: u32, age: u32, pages: u32) {
        if age < AGES as u32 {
            let found = &mut self.found[then as usize % AGES];
            *found = found.wrapping_add(pages);
        }
    }

    /// Tick `now` begins: count who waited through the one that is over, and who was wanted in it.
    pub(crate) fn count(&mut self, now: u32) {
        let mut then = now.wrapping_sub(1);
        self.idle = if self.stored[then as usize % AGES] > 0 { 0 } else { self.idle + 1 };
        if self.idle >= AGES {
            return;
        }
        for (at, (waited, wanted)) in self.waited.iter_mut().zip(&mut self.wanted).enumerate() {
            for _ in 0..width(at) {
                let cohort = then as usize % AGES;
                let found = self.found[cohort];
                let more = PAGE.saturating_mul(found.wrapping_sub(self.counted[cohort]));
                *wanted = wanted.saturating_add(more);
                *waited += u64::from(PAGE) * u64::from(self.stored[cohort].saturating_sub(found));
                self.counted[cohort] = found;
                then = then.wrapping_sub(1);
            }
        }
        let oldest = now as usize % AGES;
        (self.stored[oldest], self.found[oldest], self.counted[oldest]) = (0, 0, 0);
    }

    /// Learn from what was counted. A class of which nothing is known is taken for `like`.
    pub(crate) fn learn(&mut self, like: Option<&Self>) {
        if self.idle >= AGES {
            // Nothing new.
            if let (false, Some(like)) = (self.known, like) {
                self.worth = like.worth;
            }
            return;
        }
        let seen = self.waited.iter().zip(&self.wanted).map(|(&waited, &wanted)| waited + u64::from(wanted));
        let known = BUCKETS - seen.rev().take_while(|&seen| seen < KNOWN).count();
        self.known = known > 0;
        match like {
            Some(like) if !self.known => self.worth = like.worth,
            _ => self.appraise(known),
        }
        for (waited, wanted) in self.waited.iter_mut().zip(&mut self.wanted) {
            *waited -= *waited >> FADE;
            *wanted -= *wanted >> FADE;
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
                    lessons.wanted(now.wrapping_sub(age), age, 1);
                }
            }
            lessons.count(now + 1);
            lessons.learn(None);
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
        lessons.learn(None);
        assert_eq!(lessons.worth(0), 0);
        lessons.learn(Some(&other));
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
            lessons.count(now + 1);
            lessons.learn(None);
        }
        assert!(lessons.worth(0) < before / 20);
    }
}
