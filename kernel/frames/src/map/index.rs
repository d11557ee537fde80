//! The hash index of a map: heads of chains that run through the frames' records, and a version for every so many chains, by which
//! somebody without the map's lock can tell that a frame which he looked at was not taken or changed meanwhile.
//!
//! Whoever has the map changes heads and versions, one at a time; everybody may read them at any time. The protocol is that of a
//! sequence lock (Linux's seqlock): a version is odd while a frame of its chains is being changed, and another one after a
//! frame was changed or taken. A frame that comes in changes no version: nobody can have looked at it there before.

use super::Key;
use crate::sync;
use alloc::boxed::Box;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

use crate::meta::NIL;

/// The most buckets: 4 MiB of them, which is the largest block that there is.
const MAX_BUCKETS: usize = 1 << 20;
/// How many versions there are: so many that two processors seldom meet at one.
const VERSIONS: usize = 64;

/// The index.
#[derive(Debug)]
pub(super) struct Index {
    /// Their number is a power of two.
    heads: Box<[AtomicU32]>,
    /// Bits to shift a 64-bit hash down by.
    shift: u32,
    versions: [AtomicU32; VERSIONS],
}

/// One of an index's chains.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket(usize);

/// The version of some chains, as it was seen.
#[derive(Clone, Copy)]
pub(super) struct Version<'a> {
    now: &'a AtomicU32,
    seen: u32,
}

impl Version<'_> {
    /// Whether all that was read since this version was seen still stands, and stood then.
    #[inline]
    pub(super) fn stands(self) -> bool {
        fence(Acquire);
        self.now.load(Relaxed) == self.seen
    }
}

impl Index {
    pub(super) fn new(capacity: usize) -> Self {
        let buckets = capacity.next_power_of_two().clamp(2, MAX_BUCKETS);
        Self {
            heads: (0..buckets).map(|_| AtomicU32::new(NIL)).collect(),
            shift: u64::BITS - buckets.trailing_zeros(),
            versions: [const { AtomicU32::new(0) }; VERSIONS],
        }
    }

    /// Fibonacci hashing (Knuth, TAOCP 3, 6.4): the high bits of a product with 2^64 over the golden ratio.
    #[inline]
    pub(super) fn bucket(&self, key: Key) -> Bucket {
        Bucket((key.packed().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize)
    }

    /// The first slot of a chain. Whoever has the map may change it.
    #[inline]
    pub(super) fn head(&self, bucket: Bucket) -> &AtomicU32 {
        debug_assert!(bucket.0 < self.heads.len());
        // SAFETY: a map and all that looks into it have one index, so this index made the bucket: of a product of 64 bits the
        // highest, as many as count its heads.
        unsafe { self.heads.get_unchecked(bucket.0) }
    }

    /// The version of a chain.
    #[inline]
    pub(super) fn version(&self, bucket: Bucket) -> Version<'_> {
        let now = &self.versions[bucket.0 % VERSIONS];
        // One that is odd, since a frame is being changed, is taken for the even one before it, which does not come again.
        Version { now, seen: now.load(Acquire) & !1 }
    }

    /// A frame was taken from a chain, and nobody has it yet.
    #[inline(always)]
    pub(super) fn taken(&self, bucket: Bucket) {
        sync::window();
        self.step(bucket, 2);
    }

    /// A frame of a chain will be changed.
    #[inline]
    pub(super) fn begin_change(&self, bucket: Bucket) {
        self.step(bucket, 1);
    }

    /// That is over.
    #[inline]
    pub(super) fn end_change(&self, bucket: Bucket) {
        sync::window();
        self.step(bucket, 1);
    }

    #[inline(always)]
    fn step(&self, bucket: Bucket, by: u32) {
        let version = &self.versions[bucket.0 % VERSIONS];
        // One at a time comes here, so this need not be one operation.
        version.store(version.load(Relaxed).wrapping_add(by), Release);
        // What is done to the frame afterwards comes afterwards for all.
        fence(Release);
        sync::window();
    }
}
