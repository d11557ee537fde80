//! What the page cache asks of a mounted ext4: pages of its files, and, as inode 0, pages of the disk itself; and what is read
//! of the disk in that way. Nothing here holds a lock across a disk request.

use super::Ext4;
use super::extents;
use crate::block::{BlockDevice, SECTOR_SIZE};
use crate::error::{Error, Result};
use crate::requests::{Requests, fill_error};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
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
            let mut requests = Requests::default();
            requests.add_disk_pages(self.device.sectors(), first, pages)?;
            return requests.read(&*self.device);
        }
        let fs = self.fs.lock().upgrade().ok_or(FillError::Unmounted)?;
        self.file_pages(&fs, ino, first, pages).map_err(fill_error)
    }

    fn write(&self, _ino: u64, _first: u32, _pages: &[&Page]) -> core::result::Result<(), FillError> {
        Err(FillError::ReadOnly)
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pages").field(&self.id).finish()
    }
}
