//! Names of places in physical memory. Names only: nothing here gives access to a byte.

use core::fmt;

/// Bytes in a frame.
pub const FRAME_SIZE: usize = 4096;
/// log2 of [`FRAME_SIZE`].
pub const FRAME_SHIFT: u32 = 12;

/// The bytes of one frame.
pub type Page = [u8; FRAME_SIZE];

/// A physical address, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(u64);

impl PhysAddr {
    /// The address `value`.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The address as a number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The frame that this address lies in.
    pub const fn pfn(self) -> Pfn {
        Pfn(self.0 >> FRAME_SHIFT)
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The number of a frame: a name that gives no access.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(u64);

impl Pfn {
    /// Frame number `value`.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address of the frame's first byte. Numbers past the end of a 64-bit address space saturate.
    pub const fn addr(self) -> PhysAddr {
        PhysAddr(self.0.saturating_mul(FRAME_SIZE as u64))
    }

    /// The frame `frames` further up.
    pub const fn offset(self, frames: u64) -> Self {
        Self(self.0.saturating_add(frames))
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pfn {:#x}", self.0)
    }
}

/// `count` consecutive frames from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PfnRange {
    /// The first frame.
    pub start: Pfn,
    /// How many.
    pub count: u64,
}

impl PfnRange {
    /// The frames from `start` up to, not including, `end`; empty where `end` is not above `start`.
    pub const fn new(start: Pfn, end: Pfn) -> Self {
        Self { start, count: end.0.saturating_sub(start.0) }
    }

    /// The first frame after the range.
    pub const fn end(self) -> Pfn {
        self.start.offset(self.count)
    }

    /// Whether there is no frame in it.
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    /// Whether `pfn` is one of these frames.
    pub const fn contains(self, pfn: Pfn) -> bool {
        self.start.0 <= pfn.0 && pfn.0 < self.end().0
    }

    /// Whether all of `other` is in this range.
    pub const fn covers(self, other: PfnRange) -> bool {
        other.count == 0 || (self.start.0 <= other.start.0 && other.end().0 <= self.end().0)
    }

    /// The frames that both ranges have.
    pub fn intersect(self, other: PfnRange) -> PfnRange {
        PfnRange::new(self.start.max(other.start), self.end().min(other.end()))
    }
}

/// The two kinds of memory that a kexec makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// The scratch area, where the next kernel finds room. It holds nothing that outlives a kexec.
    Scratch,
    /// All other memory of our own.
    Normal,
    /// Memory that is not ours: see [`Memory::annex`](crate::Memory::annex).
    Annex,
}

/// Where an allocation may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zones {
    /// Anywhere, the scratch area first: for what dies with this kernel.
    Ephemeral,
    /// Outside the scratch area: for what the next kernel is to find.
    Preservable,
}
