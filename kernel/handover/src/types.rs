//! What a handover says, as values: the same [`Item`]s go into a writer and come out of a reader.

use crate::layout::{EXTENT_PFN_BITS, EXTENT_PREALLOCATED, ExtentRecord};
use core::fmt;
use frames::{Pfn, PfnRange};

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
}
