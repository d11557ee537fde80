//! The extents of one file, by the index of their first page.
//!
//! Invariants: extents do not overlap; neighbours that could be one extent are one; `pages` is the sum of them all. A file that
//! was written in order has few of them, whatever its size.

use super::extent::{Extent, Store};
use alloc::collections::BTreeMap;
use core::ops::Range;
use frames::{FRAME_SHIFT, FRAME_SIZE};

/// Bytes in a page.
pub(super) const PAGE: u64 = FRAME_SIZE as u64;

/// Pages that a file can have: an index has 32 bits.
const MAX_PAGES: u64 = 1 << 32;

/// The page that byte `at` lies in; `at` is below 2^44.
pub(super) fn page_of(at: u64) -> u32 {
    (at >> FRAME_SHIFT) as u32
}

/// The pages `start..end`, which are in the extent that begins with page `extent`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) extent: u64,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The extents of one file.
pub(super) struct Extents {
    map: BTreeMap<u32, Extent>,
    pages: u64,
}

/// What is found at a position.
pub(super) enum Found<'a> {
    /// The bytes from there to the end of the extent.
    Data(&'a mut [u8]),
    /// Frames of no content, for pages up to this one.
    Preallocated(u64),
    /// Pages that were never claimed, up to this one.
    Unclaimed(u64),
    /// Nothing.
    Hole,
}

impl Extents {
    pub(super) fn new() -> Self {
        Self { map: BTreeMap::new(), pages: 0 }
    }

    /// Pages in all extents.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// Index and extent, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Extent)> {
        self.map.iter().map(|(&index, extent)| (index, extent))
    }

    /// What there is at byte `at`. One look into the map: this is the path of every read and write.
    pub(super) fn find(&mut self, at: u64) -> Found<'_> {
        let index = page_of(at);
        let Some((&start, extent)) = self.map.range_mut(..=index).next_back() else { return Found::Hole };
        let end = u64::from(start) + u64::from(extent.pages());
        if u64::from(index) >= end {
            return Found::Hole;
        }
        match &mut extent.store {
            _ if extent.preallocated => Found::Preallocated(end),
            Store::Unclaimed(_) => Found::Unclaimed(end),
            Store::Owned(run) => Found::Data(&mut run.bytes_mut()[(at - u64::from(start) * PAGE) as usize..]),
        }
    }

    /// The first page after the hole that `index` lies in.
    pub(super) fn hole_end(&self, index: u32) -> u64 {
        let next = index.checked_add(1).and_then(|after| self.map.range(after..).next());
        next.map_or(MAX_PAGES, |(&start, _)| u64::from(start))
    }

    /// The extents that hold data in `pages`, which is not empty, each with the part of its pages that lies there.
    pub(super) fn data(&self, pages: Range<u64>) -> impl Iterator<Item = (Part, &Extent)> {
        let first = pages.start.min(MAX_PAGES - 1) as u32;
        let from = self.map.range(..=first).next_back().map_or(first, |(&start, _)| start);
        let extents = self.map.range(from..).take_while({
            let end = pages.end;
            move |(start, _)| u64::from(**start) < end
        });
        extents.filter(|(_, extent)| !extent.preallocated).filter_map(move |(&start, extent)| {
            let end = u64::from(start) + u64::from(extent.pages());
            let part = Part { extent: u64::from(start), start: pages.start.max(start.into()), end: pages.end.min(end) };
            (part.start < part.end).then_some((part, extent))
        })
    }

    /// Put an extent where there is a hole, joined with its neighbours where possible.
    pub(super) fn insert(&mut self, index: u32, extent: Extent) {
        self.pages += u64::from(extent.pages());
        let next = index.checked_add(extent.pages());
        let left = self.map.range_mut(..index).next_back();
        let joined = match left.filter(|(start, left)| start.checked_add(left.pages()) == Some(index)) {
            Some((&start, left)) => left.join(extent).map(|()| start),
            None => Err(extent),
        };
        let index = joined.unwrap_or_else(|extent| {
            self.map.insert(index, extent);
            index
        });
        // What comes after the last page that there can be is nothing.
        let Some((next, right)) = next.and_then(|next| Some((next, self.map.get(&next)?))) else { return };
        if self.map.get(&index).is_some_and(|left| left.continues(right))
            && let Some(right) = self.map.remove(&next)
            && let Some(left) = self.map.get_mut(&index)
            && let Err(right) = left.join(right)
        {
            self.map.insert(next, right);
        }
    }

    /// Take `pages` pages at `index` out, all of which are in one extent.
    pub(super) fn take(&mut self, index: u32, pages: u32) -> Option<Extent> {
        self.cut(u64::from(index));
        self.cut(u64::from(index) + u64::from(pages));
        let extent = self.map.remove(&index)?;
        self.pages -= u64::from(extent.pages());
        Some(extent)
    }

    /// Give back the pages `first..end`. Returns how many there were.
    pub(super) fn remove(&mut self, first: u64, end: u64) -> u64 {
        if first >= end.min(MAX_PAGES) {
            return 0;
        }
        self.cut(first);
        self.cut(end);
        let (first, last) = (first as u32, (end.min(MAX_PAGES) - 1) as u32);
        let before = self.pages;
        while let Some((&index, _)) = self.map.range(first..=last).next() {
            let Some(extent) = self.map.remove(&index) else { break };
            self.pages -= u64::from(extent.pages());
        }
        before - self.pages
    }

    /// Make an extent end, and another begin, at `index`, if it lies within one.
    fn cut(&mut self, index: u64) {
        let Ok(index) = u32::try_from(index) else { return };
        let Some((&start, extent)) = self.map.range(..index).next_back() else { return };
        let at = index - start;
        if at < extent.pages()
            && let Some(extent) = self.map.remove(&start)
        {
            let (left, right) = extent.split_at(at);
            self.map.insert(start, left);
            self.map.insert(index, right);
        }
    }
}
