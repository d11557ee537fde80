//! Which shard has what: pages and frames are dealt to shards by their numbers, so that nobody needs to keep where they went.
//!
//! Neighbours stay together, since they are read ahead, evicted, donated and taken back together: the pages of a window of a file,
//! and frames by the handful, so that a small pool has some in each shard.

use crate::names::FileId;
use crate::{Offer, Wanted};
use core::iter;
use frames::{Key, Pfn};

/// The most shards.
pub(crate) const MOST: usize = 8;
/// Pages of a window, as a shift.
const WINDOW: u32 = 6;
/// Frames of a handful, as a shift.
const HANDFUL: u32 = 3;
/// The bits of a place that tell the frames of a handful.
pub(crate) const WITHIN: u64 = (1 << HANDFUL) - 1;

/// Deals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deal {
    /// Shards are a power of two; one less.
    mask: usize,
}

impl Deal {
    /// To so many shards, or the next smaller power of two.
    pub(crate) fn to(shards: usize) -> Self {
        Self { mask: (1 << shards.clamp(1, MOST).ilog2()) - 1 }
    }

    /// How many shards there are.
    pub(crate) fn shards(self) -> usize {
        self.mask + 1
    }

    /// The shard after so many others, in turn.
    #[inline]
    pub(crate) fn turn(self, at: usize) -> usize {
        at & self.mask
    }

    /// The shard of a page.
    #[inline]
    pub(crate) fn key(self, key: Key) -> usize {
        self.turn(key.file.wrapping_add(key.index >> WINDOW) as usize)
    }

    /// The shard of a page of a file.
    #[inline]
    pub(crate) fn page(self, file: FileId, index: u32) -> usize {
        self.key(Key { file: file.slot(), index })
    }

    /// The shards that pages `first..=last` of a file may be in.
    #[inline]
    pub(crate) fn pages(self, file: FileId, first: u32, last: u32) -> impl Iterator<Item = usize> {
        let windows = if first <= last { ((last >> WINDOW) - (first >> WINDOW)) as usize + 1 } else { 0 };
        let begin = self.page(file, first);
        (0..windows.min(self.shards())).map(move |nth| self.turn(begin + nth))
    }

    /// The shard that a frame goes to when it is donated.
    #[inline]
    pub(crate) fn frame(self, pfn: Pfn) -> usize {
        self.turn((pfn.get() >> HANDFUL) as usize)
    }

    /// The place of a frame among those that are dealt to its shard.
    pub(crate) fn place(self, pfn: Pfn) -> u64 {
        let handful = pfn.get() >> HANDFUL >> self.mask.count_ones();
        (handful << HANDFUL) | (pfn.get() & WITHIN)
    }

    /// How many pages of a file, from the first on, are of the shard `at`.
    #[inline]
    pub(crate) fn run(self, at: usize, file: FileId, pages: &[Wanted]) -> usize {
        let here = |page: &&Wanted| self.page(file, page.index) == at;
        if self.mask == 0 { pages.len() } else { pages.iter().take_while(here).count() }
    }

    /// The offers from `first` on that are of the shard `at`; the one that ends them is left in `next`.
    pub(crate) fn offers<I: Iterator<Item = Offer>>(
        self,
        at: usize,
        first: Offer,
        offers: &mut I,
        next: &mut Option<Offer>,
    ) -> impl Iterator<Item = Offer> {
        let more = iter::from_fn(move || {
            *next = offers.next();
            next.take_if(|offer| self.page(offer.file, offer.index) == at)
        });
        iter::once(first).chain(more)
    }
}
