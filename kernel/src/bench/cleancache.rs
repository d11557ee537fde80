//! What cleancache costs: a cache of its own is measured, with frames of its own, so that nothing of the real one is lost.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Range;

use cache::PageCache;
use cleancache::{Arrival, Cleancache, Config, FileId, Kind, Offer, PoolConfig, PoolId, Stored, Wanted};
use frames::{Frame, Pfn, Zones};
use fs::Error;

use super::{BATCH, Bench, Count, OPERATIONS};
use crate::arch::tsc;
use crate::shell::{Failure, Outcome, Session};

/// As many frames as are lent unless somebody says otherwise.
const FEW: usize = 4096;
const MANY: usize = 1_000_000;
/// Pages that reclaim offers, and that read-ahead wants, in one operation.
const SET: usize = 32;

/// What a store meets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meets {
    /// A free frame.
    Room,
    /// Another page in each.
    Pages,
}

/// All of them. The large ones want a machine with 6 GiB.
pub const BENCHES: [Bench; 16] = [
    Bench {
        name: "cleancache-store",
        about: "store a page by copying",
        usual: true,
        run: |session| store(session, Kind::Fixed, Meets::Room, FEW),
    },
    Bench {
        name: "cleancache-restore",
        about: "restore a page by copying",
        usual: true,
        run: |session| restore(session, Kind::Fixed, FEW),
    },
    Bench {
        name: "cleancache-store-full",
        about: "store a page by copying, in the place of another",
        usual: true,
        run: |session| store(session, Kind::Fixed, Meets::Pages, FEW),
    },
    Bench {
        name: "cleancache-store-x",
        about: "store a page by exchange",
        usual: true,
        run: |session| store(session, Kind::Exchangeable, Meets::Room, FEW),
    },
    Bench {
        name: "cleancache-restore-x",
        about: "restore a page by exchange",
        usual: true,
        run: |session| restore(session, Kind::Exchangeable, FEW),
    },
    Bench {
        name: "cleancache-store-full-x",
        about: "store a page by exchange, in the place of another",
        usual: true,
        run: |session| store(session, Kind::Exchangeable, Meets::Pages, FEW),
    },
    Bench { name: "cleancache-invalidate", about: "drop a page", usual: true, run: |session| invalidate(session, FEW) },
    Bench {
        name: "cleancache-miss",
        about: "look for a page that is not there",
        usual: true,
        run: |session| miss(session, FEW),
    },
    Bench {
        name: "cleancache-take-back",
        about: "take a frame back with a page in it",
        usual: true,
        run: |session| take_back(session, FEW).map(|(count, _)| count),
    },
    Bench {
        name: "cleancache-take-back-worst",
        about: "the longest of these",
        usual: true,
        run: |session| take_back(session, FEW).map(|(_, worst)| worst),
    },
    Bench {
        name: "large-store-full-x",
        about: "cleancache-store-full-x with 1,000,000 pages",
        usual: false,
        run: |session| store(session, Kind::Exchangeable, Meets::Pages, MANY),
    },
    Bench {
        name: "large-restore-x",
        about: "cleancache-restore-x with 1,000,000 pages",
        usual: false,
        run: |session| restore(session, Kind::Exchangeable, MANY),
    },
    Bench {
        name: "large-invalidate",
        about: "cleancache-invalidate with 1,000,000 pages",
        usual: false,
        run: |session| invalidate(session, MANY),
    },
    Bench {
        name: "large-miss",
        about: "cleancache-miss with 1,000,000 pages",
        usual: false,
        run: |session| miss(session, MANY),
    },
    Bench {
        name: "large-take-back",
        about: "cleancache-take-back with 1,000,000 pages",
        usual: false,
        run: |session| take_back(session, MANY).map(|(count, _)| count),
    },
    Bench {
        name: "large-take-back-worst",
        about: "cleancache-take-back-worst with 1,000,000 pages",
        usual: false,
        run: |session| take_back(session, MANY).map(|(_, worst)| worst),
    },
];

/// A cache with a file and a pool of some frames, and a page that goes in and out.
struct Stand {
    cleancache: Cleancache,
    pool: PoolId,
    file: FileId,
    pages: u32,
    donated: Vec<Pfn>,
    page: Option<Frame>,
    /// Where pages are restored to.
    frames: Vec<Frame>,
}

impl Stand {
    fn new(session: &Session<'_>, kind: Kind, pages: usize) -> Outcome<Self> {
        let no_memory = || Failure::File { path: b"cleancache".to_vec(), error: Error::NoMemory };
        let cache: &Arc<PageCache> = &session.system.cache;
        let config = Config { capacity: pages, clock: tsc::now, ..Config::default() };
        let cleancache = Cleancache::new(session.system.memory, config);
        let pool = PoolConfig { name: "bench".into(), kind, scrub: false };
        let pool = cleancache.register_pool(pool).ok_or_else(no_memory)?;
        // Frames that can be exchanged lie outside the scratch area.
        let frame = || cache.allocate(Zones::Preservable).map_err(|_| no_memory());
        let mut donated = Vec::new();
        donated.try_reserve_exact(OPERATIONS.min(pages)).map_err(|_| no_memory())?;
        for _ in 0..pages {
            let frame = frame()?;
            if donated.len() < donated.capacity() {
                donated.push(frame.pfn());
            }
            donate(&cleancache, pool, frame)?;
        }
        let filesystem = cleancache.add_fs("bench");
        let file = cleancache.add_file(filesystem).map_err(|error| Failure::other("cleancache", error))?;
        let mut page = frame()?;
        page.zero();
        let frames = (0..SET).map(|_| frame()).collect::<Outcome<_>>()?;
        Ok(Self { cleancache, pool, file, pages: pages as u32, donated, page: Some(page), frames })
    }

    /// Stores pages, each of them a new one, in sets as reclaim does.
    fn store(&mut self, mut pages: Range<u32>) -> Outcome {
        let page = Cell::new(self.page.take());
        let mut kept = 0;
        let wanted = pages.len();
        while !pages.is_empty() {
            let offers = pages.by_ref().take(SET).map_while(|index| {
                let arrival = Arrival { workingset: true, ..Arrival::default() };
                Some(Offer { file: self.file, index, frame: page.take()?, arrival })
            });
            self.cleancache.store_all(offers, |stored, left_over| {
                kept += usize::from(stored == Stored::Inserted);
                page.set(Some(left_over));
            });
        }
        self.page = page.take();
        if kept == wanted { Ok(()) } else { Err(Failure::other("cleancache", "a page was not kept")) }
    }

    /// Looks for pages, in runs as read-ahead does, and adds what that costs to `count`; how many were found.
    fn look(&mut self, pages: Range<u32>, count: &mut Count) -> usize {
        let mut found = 0;
        for first in pages.step_by(SET) {
            let wanted = (first..).zip(self.frames.drain(..)).map(|(index, frame)| Wanted::new(index, frame));
            let mut wanted: Vec<Wanted> = wanted.collect();
            count.add(wanted.len(), || self.cleancache.restore_run(self.file, &mut wanted));
            found += wanted.iter().filter(|wanted| wanted.found).count();
            self.frames.extend(wanted.into_iter().map(|wanted| wanted.frame));
        }
        found
    }

    fn invalidate(&self, pages: Range<u32>) {
        pages.for_each(|index| self.cleancache.invalidate(self.file, index));
    }
}

fn donate(cleancache: &Cleancache, pool: PoolId, frame: Frame) -> Outcome {
    cleancache.donate(pool, frame).map_err(|(error, _)| Failure::other("cleancache", error))
}

/// Measures operations on full pools, batch by batch. `operation` is given the first page of its batch; it adds to the count what
/// it wants counted, and leaves the pools as it found them.
fn measure(
    session: &mut Session<'_>,
    kind: Kind,
    pages: usize,
    mut operation: impl FnMut(&mut Stand, u32, &mut Count) -> Outcome,
) -> Outcome<Count> {
    let mut stand = Stand::new(session, kind, pages)?;
    stand.store(0..stand.pages)?;
    // Once for nothing, to have everything warm.
    operation(&mut stand, 0, &mut Count::default())?;
    let mut count = Count::default();
    for batch in 0..OPERATIONS / BATCH {
        session.check()?;
        let first = batch * (pages / (OPERATIONS / BATCH)) % (pages - BATCH + 1);
        operation(&mut stand, first as u32, &mut count)?;
    }
    Ok(count)
}

fn batch(first: u32) -> Range<u32> {
    first..first + BATCH as u32
}

fn store(session: &mut Session<'_>, kind: Kind, meets: Meets, pages: usize) -> Outcome<Count> {
    let mut next = pages as u32;
    measure(session, kind, pages, |stand, first, count| match meets {
        Meets::Room => {
            stand.invalidate(batch(first));
            count.add(BATCH, || stand.store(batch(first)))
        }
        Meets::Pages => {
            let new = batch(next);
            next = new.end;
            count.add(BATCH, || stand.store(new))
        }
    })
}

fn restore(session: &mut Session<'_>, kind: Kind, pages: usize) -> Outcome<Count> {
    measure(session, kind, pages, |stand, first, count| {
        if stand.look(batch(first), count) < BATCH {
            return Err(Failure::other("cleancache", "a page is lost"));
        }
        stand.store(batch(first))
    })
}

fn invalidate(session: &mut Session<'_>, pages: usize) -> Outcome<Count> {
    measure(session, Kind::Exchangeable, pages, |stand, first, count| {
        count.add(BATCH, || stand.invalidate(batch(first)));
        stand.store(batch(first))
    })
}

fn miss(session: &mut Session<'_>, pages: usize) -> Outcome<Count> {
    measure(session, Kind::Exchangeable, pages, |stand, first, count| {
        match stand.look(batch(first + stand.pages), count) {
            0 => Ok(()),
            _ => Err(Failure::other("cleancache", "a page that was never stored was found")),
        }
    })
}

/// Frames with a page in them are taken back: all of them together, and the one that took longest.
fn take_back(session: &mut Session<'_>, pages: usize) -> Outcome<(Count, Count)> {
    let mut stand = Stand::new(session, Kind::Fixed, pages)?;
    let mut worst = Count { ticks: 0, operations: 1 };
    let mut count = Count::default();
    for round in 0..=OPERATIONS / stand.donated.len() {
        session.check()?;
        stand.store(0..stand.pages)?;
        let mut taken = Vec::with_capacity(stand.donated.len());
        for &pfn in &stand.donated {
            let mut one = Count::default();
            taken.extend(one.add(1, || stand.cleancache.take_back(stand.pool, pfn)));
            // The first round is for nothing, to have everything warm.
            if round > 0 {
                count.ticks += one.ticks;
                count.operations += 1;
                worst.ticks = worst.ticks.max(one.ticks);
            }
        }
        if taken.len() < stand.donated.len() {
            return Err(Failure::other("cleancache", "a donated frame was not given back"));
        }
        taken.into_iter().try_for_each(|frame| donate(&stand.cleancache, stand.pool, frame))?;
        stand.cleancache.clear();
    }
    Ok((count, worst))
}
