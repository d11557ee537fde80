//! Free blocks that a hypervisor is told of.

use frames::arena::Arena;
use frames::{Frame, FrameRun, Pfn, Zones};
use std::collections::BTreeSet;

fn told(arena: &Arena, most: usize) -> Vec<(Pfn, usize)> {
    let mut told = Vec::new();
    arena.memory().report_free(4, most, |blocks| {
        told.extend(blocks.iter().map(|block| (block.start(), block.len())));
        // What a hypervisor does to them.
        blocks.iter_mut().for_each(|block| block.bytes_mut().fill(0));
        true
    });
    told
}

fn everything(arena: &Arena) -> Vec<(Pfn, usize)> {
    (0..100).flat_map(|_| told(arena, 3)).collect()
}

#[test]
fn each_block_is_told_once_and_can_be_used_afterwards() {
    let arena = Arena::with_scratch(1000, 100);
    let free = arena.memory().free_frames(Zones::Ephemeral);
    let first = everything(&arena);
    let frames: BTreeSet<u64> = first.iter().flat_map(|(at, len)| (at.get()..).take(*len)).collect();
    assert_eq!(frames.len(), first.iter().map(|(_, len)| len).sum::<usize>(), "told twice");
    assert!(frames.len() > 960 && first.iter().all(|(_, len)| *len >= 16));
    assert_eq!(arena.memory().free_frames(Zones::Ephemeral), free);
    assert_eq!(everything(&arena), []);
    // A debug build would find poison that is gone.
    let all: Vec<Frame> = core::iter::from_fn(|| arena.memory().allocate(Zones::Ephemeral)).collect();
    assert_eq!(all.len(), free as usize);
    drop(all);
    let again: usize = everything(&arena).iter().map(|(_, len)| len).sum();
    assert_eq!(again, frames.len(), "what was used and freed again is told again");
}

#[test]
fn what_was_not_told_of_is_used_first() {
    let arena = Arena::new(64);
    let used = arena.memory().allocate_run(Zones::Ephemeral, 4).unwrap();
    let rest = arena.memory().allocate_run(Zones::Ephemeral, 5).unwrap();
    let range = used.range();
    everything(&arena);
    drop(used);
    // The freed block would join its neighbour if that was not in use or told of.
    let next = arena.memory().allocate_run(Zones::Ephemeral, 4).unwrap();
    assert!(range.covers(next.range()));
    drop((next, rest));
}

#[test]
fn the_rest_of_a_block_that_is_split_was_told_of() {
    let arena = Arena::new(1024);
    assert_eq!(everything(&arena).len(), 1);
    let frame = arena.memory().allocate(Zones::Ephemeral).unwrap();
    assert_eq!(everything(&arena), []);
    drop(frame);
    // All of it is one block again, of which a part was written to.
    assert_eq!(everything(&arena).len(), 1);
}

#[test]
fn a_block_that_joins_one_that_was_not_told_of_is_told_again() {
    let arena = Arena::new(64);
    let memory = arena.memory();
    let mut other = memory.allocate_run(Zones::Ephemeral, 5);
    // It becomes free while its neighbour is being told of.
    memory.report_free(4, 1, |_| other.take().is_some());
    assert_eq!(everything(&arena).iter().map(|(_, len)| len).sum::<usize>(), 64);
}

#[test]
fn nobody_gets_what_is_being_told_of_or_may_still_change() {
    let arena = Arena::new(128);
    let memory = arena.memory();
    let mut lost: Vec<FrameRun> = Vec::new();
    let count = memory.report_free(4, 1, |blocks| {
        assert_eq!(blocks.len(), 1);
        let taken = blocks[0].range();
        let all: Vec<Frame> = core::iter::from_fn(|| memory.allocate(Zones::Ephemeral)).collect();
        assert!(all.iter().all(|frame| !taken.contains(frame.pfn())));
        assert_eq!(all.len() + blocks[0].len(), 128);
        false
    });
    assert_eq!(count, 1);
    assert_eq!(memory.free_frames(Zones::Ephemeral), 0);
    lost.clear();
    // The arena would miss them.
    core::mem::forget(arena);
}
