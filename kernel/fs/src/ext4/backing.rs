//! What the page cache asks of a mounted ext4: pages of its files, and, as inode 0, pages of the disk itself; and what is read
//! of the disk in that way. Nothing here holds a lock across a disk request.

use super::Ext4;
use super::extents;
use crate::block::{BlockDevice, BlockError, ReadRequest, SECTOR_SIZE};
use crate::error::{Error, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use cache::{Backing, FileId, FillError, FsId, PageCache, ReadAhead};
use core::{fmt, mem};
use ext4_view::Ext4Read;
use frames::{FRAME_SIZE, Frame, Lock, Page, Rank};

/// The inode number that stands for the disk itself.
pub(super) const DISK: u64 = 0;

/// A file in the page cache; dropping it lets the page cache forget the file when it likes.
pub(super) struct Pages {
    cache: Arc<PageCache>,
    id: FileId,
    size: u64,
}

impl Pages {
    /// The file `ino` of `fs`, of `size` bytes.
    pub(super) fn open(cache: &Arc<PageCache>, fs: FsId, ino: u64, generation: u32, size: u64) -> Result<Self> {
        Ok(Self { cache: cache.clone(), id: cache.open(fs, ino, generation)?, size })
    }

    /// Read at `pos` into `out`; short only at the end.
    #[inline]
    pub(super) fn read(&self, pos: u64, out: &mut [u8], ahead: &mut ReadAhead) -> Result<usize> {
        Ok(self.cache.read(self.id, self.size, pos, out, ahead)?)
    }

    /// Read at `pos` as much as `out` takes.
    pub(super) fn read_exactly(&self, pos: u64, out: &mut [u8]) -> Result<()> {
        match self.read(pos, out, &mut ReadAhead::default())? == out.len() {
            true => Ok(()),
            false => Err(Error::Corrupt { what: "the end of the disk", value: pos }),
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.cache.close(self.id);
    }
}

/// How `ext4-view` reads the disk.
pub(super) struct Reader(pub(super) Arc<Pages>);

impl Ext4Read for Reader {
    fn read(
        &mut self,
        pos: u64,
        out: &mut [u8],
    ) -> core::result::Result<(), Box<dyn core::error::Error + Send + Sync>> {
        Ok(self.0.read_exactly(pos, out)?)
    }
}

/// What a [`Reader`] failed with.
pub(super) fn failure(error: &(dyn core::error::Error + Send + Sync + 'static)) -> Error {
    error.downcast_ref().copied().unwrap_or(Error::Unsupported("an error of another kind"))
}

/// The page cache's way to the filesystem, which it does not keep alive.
pub(super) struct Ext4Backing {
    device: Arc<dyn BlockDevice>,
    fs: Lock<Weak<Ext4>>,
}

impl Ext4Backing {
    /// Serves only the disk until there is a filesystem to [`attach`](Self::attach).
    pub(super) fn new(device: Arc<dyn BlockDevice>) -> Self {
        Self { device, fs: Lock::new(Rank::Ext2, Weak::new()) }
    }

    pub(super) fn attach(&self, fs: &Arc<Ext4>) {
        *self.fs.lock() = Arc::downgrade(fs);
    }

    /// Pages of the disk; zeros past its end.
    fn disk_pages(&self, first: u32, pages: &mut [Frame]) -> Result<()> {
        let mut requests = Requests::default();
        let sectors = self.device.sectors();
        for (index, page) in (u64::from(first)..).zip(pages) {
            let sector = index * (FRAME_SIZE / SECTOR_SIZE) as u64;
            let there = sectors.saturating_sub(sector).saturating_mul(SECTOR_SIZE as u64).min(FRAME_SIZE as u64);
            let (read, past) = page.bytes_mut().split_at_mut(there as usize);
            past.fill(0);
            requests.add(sector, read)?;
        }
        requests.read(&*self.device)
    }

    /// Pages of a file; zeros in holes and past its end.
    fn file_pages(&self, fs: &Ext4, ino: u64, first: u32, pages: &mut [Frame]) -> Result<()> {
        let content = fs.content(ino)?;
        content.check()?;
        let (shift, size) = (fs.facts.block_shift, content.stat.size);
        let blocks = size.div_ceil(1 << shift).min(u64::from(u32::MAX));
        let mut requests = Requests::default();
        for (index, page) in (u64::from(first)..).zip(&mut *pages) {
            let mut block = (index * FRAME_SIZE as u64) >> shift;
            let mut rest: &mut [u8] = page.bytes_mut();
            while !rest.is_empty() {
                let left = (rest.len() >> shift) as u64;
                let run = match blocks.checked_sub(block) {
                    None | Some(0) => extents::Run { start: None, len: left },
                    Some(_) => extents::find(&fs.facts, &fs.disk, &content, block as u32)?,
                };
                let len = run.len.min(left);
                let (these, others) = mem::take(&mut rest).split_at_mut((len as usize) << shift);
                match run.start {
                    Some(start) => requests.add((start << shift) / SECTOR_SIZE as u64, these)?,
                    None => these.fill(0),
                }
                (rest, block) = (others, block + len);
            }
        }
        requests.read(&*self.device)?;
        // What a disk holds past the end of a file is nobody's.
        let start = u64::from(first) * FRAME_SIZE as u64;
        let inside = size.saturating_sub(start);
        let past = pages.iter_mut().skip((inside / FRAME_SIZE as u64).try_into().unwrap_or(usize::MAX));
        for (index, page) in past.enumerate() {
            let keep = if index == 0 { (inside % FRAME_SIZE as u64) as usize } else { 0 };
            page.bytes_mut()[keep..].fill(0);
        }
        Ok(())
    }
}

impl Backing for Ext4Backing {
    fn fill(&self, ino: u64, first: u32, pages: &mut [Frame]) -> core::result::Result<(), FillError> {
        if ino == DISK {
            return self.disk_pages(first, pages).map_err(fill_error);
        }
        let fs = self.fs.lock().upgrade().ok_or(FillError::Unmounted)?;
        self.file_pages(&fs, ino, first, pages).map_err(fill_error)
    }

    fn write(&self, _ino: u64, _first: u32, _pages: &[&Page]) -> core::result::Result<(), FillError> {
        Err(FillError::ReadOnly)
    }
}

/// Reads that go to the disk together.
#[derive(Default)]
struct Requests<'a> {
    requests: Vec<ReadRequest<'a>>,
    /// The sector after the last request.
    next: u64,
}

impl<'a> Requests<'a> {
    /// Read from `sector` on into `segment`, as part of the request before when it goes on where that ends.
    fn add(&mut self, sector: u64, segment: &'a mut [u8]) -> Result<()> {
        if segment.is_empty() {
            return Ok(());
        }
        let next = sector + (segment.len() / SECTOR_SIZE) as u64;
        let segments = match self.requests.last_mut() {
            Some(request) if self.next == sector => &mut request.segments,
            _ => {
                self.requests.try_reserve(1).map_err(|_| Error::NoMemory)?;
                &mut self.requests.push_mut(ReadRequest { sector, segments: Vec::new() }).segments
            }
        };
        segments.try_reserve(1).map_err(|_| Error::NoMemory)?;
        segments.push(segment);
        self.next = next;
        Ok(())
    }

    fn read(mut self, device: &dyn BlockDevice) -> Result<()> {
        match self.requests.is_empty() {
            true => Ok(()),
            false => Ok(device.read(&mut self.requests)?),
        }
    }
}

/// An error in the page cache's words.
fn fill_error(error: Error) -> FillError {
    match error {
        Error::Device(BlockError::Io { sector }) => FillError::Device { sector },
        Error::Device(BlockError::OutOfRange { sector, .. }) => {
            FillError::Corrupt { what: "a sector past the end of the disk", value: sector }
        }
        Error::Device(BlockError::Dead) => FillError::DeadDevice,
        Error::Corrupt { what, value } => FillError::Corrupt { what, value },
        Error::NoMemory => FillError::NoMemory,
        Error::Unmounted => FillError::Unmounted,
        _ => FillError::Corrupt { what: "a file that cannot be read", value: 0 },
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pages").field(&self.id).finish()
    }
}
