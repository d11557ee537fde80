//! What the page cache asks of a filesystem.

use core::fmt;
use frames::{Frame, Page};

use crate::inherited::Identity;

/// Why a page could not be filled or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FillError {
    /// The disk failed at this sector.
    Device {
        /// First sector of the request that failed.
        sector: u64,
    },
    /// The disk was reset in the middle of it.
    Reset,
    /// The disk does not answer any more.
    DeadDevice,
    /// The filesystem contradicts itself.
    Corrupt {
        /// What is wrong.
        what: &'static str,
        /// The number that is wrong.
        value: u64,
    },
    /// Nothing can be written here.
    ReadOnly,
    /// No frame could be had for the page.
    NoMemory,
    /// The file, or its filesystem, is not known any more.
    Unmounted,
    /// The position is past what a page index can name.
    TooLarge,
}

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device { sector } => write!(f, "I/O error at sector {sector}"),
            Self::Reset => f.write_str("the disk was reset in the middle of it"),
            Self::DeadDevice => f.write_str("the disk does not answer"),
            Self::Corrupt { what, value } => write!(f, "filesystem is damaged: {what} ({value})"),
            Self::ReadOnly => f.write_str("read-only filesystem"),
            Self::NoMemory => f.write_str("out of memory"),
            Self::Unmounted => f.write_str("filesystem is not mounted"),
            Self::TooLarge => f.write_str("file too large"),
        }
    }
}

impl core::error::Error for FillError {}

/// A filesystem, as the page cache sees it: one object for each mount. It is called without a lock of the cache held.
pub trait Backing: Send + Sync {
    /// Fill `pages`, which are pages `first..` of inode `ino`: every byte of each, holes and what is past the end of the file with
    /// zeros. All disk requests should go out together. After an error the bytes are unspecified, and none of the pages
    /// is used.
    fn fill(&self, ino: u64, first: u32, pages: &mut [Frame]) -> Result<(), FillError>;

    /// What the filesystem is told by after a kexec; `None` where nothing that is cached of it can be handed over. It is asked with
    /// the cache locked.
    fn identity(&self) -> Option<Identity> {
        None
    }

    /// Write `pages`, which are pages `first..` of inode `ino`: neighbours, that go out together. What of them lies past the end
    /// of the file need not be written. Room on the disk was found when they were changed, and memory may be short, so this
    /// should not allocate. After an error any of the pages may have been written; they are written again some time.
    ///
    /// It may read through the page cache, but not write, truncate, forget, invalidate or sync there: all of these wait until the
    /// pages have arrived.
    fn write(&self, ino: u64, first: u32, pages: &[&Page]) -> Result<(), FillError>;
}
