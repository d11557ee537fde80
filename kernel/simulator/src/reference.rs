//! What to measure against: one LRU list over all memory, and Belady's optimum, which knows the future.

use crate::trace::{Access, Trace, numbered};
use std::collections::BinaryHeap;

/// No access.
const NEVER: usize = usize::MAX;

/// Pages that a page cache in LRU order reads from disk, if it has `room` for that many, at least one.
pub fn lru(trace: &Trace, room: usize) -> u64 {
    let (pages, distinct) = numbered(&trace.accesses);
    // Each page's last access; and, for each access, whether it is still its page's last: the oldest of these goes.
    let mut last = vec![NEVER; distinct];
    let (mut oldest, mut here, mut misses) = (0, 0, 0);
    let mut resident = vec![false; distinct];
    for (at, (&page, access)) in pages.iter().zip(&trace.accesses).enumerate() {
        let page = page as usize;
        if !resident[page] {
            misses += u64::from(at >= trace.warm_up && matches!(access, Access::Read(_)));
            if here == room {
                while last[pages[oldest] as usize] != oldest || !resident[pages[oldest] as usize] {
                    oldest += 1;
                }
                resident[pages[oldest] as usize] = false;
                here -= 1;
            }
            resident[page] = true;
            here += 1;
        }
        last[page] = at;
    }
    misses
}

/// The fewest pages that any cache can read from disk that has `room` for that many, at least one: it drops what is read
/// again last. What is written next is as good as never read again.
pub fn belady(trace: &Trace, room: usize) -> u64 {
    let (pages, distinct) = numbered(&trace.accesses);
    let mut next_read = vec![NEVER; pages.len()];
    let mut upcoming = vec![NEVER; distinct];
    for at in (0..pages.len()).rev() {
        let page = pages[at] as usize;
        next_read[at] = upcoming[page];
        upcoming[page] = if matches!(trace.accesses[at], Access::Read(_)) { at } else { NEVER };
    }
    // Entries of the heap that are no page's newest are stale.
    let mut heap: BinaryHeap<(usize, u32)> = BinaryHeap::new();
    let mut here: Vec<Option<usize>> = vec![None; distinct];
    let (mut count, mut misses) = (0, 0);
    for (at, &page) in pages.iter().enumerate() {
        let place = page as usize;
        if here[place].is_none() {
            misses += u64::from(at >= trace.warm_up && matches!(trace.accesses[at], Access::Read(_)));
            while count == room {
                let Some((next, victim)) = heap.pop() else { break };
                if here[victim as usize] == Some(next) {
                    here[victim as usize] = None;
                    count -= 1;
                }
            }
            count += 1;
        }
        here[place] = Some(next_read[at]);
        heap.push((next_read[at], page));
    }
    misses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Page, Size};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn trace(ops: &[(u32, bool)], warm_up: usize) -> Trace {
        let access = |&(index, write)| {
            let page = Page { file: 0, index };
            if write { Access::Write(page) } else { Access::Read(page) }
        };
        let accesses = ops.iter().map(access).collect();
        Trace { name: String::new(), accesses, warm_up, size: Size { memory: 1, donated: 0 } }
    }

    /// LRU as a vector, the youngest last.
    fn naive_lru(trace: &Trace, room: usize) -> u64 {
        let (mut list, mut misses) = (Vec::new(), 0);
        for (at, access) in trace.accesses.iter().enumerate() {
            match list.iter().position(|&page| page == access.page()) {
                Some(place) => drop(list.remove(place)),
                None => misses += u64::from(at >= trace.warm_up && matches!(access, Access::Read(_))),
            }
            if list.len() == room {
                list.remove(0);
            }
            list.push(access.page());
        }
        misses
    }

    /// Every choice that a cache has, tried.
    fn brute_force(trace: &Trace, room: usize) -> u64 {
        let mut states = vec![(BTreeSet::new(), 0)];
        for (at, access) in trace.accesses.iter().enumerate() {
            let page = access.page();
            let mut next: Vec<(BTreeSet<Page>, u64)> = Vec::new();
            for (here, misses) in states {
                if here.contains(&page) {
                    next.push((here, misses));
                    continue;
                }
                let misses = misses + u64::from(at >= trace.warm_up && matches!(access, Access::Read(_)));
                if here.len() < room {
                    let mut here = here;
                    here.insert(page);
                    next.push((here, misses));
                    continue;
                }
                for victim in here.clone() {
                    let mut here = here.clone();
                    here.remove(&victim);
                    here.insert(page);
                    next.push((here, misses));
                }
            }
            next.sort();
            next.dedup_by(|a, b| a.0 == b.0);
            states = next;
        }
        states.into_iter().map(|(_, misses)| misses).min().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn lru_is_the_naive_one(ops in prop::collection::vec((0u32..12, prop::bool::weighted(0.2)), 0..120), room in 1usize..8) {
            let trace = trace(&ops, ops.len() / 4);
            prop_assert_eq!(lru(&trace, room), naive_lru(&trace, room));
        }

        #[test]
        fn no_choice_of_victims_beats_belady(
            ops in prop::collection::vec((0u32..6, prop::bool::weighted(0.2)), 0..24),
            room in 1usize..5,
        ) {
            let trace = trace(&ops, 0);
            prop_assert_eq!(belady(&trace, room), brute_force(&trace, room));
        }
    }
}
