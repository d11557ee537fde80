//! ext2 on a block device, read-only for now.
//!
//! Everything that is read comes through the page cache: the content of files and directories as pages of their inodes,
//! all the rest (descriptors, inode tables, indirect blocks) as pages of the disk itself. May touch the page cache and the
//! [`BlockDevice`] that it was mounted from. Pages that the kernel before had cached are used once [`proof`] has shown that nobody
//! changed anything since.
//!
//! Nothing on the disk is believed before it is checked: [`geometry`] is the only maker of block and inode numbers, and
//! everything that contradicts itself is an [`Error::Corrupt`] that says what. Memory and time are bounded by the size of
//! what is asked for, whatever the disk holds.
//!
//! [`geometry`]: self::geometry
//! [`proof`]: self::proof
//! [`BlockDevice`]: crate::block::BlockDevice

mod backing;
mod cached;
mod directory;
mod geometry;
mod inode;
mod layout;
mod map;
mod operations;
mod proof;

use crate::block::{BlockDevice, ReadRequest, SECTOR_SIZE};
use crate::error::{Error, Result};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use backing::{DISK, Ext2Backing};
use cache::{FillError, FsId, PageCache, ReadAhead, Stamp};
use cached::CachedFile;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use directory::Records;
use frames::{Lock, Rank};
use geometry::Geometry;
use inode::{Inode, InodeCache};
use layout::{ROOT_INO, RawGroup, SUPERBLOCK_AT, SUPERBLOCK_SIZE};
use map::ReadDisk;
use zerocopy::FromBytes;

/// The largest inode that is read, with all that can follow the fixed part.
const INODE_MAX: usize = 256;

/// A mounted ext2. Dropping it takes its pages out of the page cache, as unmounting does.
pub struct Ext2 {
    source: String,
    geometry: Geometry,
    cache: Arc<PageCache>,
    id: FsId,
    /// The disk itself, as a file in the page cache.
    disk: CachedFile,
    disk_bytes: u64,
    inodes: Lock<InodeCache>,
    unmounted: AtomicBool,
}

impl Ext2 {
    /// Mount the filesystem on `device`. [`Error::WrongFormat`] when it holds none, [`Error::Feature`] when it needs what is
    /// not known here, [`Error::Corrupt`] when its superblock or its root directory cannot be.
    pub fn mount(device: Arc<dyn BlockDevice>, cache: Arc<PageCache>) -> Result<Arc<Self>> {
        let disk_bytes = device.sectors().saturating_mul(SECTOR_SIZE as u64);
        let source = device.name().to_string();
        let read = superblock(&*device).and_then(|bytes| {
            let geometry = Geometry::parse(&bytes, disk_bytes)?;
            Ok((geometry, proof::identity(&bytes, device.sectors())))
        });
        // What was cached of it by the kernel before is of no use then.
        let (geometry, identity) = read.inspect_err(|error| {
            cache.disinherit(&source, &error.to_string());
        })?;
        let backing = Arc::new(Ext2Backing::new(device.clone(), identity));
        let id = cache.add_fs(&source, backing.clone());
        proof::settle(&*device, &cache, &geometry, &identity, id);
        let disk = CachedFile::open(&cache, id, DISK, 0, Stamp::default()).inspect_err(|_| cache.remove_fs(id))?;
        // From here on a failure drops this, and with it what the page cache has of it.
        let fs = Arc::new(Self {
            source,
            geometry,
            cache,
            id,
            disk,
            disk_bytes,
            inodes: Lock::new(Rank::Ext2, InodeCache::default()),
            unmounted: AtomicBool::new(false),
        });
        backing.attach(&fs);
        let root = fs.inode(ROOT_INO.into())?;
        root.directory().map_err(|_| Error::Corrupt { what: "the root is no directory", value: ROOT_INO.into() })?;
        match fs.parent_of(&root)? {
            ROOT_INO => Ok(fs),
            other => Err(Error::Corrupt { what: "the root is in another directory, inode", value: other.into() }),
        }
    }

    /// The inode `ino`, from memory or from the disk.
    fn inode(&self, ino: u64) -> Result<Arc<Inode>> {
        self.check_mounted()?;
        let number = self.geometry.inode(ino)?;
        if let Some(inode) = self.inodes.lock().get(number) {
            return Ok(inode);
        }
        let mut descriptor = [0; size_of::<RawGroup>()];
        self.read_disk(self.geometry.descriptor_at(number), &mut descriptor)?;
        let group = RawGroup::read_from_bytes(&descriptor)
            .map_err(|_| Error::Corrupt { what: "a group descriptor is short", value: ino })?;
        let mut bytes = [0; INODE_MAX];
        let (bytes, _) = bytes.split_at_mut(self.geometry.inode_size().min(INODE_MAX));
        self.read_disk(self.geometry.inode_at(number, &group)?, bytes)?;
        let (stamp, _) = proof::stamp(bytes);
        let file = |ino, generation| Ok(CachedFile::open(&self.cache, self.id, ino, generation, stamp)?);
        let inode = Inode::parse(&self.geometry, number, bytes, file)?;
        self.inodes.lock().insert(Arc::new(inode))
    }

    /// Call `visit` with the records of each block of the directory `dir` from position `from` on, and the position after
    /// the block, until it answers with something.
    fn blocks_of<T>(
        &self,
        dir: &Inode,
        from: u64,
        mut visit: impl FnMut(Records<'_>, u64) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        dir.directory()?;
        let size = dir.stat.size;
        let mut ahead = ReadAhead::default();
        let mut block = zeroed(self.geometry.block_size())?;
        let mut pos = from;
        while pos < size {
            let read = dir.file.read(size, pos, &mut block, &mut ahead)?;
            if read != block.len() {
                return Err(Error::Corrupt { what: "the position in a directory", value: pos });
            }
            pos += read as u64;
            if let Some(found) = visit(Records::new(&self.geometry, &block), pos)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The inode that `name` leads to in `dir`.
    fn find(&self, dir: &Inode, name: &[u8]) -> Result<Option<Arc<Inode>>> {
        let found = self.blocks_of(dir, 0, |records, _| {
            for record in records {
                let record = record?;
                if record.name == name {
                    return Ok(Some(record.ino));
                }
            }
            Ok(None)
        })?;
        found.map(|ino| self.inode(ino.get().into())).transpose()
    }

    /// The directory that the directory `dir` says it is in.
    fn parent_of(&self, dir: &Inode) -> Result<u32> {
        let known = dir.parent.load(Relaxed);
        if known != 0 {
            return Ok(known);
        }
        let missing = Error::Corrupt { what: "a directory without `..`, inode", value: dir.number.get().into() };
        let parent = self.find(dir, b"..")?.ok_or(missing)?;
        parent
            .directory()
            .map_err(|_| Error::Corrupt { what: "a `..` that is no directory", value: parent.stat.ino.0 })?;
        dir.parent.store(parent.number.get(), Relaxed);
        Ok(parent.number.get())
    }

    /// Make sure that the directory `child` agrees that `dir` holds it. That every directory has one parent, and the root
    /// none, keeps a walk down from going round in circles.
    fn check_held(&self, child: &Inode, dir: &Inode) -> Result<()> {
        let stray = child.number.get() == ROOT_INO || child.number == dir.number;
        if stray || self.parent_of(child)? != dir.number.get() {
            let what = "a directory that is not in the directory which names it, inode";
            return Err(Error::Corrupt { what, value: child.number.get().into() });
        }
        Ok(())
    }

    fn check_mounted(&self) -> Result<()> {
        if self.unmounted.load(Relaxed) { Err(Error::Unmounted) } else { Ok(()) }
    }

    /// Leave the page cache, once.
    fn leave(&self) {
        if !self.unmounted.swap(true, Relaxed) {
            self.inodes.lock().clear();
            self.cache.remove_fs(self.id);
        }
    }
}

impl ReadDisk for Ext2 {
    fn read_disk(&self, at: u64, out: &mut [u8]) -> core::result::Result<(), FillError> {
        let read = self.disk.read(self.disk_bytes, at, out, &mut ReadAhead::default())?;
        if read == out.len() { Ok(()) } else { Err(FillError::Corrupt { what: "the end of the disk", value: at }) }
    }
}

impl Drop for Ext2 {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Ext2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ext2").field("source", &self.source).field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

/// Read the superblock past the page cache, since nothing is known yet.
fn superblock(device: &dyn BlockDevice) -> Result<Box<[u8; SUPERBLOCK_SIZE]>> {
    let mut bytes = Box::new([0; SUPERBLOCK_SIZE]);
    let request = ReadRequest { sector: SUPERBLOCK_AT / SECTOR_SIZE as u64, segments: vec![&mut bytes[..]] };
    device.read(&mut [request])?;
    Ok(bytes)
}

fn zeroed(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Error::NoMemory)?;
    bytes.resize(len, 0);
    Ok(bytes)
}
