//! ext2 on a block device.
//!
//! The content of files comes through the page cache as pages of their inodes; all the rest (descriptors, inode tables, indirect
//! blocks, directories, targets of symbolic links) is read as pages of the disk itself, and what of it was changed is in the
//! [`buffer`] until a [`commit`]. May touch the page cache and the [`BlockDevice`] that it was mounted from. Pages that the kernel
//! before had cached are used once [`proof`] has shown that nobody changed anything since.
//!
//! Nothing on the disk is believed before it is checked: [`geometry`] is the only maker of block and inode numbers, and
//! everything that contradicts itself is an [`Error::Corrupt`] that says what; a change that meets such a thing is the last one.
//! Memory and time are bounded by the size of what is asked for, whatever the disk holds.
//!
//! Changes take [turns](self::turn). Locks, in their order: the inode cache (rank `Ext2`), one inode (`Ext2Inode`), the metadata
//! (`Ext2Metadata`); none is held while the page cache or the disk is at work.
//!
//! [`buffer`]: self::buffer
//! [`commit`]: self::commit
//! [`geometry`]: self::geometry
//! [`proof`]: self::proof
//! [`BlockDevice`]: crate::block::BlockDevice

mod allocate;
mod backing;
mod buffer;
mod cached;
mod change;
mod commit;
mod content;
mod directory;
mod entries;
mod geometry;
mod groups;
mod grow;
mod inode;
mod inodes;
mod layout;
mod links;
mod map;
mod mount;
mod operations;
mod outgoing;
mod proof;
mod rename;
mod shrink;
mod store;
mod superblock;
mod turn;

use crate::block::{BlockDevice, ReadRequest, SECTOR_SIZE};
use crate::error::{Error, Result};
use crate::filesystem::Time;
use crate::requests::device_error;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use backing::{Direct, Ext2Backing};
use cache::{FillError, FsId, PageCache, ReadAhead};
use cached::CachedFile;
use change::Metadata;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use directory::Records;
use frames::Lock;
use geometry::{Geometry, InodeNumber};
use inode::{Inode, InodeCache};
use layout::{POINTERS, ROOT_INO, RawGroup};
use map::{BlockMap, ReadDisk};
use turn::Turns;
use zerocopy::FromBytes;

/// The largest inode that is read, with all that can follow the fixed part.
const INODE_MAX: usize = 256;

/// A mounted ext2. Dropping it takes its pages out of the page cache, as unmounting does, but writes nothing.
pub struct Ext2 {
    source: String,
    geometry: Geometry,
    device: Arc<dyn BlockDevice>,
    cache: Arc<PageCache>,
    id: FsId,
    backing: Arc<Ext2Backing>,
    /// The disk itself, as a file in the page cache.
    disk: CachedFile,
    disk_bytes: u64,
    inodes: Lock<InodeCache>,
    unmounted: AtomicBool,
    /// Changes are refused.
    read_only: AtomicBool,
    /// The disk says that it was left as it should be, which has to be taken back before a change.
    resting: AtomicBool,
    clock: fn() -> Time,
    turns: Turns,
    metadata: Lock<Metadata>,
    me: Weak<Self>,
}

impl Ext2 {
    /// The inode `ino`, from memory or from the disk.
    fn inode(&self, ino: u64) -> Result<Arc<Inode>> {
        self.check_mounted()?;
        self.inode_by(ino, self)
    }

    /// Likewise for the page cache on its way to the disk, when nothing may be asked of it.
    fn inode_to_write(&self, ino: u64) -> Result<Arc<Inode>> {
        self.inode_by(ino, &Direct(self))
    }

    fn inode_by(&self, ino: u64, disk: &impl ReadDisk) -> Result<Arc<Inode>> {
        let number = self.geometry.inode(ino)?;
        if let Some(inode) = self.inodes.lock().get(number) {
            return Ok(inode);
        }
        let mut bytes = [0; INODE_MAX];
        let (bytes, _) = bytes.split_at_mut(self.geometry.inode_size().min(INODE_MAX));
        disk.read_disk(self.locate(number, disk)?, bytes)?;
        let (stamp, _) = proof::stamp(bytes);
        let file = |ino, generation| Ok(CachedFile::open(&self.cache, self.id, ino, generation, stamp)?);
        let inode = Inode::parse(&self.geometry, number, bytes, file)?;
        // Where something is known to be wrong nobody can say that it ends where its size says.
        let unsound = self.metadata.lock().superblock.as_ref().is_some_and(|superblock| !superblock.sound);
        inode.lock().now.excess = unsound;
        self.inodes.lock().insert(Arc::new(inode))
    }

    /// Where on the disk an inode lies, in bytes. Whoever changes things need not look it up.
    fn locate(&self, number: InodeNumber, disk: &impl ReadDisk) -> Result<u64> {
        let (group, _) = self.geometry.group_of_inode(number);
        let known = self.metadata.lock().groups.get(group).map(|group| group.inode_table);
        if let Ok(table) = known {
            return self.geometry.inode_at(number, table);
        }
        let mut descriptor = [0; size_of::<RawGroup>()];
        disk.read_disk(self.geometry.descriptor_at(number), &mut descriptor)?;
        let short = Error::Corrupt { what: "a group descriptor is short", value: number.get().into() };
        let group = RawGroup::read_from_bytes(&descriptor).map_err(|_| short)?;
        self.geometry.inode_at(number, group.inode_table.get())
    }

    /// The bytes of a block of metadata.
    fn read_block(&self, block: u32) -> Result<Vec<u8>> {
        let mut bytes = zeroed(self.geometry.block_size())?;
        self.read_disk(u64::from(block) * bytes.len() as u64, &mut bytes)?;
        Ok(bytes)
    }

    /// The blocks of a directory, or of a symbolic link's target: block `index`, where the inode's pointers are `roots`.
    fn content_block(&self, roots: &[u32; POINTERS], index: u64) -> Result<u32> {
        match BlockMap::new(&self.geometry, roots, self).find(index)? {
            Some(block) => Ok(block.number()),
            None => Err(Error::Corrupt { what: "a hole in a directory or symbolic link, block", value: index }),
        }
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
        let (size, roots) = {
            let state = dir.lock();
            (state.size, state.blocks)
        };
        let block_size = self.geometry.block_size() as u64;
        let mut map = BlockMap::new(&self.geometry, &roots, self);
        let mut bytes = zeroed(block_size as usize)?;
        let mut pos = from;
        while pos < size {
            if !pos.is_multiple_of(block_size) {
                return Err(Error::Corrupt { what: "the position in a directory", value: pos });
            }
            let hole = Error::Corrupt { what: "a hole in a directory, inode", value: dir.number.get().into() };
            let block = map.find(pos / block_size)?.ok_or(hole)?;
            self.read_disk(self.geometry.block_at(block), &mut bytes)?;
            pos += block_size;
            if let Some(found) = visit(Records::new(&self.geometry, &bytes), pos)? {
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
            .map_err(|_| Error::Corrupt { what: "a `..` that is no directory", value: parent.number.get().into() })?;
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

impl Ext2 {
    /// Read whole sectors of the disk, past the page cache.
    fn read_below(&self, at: u64, out: &mut [u8]) -> core::result::Result<(), FillError> {
        let request = ReadRequest { sector: at / SECTOR_SIZE as u64, segments: &mut [out] };
        self.device.read(&mut [request]).map_err(device_error)
    }
}

impl ReadDisk for Ext2 {
    /// What is asked for lies within a block.
    fn read_disk(&self, at: u64, out: &mut [u8]) -> core::result::Result<(), FillError> {
        if self.metadata.lock().copy(&self.geometry, at, out) {
            return Ok(());
        }
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

fn zeroed(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Error::NoMemory)?;
    bytes.resize(len, 0);
    Ok(bytes)
}
