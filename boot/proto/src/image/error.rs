//! Why a file cannot be booted.

use super::MAX_SEGMENTS;
use crate::Span;
use core::fmt;

/// Why a file cannot be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It does not begin with the ELF magic.
    NotElf,
    /// It is an ELF file, but not a 64-bit little-endian one.
    WrongClass,
    /// It is for the machine with this ELF number.
    WrongMachine(u16),
    /// It is of this ELF type rather than a static executable.
    WrongType(u16),
    /// It ends before this byte, which its headers promise.
    Truncated(u64),
    /// Its program header table is not one.
    BadProgramHeaders,
    /// It has more than [`MAX_SEGMENTS`] segments to load.
    TooManySegments,
    /// It has nothing to load.
    NoSegments,
    /// The segment with this number has more bytes in the file than in memory.
    SegmentTooLong(usize),
    /// The segment with this number does not lie below 4 GiB.
    SegmentTooHigh(usize),
    /// The segment with this number overlaps the one before, or lies below it.
    SegmentsOverlap(usize),
    /// It has no PVH entry note.
    NoPvhNote,
    /// Its PVH entry is at this address, where it loads no code.
    BadEntry(u64),
    /// It wants memory outside the room that there is.
    NoRoom {
        /// What it wants.
        wanted: Span,
        /// What there is.
        room: Span,
    },
    /// It has no note for a seal.
    NoSeal,
    /// Its seal is neither blank nor whole.
    BadSeal,
    /// Its note on the handover versions that its kernel reads is blank, or makes no sense.
    BadVersions {
        /// The oldest version that it names.
        oldest: u32,
        /// The newest.
        newest: u32,
    },
    /// It has no room for what is to be said of its kernel.
    NoAbout,
    /// Its bytes are not those that were sealed.
    BadChecksum {
        /// The checksum in the seal.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::NotElf => write!(f, "not an ELF file"),
            ImageError::WrongClass => write!(f, "not a 64-bit little-endian ELF file"),
            ImageError::WrongMachine(machine) => {
                write!(f, "built for ELF machine {machine}, not for x86-64")
            }
            ImageError::WrongType(kind) => {
                write!(f, "ELF type {kind} is not a static executable")
            }
            ImageError::Truncated(needed) => write!(f, "truncated: needs {needed} bytes"),
            ImageError::BadProgramHeaders => write!(f, "bad program header table"),
            ImageError::TooManySegments => write!(f, "more than {MAX_SEGMENTS} segments"),
            ImageError::NoSegments => write!(f, "no segments to load"),
            ImageError::SegmentTooLong(index) => {
                write!(f, "segment {index} is longer in the file than in memory")
            }
            ImageError::SegmentTooHigh(index) => write!(f, "segment {index} is not below 4 GiB"),
            ImageError::SegmentsOverlap(index) => {
                write!(f, "segment {index} does not lie above the one before")
            }
            ImageError::NoPvhNote => write!(f, "no PVH entry note"),
            ImageError::BadEntry(entry) => write!(f, "no code at the entry {entry:#x}"),
            ImageError::NoRoom { wanted, room } => {
                write!(f, "wants memory at {wanted}, there is room at {room}")
            }
            ImageError::NoSeal => write!(f, "no seal"),
            ImageError::BadSeal => write!(f, "its seal is broken"),
            ImageError::BadVersions { oldest: 0, newest: 0 } => {
                write!(f, "does not say which handover versions it reads")
            }
            ImageError::BadVersions { oldest, newest } => write!(f, "reads no handover: versions {oldest} to {newest}"),
            ImageError::NoAbout => write!(f, "no notes on its kernel"),
            ImageError::BadChecksum { stored, computed } => {
                write!(f, "checksum is {computed:#010x}, should be {stored:#010x}")
            }
        }
    }
}

impl core::error::Error for ImageError {}

/// Why [`BootImage::parse`] failed: the file is wrong, or could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError<E> {
    /// The file cannot be booted.
    Image(ImageError),
    /// Reading it failed.
    Read(E),
}

impl<E> From<ImageError> for ParseError<E> {
    fn from(error: ImageError) -> Self {
        ParseError::Image(error)
    }
}
