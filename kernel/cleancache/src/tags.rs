//! Tags for pages that lie where somebody else can write: a keyed sum of each page, in memory of our own.
//!
//! SipHash-1-3 (Aumasson and Bernstein, 2012) under a key that nobody outside knows: who can write to the pages, but not read our
//! memory, finds no other page with the same sum but by luck, one in 2^64.

use crate::deal::{self, Deal};
use core::hash::Hasher;
use frames::chunks::{Chunks, piece};
use frames::{Page, Pfn, PfnRange};
use siphasher::sip::SipHasher13;

/// The key. All zeros is good for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagKey(pub u64, pub u64);

/// A tag for each frame of a range that is dealt to this shard.
#[derive(Debug)]
pub(crate) struct Tags {
    range: PfnRange,
    deal: Deal,
    /// The place of the first tag.
    first: u64,
    key: TagKey,
    tags: Chunks<u64, { piece::<u64>() }>,
}

impl Tags {
    pub(crate) fn new(range: PfnRange, key: TagKey, deal: Deal) -> Self {
        let first = deal.place(range.start) & !deal::WITHIN;
        let mut all = Self { range, deal, first, key, tags: Chunks::new() };
        if let Some(last) = range.count.checked_sub(1) {
            // The last handful is another shard's, perhaps, and this one's before it is whole.
            let last = all.at(range.start.offset(last)) | deal::WITHIN as usize;
            all.tags.grow(last, |_| 0);
        }
        all
    }

    pub(crate) fn covers(&self, pfn: Pfn) -> bool {
        self.range.contains(pfn)
    }

    /// `page` is about to be copied into the frame.
    pub(crate) fn note(&mut self, pfn: Pfn, page: &Page) {
        let sum = self.sum(page);
        if let Some(tag) = self.tags.get_mut(self.at(pfn)) {
            *tag = sum;
        }
    }

    /// Whether `page`, a copy of what was found in the frame, is what was put there.
    pub(crate) fn confirms(&self, pfn: Pfn, page: &Page) -> bool {
        self.tags.get(self.at(pfn)) == Some(&self.sum(page))
    }

    fn at(&self, pfn: Pfn) -> usize {
        self.deal.place(pfn).wrapping_sub(self.first) as usize
    }

    fn sum(&self, page: &Page) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(page);
        hasher.finish()
    }
}
