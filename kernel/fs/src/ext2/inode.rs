//! Inodes in memory: parsed once, checked, and kept while they are of use.

use super::cached::CachedFile;
use super::geometry::{Geometry, InodeNumber};
use super::layout::{FLAG_EXTENTS, FLAG_INLINE_DATA, POINTERS, RawInode, RawInodeExtra};
use crate::block::SECTOR_SIZE;
use crate::error::{Error, Result};
use crate::filesystem::{FileType, Ino, Stat, Time};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut, Range};
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use frames::lock::LockGuard;
use frames::{Lock, Rank};
use hashbrown::HashMap;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

/// The longest target of a symbolic link, in bytes.
const TARGET_MAX: u64 = 4095;

/// An inode.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) number: InodeNumber,
    pub(super) kind: FileType,
    /// The kind, as it stands in the mode on disk: bits 12 to 15.
    pub(super) format: u16,
    pub(super) generation: u32,
    /// Its pages in the page cache; only regular files have some.
    pub(super) file: CachedFile,
    /// Of a directory: the one that holds it, once that has been checked; 0 before.
    pub(super) parent: AtomicU32,
    /// It is large enough on disk for nanoseconds.
    pub(super) fine_times: bool,
    /// Looked for since the inode cache was last swept.
    used: AtomicBool,
    /// The size that whoever held the lock last has left, for readers, who do not take it.
    size: AtomicU64,
    state: Lock<State>,
}

/// Access to what of an inode can change.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    state: LockGuard<'a, State>,
    published: &'a AtomicU64,
}

/// What of an inode can change.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) attr: Attr,
    pub(super) size: u64,
    pub(super) links: u32,
    /// What it takes up, in units of 512 bytes.
    pub(super) sectors: u32,
    pub(super) flags: u32,
    /// The block of extended attributes.
    pub(super) file_acl: u32,
    /// When it was deleted.
    pub(super) dtime: u32,
    pub(super) blocks: [u32; POINTERS],
    /// Handles that hold it open.
    pub(super) opens: u32,
    pub(super) now: InMemory,
}

/// What of a state is not on the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct InMemory {
    /// It is to be written by the next commit.
    pub(super) changed: bool,
    /// It is not on the disk at all yet.
    pub(super) born: bool,
    /// It has blocks that were given to it since its content was last on the disk.
    pub(super) grown: bool,
    /// Up to this byte the file is known to have all its blocks.
    pub(super) dense: u64,
    /// The block of the file that was found or allocated last, and where it lies.
    pub(super) last: (u64, u32),
    /// The indirect block of the last level that was used last: the block of the file that its first pointer is for, and where.
    pub(super) leaf: (u64, u32),
    /// Blocks of the file that were just allocated, and whose content is in the page cache only, or nowhere yet.
    pub(super) fresh: Range<u64>,
    /// How long the file is going to be when the write that is under way has succeeded.
    pub(super) growing: u64,
    /// It has blocks past its end, which could not be freed; or may have some, for all that is known.
    pub(super) excess: bool,
    /// Its content could not be written by the commit that is under way, so it is not written either.
    pub(super) held: bool,
}

/// Attributes that chmod(2), chown(2) and utimensat(2) change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attr {
    /// Permission bits.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) atime: Time,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
}

impl Deref for Locked<'_> {
    type Target = State;

    #[inline]
    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.published.store(self.state.size, Release);
    }
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
        let extra = Extra::parse(rest);
        let state = State {
            attr: Attr {
                mode: raw.mode.get() & 0o7777,
                uid: u32::from(raw.uid_high.get()) << 16 | u32::from(raw.uid.get()),
                gid: u32::from(raw.gid_high.get()) << 16 | u32::from(raw.gid.get()),
                atime: time(raw.atime.get(), extra.0.atime_extra.get()),
                mtime: time(raw.mtime.get(), extra.0.mtime_extra.get()),
                ctime: time(raw.ctime.get(), extra.0.ctime_extra.get()),
            },
            size,
            links: raw.links.get().into(),
            sectors: raw.sectors.get(),
            flags: raw.flags.get(),
            file_acl: raw.file_acl.get(),
            blocks: raw.block.map(|pointer| pointer.get()),
            ..State::default()
        };
        if kind == FileType::Symlink && state.is_fast_link(geometry) && size as usize >= size_of_val(&raw.block) {
            return corrupt("the size of a symbolic link in its inode", size);
        }
        let file = file(ino, raw.generation.get())?;
        let (format, fine_times) = (raw.mode.get() & 0xf000, extra.0.extra_size.get() != 0);
        Ok(Self::new(number, kind, format, raw.generation.get(), file, fine_times, state))
    }

    /// An inode in memory.
    pub(super) fn new(
        number: InodeNumber,
        kind: FileType,
        format: u16,
        generation: u32,
        file: CachedFile,
        fine_times: bool,
        state: State,
    ) -> Self {
        let (parent, used) = (AtomicU32::new(0), AtomicBool::new(true));
        let size = AtomicU64::new(state.size);
        let state = Lock::new(Rank::Ext2Inode, state);
        Self { number, kind, format, generation, file, parent, fine_times, used, size, state }
    }

    #[inline]
    pub(super) fn lock(&self) -> Locked<'_> {
        Locked { state: self.state.lock(), published: &self.size }
    }

    /// Its size.
    #[inline]
    pub(super) fn size(&self) -> u64 {
        self.size.load(Acquire)
    }

    pub(super) fn stat(&self) -> Stat {
        let ino = Ino(self.number.get().into());
        let state = self.lock();
        let Attr { mode, uid, gid, atime, mtime, ctime } = state.attr;
        let size = if self.kind == FileType::Special { 0 } else { state.size };
        let allocated = u64::from(state.sectors) * SECTOR_SIZE as u64;
        Stat { ino, kind: self.kind, mode, links: state.links, uid, gid, size, allocated, atime, mtime, ctime }
    }

    /// A time as it can be kept on the disk.
    pub(super) fn storable(&self, time: Time) -> Time {
        let (first, last) = (i64::from(i32::MIN), i64::from(i32::MAX));
        if self.fine_times {
            Time { seconds: time.seconds.clamp(first, last + (3 << 32)), nanos: time.nanos }
        } else {
            Time { seconds: time.seconds.clamp(first, last), nanos: 0 }
        }
    }

    /// The target of a symbolic link that is short enough to lie where others have their block pointers.
    pub(super) fn fast_target(&self, geometry: &Geometry) -> Option<Vec<u8>> {
        let state = self.lock();
        if !state.is_fast_link(geometry) {
            return None;
        }
        let pointers = state.blocks.map(U32::new);
        pointers.as_bytes().get(..state.size as usize).map(<[u8]>::to_vec)
    }

    /// Whether its pointers lead to blocks. Those of device nodes are their numbers, those of short symbolic links the target.
    pub(super) fn has_blocks(&self, geometry: &Geometry) -> bool {
        match self.kind {
            FileType::Regular | FileType::Directory => true,
            FileType::Symlink => !self.lock().is_fast_link(geometry),
            FileType::Special => false,
        }
    }

    /// Refuse what is not a directory.
    pub(super) fn directory(&self) -> Result<()> {
        if self.kind == FileType::Directory { Ok(()) } else { Err(Error::NotADirectory) }
    }

    /// Refuse what has no content of its own kind.
    pub(super) fn regular(&self) -> Result<()> {
        match self.kind {
            FileType::Regular => Ok(()),
            FileType::Directory => Err(Error::IsADirectory),
            FileType::Symlink | FileType::Special => Err(Error::NotAFile),
        }
    }
}

impl State {
    /// Whether the target of this symbolic link lies where others have their block pointers. A block of extended attributes is
    /// counted among the sectors.
    fn is_fast_link(&self, geometry: &Geometry) -> bool {
        let attributes = if self.file_acl == 0 { 0 } else { geometry.block_size() / SECTOR_SIZE };
        self.sectors as usize == attributes
    }

    /// The content was changed.
    #[inline]
    pub(super) fn touch(&mut self, now: Time) {
        self.attr.mtime = now;
        self.attr.ctime = now;
    }

    /// The size up to which the disk has content, or will have.
    pub(super) fn filled(&self) -> u64 {
        self.size.max(self.now.growing)
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

/// Seconds and extra bits of a time, as [`time`] reads them.
pub(super) fn time_on_disk(time: Time) -> (u32, u32) {
    let low = time.seconds as i32;
    let epoch = ((time.seconds - i64::from(low)) >> 32) as u32 & 3;
    (low.cast_unsigned(), time.nanos << 2 | epoch)
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

    /// Keep a new inode, whatever had its number.
    pub(super) fn replace(&mut self, inode: &Arc<Inode>) -> Result<()> {
        self.remove(inode.number);
        self.insert(Arc::clone(inode)).map(drop)
    }

    /// The inode has no name and is not open any more.
    pub(super) fn remove(&mut self, number: InodeNumber) {
        self.inodes.remove(&number.get());
    }

    pub(super) fn clear(&mut self) {
        self.inodes.clear();
    }
}
