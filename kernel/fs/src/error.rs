//! What can go wrong when a file is named, read or changed: one meaning a variant, with the data that a person needs.

use crate::block::BlockError;
use cache::FillError;
use core::fmt;
use frames::FRAME_SIZE;

/// The result of an operation on a file.
pub type Result<T> = core::result::Result<T, Error>;

/// Why a file operation failed. What a user sees is `COMMAND: PATH: {error}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such name in the directory.
    NotFound,
    /// The name exists already.
    Exists,
    /// A directory is needed here, and this is none.
    NotADirectory,
    /// This is a directory, and something else is needed.
    IsADirectory,
    /// The operation is for regular files.
    NotAFile,
    /// This is not a symbolic link.
    NotASymlink,
    /// The directory has entries.
    NotEmpty,
    /// A name longer than 255 bytes, or a path longer than 4095.
    NameTooLong,
    /// An empty name, `.` or `..` where a new name is needed, or one with `/` or NUL in it; of an attribute, an empty one or one
    /// with NUL.
    InvalidName,
    /// More than 40 symbolic links on the way, or a directory moved into itself.
    Loop,
    /// The names lie on different filesystems.
    CrossDevice,
    /// The filesystem takes no changes.
    ReadOnly,
    /// Memory or disk space is used up.
    NoSpace,
    /// No frame could be had, even after reclaim.
    NoMemory,
    /// The position or size is beyond what this filesystem can store.
    FileTooLarge {
        /// The largest size, in bytes.
        limit: u64,
    },
    /// The inode has all the links that it can have.
    TooManyLinks,
    /// The filesystem is mounted on, or used by something else.
    Busy,
    /// The inode has no extended attribute of that name.
    NoSuchAttribute,
    /// The value is longer than an extended attribute's can be.
    ValueTooLong {
        /// The longest, in bytes.
        limit: usize,
    },
    /// The filesystem does not have this operation.
    Unsupported(&'static str),
    /// The disk holds no filesystem of the kind that was to be mounted.
    WrongFormat {
        /// The kind that was wanted.
        wanted: &'static str,
        /// What stands where its magic number should be.
        magic: u64,
    },
    /// The filesystem uses features without which it cannot be understood, and which are not known here.
    Feature {
        /// The first of them, by its usual name.
        name: &'static str,
        /// All of them, as bits of the superblock's word.
        bits: u32,
    },
    /// What is on the disk contradicts itself.
    Corrupt {
        /// What is wrong, in words.
        what: &'static str,
        /// The number that is wrong (a block, an inode, a length).
        value: u64,
    },
    /// The content of this file did not survive a handover; other files are not touched by it.
    Quarantined,
    /// The disk failed.
    Device(BlockError),
    /// The filesystem is not mounted any more.
    Unmounted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such file or directory"),
            Self::Exists => f.write_str("file exists"),
            Self::NotADirectory => f.write_str("not a directory"),
            Self::IsADirectory => f.write_str("is a directory"),
            Self::NotAFile => f.write_str("not a regular file"),
            Self::NotASymlink => f.write_str("not a symbolic link"),
            Self::NotEmpty => f.write_str("directory not empty"),
            Self::NameTooLong => f.write_str("file name too long"),
            Self::InvalidName => f.write_str("invalid file name"),
            Self::Loop => f.write_str("too many levels of symbolic links"),
            Self::CrossDevice => f.write_str("not on the same filesystem"),
            Self::ReadOnly => f.write_str("read-only filesystem"),
            Self::NoSpace => f.write_str("no space left"),
            Self::NoMemory => f.write_str("out of memory"),
            Self::FileTooLarge { limit } => write!(f, "file too large (the limit is {limit} bytes)"),
            Self::TooManyLinks => f.write_str("too many links"),
            Self::NoSuchAttribute => f.write_str("no such attribute"),
            Self::ValueTooLong { limit } => write!(f, "value too long (the limit is {limit} bytes)"),
            Self::Busy => f.write_str("busy"),
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
            Self::WrongFormat { wanted, magic } => {
                write!(f, "no {wanted} filesystem (magic number {magic:#x})")
            }
            Self::Feature { name, bits } => {
                write!(f, "filesystem feature not supported: {name} (bits {bits:#x})")
            }
            Self::Corrupt { what, value } => write!(f, "filesystem is damaged: {what} ({value})"),
            Self::Quarantined => f.write_str("content was damaged in the handover"),
            Self::Device(error) => write!(f, "{error}"),
            Self::Unmounted => f.write_str("filesystem is not mounted"),
        }
    }
}

impl core::error::Error for Error {}

impl From<BlockError> for Error {
    fn from(error: BlockError) -> Self {
        Self::Device(error)
    }
}

impl From<FillError> for Error {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Device { sector } => Self::Device(BlockError::Io { sector }),
            FillError::Reset => Self::Device(BlockError::Reset),
            FillError::DeadDevice => Self::Device(BlockError::Dead),
            FillError::Corrupt { what, value } => Self::Corrupt { what, value },
            FillError::ReadOnly => Self::ReadOnly,
            FillError::NoMemory => Self::NoMemory,
            FillError::Unmounted => Self::Unmounted,
            // The page cache numbers pages with 32 bits.
            FillError::TooLarge => Self::FileTooLarge { limit: FRAME_SIZE as u64 * (1 << 32) },
        }
    }
}
