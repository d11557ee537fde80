//! Reclaim ahead of need: who allocates does not reclaim while somebody else does, unless hardly anything is left.

mod machine;

use cache::PageCache;
use cleancache::Config;
use frames::{FRAME_SIZE, Frame, Zones};
use machine::{Machine, machine};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A machine whose cache has some pages to give up, with as few free frames as there may be before anybody reclaims, and who has
/// those that are gone.
fn just_above_low() -> (Machine, Vec<Frame>) {
    let (machine, _) = machine(400, 0, Config::default());
    let file = machine.open(1);
    machine.read(file, 64 * FRAME_SIZE as u64, 0, 64 * FRAME_SIZE).expect("a good disk");
    let cache = machine.cache.clone();
    let low = machine.memory.watermarks().low;
    let held = std::iter::from_fn(|| (free(&cache) > low).then(|| cache.allocate(Zones::Ephemeral).ok())?).collect();
    assert_eq!((free(&machine.cache), machine.cache.stats().evictions), (low, 0));
    (machine, held)
}

fn free(cache: &Arc<PageCache>) -> u32 {
    cache.memory().free_frames(Zones::Ephemeral)
}

#[test]
fn while_somebody_reclaims_the_others_do_so_only_for_the_last_frames() {
    let (machine, mut held) = just_above_low();
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    machine.cache.on_few(Box::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        true
    }));
    let marks = machine.memory.watermarks();
    let half = marks.min + (marks.low - marks.min) / 2;
    while free(&machine.cache) > half {
        held.push(machine.cache.allocate(Zones::Ephemeral).expect("a free frame"));
    }
    assert_eq!(machine.cache.stats().evictions, 0, "that was somebody else's");
    assert_eq!(asked.load(Ordering::Relaxed), u64::from(marks.low - half));
    held.push(machine.cache.allocate(Zones::Ephemeral).expect("pages to evict"));
    assert_eq!(free(&machine.cache), marks.high - 1, "nobody came");
}

#[test]
fn where_nobody_does_it_everybody_reclaims() {
    let (machine, mut held) = just_above_low();
    let there = Arc::new(AtomicBool::new(false));
    let is_there = there.clone();
    machine.cache.on_few(Box::new(move |_| is_there.load(Ordering::Relaxed)));
    held.push(machine.cache.allocate(Zones::Ephemeral).expect("pages to evict"));
    assert_eq!(free(&machine.cache), machine.memory.watermarks().high - 1);
}

#[test]
fn reclaiming_ahead_ends_when_there_are_enough_or_nothing_is_left() {
    let (machine, mut held) = just_above_low();
    let high = machine.memory.watermarks().high;
    while machine.cache.reclaim_ahead(Zones::Ephemeral) {
        assert!(free(&machine.cache) <= high, "more than is wanted");
    }
    assert_eq!(free(&machine.cache), high);
    assert!(!machine.cache.reclaim_ahead(Zones::Ephemeral));
    while let Some(frame) = machine.memory.allocate(Zones::Ephemeral) {
        held.push(frame);
    }
    while machine.cache.reclaim_ahead(Zones::Ephemeral) {}
    assert!(free(&machine.cache) <= 64, "there were 64 pages");
}
