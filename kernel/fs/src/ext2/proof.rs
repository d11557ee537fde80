//! The proof that nobody has changed a filesystem since another kernel cached pages of it.
//!
//! What is compared comes from the disk, past every cache: the superblock, which whoever mounts a filesystem for writing changes;
//! the inode of each file of which pages were inherited; and each inherited page of the disk itself (descriptors, inode tables,
//! indirect blocks). The reads are sorted, neighbours become one request, and there is a limit to them. Any difference
//! at all, and nothing of what was inherited is used.

use super::backing::DISK;
use super::geometry::{Geometry, InodeNumber};
use super::layout::{RawGroup, RawInode, RawSuperblock, SUPERBLOCK_SIZE};
use super::{INODE_MAX, inode};
use crate::block::BlockDevice;
use crate::requests::Requests;
use alloc::string::ToString;
use alloc::vec::Vec;
use cache::{FillError, FsId, Identity, InheritedFile, PageCache, Stamp};
use core::fmt;
use core::slice;
use frames::checksum::crc32c;
use frames::{FRAME_SIZE, Frame, Page, Zones};
use zerocopy::FromBytes;

/// Pages of the disk that are read for a proof, at most: what takes more is given up.
const MOST_PAGES: usize = 2048;
/// Pages in one batch of requests.
const BATCH: usize = 32;

/// What is not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// There is another filesystem.
    Filesystem,
    /// The disk has another size.
    Sectors(u64),
    /// It was mounted for writing.
    Mounted { at: u32 },
    /// It was written.
    Written { at: u32 },
    /// This inode has changed.
    Inode(u64),
    /// This page of the disk has changed.
    Disk(u32),
    /// To read so many pages takes too long.
    TooLong(usize),
    /// It cannot be read.
    Unreadable(FillError),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filesystem => f.write_str("there is another filesystem on the disk"),
            Self::Sectors(sectors) => write!(f, "the disk has {sectors} sectors now"),
            Self::Mounted { at } => write!(f, "the filesystem was mounted at {at} s"),
            Self::Written { at } => write!(f, "the filesystem was written at {at} s"),
            Self::Inode(ino) => write!(f, "inode {ino} has changed"),
            Self::Disk(index) => write!(f, "page {index} of the disk has changed"),
            Self::TooLong(pages) => write!(f, "{pages} pages of the disk would have to be compared"),
            Self::Unreadable(error) => write!(f, "the filesystem cannot be compared: {error}"),
        }
    }
}

impl From<FillError> for Difference {
    fn from(error: FillError) -> Self {
        Self::Unreadable(error)
    }
}

/// What the filesystem on a disk of `sectors` is told by.
pub(super) fn identity(superblock: &[u8; SUPERBLOCK_SIZE], sectors: u64) -> Identity {
    let told = Identity { sectors, superblock: crc32c(0, superblock), ..Identity::default() };
    RawSuperblock::read_from_prefix(superblock).map_or(told, |(raw, _)| Identity {
        uuid: raw.uuid,
        mounts: raw.mount_count.get(),
        state: raw.state.get(),
        mounted: raw.mount_time.get(),
        written: raw.write_time.get(),
        ..told
    })
}

/// What the inode in `bytes` is told by, and its generation.
pub(super) fn stamp(bytes: &[u8]) -> (Stamp, u32) {
    let ctime = inode::change_time(bytes);
    let generation = RawInode::read_from_prefix(bytes).map_or(0, |(raw, _)| raw.generation.get());
    (Stamp { seconds: ctime.seconds, nanos: ctime.nanos, inode: crc32c(0, bytes) }, generation)
}

/// Settles what becomes of the pages that were inherited of the filesystem on `device`, before anything of it is read by way of the
/// page cache, which knows it as `fs`.
pub(super) fn settle(device: &dyn BlockDevice, cache: &PageCache, geometry: &Geometry, identity: &Identity, fs: FsId) {
    let label = device.name();
    let Some(before) = cache.inheritance(label) else { return };
    let proof = Proof { device, cache, geometry };
    match compare(&before, identity).and_then(|()| proof.find(label)) {
        Ok(()) => cache.accept(label, fs),
        Err(difference) => cache.disinherit(label, &difference.to_string()),
    };
}

fn compare(before: &Identity, now: &Identity) -> Result<(), Difference> {
    if before == now {
        return Ok(());
    }
    Err(match now {
        _ if before.uuid != now.uuid => Difference::Filesystem,
        _ if before.sectors != now.sectors => Difference::Sectors(now.sectors),
        _ if (before.mounts, before.mounted) != (now.mounts, now.mounted) => Difference::Mounted { at: now.mounted },
        _ => Difference::Written { at: now.written },
    })
}

/// An inode that is to be compared: where it lies on the disk, in bytes.
struct Suspect {
    at: u64,
    file: InheritedFile,
}

/// What a proof takes.
struct Proof<'a> {
    device: &'a dyn BlockDevice,
    cache: &'a PageCache,
    geometry: &'a Geometry,
}

impl Proof<'_> {
    fn find(&self, label: &str) -> Result<(), Difference> {
        let files = self.cache.inherited_files(label).map_err(|_| FillError::NoMemory)?;
        let disk = self.cache.inherited_pages(label, DISK, 0).map_err(|_| FillError::NoMemory)?;
        let mut suspects = self.locate(&files)?;
        suspects.sort_unstable_by_key(|suspect| suspect.at);

        let mut pages = room(suspects.len() + disk.len())?;
        pages.extend(suspects.iter().map(|suspect| page_of(suspect.at)));
        pages.extend(disk.iter().map(|&(index, _)| index));
        let (mut suspects, mut disk) = (suspects.iter().peekable(), disk.iter().peekable());
        self.read(pages, |index, page| {
            if let Some(&(_, sum)) = disk.next_if(|&&(at, _)| at == index)
                && crc32c(0, page) != sum
            {
                return Err(Difference::Disk(index));
            }
            while let Some(Suspect { at, file }) = suspects.next_if(|suspect| page_of(suspect.at) == index) {
                let from = *at as usize % FRAME_SIZE;
                let bytes = page.get(from..from + self.geometry.inode_size().min(INODE_MAX)).unwrap_or_default();
                if stamp(bytes) != (file.stamp, file.generation) {
                    return Err(Difference::Inode(file.ino));
                }
            }
            Ok(())
        })
    }

    /// Where the inodes of `files` lie: their groups' descriptors say that.
    fn locate(&self, files: &[InheritedFile]) -> Result<Vec<Suspect>, Difference> {
        let mut wanted: Vec<(u64, InodeNumber, InheritedFile)> = room(files.len())?;
        for &file in files.iter().filter(|file| file.ino != DISK) {
            let number = self.geometry.inode(file.ino).map_err(|_| Difference::Inode(file.ino))?;
            wanted.push((self.geometry.descriptor_at(number), number, file));
        }
        wanted.sort_unstable_by_key(|&(at, ..)| at);
        let mut pages = room(wanted.len())?;
        pages.extend(wanted.iter().map(|&(at, ..)| page_of(at)));
        let mut suspects = room(wanted.len())?;
        let mut wanted = wanted.into_iter().peekable();
        self.read(pages, |index, page| {
            while let Some((at, number, file)) = wanted.next_if(|&(at, ..)| page_of(at) == index) {
                let bytes = page.get(at as usize % FRAME_SIZE..).unwrap_or_default();
                let group = RawGroup::read_from_prefix(bytes).map_err(|_| Difference::Inode(file.ino))?.0;
                let at =
                    self.geometry.inode_at(number, group.inode_table.get()).map_err(|_| Difference::Inode(file.ino))?;
                suspects.push(Suspect { at, file });
            }
            Ok(())
        })?;
        Ok(suspects)
    }

    /// Read these pages of the disk, in order, each once, and let `look` see them.
    fn read(
        &self,
        mut pages: Vec<u32>,
        mut look: impl FnMut(u32, &Page) -> Result<(), Difference>,
    ) -> Result<(), Difference> {
        pages.sort_unstable();
        pages.dedup();
        if pages.len() > MOST_PAGES {
            return Err(Difference::TooLong(pages.len()));
        }
        let mut frames: Vec<Frame> = room(BATCH)?;
        for _ in 0..BATCH.min(pages.len()) {
            frames.push(self.cache.allocate(Zones::Ephemeral).map_err(|_| FillError::NoMemory)?);
        }
        for pages in pages.chunks(BATCH) {
            let mut batch = Requests::default();
            for (&index, frame) in pages.iter().zip(&mut frames) {
                batch.add_disk_pages(self.device.sectors(), index, slice::from_mut(frame))?;
            }
            batch.read(self.device)?;
            for (&index, frame) in pages.iter().zip(&frames) {
                look(index, frame.bytes())?;
            }
        }
        Ok(())
    }
}

/// The page of the disk that a byte lies in.
fn page_of(at: u64) -> u32 {
    (at / FRAME_SIZE as u64).min(u32::MAX.into()) as u32
}

fn room<T>(len: usize) -> Result<Vec<T>, FillError> {
    let mut list = Vec::new();
    list.try_reserve_exact(len).map_err(|_| FillError::NoMemory)?;
    Ok(list)
}
