//! What a filesystem asks of a disk.
//!
//! Requests come in batches, because a disk is fast only when it has several in hand: everything in one call is put in
//! flight together, and the call returns when all of it is done. Nobody may hold a lock across these calls. Segments are
//! borrowed lists, so that whoever has no memory to spare can have them on the stack.

use core::fmt;

/// Bytes in a sector, the unit of addresses here (virtio 1.2, 5.2: always 512, whatever the disk's own block size).
pub const SECTOR_SIZE: usize = 512;

/// Read consecutive sectors from `sector` on into `segments`, one after the other.
#[derive(Debug)]
pub struct ReadRequest<'r, 'a> {
    /// The first sector.
    pub sector: u64,
    /// Where the bytes go; every segment is a whole number of sectors.
    pub segments: &'r mut [&'a mut [u8]],
}

/// Write `segments`, one after the other, to consecutive sectors from `sector` on.
#[derive(Clone, Copy, Debug)]
pub struct WriteRequest<'a> {
    /// The first sector.
    pub sector: u64,
    /// Where the bytes come from; every segment is a whole number of sectors.
    pub segments: &'a [&'a [u8]],
}

/// Why a disk did not do as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// The device reported an error for the request that begins at this sector.
    Io {
        /// First sector of the request.
        sector: u64,
    },
    /// The request reaches past the end of the disk.
    OutOfRange {
        /// First sector of the request.
        sector: u64,
        /// Sectors on the disk.
        sectors: u64,
    },
    /// The device takes no writes.
    ReadOnly,
    /// The device was reset in the middle of it, again and again; it may be better the next time.
    Reset,
    /// The device stopped answering, or answered with nonsense, and is not used any more.
    Dead,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { sector } => write!(f, "I/O error at sector {sector}"),
            Self::OutOfRange { sector, sectors } => {
                write!(f, "sector {sector} is past the end of a disk of {sectors}")
            }
            Self::ReadOnly => f.write_str("the disk is read-only"),
            Self::Reset => f.write_str("the disk was reset in the middle of it"),
            Self::Dead => f.write_str("the disk does not answer"),
        }
    }
}

impl core::error::Error for BlockError {}

/// What a disk has done since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockStats {
    /// Requests that read.
    pub reads: u64,
    /// Sectors read.
    pub sectors_read: u64,
    /// Requests that wrote.
    pub writes: u64,
    /// Sectors written.
    pub sectors_written: u64,
    /// Requests that failed.
    pub errors: u64,
}

/// A disk.
pub trait BlockDevice: Send + Sync {
    /// What the disk is called (`vda`).
    fn name(&self) -> &str;
    /// Its size in sectors.
    fn sectors(&self) -> u64;
    /// Whether writes are refused.
    fn read_only(&self) -> bool;
    /// Do all of `requests`, together. One of the failures is returned, after every request has come to rest; the bytes of
    /// a failed request are then unspecified.
    fn read(&self, requests: &mut [ReadRequest<'_, '_>]) -> Result<(), BlockError>;
    /// Do all of `requests`, together; errors as in [`BlockDevice::read`].
    fn write(&self, requests: &[WriteRequest<'_>]) -> Result<(), BlockError>;
    /// Everything written before is on stable storage when this returns.
    fn flush(&self) -> Result<(), BlockError>;
    /// Counters since boot.
    fn stats(&self) -> BlockStats;
}
