//! What each processor keeps at hand: it is quick to get, it is free, and nobody goes without because of it.

use frames::arena::Arena;
use frames::{Frame, Memory, Pfn, Zones, cpu};

/// Enough for the reserve to be worth sharing out: four processors have 8 frames each at hand.
const FRAMES: usize = 2048;

fn arena() -> Arena {
    let arena = Arena::with_scratch(FRAMES, 1024);
    arena.memory().keep_at_hand(4);
    arena
}

fn take(memory: &'static Memory) -> Frame {
    memory.allocate(Zones::Preservable).expect("memory")
}

fn all(memory: &'static Memory) -> Vec<Frame> {
    std::iter::from_fn(|| memory.allocate(Zones::Ephemeral)).collect()
}

#[test]
fn what_a_processor_gave_back_is_its_own_until_frames_are_few() {
    let arena = arena();
    let memory = arena.memory();
    cpu::play(1);
    let given = take(memory).pfn();
    let free = memory.free_frames(Zones::Preservable);
    assert_eq!(take(memory).pfn(), given);
    cpu::play(2);
    let others: Vec<Frame> = (0..900).map(|_| take(memory)).collect();
    assert!(others.iter().all(|frame| frame.pfn() != given), "of another's stash, with many left");
    assert_eq!(memory.free_frames(Zones::Preservable) + 900, free);
    let rest = all(memory);
    assert!(rest.iter().any(|frame| frame.pfn() == given));
    assert_eq!((others.len() + rest.len(), memory.free_frames(Zones::Ephemeral)), (FRAMES, 0));
    // From nobody's stash, for all are few.
    drop(others);
    cpu::play(3);
    assert_eq!(all(memory).len(), 900);
    drop(rest);
}

#[test]
fn what_is_allocated_together_lies_together() {
    let arena = arena();
    cpu::play(0);
    let frames: Vec<Pfn> = (0..64)
        .map(|_| arena.memory().allocate(Zones::Preservable))
        .map(|frame| {
            let frame = frame.expect("memory");
            let pfn = frame.pfn();
            std::mem::forget(frame);
            pfn
        })
        .collect();
    assert!(frames.is_sorted_by(|a, b| a.get() + 1 == b.get()), "{frames:?}");
    std::mem::forget(arena);
}

#[test]
fn large_blocks_are_made_of_what_is_at_hand() {
    let arena = arena();
    let memory = arena.memory();
    // Each has a frame at hand that keeps the halves of the only large block apart.
    for processor in 0..4 {
        cpu::play(processor);
        drop(take(memory));
    }
    assert_eq!(memory.stats().owned(), 0);
    let run = memory.allocate_run(Zones::Preservable, 10).expect("all of the zone");
    assert_eq!(run.len(), 1024);
}

#[test]
fn a_hypervisor_is_told_of_what_is_at_hand() {
    let arena = arena();
    let memory = arena.memory();
    cpu::play(2);
    drop(take(memory));
    let mut told = 0;
    memory.report_free(0, 64, |blocks| {
        told = blocks.iter().map(|block| block.len()).sum();
        true
    });
    assert_eq!(told, FRAMES);
}

#[test]
fn in_a_tiny_machine_nothing_is_kept_from_anybody() {
    let arena = Arena::new(40);
    let memory = arena.memory();
    memory.keep_at_hand(8);
    for processor in 0..8 {
        cpu::play(processor);
        drop(take(memory));
    }
    assert_eq!(all(memory).len(), 40);
}
