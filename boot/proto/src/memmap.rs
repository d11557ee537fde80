//! The machine's memory map in its one normal form.
//!
//! Firmware may list memory in any order, overlapping and unaligned. [`MemoryMap::normalise`] makes of that a sorted
//! list of disjoint, page-aligned, merged ranges. Normalising such a list again changes nothing, which is why the
//! map can be handed from kernel to kernel any number of times: generation 1,000 sees what generation 0 saw.

use crate::{PAGE_SIZE, Span};
use core::fmt;

/// The most ranges that a map may have, before and after normalising. QEMU's q35 has about ten.
pub const MAX_RANGES: usize = 128;

/// No x86 processor has physical addresses of more than 52 bits.
const ADDRESS_LIMIT: u64 = 1 << 52;

/// What a range of physical memory is, with the numbers of the E820 map (ACPI specification, section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryType(pub u32);

impl MemoryType {
    /// Ordinary memory.
    pub const RAM: MemoryType = MemoryType(1);
    /// Not to be touched: firmware or devices.
    pub const RESERVED: MemoryType = MemoryType(2);
    /// Memory with ACPI tables.
    pub const ACPI: MemoryType = MemoryType(3);
    /// Memory that the firmware keeps for itself.
    pub const NVS: MemoryType = MemoryType(4);

    /// Which of two overlapping claims holds: anything is more than RAM, then the higher number.
    fn rank(self) -> u32 {
        match self {
            MemoryType::RAM => 0,
            MemoryType(other) => other.saturating_add(1),
        }
    }

    /// Whether there is memory behind the addresses, as opposed to devices.
    pub fn is_memory(self) -> bool {
        matches!(self, MemoryType::RAM | MemoryType::ACPI | MemoryType::NVS)
    }
}

/// One range of the map: `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// The first byte.
    pub start: u64,
    /// The first byte after the range.
    pub end: u64,
    /// What it is.
    pub kind: MemoryType,
}

impl MemoryRange {
    /// A range of nothing.
    pub const EMPTY: MemoryRange = MemoryRange { start: 0, end: 0, kind: MemoryType::RESERVED };

    /// The range as a span, without its type.
    pub fn span(&self) -> Span {
        Span::between(self.start, self.end)
    }

    /// The whole pages of RAM in the range, or all pages that anything else touches.
    fn page_aligned(self) -> MemoryRange {
        let (start, end) = match self.kind {
            MemoryType::RAM => (self.start.next_multiple_of(PAGE_SIZE), self.end - self.end % PAGE_SIZE),
            _ => (self.start - self.start % PAGE_SIZE, self.end.next_multiple_of(PAGE_SIZE)),
        };
        MemoryRange { start, end, ..self }
    }
}

/// Why a memory map was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// More than [`MAX_RANGES`] ranges, as listed or once overlaps were resolved.
    TooManyRanges,
    /// The range with this number ends beyond the 52 bits of a physical address, or before it starts.
    BeyondAddressSpace(usize),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::TooManyRanges => write!(f, "memory map has more than {MAX_RANGES} ranges"),
            MapError::BeyondAddressSpace(index) => {
                write!(f, "memory map entry {index} is not within the physical address space")
            }
        }
    }
}

impl core::error::Error for MapError {}

/// A normalised memory map: sorted, disjoint, page-aligned, neighbours of one type merged.
#[derive(Clone)]
pub struct MemoryMap {
    ranges: [MemoryRange; MAX_RANGES],
    len: usize,
}

impl MemoryMap {
    /// Brings a list of ranges into normal form.
    ///
    /// RAM is cut down to whole pages, everything else widened to them; where two ranges overlap, RAM yields, then the
    /// lower type number. Addresses that no range covers stay uncovered.
    pub fn normalise(listed: impl IntoIterator<Item = MemoryRange>) -> Result<MemoryMap, MapError> {
        let mut claims = MemoryMap::empty();
        for (index, range) in listed.into_iter().enumerate() {
            if range.end > ADDRESS_LIMIT || range.end < range.start {
                return Err(MapError::BeyondAddressSpace(index));
            }
            let aligned = range.page_aligned();
            if range.start < range.end && aligned.start < aligned.end {
                claims.push_merging(aligned)?;
            }
        }
        claims.resolved()
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> &[MemoryRange] {
        self.ranges.get(..self.len).unwrap_or_default()
    }

    /// The ranges of RAM, ascending.
    pub fn ram(&self) -> impl Iterator<Item = Span> + '_ {
        self.ranges().iter().filter(|range| range.kind == MemoryType::RAM).map(MemoryRange::span)
    }

    /// How much RAM there is, in bytes.
    pub fn ram_bytes(&self) -> u64 {
        self.ram().map(|span| span.len).sum()
    }

    /// The first address above all RAM; 0 if there is none.
    pub fn ram_end(&self) -> u64 {
        self.ram().filter_map(Span::end).max().unwrap_or(0)
    }

    /// Whether all of `span` is RAM.
    pub fn is_ram(&self, span: Span) -> bool {
        self.ram().any(|ram| ram.contains(span))
    }

    const fn empty() -> MemoryMap {
        MemoryMap { ranges: [MemoryRange::EMPTY; MAX_RANGES], len: 0 }
    }

    fn push(&mut self, range: MemoryRange) -> Result<(), MapError> {
        let slot = self.ranges.get_mut(self.len).ok_or(MapError::TooManyRanges)?;
        *slot = range;
        self.len += 1;
        Ok(())
    }

    /// Appends a range, to the last one if it goes on where that ends and they agree.
    fn push_merging(&mut self, range: MemoryRange) -> Result<(), MapError> {
        let last = self.len.checked_sub(1).and_then(|last| self.ranges.get_mut(last));
        match last {
            Some(last) if last.end == range.start && last.kind == range.kind => {
                last.end = range.end;
                Ok(())
            }
            _ => self.push(range),
        }
    }

    /// Walks the boundaries of the claims upward and asks at each which claim holds until the next.
    fn resolved(&self) -> Result<MemoryMap, MapError> {
        let mut out = MemoryMap::empty();
        let mut cursor = self.next_boundary(None);
        while let Some(start) = cursor {
            let next = self.next_boundary(Some(start));
            let strongest = self
                .ranges()
                .iter()
                .filter(|claim| claim.start <= start && start < claim.end)
                .max_by_key(|claim| claim.kind.rank());
            if let (Some(claim), Some(end)) = (strongest, next) {
                out.push_merging(MemoryRange { start, end, kind: claim.kind })?;
            }
            cursor = next;
        }
        Ok(out)
    }

    /// The lowest start or end of any range, above `after` if given.
    fn next_boundary(&self, after: Option<u64>) -> Option<u64> {
        self.ranges()
            .iter()
            .flat_map(|range| [range.start, range.end])
            .filter(|&boundary| after.is_none_or(|after| boundary > after))
            .min()
    }
}

impl PartialEq for MemoryMap {
    fn eq(&self, other: &MemoryMap) -> bool {
        self.ranges() == other.ranges()
    }
}

impl Eq for MemoryMap {}

impl fmt::Debug for MemoryMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}
