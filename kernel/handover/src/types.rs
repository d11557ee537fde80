//! What a handover says, as values: the same [`Item`]s go into a writer and come out of a reader.

use crate::layout::{EXTENT_COLD, EXTENT_PFN_BITS, EXTENT_PREALLOCATED, ExtentRecord};
use core::fmt;
use frames::{Pfn, PfnRange};
use zerocopy::little_endian::U32;

/// Seconds and nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file: [`Item::Extent`]s follow, in the order of their index.
    Regular,
    /// A directory: [`Item::Entry`]s follow.
    Directory,
    /// A symbolic link: one [`Item::Target`] follows.
    Symlink,
}

/// The beginning of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filesystem<'a> {
    /// Which one it is: where it was mounted. At most 255 bytes.
    pub label: &'a [u8],
    /// Inode number of the root directory.
    pub root: u64,
    /// The inode number to be given out next.
    pub next_ino: u64,
    /// The most bytes that the filesystem may hold; `None` if that was left to the kernel.
    pub size_limit: Option<u64>,
}

/// The beginning of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub ino: u64,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, `0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that lead to it (for a directory: 2 and one for each directory in it).
    pub links: u32,
    /// Bytes of content of a regular file or symbolic link; 0 for a directory.
    pub size: u64,
    /// Last read.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// The content, of a regular file, was found damaged before.
    pub quarantined: bool,
}

/// Consecutive pages of a file that lie in consecutive frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first page of the file.
    pub index: u32,
    /// Pages, and frames.
    pub count: u32,
    /// The first frame.
    pub start: Pfn,
    /// Reserved only: the frames' bytes mean nothing and the pages read as zeros.
    pub preallocated: bool,
}

impl Extent {
    /// The frames.
    pub fn frames(&self) -> PfnRange {
        PfnRange { start: self.start, count: u64::from(self.count) }
    }

    /// The first page after it.
    pub fn end(&self) -> u64 {
        u64::from(self.index) + u64::from(self.count)
    }

    /// Both as one, if `next` goes on where this ends, in the file and in memory.
    pub(crate) fn join(&self, next: &Self) -> Option<Self> {
        let adjacent = self.end() == u64::from(next.index)
            && self.frames().end() == next.start
            && self.preallocated == next.preallocated;
        let count = self.count.checked_add(next.count)?;
        adjacent.then_some(Self { count, ..*self })
    }

    pub(crate) fn to_record(self) -> ExtentRecord {
        let flags = if self.preallocated { EXTENT_PREALLOCATED } else { 0 };
        ExtentRecord { location: (self.start.get() | flags).into(), index: self.index.into(), count: self.count.into() }
    }

    /// The extent in `record`, with whatever flags this version does not know.
    pub(crate) fn from_record(record: &ExtentRecord) -> (Self, u64) {
        let location = record.location.get();
        let pfn = location & ((1 << EXTENT_PFN_BITS) - 1);
        let flags = location & !((1 << EXTENT_PFN_BITS) - 1);
        let extent = Self {
            index: record.index.get(),
            count: record.count.get(),
            start: Pfn::new(pfn),
            preallocated: flags & EXTENT_PREALLOCATED != 0,
        };
        (extent, flags & !EXTENT_PREALLOCATED)
    }
}

/// How a disk is told, and the filesystem on it: what was cached of it is of use only while all of this stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheOf<'a> {
    /// What it was mounted from, `vda` and the like. At most 255 bytes.
    pub label: &'a [u8],
    /// The filesystem's identity.
    pub uuid: [u8; 16],
    /// Sectors of the disk, of 512 bytes.
    pub sectors: u64,
    /// CRC-32C of the superblock.
    pub superblock: u32,
    /// How often it was mounted, as the superblock has it.
    pub mounts: u16,
    /// The state that it was left in, as the superblock has it.
    pub state: u16,
    /// When it was mounted last, in seconds since 1970, as the superblock has it.
    pub mounted: u32,
    /// When it was written last, likewise.
    pub written: u32,
}

/// How a file is told of which something was cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedFile {
    /// Its inode number; 0 is the disk itself.
    pub ino: u64,
    /// Which of the files that had this number.
    pub generation: u32,
    /// Last change of the inode.
    pub ctime: Time,
    /// CRC-32C of the inode as it is on the disk.
    pub inode: u32,
}

/// Where consecutive pages of a cached file begin, in consecutive frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedPages {
    /// The first page of the file.
    pub index: u32,
    /// The first frame.
    pub start: Pfn,
    /// They were in cleancache, and not in the page cache.
    pub cold: bool,
}

impl CachedPages {
    pub(crate) fn to_record(self, count: u32) -> ExtentRecord {
        let flags = if self.cold { EXTENT_COLD } else { 0 };
        ExtentRecord { location: (self.start.get() | flags).into(), index: self.index.into(), count: count.into() }
    }
}

/// Why an extent is not to be used. The file that it belongs to has lost that content; others have lost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentFault {
    /// It has no pages.
    Empty,
    /// It begins before the end of the one before it.
    OutOfOrder,
    /// It reaches past the end of the file.
    BeyondEnd,
    /// It has flags that this version does not know.
    UnknownFlags,
    /// Some of its frames are no memory where anything could have been preserved.
    NotPreservable,
    /// Some of its frames have a use already: in another extent, or in the handover itself.
    InUse,
}

impl fmt::Display for ExtentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an extent has no pages",
            Self::OutOfOrder => "extents are out of order",
            Self::BeyondEnd => "an extent lies past the end of the file",
            Self::UnknownFlags => "an extent has unknown flags",
            Self::NotPreservable => "an extent lies outside the memory that is preserved",
            Self::InUse => "an extent names frames that are in use",
        })
    }
}

/// The next thing that a handover says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A filesystem begins; its inodes follow.
    Filesystem(Filesystem<'a>),
    /// An inode begins; its content follows.
    Inode(Inode),
    /// A name in the directory that was begun last. At most 255 bytes, otherwise unchecked.
    Entry {
        /// The inode that it leads to.
        ino: u64,
        /// The name.
        name: &'a [u8],
    },
    /// Where the symbolic link leads that was begun last.
    Target(&'a [u8]),
    /// Content of the file that was begun last. Its frames are named here and nowhere else.
    Extent(Extent),
    /// Content of the file that was begun last, not to be used.
    Rejected(Extent, ExtentFault),
    /// An extended attribute of the inode that was begun last; they come before its content.
    Xattr {
        /// Its name: 1 to 255 bytes, otherwise unchecked.
        name: &'a [u8],
        /// Its value: at most 65,536 bytes.
        value: &'a [u8],
    },
    /// Checksums of consecutive windows of the file that was begun last; they come after its content, in the order of the windows.
    /// Each is CRC-32C over the pages of [`SUM_PAGES`](crate::SUM_PAGES) that hold data, in the order of their index.
    Sums {
        /// The first window.
        first: u32,
        /// One for each window, at most [`SUMS_AT_ONCE`](crate::SUMS_AT_ONCE).
        sums: &'a [U32],
    },
    /// What was cached of a disk begins; its files follow.
    Cache(CacheOf<'a>),
    /// A file of which something was cached; its pages follow, in the order of their index.
    CachedFile(CachedFile),
    /// Pages of that file. Their frames are named here and nowhere else.
    CachedPages {
        /// Where they begin.
        pages: CachedPages,
        /// CRC-32C of each page, at most [`SUMS_AT_ONCE`](crate::SUMS_AT_ONCE).
        sums: &'a [U32],
    },
    /// Frames that are to be kept until this kernel is up.
    Kept(PfnRange),
}
