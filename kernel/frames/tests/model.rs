//! The allocator, lists and maps against slow obvious models.

use frames::arena::{Arena, BASE};
use frames::cpu;
use frames::{ClaimError, Frame, FrameList, FrameMap, FrameRun, Key, Pfn, PfnRange, Zone, Zones};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const FRAMES: usize = 2048 + 300;
const SCRATCH: usize = 700;

#[derive(Clone, Debug)]
enum Op {
    One { preservable: bool },
    Many { preservable: bool, count: usize },
    Run { preservable: bool, order: u32 },
    Free(usize),
    FreeMany(usize),
    Split(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => any::<bool>().prop_map(|preservable| Op::One { preservable }),
        2 => (any::<bool>(), 0..=11u32).prop_map(|(preservable, order)| Op::Run { preservable, order }),
        1 => (any::<bool>(), 1..400_usize).prop_map(|(preservable, count)| Op::Many { preservable, count }),
        4 => any::<usize>().prop_map(Op::Free),
        1 => (1..400_usize).prop_map(Op::FreeMany),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(which, at)| Op::Split(which, at)),
    ]
}

fn zones(preservable: bool) -> Zones {
    if preservable { Zones::Preservable } else { Zones::Ephemeral }
}

/// The frames of all owners, each once; the model of the free lists is the set of all other frames.
fn check(arena: &Arena, held: &[FrameRun]) {
    let mut owned = BTreeSet::new();
    for run in held {
        for pfn in run.start().get()..run.range().end().get() {
            assert!(owned.insert(pfn), "two owners of frame {pfn:#x}");
            assert!((BASE.get()..BASE.get() + FRAMES as u64).contains(&pfn));
        }
    }
    let in_scratch = owned.iter().filter(|&&pfn| pfn < BASE.get() + SCRATCH as u64).count() as u64;
    let stats = arena.memory().stats();
    assert_eq!(stats.owned(), owned.len() as u64);
    assert_eq!(stats.free_scratch, SCRATCH as u64 - in_scratch);
    assert_eq!(stats.total, FRAMES as u64);
}

/// Whether the model has an aligned block of this order free.
fn has_block(held: &[FrameRun], zones: Zones, order: u32) -> bool {
    let owned: BTreeSet<u64> = held.iter().flat_map(|run| run.start().get()..run.range().end().get()).collect();
    let base = BASE.get();
    let (scratch, normal) = (0..SCRATCH as u64, SCRATCH as u64..FRAMES as u64);
    let allowed = if zones == Zones::Preservable { &[normal][..] } else { &[scratch, normal][..] };
    let size = 1u64 << order;
    allowed.iter().any(|range| {
        (range.start.next_multiple_of(size)..range.end)
            .step_by(size as usize)
            .any(|start| start + size <= range.end && (start..start + size).all(|slot| !owned.contains(&(base + slot))))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_has_one_owner(
        processors in 0..5_usize,
        ops in proptest::collection::vec((0..5_usize, op()), 1..200),
    ) {
        let arena = Arena::with_scratch(FRAMES, SCRATCH);
        let memory = arena.memory();
        if processors > 0 {
            memory.keep_at_hand(processors);
        }
        let mut held: Vec<FrameRun> = Vec::new();
        for (processor, op) in ops {
            // One more than there are said to be has nothing at hand.
            cpu::play(processor);
            match op {
                Op::One { preservable } => {
                    let frame = memory.allocate(zones(preservable));
                    prop_assert_eq!(frame.is_some(), has_block(&held, zones(preservable), 0));
                    held.extend(frame.map(FrameRun::from));
                }
                Op::Many { preservable, count } => {
                    let frames = (0..count).filter_map(|_| memory.allocate(zones(preservable)));
                    let frames: Vec<FrameRun> = frames.map(FrameRun::from).collect();
                    let is_short = frames.len() < count;
                    held.extend(frames);
                    prop_assert!(!is_short || !has_block(&held, zones(preservable), 0));
                }
                Op::FreeMany(count) => held.truncate(held.len().saturating_sub(count)),
                Op::Run { preservable, order } => {
                    let run = memory.allocate_run(zones(preservable), order);
                    let possible = order <= 10 && has_block(&held, zones(preservable), order);
                    prop_assert_eq!(run.is_some(), possible, "order {}", order);
                    if let Some(run) = run {
                        prop_assert_eq!(run.len(), 1 << order);
                        if preservable {
                            prop_assert_eq!(memory.zone_of(run.start()), Zone::Normal);
                        }
                        held.push(run);
                    }
                }
                Op::Free(which) if !held.is_empty() => {
                    let which = which % held.len();
                    held.swap_remove(which);
                }
                Op::Split(which, at) if !held.is_empty() => {
                    let which = which % held.len();
                    let run = held.swap_remove(which);
                    if run.len() > 1 {
                        let at = 1 + at % (run.len() - 1);
                        let (a, b) = run.split_at(at);
                        held.extend([a, b]);
                    } else {
                        held.push(run);
                    }
                }
                _ => {}
            }
            check(&arena, &held);
        }
    }

    #[test]
    fn set_aside_frames_are_claimed_once(
        cuts in proptest::collection::btree_set(0u64..600, 0..20),
        claims in proptest::collection::vec((0u64..600, 1u64..40), 1..60),
    ) {
        // Every second stretch between the cuts is set aside.
        let cuts: Vec<u64> = cuts.into_iter().collect();
        let aside: Vec<PfnRange> = cuts
            .chunks_exact(2)
            .map(|cut| PfnRange::new(BASE.offset(cut[0]), BASE.offset(cut[1])))
            .collect();
        let mut model: BTreeSet<u64> =
            aside.iter().flat_map(|range| range.start.get()..range.end().get()).collect();
        let before = Arena::with_scratch(600, 100);
        let arena = before.kexec(&aside);
        let memory = arena.memory();
        let mut held: Vec<FrameRun> = Vec::new();
        for (start, count) in claims {
            let range = PfnRange { start: BASE.offset(start), count };
            let whole = (range.start.get()..range.end().get()).all(|pfn| model.contains(&pfn));
            match memory.claim(range) {
                Ok(run) => {
                    prop_assert!(whole);
                    prop_assert_eq!(run.range(), range);
                    for pfn in range.start.get()..range.end().get() {
                        model.remove(&pfn);
                    }
                    held.push(run);
                }
                Err(ClaimError::NotSetAside(refused)) => {
                    prop_assert!(!whole);
                    prop_assert_eq!(refused, range);
                }
            }
            prop_assert_eq!(memory.stats().set_aside, model.len() as u64);
            let sum: u64 = held.iter().map(|run| run.len() as u64).sum();
            prop_assert_eq!(memory.stats().owned(), sum);
        }
    }

    #[test]
    fn a_map_is_a_map(ops in proptest::collection::vec((0u8..7, 0u32..3, 0u32..24, 0u16..2), 1..300)) {
        let arena = Arena::new(256);
        let memory = arena.memory();
        let mut map = FrameMap::new(memory, 16, 2);
        for file in 0..3 {
            map.add_file(file);
        }
        // Key to (frame, order, place in that order).
        let mut model: BTreeMap<Key, (Pfn, u16, u64)> = BTreeMap::new();
        let mut clock = 0u64;
        for (what, file, index, order) in ops {
            let key = Key { file, index };
            clock += 1;
            match what {
                0..=2 => {
                    let Some(frame) = memory.allocate(Zones::Ephemeral) else { continue };
                    let pfn = frame.pfn();
                    let inserted = map.insert(key, frame, order, file as u16);
                    prop_assert_eq!(inserted.is_ok(), !model.contains_key(&key));
                    model.entry(key).or_insert((pfn, order, clock));
                }
                3 => {
                    let got = map.remove(key).map(|frame| frame.pfn());
                    prop_assert_eq!(got, model.remove(&key).map(|entry| entry.0));
                }
                4 => {
                    prop_assert_eq!(map.move_to_back(key, order), model.contains_key(&key));
                    if let Some(entry) = model.get_mut(&key) {
                        (entry.1, entry.2) = (order, clock);
                    }
                }
                5 => {
                    // By its number, if it is in the order that is asked for; else it stays.
                    let Some((pfn, is_in)) = model.get(&key).map(|entry| (entry.0, entry.1)) else { continue };
                    let taken = map.take_pfn(pfn, order..order + 1);
                    prop_assert_eq!(taken.is_some(), is_in == order);
                    if let Some(taken) = taken {
                        prop_assert_eq!((taken.key, taken.order, taken.private), (key, order, file as u16));
                        model.remove(&key);
                    }
                }
                _ => {
                    let front = map.front(order).map(|frame| frame.key());
                    let oldest = model.iter().filter(|(_, e)| e.1 == order).min_by_key(|(_, e)| e.2);
                    prop_assert_eq!(front, oldest.map(|(key, _)| *key));
                }
            }
            prop_assert_eq!(map.len(), model.len());
            prop_assert_eq!(map.get(key).map(|frame| frame.pfn()), model.get(&key).map(|e| e.0));
            let in_file: BTreeSet<Key> = map.of_file(file).map(|frame| frame.key()).collect();
            let expected: BTreeSet<Key> = model.keys().copied().filter(|k| k.file == file).collect();
            prop_assert_eq!(in_file, expected);
            prop_assert_eq!(memory.stats().owned(), model.len() as u64);
        }
        for (key, entry) in &model {
            prop_assert_eq!(map.find(entry.0).map(|frame| frame.key()), Some(*key));
        }
    }
}

#[test]
fn a_list_gives_up_only_what_it_has() {
    let arena = Arena::new(16);
    let memory = arena.memory();
    let (mut a, mut b) = (FrameList::new(memory), FrameList::new(memory));
    let frames: Vec<Frame> = (0..4).filter_map(|_| memory.allocate(Zones::Ephemeral)).collect();
    let names: Vec<Pfn> = frames.iter().map(Frame::pfn).collect();
    for frame in frames {
        a.push_back(frame);
    }
    assert!(b.remove(names[1]).is_none(), "not on this list");
    assert!(a.remove(Pfn::new(1)).is_none(), "no frame of this machine");
    let middle = a.remove(names[1]).expect("on this list");
    assert!(a.remove(names[1]).is_none(), "taken already");
    b.push_front(middle);
    assert_eq!(a.len() + b.len(), 4);
    assert_eq!(a.pfns().collect::<Vec<_>>(), [names[0], names[2], names[3]]);
    assert_eq!(b.pfns().collect::<Vec<_>>(), [names[1]]);
    assert_eq!(FrameList::new(memory).pfns().count(), 0);
    assert_eq!(a.pop_front().map(|frame| frame.pfn()), Some(names[0]));
    assert_eq!(a.pop_back().map(|frame| frame.pfn()), Some(names[3]));
}

#[test]
fn kexec_keeps_the_bytes_of_what_is_set_aside() {
    let before = Arena::with_scratch(64, 16);
    let mut frame = before.memory().allocate(Zones::Preservable).expect("memory");
    frame.bytes_mut()[17] = 42;
    let range = PfnRange { start: frame.pfn(), count: 1 };
    let after = before.kexec(&[range]);
    assert_eq!(after.memory().peek(range.start, |page| page[17]), Some(42));
    let claimed = after.memory().claim(range).expect("set aside");
    assert_eq!(claimed.page(0)[17], 42);
    assert!(after.memory().peek(range.start, |_| ()).is_none(), "claimed, so not to be peeked at");
}

/// There is room for 1,024 machines in a process.
#[test]
fn a_machine_has_more_generations_than_there_is_room_for_machines() {
    let mut arena = Arena::with_scratch(64, 16);
    let mut frame = arena.memory().allocate(Zones::Preservable).expect("memory");
    let range = PfnRange { start: frame.pfn(), count: 1 };
    for generation in 0..3000_u32 {
        frame.bytes_mut()[..4].copy_from_slice(&generation.to_le_bytes());
        let after = arena.kexec(&[range]);
        drop(frame);
        let before = arena.memory();
        drop(arena);
        assert!(before.allocate(Zones::Ephemeral).is_none(), "a machine that is over gives a frame");
        assert!(before.claim(range).is_err());
        arena = after;
        let stats = arena.memory().stats();
        assert_eq!((stats.set_aside, stats.free_scratch, stats.free_normal), (1, 16, 47));
        let run = arena.memory().claim(range).expect("set aside");
        assert_eq!(run.page(0)[..4], generation.to_le_bytes());
        frame = run.into_frame().expect("one frame");
    }
    drop(frame);
}

#[test]
fn a_machine_whose_frames_are_set_aside_is_over_with_them() {
    // Twice, so that the second finds the block of the first.
    for _ in 0..2 {
        let before = Arena::with_scratch(2048, 32);
        let range = PfnRange { start: BASE.offset(100), count: 1500 };
        let after = before.kexec(&[range]);
        assert_eq!((before.memory().stats().set_aside, after.memory().stats().set_aside), (0, 1500));
    }
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "was written to at byte Some(100)")]
fn writing_to_a_free_frame_is_caught() {
    let arena = Arena::new(1);
    let frame = FrameRun::from(arena.memory().allocate(Zones::Ephemeral).expect("memory"));
    let stale = frame.as_ptr();
    drop(frame);
    // SAFETY: not at all, which is the point; but the arena's block is never freed, and nobody else uses this frame.
    unsafe { stale.add(100).write(0) };
    let _ = arena.memory().allocate(Zones::Ephemeral);
}
