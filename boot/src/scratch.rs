//! The memory that the boot stage may write.
//!
//! At the first boot it sets aside an area of scratch memory, and from then on every parcel hands that area on. All that
//! lies outside may be a page that a kernel preserved, so nothing is allocated anywhere else, whatever happens.

use bootproto::memmap::MemoryMap;
use bootproto::{Jump, PAGE_SIZE, Span};
use core::fmt;

const MIB: u64 = 1 << 20;

/// Why there is no memory to boot in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScratchError {
    /// The boot stage itself does not lie in memory, according to the memory map.
    ImageNotInMemory(Span),
    /// The scratch area is full.
    Full {
        /// How many bytes were wanted.
        wanted: u64,
        /// How many bytes are left.
        left: u64,
    },
}

impl fmt::Display for ScratchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScratchError::ImageNotInMemory(image) => {
                write!(f, "the memory map has no memory for the boot stage at {image}")
            }
            ScratchError::Full { wanted, left } => {
                write!(f, "not enough memory: {wanted} bytes wanted, {left} left in the scratch area")
            }
        }
    }
}

impl core::error::Error for ScratchError {}

/// Chooses the area at a first boot: from the start of the boot stage's `image` as much as a kernel with its early heap
/// wants, 8 MiB or a quarter of small memory, and a 64th of all memory for what grows with it (records of frames).
pub fn choose(map: &MemoryMap, image: Span) -> Result<Span, ScratchError> {
    let around = map.ram().find(|ram| ram.contains(image)).ok_or(ScratchError::ImageNotInMemory(image))?;
    let memory = map.ram_bytes();
    let len = (memory / 4).min(8 * MIB) + memory / 64;
    let end = image.start.saturating_add(len.next_multiple_of(PAGE_SIZE));
    Ok(Span::between(image.start, around.end().map_or(end, |limit| end.min(limit))))
}

/// Whether an area that was handed on can be used: whole pages of memory with the boot stage's `image` among them.
pub fn is_usable(map: &MemoryMap, image: Span, area: Span) -> bool {
    area.is_aligned_to(PAGE_SIZE) && area.contains(image) && map.is_ram(area)
}

/// Whether what a jump reads first lies in memory that the boot stage does not write: outside `area`.
pub fn is_untouched(map: &MemoryMap, area: Span, jump: &Jump) -> bool {
    [jump.page_tables, jump.code, jump.moves].into_iter().all(|start| {
        let page = Span { start, len: PAGE_SIZE };
        let outside = page.end() <= Some(area.start) || area.end().is_some_and(|end| end <= start);
        outside && page.is_aligned_to(PAGE_SIZE) && map.is_ram(page)
    })
}

/// Gives out the area page by page, upward from the end of the boot stage, and takes nothing back.
///
/// It knows addresses only; writing there is the business of whoever asked.
#[derive(Debug)]
pub struct Bump {
    next: u64,
    end: u64,
}

impl Bump {
    /// Starts behind `image` in `area`; both are whole pages.
    pub fn behind(image: Span, area: Span) -> Bump {
        let end = area.end().unwrap_or(area.start);
        Bump { next: image.end().unwrap_or(end).min(end), end }
    }

    /// The address of `len` bytes of whole pages.
    pub fn allocate(&mut self, len: u64) -> Result<u64, ScratchError> {
        let left = self.end - self.next;
        let start = self.next;
        len.checked_next_multiple_of(PAGE_SIZE)
            .filter(|&len| len <= left)
            .map(|len| {
                self.next += len;
                start
            })
            .ok_or(ScratchError::Full { wanted: len, left })
    }

    /// The first address that was not given out.
    pub fn next(&self) -> u64 {
        self.next
    }
}
