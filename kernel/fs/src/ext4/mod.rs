//! ext4 on a block device, read-only: extents, 64-bit block numbers, metadata checksums.
//!
//! Names, kinds and attributes come from the crate `ext4-view`, which checks the superblock, the descriptors and each inode. It
//! names files by path only and has no numbers for them, and what it loads cannot be shared between threads: so [`names`] makes
//! the numbers, and each call loads it anew, out of the page cache. The content of files is found in [`extents`], since that crate
//! takes extents that were allocated and never written for data. Both read the disk through the page cache, as pages of inode
//! 0; pages of files are filled from the disk directly, in one batch.
//!
//! A filesystem whose journal was not played back is refused. Memory is bounded by what is asked for; so is time, but for a
//! directory whose extent tree was forged to lead to the same nodes again and again, which the crate follows.
//!
//! [`names`]: self::names
//! [`extents`]: self::extents

mod backing;
mod extents;
mod facts;
mod inode;
mod names;
mod operations;

use crate::block::{BlockDevice, ReadRequest, SECTOR_SIZE};
use crate::error::{Error, Result};
use crate::filesystem::{FileType, Ino};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use backing::{DISK, Ext4Backing, Pages, Reader};
use cache::{FsId, PageCache};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use ext4_view::{Ext4Error, Metadata};
use facts::{Facts, SUPERBLOCK_AT, SUPERBLOCK_SIZE};
use frames::{Lock, Rank};
use inode::Content;
use log::warn;
use names::{Names, Node, ROOT};

/// A mounted ext4. Dropping it takes its pages out of the page cache, as unmounting does.
pub struct Ext4 {
    source: String,
    facts: Facts,
    cache: Arc<PageCache>,
    id: FsId,
    /// The disk itself, as a file in the page cache.
    disk: Arc<Pages>,
    names: Lock<Names>,
    unmounted: AtomicBool,
}

impl Ext4 {
    /// Mount the filesystem on `device`. [`Error::WrongFormat`] when it holds none, [`Error::Feature`] when it needs what is
    /// not known here, [`Error::Corrupt`] when it cannot be.
    pub fn mount(device: Arc<dyn BlockDevice>, cache: Arc<PageCache>) -> Result<Arc<Self>> {
        let source = device.name().to_string();
        let disk_bytes = device.sectors().saturating_mul(SECTOR_SIZE as u64);
        let mut superblock = Box::new([0; SUPERBLOCK_SIZE]);
        let sector = SUPERBLOCK_AT / SECTOR_SIZE as u64;
        device.read(&mut [ReadRequest { sector, segments: &mut [&mut superblock[..]] }])?;
        let facts = Facts::parse(&superblock, disk_bytes)?;
        let backing = Arc::new(Ext4Backing::new(device));
        let id = cache.add_fs(&source, backing.clone());
        let disk = Pages::open(&cache, id, DISK, 0, disk_bytes).inspect_err(|_| cache.remove_fs(id))?;
        // From here on a failure drops this, and with it what the page cache has of it.
        let fs = Arc::new(Self {
            source,
            facts,
            cache,
            id,
            disk: Arc::new(disk),
            names: Lock::new(Rank::Ext2, Names::new()),
            unmounted: AtomicBool::new(false),
        });
        backing.attach(&fs);
        match fs.attributes(b"/")?.1.is_dir() {
            true => Ok(fs),
            false => Err(Error::Corrupt { what: "the root is no directory", value: ROOT }),
        }
    }

    /// The crate's view of the filesystem, for one call.
    fn view(&self) -> Result<ext4_view::Ext4> {
        self.check_mounted()?;
        ext4_view::Ext4::load(Box::new(Reader(self.disk.clone()))).map_err(|error| self.error(error))
    }

    /// A view, and the attributes of what lies at `path`.
    fn attributes(&self, path: &[u8]) -> Result<(ext4_view::Ext4, Metadata)> {
        let view = self.view()?;
        let metadata = view.symlink_metadata(path).map_err(|error| self.error(error))?;
        Ok((view, metadata))
    }

    /// The number of what lies at `path` and is of this kind: a regular file has the disk's, all else one of our own.
    fn number(&self, view: &ext4_view::Ext4, path: &[u8], kind: FileType) -> Result<Ino> {
        if kind != FileType::Regular {
            return Ok(Ino(self.names.lock().number(path)?));
        }
        let file = view.open(path).map_err(|error| self.error(error))?;
        inode::number_of(&file).map(Ino).ok_or(Error::Unsupported("files without a number"))
    }

    /// What has a number of our own: directories, links, device nodes.
    fn node(&self, ino: u64) -> Result<Arc<Node>> {
        self.check_mounted()?;
        self.names.lock().get(ino).ok_or(Error::NotFound)
    }

    /// The regular file with this number.
    fn content(&self, ino: u64) -> Result<Content> {
        self.check_mounted()?;
        Content::read(&self.facts, &self.disk, ino)
    }

    /// What the crate has to say, in our words; its own are logged where they say more.
    fn error(&self, error: Ext4Error) -> Error {
        match error {
            Ext4Error::NotFound => Error::NotFound,
            Ext4Error::NotADirectory => Error::NotADirectory,
            Ext4Error::IsADirectory => Error::IsADirectory,
            Ext4Error::IsASpecialFile => Error::NotAFile,
            Ext4Error::NotASymlink => Error::NotASymlink,
            Ext4Error::PathTooLong => Error::NameTooLong,
            Ext4Error::TooManySymlinks => Error::Loop,
            Ext4Error::FileTooLarge => Error::FileTooLarge { limit: u64::from(u32::MAX) },
            Ext4Error::Encrypted => Error::Unsupported("encrypted directories"),
            Ext4Error::Io(error) => backing::failure(&*error),
            Ext4Error::Incompatible(what) => {
                warn!(target: "fs", "{}: {what}", self.source);
                Error::Unsupported("a feature of this ext4")
            }
            other => {
                warn!(target: "fs", "{}: {other}", self.source);
                Error::Corrupt { what: "an ext4 structure; the log says which", value: 0 }
            }
        }
    }

    fn check_mounted(&self) -> Result<()> {
        if self.unmounted.load(Relaxed) { Err(Error::Unmounted) } else { Ok(()) }
    }

    /// Leave the page cache, once.
    fn leave(&self) {
        if !self.unmounted.swap(true, Relaxed) {
            self.names.lock().clear();
            self.cache.remove_fs(self.id);
        }
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Ext4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ext4").field("source", &self.source).field("facts", &self.facts).finish_non_exhaustive()
    }
}

fn zeroed(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Error::NoMemory)?;
    bytes.resize(len, 0);
    Ok(bytes)
}
