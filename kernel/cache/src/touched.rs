//! What readers did who had no lock: pages that were read, so that reclaim hears of it, and how often one was found.
//!
//! Each processor has a line of memory that usually nobody else writes; pages are told in batches (as Linux's mm/swap.c gathers them
//! in folio batches), when a batch is full or before reclaim chooses. Two readers in each other's way, on a host with more
//! threads than there are lines, lose a hint and nothing else.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use frames::lock::PROCESSORS;
use frames::{Key, cpu};

/// Pages in a batch: what makes a desk one line of a processor's cache.
const BATCH: usize = 6;
/// No page: file numbers are small.
const NOTHING: u64 = u64::MAX;

#[derive(Debug)]
#[repr(align(64))]
struct Desk {
    hits: AtomicU64,
    next: AtomicUsize,
    pages: [AtomicU64; BATCH],
}

const _: () = assert!(size_of::<Desk>() == 64);

impl Desk {
    const fn new() -> Self {
        Self { hits: AtomicU64::new(0), next: AtomicUsize::new(0), pages: [const { AtomicU64::new(NOTHING) }; BATCH] }
    }
}

/// The desks of all processors.
#[derive(Debug)]
pub(crate) struct Touched {
    desks: Box<[Desk; PROCESSORS]>,
    /// Desks from here on were never used.
    used: AtomicUsize,
}

impl Touched {
    pub(crate) fn new() -> Self {
        Self { desks: Box::new([const { Desk::new() }; PROCESSORS]), used: AtomicUsize::new(0) }
    }

    /// A page was found.
    #[inline(always)]
    pub(crate) fn hit(&self) {
        self.desks[cpu::number() % PROCESSORS].hits.fetch_add(1, Relaxed);
    }

    /// Reclaim should hear that a page was read; whether the batch is full, so that it should hear of it now.
    pub(crate) fn touch(&self, key: Key) -> bool {
        let number = cpu::number() % PROCESSORS;
        let desk = &self.desks[number];
        if self.used.load(Relaxed) <= number {
            self.used.fetch_max(number + 1, Relaxed);
        }
        let next = desk.next.load(Relaxed);
        if let Some(page) = desk.pages.get(next) {
            page.store(key.packed(), Relaxed);
        }
        let full = next + 1 >= BATCH;
        desk.next.store(if full { 0 } else { next + 1 }, Relaxed);
        full
    }

    /// The pages of all batches, which are empty then.
    pub(crate) fn drain(&self, mut each: impl FnMut(Key)) {
        for desk in self.desks.iter().take(self.used.load(Relaxed)) {
            for page in &desk.pages {
                if page.load(Relaxed) != NOTHING {
                    each(Key::unpacked(page.swap(NOTHING, Relaxed)));
                }
            }
        }
    }

    /// How often a page was found.
    pub(crate) fn hits(&self) -> u64 {
        self.desks.iter().map(|desk| desk.hits.load(Relaxed)).sum()
    }
}
