//! Memory in one piece, from a carve-out that is full of pages: the time until it is there, on average and at worst.

use cleancache::{Arrival, FileId, Offer};
use frames::{Frame, Zones};
use fs::Error;

use super::{Bench, Count};
use crate::arch::tsc;
use crate::shell::{Failure, Outcome, Session};

/// Allocations of each length.
const REPEATS: usize = 16;

/// The lengths that measurements of CMA and GCMA were published for. The longest wants a carve-out of 128 MiB.
pub const BENCHES: [Bench; 8] = [
    Bench { name: "range-1", about: "allocate a frame from a full carve-out", usual: false, run: |s| average(s, 1) },
    Bench { name: "range-1-worst", about: "the longest of these", usual: false, run: |s| worst(s, 1) },
    Bench { name: "range-512", about: "512 consecutive frames", usual: false, run: |s| average(s, 512) },
    Bench { name: "range-512-worst", about: "the longest of these", usual: false, run: |s| worst(s, 512) },
    Bench { name: "range-1024", about: "1,024 consecutive frames", usual: false, run: |s| average(s, 1024) },
    Bench { name: "range-1024-worst", about: "the longest of these", usual: false, run: |s| worst(s, 1024) },
    Bench { name: "range-32000", about: "32,000 consecutive frames", usual: false, run: |s| average(s, 32_000) },
    Bench { name: "range-32000-worst", about: "the longest of these", usual: false, run: |s| worst(s, 32_000) },
];

fn average(session: &mut Session<'_>, frames: u64) -> Outcome<Count> {
    measure(session, frames).map(|(all, _)| all)
}

fn worst(session: &mut Session<'_>, frames: u64) -> Outcome<Count> {
    measure(session, frames).map(|(_, worst)| worst)
}

/// Allocates ranges, each when every frame of the pools has a page: all of them together, and the one that took longest.
fn measure(session: &mut Session<'_>, frames: u64) -> Outcome<(Count, Count)> {
    let system = session.system;
    let carve_out = system.donors.carve_out().ok_or_else(|| Failure::other("carve-out", "there is none"))?;
    let cleancache = &system.cleancache;
    let filesystem = cleancache.add_fs("bench");
    let measured =
        cleancache.add_file(filesystem).map_err(|error| Failure::other("cleancache", error)).and_then(|file| {
            let (mut all, mut worst) = (Count::default(), Count { ticks: 0, operations: 1 });
            let mut next = 0;
            // The first round is for nothing, to have everything warm.
            for round in 0..=REPEATS {
                session.check()?;
                fill(session, file, &mut next)?;
                let start = tsc::now();
                let run = carve_out.allocate(frames).map_err(|error| Failure::other("carve-out", error))?;
                let ticks = tsc::now().wrapping_sub(start);
                carve_out.free(run).map_err(|error| Failure::other("carve-out", error))?;
                if round > 0 {
                    all.ticks += ticks;
                    all.operations += 1;
                    worst.ticks = worst.ticks.max(ticks);
                }
            }
            Ok((all, worst))
        });
    // It was added above, so it is there.
    let _ = cleancache.remove_fs(filesystem);
    measured
}

/// Stores new pages, from `next` on, until no frame of any pool is free.
fn fill(session: &Session<'_>, file: FileId, next: &mut u32) -> Outcome {
    let no_memory = |_| Failure::File { path: b"cleancache".to_vec(), error: Error::NoMemory };
    let cleancache = &session.system.cleancache;
    let mut page: Frame = session.system.cache.allocate(Zones::Ephemeral).map_err(no_memory)?;
    let free: u64 = cleancache.pool_stats().iter().map(|pool| pool.free).sum();
    for _ in 0..free {
        let arrival = Arrival { workingset: true, ..Arrival::default() };
        page = cleancache.store(Offer { file, index: *next, frame: page, arrival }).1;
        *next += 1;
    }
    Ok(())
}
