//! Thousands of damaged ext2 images: none of them may bring a panic, a hang, or more memory than a sound one takes.
//!
//! The same runs under cargo-fuzz (kernel/fs/fuzz), whose corpus is the beginning of half of the inputs here.

mod wild_images;

use allocation_counter::measure;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use wild_images::{Base, Fate, Machine, Mutator};

/// Bytes that one image may have on the heap at once.
const MOST_BYTES: u64 = 3 << 20;
/// How long one may take, in seconds.
const PATIENCE: u64 = 30;

/// Ends the program when one image takes too long, and says which.
struct Watchdog(Arc<AtomicU64>);

impl Watchdog {
    fn start(seed: u64) -> Self {
        let at = Arc::new(AtomicU64::new(0));
        let watched = at.clone();
        std::thread::spawn(move || {
            let (mut before, mut since) = (u64::MAX, 0);
            // Alone, it is the only one that holds it.
            while Arc::strong_count(&watched) > 1 {
                std::thread::sleep(Duration::from_secs(1));
                let now = watched.load(Relaxed);
                since = if now == before { since + 1 } else { 0 };
                before = now;
                if since > PATIENCE {
                    // Not by eprintln, whose words would be kept back for a report that never comes.
                    let _ = writeln!(std::io::stderr(), "image {now} of seed {seed} hangs");
                    std::process::abort();
                }
            }
        });
        Self(at)
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/images");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn try_images(name: &str, count: u64, seed: u64) {
    let bases = Base::all(&Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
    let machine = Machine::default();
    // Some of what is asked for fails on sound ones too.
    let sound: Vec<Fate> = bases.iter().map(|base| machine.live_through(base.image.clone())).collect();
    let corpus = corpus();
    let mut mutator = Mutator(seed);
    let watchdog = Watchdog::start(seed);
    let (mut refused, mut hurt, mut most) = (0, 0, 0);
    for (at, (base, sound)) in (0..count).zip(bases.iter().zip(&sound).cycle()) {
        watchdog.0.store(at, Relaxed);
        let input = match corpus.get(at as usize / bases.len()) {
            Some(seed) => seed.clone(),
            None if at % 2 == 0 => mutator.input(&[]),
            None => mutator.input(&corpus[at as usize / 2 % corpus.len()]),
        };
        let image = base.patched(&input);
        let mut fate = Fate::default();
        let taken = measure(|| {
            let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.live_through(image)));
            fate = lived
                .unwrap_or_else(|_| panic!("image {at} of seed {seed}, blocks of {}: {input:02x?}", base.block_size()));
        });
        assert!(taken.bytes_max < MOST_BYTES, "image {at} of seed {seed}: {} bytes on the heap", taken.bytes_max);
        most = most.max(taken.bytes_max);
        refused += u64::from(fate.refused);
        hurt += u64::from(!fate.refused && fate.failed > sound.failed);
    }
    println!("{count} images of seed {seed}: {refused} refused, {hurt} hurt; at most {most} bytes on the heap");
    // Else nothing was hit that matters.
    assert!(refused > count / 50 && hurt > count / 5, "{refused} refused, {hurt} hurt");
}

#[test]
fn sound_images_take_everything() {
    let machine = Machine::default();
    for base in Base::all(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("sound-images")) {
        let fate = machine.live_through(base.image.clone());
        // Directories with something in them cannot be removed.
        assert!(!fate.refused && fate.failed < 20 && fate.went_well > 200, "{}: {fate:?}", base.block_size());
    }
}

#[test]
fn a_thousand_damaged_images_are_survived() {
    try_images("wild-images", 1_000, 2026);
}

#[test]
#[ignore = "cargo xtask test --fs-images N"]
fn as_many_as_asked_for_are_survived() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    try_images("more-images", number("FS_IMAGES").unwrap_or(10_000), number("FS_SEED").unwrap_or(1));
}
