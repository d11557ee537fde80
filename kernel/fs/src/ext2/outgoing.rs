//! Blocks on their way to the disk, neighbours together.
//!
//! Whoever writes may be making room, so this asks for no memory: a batch lies on the stack, and goes to the disk when it is full.
//! What the page cache has of the disk there is out of date then, and is dropped, even if the disk did not take all of it.

use super::Ext2;
use crate::block::{BlockError, SECTOR_SIZE, WriteRequest};
use frames::FRAME_SIZE;

/// Pieces that go to the disk together; as many as the page cache has pages in a run.
const MOST: usize = 64;

/// What goes next.
pub(super) struct Outgoing<'a> {
    fs: &'a Ext2,
    /// Pages of the disk may hold what is written.
    cached: bool,
    segments: [&'a [u8]; MOST],
    used: usize,
    /// The first sector of each request, and how many of the segments are its own.
    requests: [(u64, usize); MOST],
    count: usize,
    /// The sector after the last request.
    next: u64,
}

impl<'a> Outgoing<'a> {
    /// Nothing yet. `cached` says whether the page cache may have it as pages of the disk.
    pub(super) fn new(fs: &'a Ext2, cached: bool) -> Self {
        Self { fs, cached, segments: [&[]; MOST], used: 0, requests: [(0, 0); MOST], count: 0, next: 0 }
    }

    /// Write `segment` from `sector` on, after what was added before.
    pub(super) fn add(&mut self, sector: u64, segment: &'a [u8]) -> Result<(), BlockError> {
        if self.used == MOST {
            self.send()?;
        }
        let follows = self.count > 0 && self.next == sector;
        let at = if follows { self.count - 1 } else { self.count };
        // Both are there: a batch has no more requests than segments.
        if let (Some(place), Some(request)) = (self.segments.get_mut(self.used), self.requests.get_mut(at)) {
            *place = segment;
            *request = if follows { (request.0, request.1 + 1) } else { (sector, 1) };
            (self.used, self.count) = (self.used + 1, at + 1);
        }
        self.next = sector + (segment.len() / SECTOR_SIZE) as u64;
        Ok(())
    }

    /// Write all that was added; returns when the disk has it.
    pub(super) fn send(&mut self) -> Result<(), BlockError> {
        let mut requests = [WriteRequest { sector: 0, segments: &[] }; MOST];
        let (requests, _) = requests.split_at_mut(self.count.min(MOST));
        let mut rest = self.segments.get(..self.used).unwrap_or_default();
        for (request, &(sector, count)) in requests.iter_mut().zip(&self.requests) {
            let (segments, others) = rest.split_at(count.min(rest.len()));
            *request = WriteRequest { sector, segments };
            rest = others;
        }
        (self.used, self.count) = (0, 0);
        if requests.is_empty() {
            return Ok(());
        }
        let outcome = self.fs.device.write(requests);
        if self.cached {
            // None of these pages is ever on its way to the disk itself, so this waits for nothing.
            for WriteRequest { sector, segments } in requests {
                let start = *sector * SECTOR_SIZE as u64;
                let end = start + segments.iter().map(|segment| segment.len() as u64).sum::<u64>();
                self.fs.disk.invalidate((start / FRAME_SIZE as u64) as u32, ((end - 1) / FRAME_SIZE as u64) as u32);
            }
        }
        outcome
    }
}
