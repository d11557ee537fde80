//! A handover of the fuzzer's making, from the kexec to the last unlink.
#![no_main]

#[path = "../../../fs/tests/hostile/mod.rs"]
mod hostile;

use hostile::mutate::{Random, mutate};
use hostile::{Forgery, live_through_bytes};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|bytes: &[u8]| live_through_bytes(bytes));

// Half of the changes know what a handover is made of.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed.into());
    if random.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut forgery = Forgery::from_bytes(&data[..size]);
    let other = forgery.payload.clone();
    mutate(&mut forgery, &other, &mut random);
    let bytes = forgery.to_bytes();
    let size = bytes.len().min(max_size);
    data[..size].copy_from_slice(&bytes[..size]);
    size
});
