//! What the page cache asks of a mounted ext2: pages of its files, and, as inode 0, pages of the disk itself, which is how
//! everything that is not a file's content is read.
//!
//! By the time a page comes to be written it has its blocks, so writing finds them, and asks for no memory (but for the inode, if
//! nobody has looked for that in a long time); and it asks
//! nothing of the page cache, which may be short of memory just then ([`Direct`]).
//!
//! A fill walks the block map once for all its pages, then asks the disk once for all the blocks, neighbours merged. Nothing
//! here holds a lock across that.

use super::Ext2;
use super::geometry::{Block, Geometry};
use super::layout::POINTERS;
use super::map::{BlockMap, ReadDisk};
use super::outgoing::Outgoing;
use crate::block::{BlockDevice, SECTOR_SIZE};
use crate::requests::{Requests, device_error, fill_error};
use alloc::sync::{Arc, Weak};
use cache::{Backing, FillError, Identity};
use core::mem;
use frames::{FRAME_SIZE, Frame, Lock, Rank};

/// The inode number that stands for the disk itself.
pub(super) const DISK: u64 = 0;

/// The page cache's way to the filesystem. It does not keep the filesystem alive, so that dropping that takes it out of
/// the page cache.
pub(super) struct Ext2Backing {
    device: Arc<dyn BlockDevice>,
    identity: Lock<Identity>,
    fs: Lock<Weak<Ext2>>,
}

impl Ext2Backing {
    /// Serves only the disk until there is a filesystem to [`attach`](Self::attach).
    pub(super) fn new(device: Arc<dyn BlockDevice>, identity: Identity) -> Self {
        let identity = Lock::new(Rank::Identity, identity);
        Self { device, identity, fs: Lock::new(Rank::Ext2, Weak::new()) }
    }

    /// The superblock was written; this is what the filesystem is told by from now on.
    pub(super) fn identify(&self, identity: Identity) {
        *self.identity.lock() = identity;
    }

    pub(super) fn attach(&self, fs: &Arc<Ext2>) {
        *self.fs.lock() = Arc::downgrade(fs);
    }
}

impl Backing for Ext2Backing {
    fn fill(&self, ino: u64, first: u32, pages: &mut [Frame]) -> Result<(), FillError> {
        let mut batch = Batch::default();
        if ino == DISK {
            batch.requests.add_disk_pages(self.device.sectors(), first, pages)?;
        } else {
            let fs = self.fs.lock().upgrade().ok_or(FillError::Unmounted)?;
            file_pages(&mut batch, &fs, ino, first, pages)?;
        }
        batch.read(&*self.device)
    }

    fn identity(&self) -> Option<Identity> {
        Some(*self.identity.lock())
    }

    fn write(&self, ino: u64, first: u32, pages: &[&[u8; FRAME_SIZE]]) -> Result<(), FillError> {
        if ino == DISK {
            return Err(FillError::ReadOnly);
        }
        let fs = self.fs.lock().upgrade().ok_or(FillError::Unmounted)?;
        let inode = fs.inode_to_write(ino).map_err(fill_error)?;
        let roots = inode.lock().blocks;
        write_pages(&fs, &roots, first, pages)?;
        // The disk has what these blocks are to hold, so a reader may have it from there.
        let per_page = fs.geometry.blocks_per_page() as u64;
        let (start, end) = (u64::from(first) * per_page, (u64::from(first) + pages.len() as u64) * per_page);
        let mut state = inode.lock();
        if state.now.fresh.start >= start && state.now.fresh.end <= end && state.now.growing == 0 {
            state.now.fresh = 0..0;
        }
        Ok(())
    }
}

/// Write these pages of a file, neighbours on the disk together. What has no block is a hole.
fn write_pages(fs: &Ext2, roots: &[u32; POINTERS], first: u32, pages: &[&[u8; FRAME_SIZE]]) -> Result<(), FillError> {
    let geometry = &fs.geometry;
    let per_page = geometry.blocks_per_page() as u64;
    let direct = Direct(fs);
    let mut map = BlockMap::new(geometry, roots, &direct);
    // With small blocks, pages of the disk that hold metadata may hold these too.
    let mut outgoing = Outgoing::new(fs, per_page > 1);
    for (page_index, page) in (u64::from(first)..).zip(pages) {
        let mut rest = &page[..];
        let mut index = page_index * per_page;
        while !rest.is_empty() {
            let (start, len) = run_of(geometry, index, rest.len(), |index| map.find(index))?;
            let (run, others) = rest.split_at(len * geometry.block_size());
            if let Some(block) = start {
                outgoing.add(geometry.sector_of(block), run).map_err(device_error)?;
            }
            (rest, index) = (others, index + len as u64);
        }
    }
    outgoing.send().map_err(device_error)
}

/// Where block `index` of a file lies, and how many from there on are its neighbours, or holes as it is, within the next `bytes`
/// bytes of the file.
fn run_of(
    geometry: &Geometry,
    index: u64,
    bytes: usize,
    mut find: impl FnMut(u64) -> Result<Option<Block>, FillError>,
) -> Result<(Option<Block>, usize), FillError> {
    let start = find(index)?;
    let mut len = 1;
    while len * geometry.block_size() < bytes {
        let wanted = start.map(|block| u64::from(block.number()) + len as u64);
        if find(index + len as u64)?.map(|block| u64::from(block.number())) != wanted {
            break;
        }
        len += 1;
    }
    Ok((start, len))
}

/// Metadata from the buffer, or from the disk past the page cache: for whoever may be making room there.
pub(super) struct Direct<'a>(pub(super) &'a Ext2);

impl ReadDisk for Direct<'_> {
    fn read_disk(&self, at: u64, out: &mut [u8]) -> Result<(), FillError> {
        let Self(fs) = self;
        if fs.metadata.lock().copy(&fs.geometry, at, out) {
            return Ok(());
        }
        let mut bytes = [0; SECTOR_SIZE];
        let within = (at % SECTOR_SIZE as u64) as usize;
        fs.read_below(at - within as u64, &mut bytes)?;
        // What is read this way lies within a sector: inodes, descriptors, windows of pointers.
        let crosses = FillError::Corrupt { what: "metadata that crosses sectors", value: at };
        out.copy_from_slice(bytes.get(within..within + out.len()).ok_or(crosses)?);
        Ok(())
    }
}

/// Pages of a file; zeros in holes and past its end.
fn file_pages<'a>(
    batch: &mut Batch<'a>,
    fs: &Ext2,
    ino: u64,
    first: u32,
    pages: &'a mut [Frame],
) -> Result<(), FillError> {
    let inode = fs.inode(ino).map_err(fill_error)?;
    let geometry = &fs.geometry;
    let (block_size, per_page) = (geometry.block_size(), geometry.blocks_per_page() as u64);
    let (size, fresh, roots) = {
        let state = inode.lock();
        (state.filled(), state.now.fresh.clone(), state.blocks)
    };
    let blocks = size.div_ceil(block_size as u64);
    let mut map = BlockMap::new(geometry, &roots, fs);
    // Blocks that were given to the file just now hold what somebody else left there.
    let mut find = |index: u64| if index >= blocks || fresh.contains(&index) { Ok(None) } else { map.find(index) };
    for (page_index, page) in (u64::from(first)..).zip(pages) {
        let mut rest: &'a mut [u8] = page.bytes_mut();
        let mut index = page_index * per_page;
        // Take runs of neighbours off the front of the page, so that each is one segment.
        while !rest.is_empty() {
            let (start, len) = run_of(geometry, index, rest.len(), &mut find)?;
            let (run, others) = mem::take(&mut rest).split_at_mut(len * block_size);
            match start {
                Some(block) => {
                    if index + len as u64 == blocks {
                        batch.tail = tail_of(size, block_size);
                    }
                    batch.requests.add(geometry.sector_of(block), run)?;
                }
                None => run.fill(0),
            }
            (rest, index) = (others, index + len as u64);
        }
    }
    Ok(())
}

/// Bytes of a file's last block that are past its end.
fn tail_of(size: u64, block_size: usize) -> usize {
    let used = (size % block_size as u64) as usize;
    if used == 0 { 0 } else { block_size - used }
}

/// Reads that go to the disk together, and how much of the last is past the end of a file.
#[derive(Default)]
struct Batch<'a> {
    requests: Requests<'a>,
    /// Bytes of the last segment to make zeros of after the read: what a disk holds past the end of a file is nobody's.
    tail: usize,
}

impl Batch<'_> {
    fn read(mut self, device: &dyn BlockDevice) -> Result<(), FillError> {
        self.requests.read(device)?;
        if let Some(segment) = self.requests.last_segment() {
            let keep = segment.len().saturating_sub(self.tail);
            if let Some(past) = segment.get_mut(keep..) {
                past.fill(0);
            }
        }
        Ok(())
    }
}
