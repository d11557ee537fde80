//! What it costs to have a range of the carve-out at once, with a page in every frame of it.
//!
//! The system's own cleancache is filled with pages for this, whatever was in it; they are dropped again afterwards. It wants a
//! machine with a carve-out, and the longest ranges one of 128 MiB.

use alloc::sync::Arc;
use core::cell::Cell;

use cleancache::{Arrival, Cleancache, FileId, Offer};
use frames::Zones;

use super::{Bench, Count};
use crate::shell::{Failure, Outcome, Session};

/// Ranges that are taken for a figure.
const RANGES: u32 = 32;
/// Pages that are stored in one operation.
const SET: u32 = 32;

/// All of them.
pub const BENCHES: [Bench; 6] = [
    Bench { name: "range-1", about: "have a frame of the carve-out", usual: false, run: |s| average(s, 1) },
    Bench { name: "range-1-worst", about: "the longest of these", usual: false, run: |s| worst(s, 1) },
    Bench { name: "range-1024", about: "have 4 MiB in one piece", usual: false, run: |s| average(s, 1024) },
    Bench { name: "range-1024-worst", about: "the longest of these", usual: false, run: |s| worst(s, 1024) },
    Bench { name: "range-32000", about: "have 125 MiB in one piece", usual: false, run: |s| average(s, 32_000) },
    Bench { name: "range-32000-worst", about: "the longest of these", usual: false, run: |s| worst(s, 32_000) },
];

fn average(session: &mut Session<'_>, frames: u64) -> Outcome<Count> {
    take(session, frames).map(|(count, _)| count)
}

fn worst(session: &mut Session<'_>, frames: u64) -> Outcome<Count> {
    take(session, frames).map(|(_, worst)| worst)
}

/// Takes ranges, gives them back and fills them again: what all of them cost, and the one that took longest.
fn take(session: &mut Session<'_>, frames: u64) -> Outcome<(Count, Count)> {
    let system = session.system;
    let carve_out = system.donors.carve_out().ok_or_else(|| Failure::other("range", "there is no carve-out"))?;
    let cleancache: &Arc<Cleancache> = &system.cleancache;
    let filesystem = cleancache.add_fs("bench");
    let measured = cleancache.add_file(filesystem).map_err(|error| Failure::other("range", error)).and_then(|file| {
        let (mut count, mut worst) = (Count::default(), Count { ticks: 0, operations: 1 });
        // The first round is for nothing, to have everything warm.
        for round in 0..=RANGES {
            session.check()?;
            fill(session, file)?;
            let mut one = Count::default();
            let run = one.add(1, || carve_out.allocate(frames)).map_err(|error| Failure::other("range", error))?;
            carve_out.free(run).map_err(|error| Failure::other("range", error))?;
            if round > 0 {
                count.ticks += one.ticks;
                count.operations += 1;
                worst.ticks = worst.ticks.max(one.ticks);
            }
        }
        Ok((count, worst))
    });
    // It was added just now.
    let _ = cleancache.remove_fs(filesystem);
    measured
}

/// Stores pages until no donated frame is free.
fn fill(session: &Session<'_>, file: FileId) -> Outcome {
    let system = session.system;
    let page = system.cache.allocate(Zones::Preservable).map_err(|error| Failure::other("range", error))?;
    let page = Cell::new(Some(page));
    let pages: u64 = system.cleancache.pool_stats().iter().map(|pool| pool.donated).sum();
    let pages = u32::try_from(pages).unwrap_or(u32::MAX);
    for first in (0..pages).step_by(SET as usize) {
        let offers = (first..pages.min(first.saturating_add(SET))).map_while(|index| {
            let arrival = Arrival { workingset: true, ..Arrival::default() };
            Some(Offer { file, index, frame: page.take()?, arrival })
        });
        system.cleancache.store_all(offers, |_, left_over| page.set(Some(left_over)));
    }
    match system.cleancache.pool_stats().iter().map(|pool| pool.free).sum::<u64>() {
        0 => Ok(()),
        free => Err(Failure::other("range", format_args!("{free} donated frames stay free"))),
    }
}
