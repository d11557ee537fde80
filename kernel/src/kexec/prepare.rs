//! Everything that a jump needs, made while the kernel can still say no.

use super::image::Image;
use super::jump;
use super::moves::{List, Moves, OutOfFrames, allocate, allocate_zeroed, put_word};
use alloc::sync::Arc;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use bootproto::memmap::{MapError, MemoryMap, MemoryRange, MemoryType};
use bootproto::parcel::{COMMAND_LINE_MAX, EncodeError, PARCEL_MAX, Parcel};
use bootproto::pvh::{MemmapEntry, Module, START_INFO_MAGIC, START_INFO_VERSION, StartInfo};
use bootproto::{Jump, PAGE_SIZE, Span};
use cache::PageCache;
use core::fmt;
use frames::{FRAME_SIZE, Frame, FrameList, Page, Pfn};
use zerocopy::IntoBytes;

/// Where things go in the tail of the scratch area: the start info with module list and memory map, the command line
/// with its NUL, the parcel, and the code.
const START_INFO_AT: u64 = 0;
const COMMAND_LINE_AT: u64 = PAGE_SIZE;
const COMMAND_LINE_LEN: usize = (COMMAND_LINE_MAX + 1).next_multiple_of(FRAME_SIZE);
const PARCEL_AT: u64 = COMMAND_LINE_AT + COMMAND_LINE_LEN as u64;
const TRAMPOLINE_AT: u64 = PARCEL_AT + PARCEL_MAX as u64;

/// The bytes at the top of the scratch area in which an image must not lie.
pub const TAIL_LEN: u64 = TRAMPOLINE_AT + PAGE_SIZE;

/// The part of the scratch area that an image may use.
pub(super) fn room_for_image(scratch: Span) -> Span {
    Span { start: scratch.start, len: scratch.len.saturating_sub(TAIL_LEN) }
}

/// What to start.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The bootable file that is running, of which what is never written lies in memory as it was loaded.
    Running {
        /// Where it lies: [`Parcel::boot_image`] of the parcel that started this kernel.
        boot_image: Span,
        /// Its entry: [`Parcel::boot_entry`].
        entry: u32,
    },
    /// A file that was loaded.
    Loaded(&'a Image),
}

/// What the next boot stage is told about the machine: what this kernel was told.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// The regions of `BootInfo`, unchanged.
    pub memory_map: &'a [MemoryRegion],
    /// `BootInfo::rsdp_addr`.
    pub rsdp: Option<u64>,
}

/// Why a kexec cannot be done. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrepareError {
    /// There is no memory for it outside the scratch area.
    OutOfMemory,
    /// The parcel cannot be written.
    Parcel(EncodeError),
    /// The memory map cannot be handed on.
    Map(MapError),
    /// The scratch area is too small, or not whole pages below 4 GiB.
    BadScratch(Span),
    /// The image does not lie in the part of the scratch area that is left for it.
    ImageOutsideScratch(Span),
    /// There is more memory than the page tables for the jump can map.
    TooMuchMemory(u64),
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrepareError::OutOfMemory => OutOfFrames.fmt(f),
            PrepareError::Parcel(error) => error.fmt(f),
            PrepareError::Map(error) => error.fmt(f),
            PrepareError::BadScratch(scratch) => write!(f, "scratch area at {scratch} cannot be used"),
            PrepareError::ImageOutsideScratch(image) => write!(f, "image at {image} is outside the scratch area"),
            PrepareError::TooMuchMemory(end) => write!(f, "cannot reach memory up to {end:#x}"),
        }
    }
}

impl core::error::Error for PrepareError {}

impl From<OutOfFrames> for PrepareError {
    fn from(_: OutOfFrames) -> Self {
        PrepareError::OutOfMemory
    }
}

/// A kexec that only needs to be let go. Dropping it gives its frames back, but for those of the image, which are whoever's
/// loaded it.
#[derive(Debug)]
pub struct Prepared<'a> {
    jump: Jump,
    /// What the jump uses: it must stay until then.
    moves: List,
    kept: FrameList,
    image: Option<&'a Image>,
}

impl Prepared<'_> {
    /// What the jump needs to know.
    pub fn plan(&self) -> Jump {
        self.jump
    }

    /// Every frame that the jump uses, the image's too.
    pub fn pfns(&self) -> impl Iterator<Item = Pfn> + '_ {
        let image = self.image.into_iter().flat_map(|image| image.moves.frames().pfns());
        self.moves.frames().pfns().chain(self.kept.pfns()).chain(image)
    }

    /// Ends this kernel.
    ///
    /// # Safety
    /// This is the only processor that runs, and no device writes to memory any more.
    pub unsafe fn jump(self) -> ! {
        // SAFETY: the caller's promise; `self` lives until the end.
        unsafe { jump::go(&self.jump) }
    }
}

/// Makes everything ready for starting `target` with `parcel` and the memory map of this boot.
///
/// `parcel` is for the next kernel, so its generation is one higher than ours. Its scratch area is where the target
/// will be; it has to be the one that this kernel was given.
pub fn prepare<'a>(
    cache: &Arc<PageCache>,
    target: Target<'a>,
    parcel: &Parcel<'_>,
    machine: &Machine<'_>,
) -> Result<Prepared<'a>, PrepareError> {
    let scratch = parcel.scratch;
    let tail = scratch
        .end()
        .filter(|&end| end <= 1 << 32 && scratch.is_aligned_to(PAGE_SIZE) && scratch.len >= TAIL_LEN)
        .map(|end| end - TAIL_LEN)
        .ok_or(PrepareError::BadScratch(scratch))?;
    let (extent, entry, image) = match target {
        Target::Running { boot_image, entry } => (boot_image, entry, None),
        Target::Loaded(image) => (image.extent, image.entry, Some(image)),
    };
    if !room_for_image(scratch).contains(extent) {
        return Err(PrepareError::ImageOutsideScratch(extent));
    }

    let map = handed_on(machine.memory_map)?;
    let mut bytes = [0; PARCEL_MAX];
    let parcel_len = parcel.encode(&mut bytes).map_err(PrepareError::Parcel)?;
    let mut moves = Moves::new(cache)?;
    let start_info = start_info(cache, tail, &map, machine.rsdp, parcel_len as u64)?;
    moves.copy(tail + START_INFO_AT, start_info)?;
    // The parcel has the command line too, but if it arrives damaged this one is still there.
    copy_bytes(cache, &mut moves, tail + COMMAND_LINE_AT, &[parcel.command_line, &[0]])?;
    copy_bytes(cache, &mut moves, tail + PARCEL_AT, &[bytes.get(..parcel_len).unwrap_or_default()])?;
    // The code does the moves from one page, then goes on in the copy that it has made of itself below 4 GiB.
    let mut code_copy = allocate(cache)?;
    code_copy.copy_from(jump::code());
    moves.copy(tail + TRAMPOLINE_AT, code_copy)?;
    let mut code = allocate(cache)?;
    code.copy_from(jump::code());

    let mut kept = FrameList::new(cache.memory());
    let moves = moves.finish(image.map(|image| &image.moves))?;
    let jump = Jump {
        page_tables: page_tables(cache, &mut kept, map.ram_end())?,
        code: code.pfn().addr().as_u64(),
        moves: moves.start().as_u64(),
        code_copy: tail + TRAMPOLINE_AT,
        entry,
        start_info: tail + START_INFO_AT,
    };
    kept.push_back(code);
    Ok(Prepared { jump, moves, kept, image })
}

/// The memory map as the boot stage got it: what it used of it was memory too.
fn handed_on(regions: &[MemoryRegion]) -> Result<MemoryMap, PrepareError> {
    MemoryMap::normalise(regions.iter().map(|region| MemoryRange {
        start: region.start,
        end: region.end,
        kind: match region.kind {
            MemoryRegionKind::Usable | MemoryRegionKind::Bootloader => MemoryType::RAM,
            MemoryRegionKind::UnknownBios(kind) => MemoryType(kind),
            _ => MemoryType::RESERVED,
        },
    }))
    .map_err(PrepareError::Map)
}

/// The page with the start info, the list of the one module, and the memory map.
fn start_info(
    cache: &PageCache,
    tail: u64,
    map: &MemoryMap,
    rsdp: Option<u64>,
    parcel_len: u64,
) -> Result<Frame, OutOfFrames> {
    const MODULE_AT: usize = size_of::<StartInfo>();
    const MAP_AT: usize = MODULE_AT + size_of::<Module>();
    const _: () = assert!(MAP_AT + bootproto::memmap::MAX_RANGES * size_of::<MemmapEntry>() <= PAGE_SIZE as usize);

    let base = tail + START_INFO_AT;
    let info = StartInfo {
        magic: START_INFO_MAGIC.into(),
        version: START_INFO_VERSION.into(),
        nr_modules: 1.into(),
        cmdline_paddr: (tail + COMMAND_LINE_AT).into(),
        modlist_paddr: (base + MODULE_AT as u64).into(),
        rsdp_paddr: rsdp.unwrap_or(0).into(),
        memmap_paddr: (base + MAP_AT as u64).into(),
        memmap_entries: (map.ranges().len() as u32).into(),
        ..StartInfo::default()
    };
    let module = Module { paddr: (tail + PARCEL_AT).into(), size: parcel_len.into(), ..Module::default() };

    let mut frame = allocate_zeroed(cache)?;
    let page = frame.bytes_mut();
    put_bytes(page, 0, info.as_bytes());
    put_bytes(page, MODULE_AT, module.as_bytes());
    for (index, &range) in map.ranges().iter().enumerate() {
        let entry = MemmapEntry::from(range);
        put_bytes(page, MAP_AT + index * size_of::<MemmapEntry>(), entry.as_bytes());
    }
    Ok(frame)
}

/// Adds moves that put `parts`, one after the other, to the destination address, in zeroed pages.
fn copy_bytes(cache: &PageCache, moves: &mut Moves, destination: u64, parts: &[&[u8]]) -> Result<(), OutOfFrames> {
    let mut bytes = parts.iter().copied().flatten().copied().peekable();
    let mut page = destination;
    while bytes.peek().is_some() {
        let mut frame = allocate_zeroed(cache)?;
        for (to, from) in frame.bytes_mut().iter_mut().zip(&mut bytes) {
            *to = from;
        }
        moves.copy(page, frame)?;
        page = page.saturating_add(PAGE_SIZE);
    }
    Ok(())
}

/// Writes bytes into a page; what does not fit is not written, and all that is written here fits.
fn put_bytes(page: &mut Page, at: usize, bytes: &[u8]) {
    if let Some(place) = page.get_mut(at..at.saturating_add(bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

/// Page tables for the jump: memory up to `end` at its own address, and in the upper half what the kernel has there, so
/// that it can go on until it leaves. Returns the address of the top table, and keeps the frames in `kept`.
fn page_tables(cache: &PageCache, kept: &mut FrameList, end: u64) -> Result<u64, PrepareError> {
    const LARGE_PAGE: u64 = 1 << 21;
    const GIB: u64 = 1 << 30;
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;

    // One pointer table has 512 entries of 1 GiB.
    if end > 512 * GIB {
        return Err(PrepareError::TooMuchMemory(end));
    }
    let mut pointers = allocate_zeroed(cache)?;
    for gib in 0..end.div_ceil(GIB) {
        let mut directory = allocate(cache)?;
        for index in 0..512 {
            let page = gib * GIB + index as u64 * LARGE_PAGE;
            put_word(&mut directory, index, page | LARGE | PRESENT_WRITABLE);
        }
        put_word(&mut pointers, gib as usize, address(directory.pfn()) | PRESENT_WRITABLE);
        kept.push_back(directory);
    }
    let mut top = allocate(cache)?;
    top.copy_from(jump::current_top_table().ok_or(PrepareError::TooMuchMemory(end))?);
    put_word(&mut top, 0, address(pointers.pfn()) | PRESENT_WRITABLE);
    let root = address(top.pfn());
    kept.push_back(pointers);
    kept.push_back(top);
    Ok(root)
}

fn address(frame: Pfn) -> u64 {
    frame.addr().as_u64()
}
