//! What did not survive a handover, and why.

use alloc::vec::Vec;
use core::fmt;
use handover::{ExtentFault, SUM_PAGES};

/// Something that did not survive the handover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Casualty {
    /// Its path from the root of the filesystem; empty where no name leads to it.
    pub path: Vec<u8>,
    /// The inode that it is about.
    pub ino: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a [`Casualty`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file is quarantined: content of it cannot be where the handover says.
    Extent(ExtentFault),
    /// The file was quarantined before.
    Earlier,
    /// The name leads to an inode that is not there; it was left out.
    Dangling,
    /// The name cannot be one, or is there twice; it was left out.
    Name,
    /// The name would give a directory a second parent; it was left out.
    SecondParent,
    /// No name leads to the inode; it was left out.
    Unreachable,
    /// The inode's number is there twice or out of range; it was left out.
    Number,
    /// There is no root directory; the filesystem is empty.
    NoRoot,
    /// The file is quarantined: the pages of a window are not what they were when their checksum was taken.
    Sum {
        /// The window: 64 pages, counted by that many.
        window: u32,
    },
    /// The file is quarantined: frames of it were not set aside any more when they were claimed.
    Frames,
    /// An extended attribute cannot be one, is there twice, or found no memory; it was left out.
    Attribute,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Extent(fault) => return write!(f, "quarantined: {fault}"),
            Self::Sum { window } => {
                let first = u64::from(*window) * u64::from(SUM_PAGES);
                return write!(f, "quarantined: pages {first} to {} have changed", first + u64::from(SUM_PAGES) - 1);
            }
            Self::Frames => "quarantined: frames of it are not set aside",
            Self::Earlier => "quarantined by an earlier kernel",
            Self::Dangling => "left out: the inode is not there",
            Self::Name => "left out: not a name, or there twice",
            Self::SecondParent => "left out: the directory has another name",
            Self::Unreachable => "left out: no name leads to it",
            Self::Number => "left out: the inode's number is taken or out of range",
            Self::NoRoot => "there is no root directory",
            Self::Attribute => "an extended attribute was left out",
        })
    }
}

impl fmt::Display for Casualty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path[..] {
            b"" => write!(f, "inode {}: {}", self.ino, self.fault),
            path => write!(f, "{} (inode {}): {}", path.escape_ascii(), self.ino, self.fault),
        }
    }
}
