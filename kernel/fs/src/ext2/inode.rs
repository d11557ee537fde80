//! Inodes in memory: parsed once, checked, and kept while they are of use.

use super::cached::CachedFile;
use super::geometry::{Geometry, InodeNumber};
use super::layout::{FLAG_EXTENTS, FLAG_INLINE_DATA, POINTERS, RawInode, RawInodeExtra};
use crate::block::SECTOR_SIZE;
use crate::error::{Error, Result};
use crate::filesystem::{FileType, Ino, Stat, Time};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use hashbrown::HashMap;
use zerocopy::{FromBytes, IntoBytes};

/// The longest target of a symbolic link, in bytes.
const TARGET_MAX: u64 = 4095;

/// An inode.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) number: InodeNumber,
    pub(super) stat: Stat,
    pub(super) blocks: [u32; POINTERS],
    /// Its pages in the page cache.
    pub(super) file: CachedFile,
    /// Of a directory: the one that holds it, once that has been checked; 0 before.
    pub(super) parent: AtomicU32,
    /// Looked for since the inode cache was last swept.
    used: AtomicBool,
    fast_link: bool,
}

impl Inode {
    /// Read an inode of `bytes` on disk; `file` finds its pages by inode number and generation.
    pub(super) fn parse(
        geometry: &Geometry,
        number: InodeNumber,
        bytes: &[u8],
        file: impl FnOnce(u64, u32) -> Result<CachedFile>,
    ) -> Result<Self> {
        let ino = u64::from(number.get());
        let corrupt = |what, value| Err(Error::Corrupt { what, value });
        let Ok((raw, rest)) = RawInode::read_from_prefix(bytes) else {
            return corrupt("an inode is short", ino);
        };
        let kind = match raw.mode.get() >> 12 {
            0x8 => FileType::Regular,
            0x4 => FileType::Directory,
            0xa => FileType::Symlink,
            0x1 | 0x2 | 0x6 | 0xc => FileType::Special,
            _ if raw.links.get() == 0 => return corrupt("a name leads to a free inode", ino),
            _ => return corrupt("an inode of no known kind", ino),
        };
        if raw.links.get() == 0 {
            return corrupt("a name leads to a deleted inode", ino);
        }
        if raw.flags.get() & (FLAG_EXTENTS | FLAG_INLINE_DATA) != 0 {
            return corrupt("an inode in ext4's format", ino);
        }
        let high = if kind == FileType::Regular { u64::from(raw.size_high.get()) << 32 } else { 0 };
        let size = high | u64::from(raw.size.get());
        let fits = match kind {
            FileType::Regular => size <= geometry.max_file_size(),
            // A directory has no holes.
            FileType::Directory => size <= geometry.bytes() && size.is_multiple_of(geometry.block_size() as u64),
            FileType::Symlink => (1..=TARGET_MAX).contains(&size),
            FileType::Special => true,
        };
        if !fits {
            return corrupt("a file's size", size);
        }
        // A block of extended attributes is counted among the sectors.
        let attributes = if raw.file_acl.get() == 0 { 0 } else { geometry.block_size() / SECTOR_SIZE };
        let fast_link = kind == FileType::Symlink && raw.sectors.get() as usize == attributes;
        if fast_link && size as usize >= size_of_val(&raw.block) {
            return corrupt("the size of a symbolic link in its inode", size);
        }
        let extra = Extra::parse(rest);
        let stat = Stat {
            ino: Ino(ino),
            kind,
            mode: raw.mode.get() & 0o7777,
            links: raw.links.get().into(),
            uid: u32::from(raw.uid_high.get()) << 16 | u32::from(raw.uid.get()),
            gid: u32::from(raw.gid_high.get()) << 16 | u32::from(raw.gid.get()),
            size: if kind == FileType::Special { 0 } else { size },
            allocated: u64::from(raw.sectors.get()) * SECTOR_SIZE as u64,
            atime: time(raw.atime.get(), extra.0.atime_extra.get()),
            mtime: time(raw.mtime.get(), extra.0.mtime_extra.get()),
            ctime: time(raw.ctime.get(), extra.0.ctime_extra.get()),
        };
        Ok(Self {
            number,
            stat,
            blocks: raw.block.map(|pointer| pointer.get()),
            file: file(ino, raw.generation.get())?,
            parent: AtomicU32::new(0),
            used: AtomicBool::new(true),
            fast_link,
        })
    }

    /// The target of a symbolic link that is short enough to lie where others have their block pointers.
    pub(super) fn fast_target(&self) -> Option<Vec<u8>> {
        if !self.fast_link {
            return None;
        }
        let pointers = self.blocks.map(zerocopy::little_endian::U32::new);
        pointers.as_bytes().get(..self.stat.size as usize).map(<[u8]>::to_vec)
    }

    /// Refuse what is not a directory.
    pub(super) fn directory(&self) -> Result<()> {
        if self.stat.kind == FileType::Directory { Ok(()) } else { Err(Error::NotADirectory) }
    }
}

/// When the inode in `bytes` was changed last.
pub(super) fn change_time(bytes: &[u8]) -> Time {
    match RawInode::read_from_prefix(bytes) {
        Ok((raw, rest)) => time(raw.ctime.get(), Extra::parse(rest).0.ctime_extra.get()),
        Err(_) => Time::default(),
    }
}

/// The additional times of a large inode, zero where it has none.
struct Extra(RawInodeExtra);

impl Extra {
    fn parse(bytes: &[u8]) -> Self {
        match RawInodeExtra::read_from_prefix(bytes) {
            Ok((extra, _)) if usize::from(extra.extra_size.get()) >= size_of::<RawInodeExtra>() => Self(extra),
            _ => Self(RawInodeExtra::default()),
        }
    }
}

/// A time: `extra` has two more bits of the seconds, and the nanoseconds above them (ext4's inodes.rst, "Inode Timestamps").
fn time(seconds: u32, extra: u32) -> Time {
    let seconds = i64::from(seconds.cast_signed()) + (i64::from(extra & 3) << 32);
    Time { seconds, nanos: (extra >> 2).min(999_999_999) }
}

/// Inodes by number. Those that somebody holds stay; of the others it keeps as many as it has room for, and those that were
/// asked for lately the longest.
#[derive(Debug, Default)]
pub(super) struct InodeCache {
    inodes: HashMap<u32, Arc<Inode>>,
}

impl InodeCache {
    /// Inodes that are kept before unused ones have to go.
    const ROOM: usize = 512;

    pub(super) fn get(&self, number: InodeNumber) -> Option<Arc<Inode>> {
        let inode = self.inodes.get(&number.get())?;
        inode.used.store(true, Relaxed);
        Some(Arc::clone(inode))
    }

    /// Keep `inode`, unless another reader was faster: what is kept in the end is returned.
    pub(super) fn insert(&mut self, inode: Arc<Inode>) -> Result<Arc<Inode>> {
        if let Some(earlier) = self.get(inode.number) {
            return Ok(earlier);
        }
        if self.inodes.len() >= Self::ROOM {
            self.inodes.retain(|_, inode| Arc::strong_count(inode) > 1 || inode.used.swap(false, Relaxed));
        }
        if self.inodes.len() >= Self::ROOM {
            self.inodes.retain(|_, inode| Arc::strong_count(inode) > 1);
        }
        self.inodes.try_reserve(1).map_err(|_| Error::NoMemory)?;
        self.inodes.insert(inode.number.get(), Arc::clone(&inode));
        Ok(inode)
    }

    pub(super) fn clear(&mut self) {
        self.inodes.clear();
    }
}
