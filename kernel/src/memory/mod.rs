//! From the boot stage's memory map to `frames::Memory` and the kernel heap.
//!
//! [`Survey`] reads the map and keeps the list of what may be used. Whatever has to exist before there are frames, the
//! records of the frames among it, is cut from the scratch area, which holds nothing that a previous kernel left for us.
//! [`Survey::install`] then hands the rest over and ends the survey.

mod early;
pub mod heap;
mod preserved;
mod slab;

use alloc::vec::Vec;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use bootproto::Span;
use core::fmt;
use core::ptr::NonNull;
use frames::{FRAME_SIZE, FrameMeta, Layout, LayoutError, Memory, Pfn, PfnRange, PhysAddr};
use handover::Handover;

use crate::arch::paging;

/// Why there is no memory to work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// The scratch area does not hold what is needed before there are frames.
    ScratchFull {
        /// Frames asked for in one piece.
        wanted: u64,
    },
    /// The ranges contradict each other.
    Layout(LayoutError),
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ScratchFull { wanted } => write!(f, "no {wanted} frames in one piece in the scratch area"),
            Self::Layout(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MemoryError {}

/// What the map holds, in frames. All of it together is everything that the machine calls memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// The kernel image, its page tables, its stack: all that the boot stage keeps for it.
    pub boot: u64,
    /// The records of the frames.
    pub records: u64,
    /// Early heap outside the image.
    pub early_heap: u64,
    /// Frame 0, which is never handed out.
    pub withheld: u64,
    /// What the frame allocator has: free, owned and set aside.
    pub managed: u64,
}

impl Census {
    /// All frames of memory.
    pub fn total(&self) -> u64 {
        self.boot + self.records + self.early_heap + self.withheld + self.managed
    }
}

/// What [`Survey::install`] made.
#[derive(Clone, Copy, Debug)]
pub struct Installed {
    /// The frames.
    pub memory: &'static Memory,
    /// Where every frame of the map went.
    pub census: Census,
    /// What was set aside at the top for donation; may be less than asked for, and empty.
    pub carve_out: PfnRange,
    /// Frames that have records for memory that devices bring; may be less than asked for.
    pub annex: u32,
}

/// The memory map while it is being divided. Ranges are sorted and disjoint.
#[derive(Clone, Debug)]
pub struct Survey {
    usable: Vec<PfnRange>,
    scratch: PfnRange,
    census: Census,
}

impl Survey {
    /// Reads the boot stage's map. Only whole frames count; frame 0 is left out, since nobody may own it.
    pub fn new(regions: &[MemoryRegion], scratch: Span) -> Self {
        let mut usable = Vec::new();
        let mut census = Census::default();
        for region in regions {
            let range = whole_frames(region.start, region.end);
            match region.kind {
                MemoryRegionKind::Usable => {
                    let without_zero = PfnRange::new(range.start.max(Pfn::new(1)), range.end());
                    census.withheld += range.count - without_zero.count;
                    if !without_zero.is_empty() {
                        usable.push(without_zero);
                    }
                }
                MemoryRegionKind::Bootloader => census.boot += range.count,
                _ => {}
            }
        }
        usable.sort_unstable();
        Self { usable, scratch: whole_frames(scratch.start, scratch.start.saturating_add(scratch.len)), census }
    }

    /// Takes `frames` frames out of the usable part of the scratch area, from its bottom.
    fn take_scratch(&mut self, frames: u64) -> Result<PfnRange, MemoryError> {
        let taken = self.usable.iter_mut().find_map(|range| {
            let inside = range.intersect(self.scratch);
            // What the boot stage used lies inside the scratch area, so what is left behind it begins a range.
            (inside.start == range.start && inside.count >= frames).then(|| {
                let taken = PfnRange { start: range.start, count: frames };
                *range = PfnRange::new(taken.end(), range.end());
                taken
            })
        });
        taken.ok_or(MemoryError::ScratchFull { wanted: frames })
    }

    /// From frame 0 to the end of memory, holes included.
    fn span(&self) -> PfnRange {
        let end = self.usable.iter().map(|range| range.end()).max().unwrap_or(Pfn::new(0));
        PfnRange::new(Pfn::new(0), end)
    }

    /// How many of `annex` more frames get records, and how many frames all records take.
    fn records(&self, annex: u64) -> (u32, u64) {
        let frames = |records: u64| Memory::meta_bytes(records).div_ceil(FRAME_SIZE as u64);
        let span = self.span().count;
        let room = (self.scratch.count / 4).min(self.usable_scratch().saturating_sub(frames(span)) / 2);
        let most = room * FRAME_SIZE as u64 / Memory::meta_bytes(1);
        let annex = u32::try_from(annex.min(most)).unwrap_or(0);
        (annex, frames(span + u64::from(annex)))
    }

    /// Frames of the scratch area in its largest piece that is not in use.
    fn usable_scratch(&self) -> u64 {
        self.usable.iter().map(|range| range.intersect(self.scratch).count).max().unwrap_or(0)
    }

    /// Bytes of the scratch area that nobody needs before there are frames, when `annex` more frames get records. Where memory has a
    /// large hole these are few, because the hole's frames have records too.
    pub fn spare_scratch(&self, annex: u64) -> u64 {
        let (_, records) = self.records(annex);
        self.usable_scratch().saturating_sub(records).saturating_mul(FRAME_SIZE as u64)
    }

    /// Makes the early heap larger by `bytes`, for a handover that takes more than the built-in room to read.
    ///
    /// # Errors
    /// [`MemoryError::ScratchFull`].
    pub fn extend_early_heap(&mut self, bytes: u64) -> Result<(), MemoryError> {
        let frames = bytes.div_ceil(FRAME_SIZE as u64);
        let range = self.take_scratch(frames)?;
        let start = window(range.start)?;
        // SAFETY: the frames were usable and are now on nobody's list but the early heap's; the window maps them.
        if unsafe { heap::extend_early(start, frames as usize * FRAME_SIZE) } {
            self.census.early_heap += frames;
        }
        Ok(())
    }

    /// Hands everything over to the frame allocator, and the heap to the frames.
    ///
    /// `handover` is what the previous kernel left for this one; `carve_out` is how many frames, in one piece, are
    /// kept for donation. What has to be preserved is never part of the carve-out, which may then be smaller; cached pages may lie
    /// in it, so that it stays where it was. `annex` is how many more
    /// frames get records, for memory that devices bring; those take a quarter of the scratch area at most, and half of
    /// what is left of it.
    ///
    /// # Errors
    /// If the scratch area is too small or the ranges make no sense.
    pub fn install(
        mut self,
        handover: Option<&Handover>,
        carve_out: u64,
        annex: u64,
    ) -> Result<Installed, MemoryError> {
        let span = self.span();
        let heap = Memory::heap_bytes(span.count);
        if self.census.early_heap == 0 && heap > early::BUILT_IN as u64 / 2 {
            self.extend_early_heap(heap * 2)?;
        }
        let (annex, records) = self.records(annex);
        let room = self.take_scratch(records)?;
        self.census.records = records;
        self.census.managed = self.usable.iter().map(|range| range.count).sum();

        let mut set_aside = room_for_ranges(handover);
        set_aside.extend(handover.into_iter().flat_map(Handover::needed));
        let carve_out = self.room_for_carve_out(carve_out, &set_aside);
        let cached = handover.into_iter().flat_map(Handover::cached);
        set_aside.extend(cached.flat_map(|range| without(range, carve_out)));
        if !carve_out.is_empty() {
            set_aside.push(carve_out);
        }
        set_aside.sort_unstable();
        let layout = Layout { span, scratch: self.scratch, usable: &self.usable, set_aside: &set_aside, annex };
        let start = window(Pfn::new(0))?;
        let records = window(room.start)?.cast::<FrameMeta>();
        // SAFETY: the usable ranges are memory that the boot stage did not use, or used and needs no more, the window maps all of it, and nobody
        // has been given any of it. The records' room was just taken out of those ranges and is of the size asked for.
        let memory = unsafe { Memory::install(start, records, &layout) }.map_err(MemoryError::Layout)?;
        heap::init(memory);
        Ok(Installed { memory, census: self.census, carve_out, annex })
    }

    /// `count` frames in one piece, as high as there are, outside the scratch area and `preserved` (sorted); the largest piece
    /// where none is so large.
    fn room_for_carve_out(&self, count: u64, preserved: &[PfnRange]) -> PfnRange {
        // Whatever is asked for, an eighth of what is not scratch stays ours: tmpfs and the next kexec need some of it.
        let ordinary = |range: &PfnRange| range.count - range.intersect(self.scratch).count;
        let ordinary: u64 = self.usable.iter().map(ordinary).sum();
        let taken: u64 = preserved.iter().map(|range| range.count).sum();
        let count = count.min((ordinary - ordinary / 8).saturating_sub(taken));
        let mut best = PfnRange { start: Pfn::new(0), count: 0 };
        let mut consider = |from: Pfn, to: Pfn| {
            let gap = PfnRange::new(from, to);
            let fits = gap.count.min(count);
            if fits > 0 && fits >= best.count {
                best = PfnRange::new(Pfn::new(gap.end().get() - fits), gap.end());
            }
        };
        // Nothing preserved lies in the scratch area, so it has one place among the holes.
        let (below, above) = preserved.split_at(preserved.partition_point(|range| range.start < self.scratch.start));
        let holes = || below.iter().chain([&self.scratch]).chain(above);
        for usable in &self.usable {
            let mut from = usable.start;
            for hole in holes().map(|hole| hole.intersect(*usable)).filter(|hole| !hole.is_empty()) {
                consider(from, hole.start);
                from = hole.end();
            }
            consider(from, usable.end());
        }
        best
    }
}

/// A list with room for all ranges of a handover, a carve-out, and the ranges that its edges cut in two: it need not grow.
fn room_for_ranges(handover: Option<&Handover>) -> Vec<PfnRange> {
    const EDGES: usize = 2;
    let ranges = handover.map_or(0, |handover| handover.needed().count() + handover.cached().count());
    Vec::with_capacity(ranges + 1 + EDGES)
}

/// The parts of `range` that are outside `hole`.
fn without(range: PfnRange, hole: PfnRange) -> impl Iterator<Item = PfnRange> {
    let parts = match hole.is_empty() {
        true => [range, PfnRange { count: 0, ..range }],
        false => [
            range.intersect(PfnRange::new(range.start, hole.start)),
            range.intersect(PfnRange::new(hole.end(), range.end())),
        ],
    };
    parts.into_iter().filter(|part| !part.is_empty())
}

/// The frames that lie wholly between two addresses.
fn whole_frames(start: u64, end: u64) -> PfnRange {
    let first = Pfn::new(start.div_ceil(FRAME_SIZE as u64));
    PfnRange::new(first, PhysAddr::new(end).pfn())
}

/// Where the window shows a frame.
fn window(frame: Pfn) -> Result<NonNull<u8>, MemoryError> {
    paging::window(frame.addr())
        .and_then(|address| NonNull::new(address as *mut u8))
        .ok_or(MemoryError::Layout(LayoutError::Span))
}
