//! How often locks were waited for, by rank: it tells which of them processors get into each other's way at.
//!
//! A lock that is open costs nothing for it; who has to wait counts when he has it. Counts are relaxed: each is right, but one may be
//! newer than another. Under the feature `shuttle` nothing is counted.

use crate::lock::Rank;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Of one rank.
struct Counts {
    times: AtomicU64,
    turns: AtomicU64,
}

static COUNTS: [Counts; Rank::ALL.len()] =
    [const { Counts { times: AtomicU64::new(0), turns: AtomicU64::new(0) } }; Rank::ALL.len()];

/// How often locks of one rank were waited for, since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The rank.
    pub rank: Rank,
    /// How often somebody did not get such a lock at once.
    pub times: u64,
    /// How often they looked until they got it.
    pub turns: u64,
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, times, turns } = self;
        write!(f, "{rank:?} was waited for {times} times, {turns} turns")
    }
}

/// Somebody had to wait.
pub(crate) fn note(rank: Rank, turns: u64) {
    let Counts { times, turns: all } = &COUNTS[rank as usize];
    times.fetch_add(1, Relaxed);
    all.fetch_add(turns, Relaxed);
}

/// The ranks that were waited for, in their order.
pub fn waits() -> impl Iterator<Item = Waits> {
    let counts = Rank::ALL.iter().zip(&COUNTS);
    let all = counts.map(|(&rank, Counts { times, turns })| Waits {
        rank,
        times: times.load(Relaxed),
        turns: turns.load(Relaxed),
    });
    all.filter(|waits| waits.times > 0)
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use crate::lock::Lock;
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

    fn of(rank: Rank) -> (u64, u64) {
        waits().find(|waits| waits.rank == rank).map_or((0, 0), |waits| (waits.times, waits.turns))
    }

    #[test]
    fn who_waits_is_counted_and_nobody_else() {
        // No other test of this program takes locks of these ranks.
        let (contended, alone) = (Lock::new(Rank::Identity, ()), Lock::new(Rank::Mounts, ()));
        // Whether somebody waits is not seen from outside; sooner or later he does.
        let contend = || {
            let taken = Barrier::new(2);
            thread::scope(|scope| {
                let held = contended.lock();
                scope.spawn(|| {
                    taken.wait();
                    drop(contended.lock());
                });
                taken.wait();
                thread::sleep(Duration::from_millis(1));
                drop(held);
            });
        };
        let rounds = (1..=1000).find(|_| {
            contend();
            of(Rank::Identity).0 > 0
        });
        (0..100).for_each(|_| drop(alone.lock()));
        let (times, turns) = of(Rank::Identity);
        assert!(rounds.is_some() && times == 1 && turns > 1, "{times} times, {turns} turns");
        assert_eq!(of(Rank::Mounts), (0, 0));
    }
}
