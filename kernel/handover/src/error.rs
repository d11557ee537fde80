//! Why a handover is refused, and why one could not be written.

use core::fmt;
use frames::{Pfn, PhysAddr};

/// Why a handover is refused as a whole. The answer to each is an ordinary boot, with this in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverError {
    /// The root's address is not that of a frame that could have been preserved.
    Root(PhysAddr),
    /// The root does not begin as one.
    Magic,
    /// It needs a newer reader.
    TooNew {
        /// Its version.
        version: u32,
        /// The oldest reader that it allows.
        min_reader: u32,
    },
    /// It is older than anything that this reader knows.
    TooOld {
        /// Its version.
        version: u32,
    },
    /// The bytes of a frame are not those that were written.
    Checksum {
        /// Which frame of the chain.
        sequence: u32,
    },
    /// A link of the chain leads to no frame that could have been preserved.
    Link {
        /// Which frame of the chain.
        sequence: u32,
        /// Where it should lie.
        address: PhysAddr,
    },
    /// The chain comes back to a frame that it had already.
    Cycle {
        /// That frame.
        frame: Pfn,
    },
    /// A frame of the chain says that it is another one.
    Sequence {
        /// Which frame this should be.
        expected: u32,
        /// Which one it says it is.
        found: u32,
    },
    /// The length does not agree with the number of frames.
    Length {
        /// Bytes of payload, as the root tells.
        length: u64,
        /// Frames, as the root tells.
        frames: u32,
    },
    /// Something reaches past the end of the section or of the handover.
    Truncated {
        /// Where it begins, in bytes of payload.
        at: u64,
    },
    /// A section that may not be passed over, of a kind that this reader does not know.
    Section {
        /// Its kind.
        kind: u32,
    },
    /// A field has a value that it cannot have.
    Field {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: u64,
        /// Where its structure ends, in bytes of payload.
        at: u64,
    },
    /// It has more of something than anybody has.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are taken.
        limit: u64,
    },
    /// There is no memory for the bookkeeping of the reader.
    NoMemory,
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(address) => write!(f, "handover root {address:?} is not in preserved memory"),
            Self::Magic => f.write_str("handover root has no magic"),
            Self::TooNew { version, min_reader } => {
                write!(
                    f,
                    "handover version {version} needs a reader of version {min_reader}, this is {}",
                    crate::VERSION
                )
            }
            Self::TooOld { version } => {
                write!(f, "handover version {version} is older than {}, the oldest that is read", crate::OLDEST_READ)
            }
            Self::Checksum { sequence } => write!(f, "handover frame {sequence} fails its checksum"),
            Self::Link { sequence, address } => {
                write!(f, "handover frame {sequence} would lie at {address:?}, outside preserved memory")
            }
            Self::Cycle { frame } => write!(f, "handover chain comes back to {frame:?}"),
            Self::Sequence { expected, found } => write!(f, "handover frame {expected} says that it is number {found}"),
            Self::Length { length, frames } => write!(f, "handover of {length} bytes does not fit {frames} frames"),
            Self::Truncated { at } => write!(f, "handover is cut off at byte {at}"),
            Self::Section { kind } => write!(f, "handover has a section of unknown kind {kind}"),
            Self::Field { what, value, at } => write!(f, "handover: {what} is {value:#x} (before byte {at})"),
            Self::TooMany { what, limit } => write!(f, "handover has more than {limit} {what}"),
            Self::NoMemory => f.write_str("no memory to read the handover"),
        }
    }
}

impl core::error::Error for HandoverError {}

/// Why a handover could not be written. The kernel that tried goes on as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// No frame, or no memory for the list of frames.
    NoMemory,
    /// A label, name, target or build is longer than the format allows.
    TooLong {
        /// Which.
        what: &'static str,
        /// Its length.
        length: usize,
    },
    /// An item came where the format has no place for it, such as an entry outside a directory.
    Misplaced(&'static str),
    /// This version is not written here.
    Version(u32),
    /// The version that is being written has no place for something that must not be lost.
    NeedsVersion {
        /// What it is.
        what: &'static str,
        /// The version that has.
        version: u32,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory for the handover"),
            Self::TooLong { what, length } => write!(f, "{what} of {length} bytes is too long for the handover"),
            Self::Misplaced(what) => write!(f, "{what} out of place in the handover"),
            Self::Version(version) => write!(f, "handover version {version} cannot be written here"),
            Self::NeedsVersion { what, version } => write!(f, "{what} can only be handed over in version {version}"),
        }
    }
}

impl core::error::Error for WriteError {}
