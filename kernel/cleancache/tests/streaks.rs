//! Pages that are restored in one operation are told what they would be told one by one, whatever the policy notes with them.

mod bench;

use bench::{Bench, EXCLUSIVE, INCLUSIVE, SORTS, Sort, bench};
use cleancache::policy::{End, Entry, Place, Queues};
use cleancache::{Arrival, Config, Keepsake, Policy, Wanted};
use frames::Key;
use proptest::prelude::*;

const PAGES: u32 = 24;

/// A policy that puts pages apart by their keepsake, and gives one that was not found the number of those that were.
#[derive(Default)]
struct Counting {
    found: u8,
}

impl Policy for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn admit(&mut self, _: Key, arrival: Arrival, _: &Queues<'_>, _: bool) -> Option<Place> {
        let Keepsake(mark) = arrival.keepsake;
        Some(Place { queue: u16::from(mark & 1), end: End::Young, bits: u16::from(mark >> 1) })
    }

    fn keepsake(&self, queue: u16, bits: u16) -> Keepsake {
        Keepsake((bits << 1 | queue) as u8)
    }

    fn hit(&mut self, queue: u16, bits: u16, pages: u32) {
        let weight = u32::from(bits << 1 | queue) + 1;
        self.found = self.found.wrapping_add((weight * pages) as u8);
    }

    fn stay(&mut self, queue: u16, bits: u16) -> Place {
        Place { queue, end: End::Young, bits }
    }

    fn miss(&mut self, _: Key) -> Keepsake {
        Keepsake(self.found)
    }

    fn victim(&mut self, queues: &mut Queues<'_>) -> Option<Entry> {
        queues.front(0).or_else(|| queues.front(1))
    }
}

/// Restores pages in one operation or in many, and gives what each was told, and what was counted.
fn told(config: Config, sort: Sort, marks: &[Option<u8>], at_once: usize) -> (Vec<(bool, Keepsake)>, u64, u64) {
    let bench: Bench = bench(Config { policy: |_| Box::new(Counting::default()), ..config }, sort, marks.len());
    for (index, mark) in (0..).zip(marks) {
        if let &Some(mark) = mark {
            let arrival = Arrival { workingset: true, keepsake: Keepsake(mark) };
            bench.offer(bench.file, index, mark, arrival);
        }
    }
    let mut wanted: Vec<Wanted> = (0..PAGES).map(|index| Wanted::new(index, bench.page(0xee))).collect();
    wanted.chunks_mut(at_once).for_each(|pages| bench.cleancache.restore_run(bench.file, pages));
    let told = wanted.iter().map(|page| (page.found, page.keepsake)).collect();
    let (hits, of_fs) = (bench.stats().hits, bench.cleancache.fs_stats()[0].hits);
    drop(wanted);
    bench.cleancache.clear();
    (told, hits, of_fs)
}

proptest! {
    #[test]
    fn pages_of_one_operation_are_told_what_they_are_told_one_by_one(
        marks in prop::collection::vec(prop::option::of(0u8..4), PAGES as usize / 2),
        inclusive: bool,
        sort in prop::sample::select(&SORTS[..]),
    ) {
        let config = if inclusive { INCLUSIVE } else { EXCLUSIVE };
        let one_by_one = told(config(), sort, &marks, 1);
        prop_assert_eq!(told(config(), sort, &marks, PAGES as usize), one_by_one.clone());
        prop_assert_eq!(one_by_one.1, marks.iter().flatten().count() as u64);
        prop_assert_eq!(one_by_one.1, one_by_one.2);
    }
}
