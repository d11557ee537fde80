//! Mounting: what the superblock says, and whether the filesystem may be written.

use super::Ext2;
use super::backing::{DISK, Ext2Backing};
use super::buffer::Buffer;
use super::cached::CachedFile;
use super::change::Metadata;
use super::geometry::Geometry;
use super::groups::Groups;
use super::inode::InodeCache;
use super::layout::{
    RO_COMPAT_KNOWN, RO_COMPAT_NAMES, ROOT_INO, RawGroup, RawSuperblock, STATE_ERROR, SUPERBLOCK_AT, SUPERBLOCK_SIZE,
};
use super::map::ReadDisk;
use super::proof;
use super::superblock::Superblock;
use super::turn::Turns;
use crate::block::{BlockDevice, BlockError, ReadRequest, SECTOR_SIZE};
use crate::error::{Error, Result};
use crate::filesystem::Time;
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use cache::{PageCache, Stamp};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use frames::{Lock, Rank};
use log::warn;
use zerocopy::FromBytes;

type SuperblockBytes = Box<[u8; SUPERBLOCK_SIZE]>;

impl Ext2 {
    /// Mount the filesystem on `device`, for reading. [`Error::WrongFormat`] when it holds none, [`Error::Feature`] when it needs
    /// what is not known here, [`Error::Corrupt`] when its superblock or its root directory cannot be.
    pub fn mount(device: Arc<dyn BlockDevice>, cache: Arc<PageCache>) -> Result<Arc<Self>> {
        Ok(Self::start(device, cache, Time::default)?.0)
    }

    /// As [`Ext2::mount`], for writing too, where the disk and the filesystem's features allow that; where they do not the log says
    /// why, as it does of a filesystem that was not unmounted.
    pub fn mount_for_writing(
        device: Arc<dyn BlockDevice>,
        cache: Arc<PageCache>,
        clock: fn() -> Time,
    ) -> Result<Arc<Self>> {
        let (fs, superblock) = Self::start(device, cache, clock)?;
        match fs.allow_changes(superblock) {
            Ok(()) | Err(Error::ReadOnly) => {}
            Err(error @ (Error::Feature { .. } | Error::Corrupt { .. })) => {
                warn!(target: "ext2", "{}: read-only: {error}", fs.source);
            }
            Err(error) => return Err(error),
        }
        Ok(fs)
    }

    fn start(
        device: Arc<dyn BlockDevice>,
        cache: Arc<PageCache>,
        clock: fn() -> Time,
    ) -> Result<(Arc<Self>, SuperblockBytes)> {
        let disk_bytes = device.sectors().saturating_mul(SECTOR_SIZE as u64);
        let source = device.name().to_string();
        let read = superblock(&*device).and_then(|bytes| {
            let geometry = Geometry::parse(&bytes, disk_bytes)?;
            let identity = proof::identity(&bytes, device.sectors());
            Ok((geometry, identity, bytes))
        });
        // What was cached of it by the kernel before is of no use then.
        let (geometry, identity, superblock) = read.inspect_err(|error| {
            cache.disinherit(&source, &error.to_string());
        })?;
        let backing = Arc::new(Ext2Backing::new(device.clone(), identity));
        let id = cache.add_fs(&source, backing.clone());
        proof::settle(&*device, &cache, &geometry, &identity, id);
        let disk = CachedFile::open(&cache, id, DISK, 0, Stamp::default()).inspect_err(|_| cache.remove_fs(id))?;
        // From here on a failure drops this, and with it what the page cache has of it.
        let fs = Arc::new_cyclic(|me| Self {
            source,
            geometry,
            device,
            cache,
            id,
            backing,
            disk,
            disk_bytes,
            inodes: Lock::new(Rank::Ext2, InodeCache::default()),
            unmounted: AtomicBool::new(false),
            read_only: AtomicBool::new(true),
            resting: AtomicBool::new(false),
            clock,
            turns: Turns::default(),
            metadata: Lock::new(Rank::Ext2Metadata, Metadata::default()),
            me: me.clone(),
        });
        fs.backing.attach(&fs);
        let root = fs.inode(ROOT_INO.into())?;
        root.directory().map_err(|_| Error::Corrupt { what: "the root is no directory", value: ROOT_INO.into() })?;
        match fs.parent_of(&root)? {
            ROOT_INO => Ok((fs, superblock)),
            other => Err(Error::Corrupt { what: "the root is in another directory, inode", value: other.into() }),
        }
    }

    /// Make everything ready for changes, and have the disk say that it is in use, before anything else is written.
    fn allow_changes(&self, superblock: SuperblockBytes) -> Result<()> {
        if self.device.read_only() {
            return Err(Error::ReadOnly);
        }
        let short = |_| Error::Corrupt { what: "the superblock is short", value: self.disk_bytes };
        let (raw, _) = RawSuperblock::read_from_prefix(&superblock[..]).map_err(short)?;
        let unknown = if raw.revision.get() == 0 { 0 } else { raw.feature_ro_compat.get() & !RO_COMPAT_KNOWN };
        if unknown != 0 {
            let known = RO_COMPAT_NAMES.iter().find(|(bit, _)| unknown & bit != 0);
            return Err(Error::Feature { name: known.map_or("unknown", |(_, name)| name), bits: unknown });
        }
        self.geometry.check_for_writing()?;
        let groups = Groups::read(&self.geometry, |at| {
            let mut bytes = [0; size_of::<RawGroup>()];
            self.read_disk(at, &mut bytes)?;
            RawGroup::read_from_bytes(&bytes).map_err(|_| Error::Corrupt { what: "a descriptor is short", value: at })
        })?;
        let mut superblock = Superblock::new(*superblock);
        let source = &self.source;
        if raw.state.get() & STATE_ERROR != 0 {
            warn!(target: "ext2", "{source}: something was found to be wrong on it earlier; e2fsck is advised");
        } else if !superblock.sound {
            warn!(target: "ext2", "{source}: was not unmounted as it should be; e2fsck is advised");
        }
        superblock.begin((self.clock)(), true);
        let ready = Metadata::new(&self.cache, Buffer::new(&self.cache, &self.geometry)?, groups)?;
        match superblock.write(&*self.device) {
            Err(Error::Device(BlockError::ReadOnly)) => return Err(Error::ReadOnly),
            result => result?,
        }
        self.superblock_written(&superblock);
        superblock.changed = false;
        *self.metadata.lock() = Metadata { superblock: Some(superblock), ..ready };
        self.read_only.store(false, Relaxed);
        Ok(())
    }
}

/// Read the superblock past the page cache, since nothing is known yet.
fn superblock(device: &dyn BlockDevice) -> Result<SuperblockBytes> {
    let mut bytes = Box::new([0; SUPERBLOCK_SIZE]);
    let sector = SUPERBLOCK_AT / SECTOR_SIZE as u64;
    device.read(&mut [ReadRequest { sector, segments: &mut [&mut bytes[..]] }])?;
    Ok(bytes)
}
