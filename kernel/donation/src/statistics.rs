//! What a host that asks how the guest does is told, within the tags that the specification has.

use cache::PageCache;

/// A number about the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// About what.
    pub tag: Tag,
    /// Bytes, or events since the start.
    pub value: u64,
}

/// What a statistic is about (virtio 1.2, 5.5.6.3). There is no swap here and there are no huge pages, so those tags are
/// not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Tag {
    /// Page faults that needed the disk: here, pages read from disk.
    MajorFaults = 2,
    /// Page faults that did not. The spec has no tag for hits in a second cache; they are what spared a read, so here: pages
    /// that cleancache had.
    MinorFaults = 3,
    /// Bytes that nobody uses.
    Free = 4,
    /// Bytes of memory that the guest can use: not what the host holds.
    Total = 5,
    /// Bytes that could be had without losing anything: free ones, and clean pages.
    Available = 6,
    /// Bytes in caches of files: the page cache and cleancache together, since the spec knows one.
    Caches = 7,
}

/// The guest as it is now, with `held` frames at the host.
pub(crate) fn take(cache: &PageCache, held: u64) -> [Statistic; 6] {
    let (memory, pages) = (cache.memory().stats(), cache.stats());
    let cached: u64 = cache.cleancache().pool_stats().iter().map(|pool| pool.cached).sum();
    let (free, clean) = (memory.free_scratch + memory.free_normal, pages.inactive + pages.active);
    let bytes = |frames: u64| frames.saturating_mul(frames::FRAME_SIZE as u64);
    [
        Statistic { tag: Tag::MajorFaults, value: pages.filled },
        Statistic { tag: Tag::MinorFaults, value: pages.restored },
        Statistic { tag: Tag::Free, value: bytes(free) },
        Statistic { tag: Tag::Total, value: bytes(memory.total.saturating_sub(held)) },
        Statistic { tag: Tag::Available, value: bytes(free + clean) },
        Statistic { tag: Tag::Caches, value: bytes(pages.pages() + cached) },
    ]
}
