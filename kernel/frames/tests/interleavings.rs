//! Processors over the same free frames, in random interleavings (the feature `shuttle`; `frames/src/sync.rs`): a frame has one owner at
//! every moment, nobody goes without while enough is at hand of others, and in the end every frame is there.
//!
//!     cargo test -p frames --features shuttle --test interleavings

use frames::arena::Arena;
use frames::{Frame, FrameRun, Memory, Zones};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

const SCHEDULES: usize = 2000;
/// Few of them, so that they are short now and then; more than the floor, so that not always.
const FRAMES: usize = 64;
const PROCESSORS: usize = 3;

/// Write to a frame, let others have their turn, and look whether it is still as it was.
fn hold(runs: &mut [FrameRun], mark: u8) {
    runs.iter_mut().for_each(|run| run.bytes_mut()[..8].fill(mark));
    thread::yield_now();
    assert!(runs.iter().all(|run| run.bytes()[..8] == [mark; 8]), "a frame with two owners");
}

fn work(memory: &'static Memory, mark: u8) {
    for _ in 0..4 {
        let mut runs: Vec<FrameRun> = Vec::new();
        match thread_rng().gen_range(0..8) {
            0 => runs.extend(memory.allocate_run(Zones::Ephemeral, thread_rng().gen_range(1..4))),
            1 => drop(memory.report_free(1, 2, |blocks| {
                hold(blocks, mark);
                true
            })),
            2 => assert!(memory.free_frames(Zones::Ephemeral) <= FRAMES as u32 + 32),
            _ => {
                let count = thread_rng().gen_range(1..14);
                runs.extend((0..count).filter_map(|_| memory.allocate(Zones::Ephemeral)).map(FrameRun::from));
            }
        }
        hold(&mut runs, mark);
    }
}

#[test]
fn a_frame_has_one_owner_whoever_has_it_at_hand() {
    let test = || {
        let arena = Arena::with_scratch(FRAMES, 8);
        let memory = arena.memory();
        memory.keep_at_hand(PROCESSORS);
        let others = (1..PROCESSORS as u8).map(|mark| thread::spawn(move || work(memory, mark)));
        let others: Vec<_> = others.collect();
        work(memory, 0);
        others.into_iter().for_each(|other| other.join().expect("it does not panic"));
        assert_eq!(memory.free_frames(Zones::Ephemeral) as usize, FRAMES);
        let all: Vec<Frame> = std::iter::from_fn(|| memory.allocate(Zones::Ephemeral)).collect();
        assert_eq!(all.len(), FRAMES);
    };
    shuttle::check_random(test, SCHEDULES);
    shuttle::check_pct(test, SCHEDULES, 4);
}

#[test]
fn nobody_goes_without_while_another_has_frames_at_hand() {
    let test = || {
        let arena = Arena::new(FRAMES);
        let memory = arena.memory();
        memory.keep_at_hand(PROCESSORS);
        // Each takes a third of all and never more, so there is a frame for each at every moment.
        let share = FRAMES / PROCESSORS;
        let work = move || {
            for _ in 0..2 {
                let held: Vec<Frame> =
                    (0..share).map(|_| memory.allocate(Zones::Ephemeral).expect("its share")).collect();
                thread::yield_now();
                drop(held);
            }
        };
        let others: Vec<_> = (1..PROCESSORS).map(|_| thread::spawn(work)).collect();
        work();
        others.into_iter().for_each(|other| other.join().expect("it does not panic"));
    };
    shuttle::check_random(test, SCHEDULES);
    shuttle::check_pct(test, SCHEDULES, 4);
}
