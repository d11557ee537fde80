//! Traces with one idea each.

use super::{Access, Page, Size, Trace};
use crate::rng::{Rng, Zipf};

const ACCESSES: usize = 300_000;
/// Pages of a file, so that a footprint is spread over many of them.
const FILE: u32 = 256;

/// Page `number` of a footprint.
fn page(number: u32) -> Page {
    Page { file: number / FILE, index: number % FILE }
}

/// Independent reads, of few pages often and of many seldom, over four times what memory holds.
pub(super) fn zipf(name: &str, size: Size, alpha: f64) -> Trace {
    let footprint = size.sum() as u32 * 4;
    let mut rng = Rng::new(0x21f);
    let (zipf, places) = (Zipf::new(footprint, alpha), rng.permutation(footprint));
    let read = |_| Access::Read(page(places[zipf.draw(&mut rng) as usize]));
    Trace::new(name, size, (0..ACCESSES).map(read).collect())
}

/// A hot set of two thirds of what memory holds, every page of it as likely as any; every other read is the next page of a scan that
/// never comes back.
pub(super) fn scan_and_hot(name: &str, size: Size) -> Trace {
    let hot = (size.sum() * 2 / 3) as u32;
    let mut rng = Rng::new(0x5ca);
    let mut scanned = hot.next_multiple_of(FILE);
    let read = |_| {
        if rng.below(2) == 0 {
            return Access::Read(page(rng.below(hot)));
        }
        scanned += 1;
        Access::Read(page(scanned - 1))
    };
    Trace::new(name, size, (0..ACCESSES).map(read).collect())
}

/// The same pages in the same order, over and over.
pub(super) fn looping(name: &str, size: Size, length: usize) -> Trace {
    Trace::new(name, size, (0..ACCESSES).map(|at| Access::Read(page((at % length) as u32))).collect())
}

/// 64 MiB of one file are read once, then a page of it at a time: four in five of the first fifth, the rest of all. It runs in a
/// machine of 48 MiB, as many of them as are left for pages, with 16 MiB donated.
pub(super) fn thrash(name: &str) -> Trace {
    const PAGES: u32 = 16_384;
    const READS: usize = 100_000;
    let mut rng = Rng::new(0x7a5);
    let read = |_| {
        let of = if rng.below(5) < 4 { PAGES / 5 } else { PAGES };
        Access::Read(Page { file: 0, index: rng.below(of) })
    };
    let sequential = (0..PAGES).map(|index| Access::Read(Page { file: 0, index }));
    let accesses = sequential.chain((0..READS).map(read)).collect();
    let size = Size { memory: 11_550, donated: 4096 };
    Trace { name: name.into(), accesses, warm_up: PAGES as usize, size }
}

/// One thing after another: a Zipf mix, a loop larger than memory, another mix, a loop that memory holds, and the first mix
/// again. What was learned of one is wrong for the next.
pub(super) fn phases(name: &str, size: Size) -> Trace {
    const PHASE: usize = 60_000;
    let mix = |seed| {
        let footprint = size.sum() as u32 * 3;
        let mut rng = Rng::new(seed);
        let (zipf, places) = (Zipf::new(footprint, 0.9), rng.permutation(footprint));
        (0..PHASE).map(|_| page(places[zipf.draw(&mut rng) as usize])).collect::<Vec<_>>()
    };
    let looping = |length: usize| (0..PHASE).map(|at| page((at % length) as u32)).collect();
    // Each kind of phase has files of its own.
    let apart =
        |kind: u32, pages: Vec<Page>| pages.into_iter().map(move |page| Page { file: kind << 16 | page.file, ..page });
    let accesses = apart(0, mix(1))
        .chain(apart(1, looping(size.sum() * 3 / 2)))
        .chain(apart(2, mix(2)))
        .chain(apart(3, looping(size.sum() * 19 / 20)))
        .chain(apart(0, mix(3)));
    Trace::new(name, size, accesses.map(Access::Read).collect())
}
