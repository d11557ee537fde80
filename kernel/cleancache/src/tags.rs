//! Tags for pages that lie where somebody else can write: a keyed sum of each page, in memory of our own.
//!
//! SipHash-1-3 (Aumasson and Bernstein, 2012) under a key that nobody outside knows: who can write to the pages, but not read our
//! memory, finds no other page with the same sum but by luck, one in 2^64.

use core::hash::Hasher;
use frames::chunks::{Chunks, piece};
use frames::{Page, Pfn, PfnRange};
use siphasher::sip::SipHasher13;

/// The key. All zeros is good for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagKey(pub u64, pub u64);

/// A tag for each frame of a range.
#[derive(Debug)]
pub(crate) struct Tags {
    range: PfnRange,
    key: TagKey,
    tags: Chunks<u64, { piece::<u64>() }>,
}

impl Tags {
    pub(crate) fn new(range: PfnRange, key: TagKey) -> Self {
        let mut tags = Chunks::new();
        if let Some(last) = range.count.checked_sub(1) {
            tags.grow(last as usize, |_| 0);
        }
        Self { range, key, tags }
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
        pfn.get().wrapping_sub(self.range.start.get()) as usize
    }

    fn sum(&self, page: &Page) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(page);
        hasher.finish()
    }
}
