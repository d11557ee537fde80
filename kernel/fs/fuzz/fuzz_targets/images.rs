//! Damaged ext2 images of the fuzzer's making: patches of the places that matter, in images with blocks of each size.
#![no_main]

#[path = "../../tests/wild_images/mod.rs"]
mod wild_images;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use std::sync::LazyLock;
use wild_images::{Base, Machine, Mutator, PATCH};

static BASES: LazyLock<Vec<Base>> =
    LazyLock::new(|| Base::all(&std::env::temp_dir().join(format!("fs-fuzz-{}", std::process::id()))));

static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::default);

fuzz_target!(|input: &[u8]| {
    for base in &*BASES {
        MACHINE.live_through(base.patched(input));
    }
});

// Half of the changes are one patch more, or another.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut mutator = Mutator(seed.into());
    let patch = mutator.patch();
    if seed % 2 == 0 || max_size < PATCH {
        return fuzzer_mutate(data, size, max_size);
    }
    let patches = size / PATCH;
    let at = match seed as usize / 2 % (patches + 1) * PATCH {
        at if at + PATCH <= max_size => at,
        _ => 0,
    };
    data[at..at + PATCH].copy_from_slice(&patch);
    size.max(at + PATCH)
});
