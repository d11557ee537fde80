//! Cleancache against a slow obvious model: pages by age, each in a pool, and a number of frames for each pool. Pools of all kinds come
//! and go, donors take what they want, the host scribbles. Under every policy, in shards or not: what is found is what was stored last, what may
//! not be there is not there, and every frame and every page is accounted for. Under LRU the model knows each page that
//! goes, too.

#[path = "../bench/mod.rs"]
mod bench;
mod donors;
mod model;

use bench::SORTS;
use cleancache::Config;
use cleancache::policy::BUILT_IN;
use frames::FRAME_SIZE;
use model::Model;
use proptest::prelude::*;

const ANNEX: usize = 24;
const FILES: usize = 4;
const INDICES: u32 = 12;

#[derive(Clone, Debug)]
enum Op {
    Store { file: usize, index: u32, len: u32, workingset: bool },
    Restore { file: usize, index: u32, len: u32 },
    Invalidate { file: usize, first: u32, len: u32 },
    Donate { pool: usize, frames: usize },
    TakeBack { pool: usize, which: usize },
    TakeAny { pool: usize, most: usize },
    TakeRange { pool: usize, which: usize, len: u64 },
    Register { sort: usize },
    Unregister { pool: usize },
    Scribble { frame: u64, at: usize, flip: u8 },
    Renew { file: usize },
    Remount { fs: usize },
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let place = || (0..FILES, 0..INDICES, 1u32..4);
    let pool = || any::<usize>();
    prop_oneof![
        12 => (place(), prop::bool::weighted(0.7))
            .prop_map(|((file, index, len), workingset)| Op::Store { file, index, len, workingset }),
        8 => place().prop_map(|(file, index, len)| Op::Restore { file, index, len }),
        2 => (0..FILES, 0..INDICES, 0..INDICES).prop_map(|(file, first, len)| Op::Invalidate { file, first, len }),
        6 => (pool(), 1usize..6).prop_map(|(pool, frames)| Op::Donate { pool, frames }),
        2 => (pool(), any::<usize>()).prop_map(|(pool, which)| Op::TakeBack { pool, which }),
        2 => (pool(), 0usize..5).prop_map(|(pool, most)| Op::TakeAny { pool, most }),
        1 => (pool(), any::<usize>(), 1u64..5).prop_map(|(pool, which, len)| Op::TakeRange { pool, which, len }),
        2 => (0..SORTS.len()).prop_map(|sort| Op::Register { sort }),
        1 => pool().prop_map(|pool| Op::Unregister { pool }),
        3 => (0..ANNEX as u64, 64..FRAME_SIZE, 1u8..)
            .prop_map(|(frame, at, flip)| Op::Scribble { frame, at, flip }),
        1 => (0..FILES).prop_map(|file| Op::Renew { file }),
        1 => (0usize..2).prop_map(|fs| Op::Remount { fs }),
        1 => Just(Op::Clear),
    ]
}

fn run(config: Config, exact: bool, ops: Vec<Op>) {
    let mut model = Model::new(config, exact);
    for op in ops {
        model.apply(op);
        model.check();
    }
    model.sweep();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn contents_and_frames_are_those_of_the_model(
        gate in any::<bool>(),
        exclusive in any::<bool>(),
        evict in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..200),
    ) {
        let (_, policy) = *BUILT_IN.iter().find(|(name, _)| *name == "lru").expect("the simplest one");
        run(Config { gate, exclusive, evict, policy, ..Config::default() }, true, ops);
    }

    #[test]
    fn every_policy_keeps_the_invariants(
        policy in 0..BUILT_IN.len(),
        gate in any::<bool>(),
        exclusive in any::<bool>(),
        shards in 1usize..9,
        ops in proptest::collection::vec(op(), 1..200),
    ) {
        let (_, policy) = BUILT_IN[policy];
        run(Config { gate, exclusive, policy, shards, ..Config::default() }, false, ops);
    }
}
