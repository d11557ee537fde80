//! The content of one file: what is read, written, cut off, punched out and reserved.
//!
//! Invariants:
//! - No extent reaches past the page that holds the last byte.
//! - Bytes of the last page past the end of the file are unspecified. Whoever makes them visible, by a write further on
//!   or by growing the file, zeroes them first. So cutting a file off reads and writes no page.
//! - Each frame of the extents, and of what is allocated ahead, is charged to the [`Space`] until it is given back.

use super::casualty::Fault;
use super::extent::{Extent, Store, Unclaimed};
use super::extents::{Extents, Found, PAGE, page_of};
use super::space::Space;
use super::sums::Sums;
use crate::error::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use frames::{FrameRun, PfnRange};
use handover::SUM_PAGES;
use zerocopy::little_endian::U32;

/// The largest file: 2^32 pages.
pub(super) const MAX_SIZE: u64 = PAGE << 32;

/// A file that grows at its end is given as many frames again as it has, up to this many, so that files which are written
/// side by side still lie in long runs. What is left over is returned when the file is closed, cut off or handed over.
const AHEAD_PAGES: u64 = 64;

/// The content of one regular file.
pub(super) struct Content {
    pub(super) ino: u64,
    pub(super) space: Arc<Space>,
    size: u64,
    pub(super) extents: Extents,
    pub(super) sums: Sums,
    /// Nobody need be told of a change: see `windows`.
    pub(super) plain: bool,
    /// No checksum is wanting: see `windows`.
    pub(super) settled: bool,
    /// Frames for the pages from this index on, which is the end of the last extent.
    ahead: Option<(u32, FrameRun)>,
    /// Why the content is lost, if it is.
    pub(super) quarantined: Option<Fault>,
}

impl Content {
    pub(super) fn new(space: Arc<Space>, ino: u64) -> Self {
        Self {
            ino,
            space,
            size: 0,
            extents: Extents::new(),
            sums: Sums::default(),
            plain: false,
            settled: true,
            ahead: None,
            quarantined: None,
        }
    }

    /// Content of `size` bytes from a handover, all of it a hole so far.
    pub(super) fn restored(space: Arc<Space>, ino: u64, size: u64, quarantined: Option<Fault>) -> Self {
        let mut content = Self::new(space, ino);
        (content.size, content.quarantined) = (size, quarantined);
        content
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Frames that the content takes up.
    pub(super) fn pages(&self) -> u64 {
        self.extents.pages()
    }

    /// Why the content is lost, if it is.
    pub(super) fn quarantined(&self) -> Option<Fault> {
        self.quarantined
    }

    /// The checksums that there are.
    pub(super) fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The extents in the order of their index.
    pub(super) fn extents(&self) -> impl Iterator<Item = (u32, &Extent)> {
        self.extents.iter()
    }

    /// The content cannot be what it was.
    pub(super) fn quarantine(&mut self, fault: Fault) {
        self.quarantined = Some(fault);
        self.sums = Sums::default();
        self.settle();
    }

    /// Preserved frames that hold the pages from `index` on, where there was a hole.
    pub(super) fn adopt(&mut self, index: u32, frames: PfnRange, preallocated: bool) {
        self.space.adopt_frames(frames.count);
        let store = Store::Unclaimed(Unclaimed::new(self.space.memory(), frames));
        self.extents.insert(index, Extent { store, preallocated });
    }

    /// Checksums of windows that the previous kernel took. Those of windows that hold no data prove nothing and do no harm; if some
    /// lie past the end, none of these is believed, and the windows go unverified.
    pub(super) fn adopt_sums(&mut self, first: u32, sums: &[U32]) {
        let end = (u64::from(first) + sums.len() as u64) * u64::from(SUM_PAGES);
        if self.quarantined.is_none() && end <= self.size.div_ceil(PAGE).next_multiple_of(u64::from(SUM_PAGES)) {
            self.sums.set_run(first, sums);
        }
    }

    /// Read at `pos`; short only at the end.
    pub(super) fn read(&mut self, pos: u64, out: &mut [u8]) -> Result<usize> {
        self.check()?;
        let left = self.size.saturating_sub(pos);
        let len = usize::try_from(left).map_or(out.len(), |left| left.min(out.len()));
        let mut done = 0;
        while done < len {
            let at = pos + done as u64;
            let rest = &mut out[done..len];
            let nothing_until = match self.extents.find(at) {
                Found::Data(bytes) => {
                    let len = rest.len().min(bytes.len());
                    rest[..len].copy_from_slice(&bytes[..len]);
                    done += len;
                    continue;
                }
                Found::Unclaimed(_) => {
                    self.claim(page_of(at))?;
                    continue;
                }
                Found::Preallocated(end) => end,
                Found::Hole => self.extents.hole_end(page_of(at)),
            };
            let len = rest.len().min(bytes_up_to(at, nothing_until));
            rest[..len].fill(0);
            done += len;
        }
        Ok(len)
    }

    /// Write at `pos`. Less than all of `data` is written only where the next call will answer with the reason.
    pub(super) fn write(&mut self, pos: u64, data: &[u8]) -> Result<usize> {
        self.check()?;
        if data.is_empty() {
            return Ok(0);
        }
        let room = MAX_SIZE.checked_sub(pos).filter(|&room| room > 0).ok_or(Error::FileTooLarge { limit: MAX_SIZE })?;
        let data = &data[..usize::try_from(room).map_or(data.len(), |room| room.min(data.len()))];
        if !self.plain {
            self.disturb(pos, pos + data.len() as u64)?;
        }
        self.expose(pos)?;
        let mut done = 0;
        while done < data.len() {
            let at = pos + done as u64;
            match self.write_some(at, &data[done..]) {
                Ok(len) => done += len,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            self.size = self.size.max(pos + done as u64);
        }
        Ok(done)
    }

    /// Write as much as one extent takes, or make room for it and write nothing.
    fn write_some(&mut self, at: u64, data: &[u8]) -> Result<usize> {
        let index = page_of(at);
        match self.extents.find(at) {
            Found::Data(bytes) => {
                let len = data.len().min(bytes.len());
                bytes[..len].copy_from_slice(&data[..len]);
                Ok(len)
            }
            Found::Unclaimed(_) => self.claim(index).map(|()| 0),
            Found::Preallocated(end) => {
                let pages = pages_for(at, data.len()).min(end - u64::from(index));
                let run = self.detach(index, pages as u32)?;
                Ok(self.place(at, run, data))
            }
            Found::Hole => {
                let run = self.frames_for(index, pages_for(at, data.len()), self.extents.hole_end(index))?;
                Ok(self.place(at, run, data))
            }
        }
    }

    /// Make `size` the size.
    pub(super) fn truncate(&mut self, size: u64) -> Result<()> {
        if size > MAX_SIZE {
            return Err(Error::FileTooLarge { limit: MAX_SIZE });
        }
        if size == 0 {
            // Nothing of the damage is left.
            self.quarantined = None;
        }
        self.check()?;
        if size < self.size {
            self.trim();
            let first = size.div_ceil(PAGE);
            if !self.plain {
                self.abandon(first, 1 << 32)?;
            }
            self.space.release_frames(self.extents.remove(first, 1 << 32));
        } else {
            self.expose(size)?;
        }
        self.size = size;
        Ok(())
    }

    /// Make a hole of `len` bytes at `pos`: whole pages are given back, parts of pages zeroed.
    pub(super) fn punch(&mut self, pos: u64, len: u64) -> Result<()> {
        self.check()?;
        let end = pos.saturating_add(len).min(MAX_SIZE);
        if pos >= end.min(self.size) {
            return Ok(());
        }
        let (first, last) = (pos.div_ceil(PAGE), end / PAGE);
        if first > last {
            return self.zero(pos, end);
        }
        self.zero(pos, first * PAGE)?;
        self.zero(last * PAGE, end)?;
        if !self.plain {
            self.abandon(first, last)?;
        }
        self.space.release_frames(self.extents.remove(first, last));
        Ok(())
    }

    /// Reserve frames for `len` bytes at `pos`, all or none.
    pub(super) fn preallocate(&mut self, pos: u64, len: u64) -> Result<()> {
        self.check()?;
        if len == 0 {
            return Ok(());
        }
        let end = pos.checked_add(len).filter(|&end| end <= MAX_SIZE).ok_or(Error::FileTooLarge { limit: MAX_SIZE })?;
        self.trim();
        self.expose(end)?;
        let (mut page, last) = (pos / PAGE, end.div_ceil(PAGE));
        let mut reserved: Vec<(u32, FrameRun)> = Vec::new();
        while page < last {
            page = match self.extents.find(page * PAGE) {
                Found::Hole => match self.space.run(self.extents.hole_end(page as u32).min(last) - page) {
                    Ok(run) => {
                        let next = page + run.len() as u64;
                        reserved.push((page as u32, run));
                        next
                    }
                    Err(error) => {
                        self.space.release_frames(reserved.iter().map(|(_, run)| run.len() as u64).sum());
                        return Err(error);
                    }
                },
                Found::Data(bytes) => page + bytes.len() as u64 / PAGE,
                Found::Unclaimed(end) | Found::Preallocated(end) => end,
            };
        }
        for (index, run) in reserved {
            self.extents.insert(index, Extent { store: Store::Owned(run), preallocated: true });
        }
        self.size = self.size.max(end);
        Ok(())
    }

    /// Give back what was allocated ahead. Returns how many frames that were.
    pub(super) fn trim(&mut self) -> u64 {
        let frames = self.ahead.take().map_or(0, |(_, run)| run.len() as u64);
        self.space.release_frames(frames);
        frames
    }

    fn check(&self) -> Result<()> {
        if self.quarantined.is_some() { Err(Error::Quarantined) } else { Ok(()) }
    }

    /// Zero the bytes `from..to`, which lie in one page, if there are any.
    fn zero(&mut self, from: u64, to: u64) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        if !self.plain && matches!(self.extents.find(from), Found::Unclaimed(_) | Found::Data(_)) {
            self.disturb(from, to)?;
        }
        if let Found::Unclaimed(_) = self.extents.find(from) {
            self.claim(page_of(from))?;
        }
        if let Found::Data(bytes) = self.extents.find(from) {
            let len = bytes.len().min((to - from) as usize);
            bytes[..len].fill(0);
        }
        Ok(())
    }

    /// Bytes past the end are about to be within the file, which ends at `end` at least: zero those that there are.
    fn expose(&mut self, end: u64) -> Result<()> {
        if end <= self.size {
            return Ok(());
        }
        self.zero(self.size, end.min(self.size.next_multiple_of(PAGE)))
    }

    /// Frames for new pages at `index`: at least one, at most `want` and no page past `end`.
    fn frames_for(&mut self, index: u32, want: u64, end: u64) -> Result<FrameRun> {
        let room = end - u64::from(index);
        let want = want.min(room);
        let at_end = room == (1 << 32) - u64::from(index);
        let run = match self.ahead.take() {
            Some((at, run)) if at == index => run,
            other => {
                self.ahead = other;
                if at_end {
                    self.trim();
                }
                let grows = at_end && u64::from(index) == self.extents.pages();
                let goal = if grows { want.max(u64::from(index).min(AHEAD_PAGES)).min(room) } else { want };
                self.space.run(goal)?
            }
        };
        if run.len() as u64 <= want {
            return Ok(run);
        }
        let (run, rest) = run.split_at(want as usize);
        self.ahead = Some((index + want as u32, rest));
        Ok(run)
    }

    /// Make `run` the pages from that of `at` on, holding `data` at `at` and zeros elsewhere. Returns how much of `data` fits.
    fn place(&mut self, at: u64, mut run: FrameRun, data: &[u8]) -> usize {
        let offset = (at % PAGE) as usize;
        let bytes = run.bytes_mut();
        let len = data.len().min(bytes.len() - offset);
        bytes[..offset].fill(0);
        bytes[offset..][..len].copy_from_slice(&data[..len]);
        bytes[offset + len..].fill(0);
        self.extents.insert(page_of(at), Extent { store: Store::Owned(run), preallocated: false });
        len
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.trim();
        self.settle();
        self.space.release_frames(self.extents.pages());
    }
}

/// Pages that `len` bytes at `at` touch.
fn pages_for(at: u64, len: usize) -> u64 {
    (at % PAGE + len as u64).div_ceil(PAGE)
}

/// Bytes from `at` to the beginning of page `end`.
fn bytes_up_to(at: u64, end: u64) -> usize {
    usize::try_from(end * PAGE - at).unwrap_or(usize::MAX)
}
