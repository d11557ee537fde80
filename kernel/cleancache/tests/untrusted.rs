//! Pools in memory where a host can write: what it changed is a miss, counted, and never reaches a reader.

mod bench;

use bench::{Bench, EXCLUSIVE, INCLUSIVE, Sort, bench};
use cleancache::{Offer, Wanted};
use frames::{FRAME_SIZE, Pfn};
use proptest::prelude::*;

fn shared(exclusive: bool, frames: usize) -> Bench {
    bench(if exclusive { EXCLUSIVE() } else { INCLUSIVE() }, Sort::Untrusted, frames)
}

/// The frame that page 0 is in, told by what the host sees there.
fn lair(bench: &Bench, byte: u8) -> Pfn {
    let holds = |&&pfn: &&Pfn| {
        let mut found = 0;
        bench.arena.scribble(pfn, 7, |seen| {
            found = seen;
            seen
        });
        found == byte
    };
    *bench.lent.iter().find(holds).expect("some frame has it")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_byte_that_the_host_changed_is_a_miss(
        at in prop_oneof![0..FRAME_SIZE, Just(0), Just(FRAME_SIZE - 1)],
        flip in 1u8..,
        exclusive: bool,
    ) {
        let bench = shared(exclusive, 3);
        bench.fill(0..3, |index| 100 + index as u8);
        bench.arena.scribble(lair(&bench, 101), at, |byte| byte ^ flip);
        prop_assert_eq!(bench.get(1), None);
        prop_assert_eq!(bench.get(1), None, "and is gone");
        prop_assert_eq!((bench.get(0), bench.get(2)), (Some(100), Some(102)), "the others are sound");
        let stats = bench.stats();
        prop_assert_eq!((stats.damaged, stats.hits), (1, 2));
        let fs = &bench.cleancache.fs_stats()[0];
        prop_assert_eq!((fs.hits, fs.misses, fs.lost), (2, 2, 1));
        // The frame serves again.
        bench.put(1, 55);
        prop_assert_eq!(bench.get(1), Some(55));
        prop_assert_eq!(bench.stats().damaged, 1);
    }
}

#[test]
fn a_byte_written_as_it_was_changes_nothing() {
    let bench = shared(true, 1);
    bench.put(0, 9);
    bench.arena.scribble(bench.lent[0], 100, |byte| byte);
    bench.arena.scribble(bench.lent[0], 100, |byte| !byte);
    bench.arena.scribble(bench.lent[0], 100, |byte| !byte);
    assert_eq!((bench.get(0), bench.stats().damaged), (Some(9), 0));
}

#[test]
fn a_page_of_yesterday_is_not_accepted() {
    for exclusive in [true, false] {
        let bench = shared(exclusive, 1);
        bench.put(0, b'A');
        bench.put(0, b'B');
        // The host has kept the first one and puts it back, whole.
        (0..FRAME_SIZE).for_each(|at| bench.arena.scribble(bench.lent[0], at, |_| b'A'));
        assert_eq!((bench.get(0), bench.stats().damaged), (None, 1));
    }
}

#[test]
fn two_pages_that_the_host_exchanged_are_not_accepted() {
    let bench = shared(true, 2);
    bench.put(0, b'A');
    bench.put(1, b'B');
    let (first, second) = (lair(&bench, b'A'), lair(&bench, b'B'));
    for at in 0..FRAME_SIZE {
        bench.arena.scribble(first, at, |_| b'B');
        bench.arena.scribble(second, at, |_| b'A');
    }
    assert_eq!((bench.get(0), bench.get(1), bench.stats().damaged), (None, None, 2));
}

#[test]
fn damage_in_a_run_is_a_gap_in_it() {
    for exclusive in [true, false] {
        let bench = shared(exclusive, 8);
        let offers = (0..8).map(|index| Offer {
            file: bench.file,
            index,
            frame: bench.page(index as u8 + 1),
            arrival: Default::default(),
        });
        bench.cleancache.store_all(offers, |_, frame| drop(frame));
        for byte in [3, 4, 7] {
            bench.arena.scribble(lair(&bench, byte), 4000, |byte| byte + 1);
        }
        let mut wanted: Vec<Wanted> = (0..8).map(|index| Wanted::new(index, bench.page(0))).collect();
        bench.cleancache.restore_run(bench.file, &mut wanted);
        let missing: Vec<u32> = wanted.iter().filter(|page| !page.found).map(|page| page.index).collect();
        assert_eq!(missing, [2, 3, 6]);
        let sound = |page: &&Wanted| page.frame.bytes().iter().all(|&byte| u32::from(byte) == page.index + 1);
        assert_eq!(wanted.iter().filter(|page| page.found).filter(sound).count(), 5);
        assert_eq!(bench.stats().damaged, 3);
        drop(wanted);
        bench.check("after damage");
    }
}

#[test]
fn what_the_host_does_to_free_frames_and_to_those_evicted_is_nothing_to_us() {
    let bench = shared(true, 2);
    let scribble = || bench.lent.iter().for_each(|&pfn| bench.arena.scribble(pfn, 9, |byte| byte ^ 0x40));
    scribble();
    bench.put(0, 1);
    bench.put(1, 2);
    assert_eq!(bench.get(0), Some(1));
    scribble();
    // Page 1 is damaged and overwritten by a newer one, page 2 comes into a frame that was scribbled over.
    bench.put(1, 3);
    bench.put(2, 4);
    assert_eq!((bench.get(1), bench.get(2), bench.stats().damaged), (Some(3), Some(4), 0));
}
