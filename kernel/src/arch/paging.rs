//! The page tables in use: looking addresses up, taking single pages out, adding device registers and memory of devices.
//!
//! The boot stage made the tables: the kernel image with W^X, and all physical memory at [`WINDOW`], writable and not
//! executable. Nothing is ever taken out of the window, so a frame that its owner can reach stays reachable. All processors use the
//! same tables, under one lock, and no interrupt handler looks at them.

use core::fmt;
use frames::{Lock, Memory, Pfn, PfnRange, PhysAddr, Rank, Zones};
use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::structures::paging::mapper::{MapToError, TranslateResult, UnmapError};
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame, Size2MiB, Size4KiB,
    Translate,
};

use super::cpu;
use crate::smp::calls::{self, NoAnswer, Whom};

/// Where all physical memory is mapped, from address 0 on.
pub const WINDOW: u64 = 0xffff_8000_0000_0000;
/// Where the window's addresses end: 64 TiB, more than any machine has. What the boot stage places on its own, such as
/// the stack, lies beyond.
pub const WINDOW_END: u64 = WINDOW + (1 << 46);

/// Why a page table was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagingError {
    /// The address is not canonical, or not the start of a page.
    BadAddress(u64),
    /// Nothing is mapped there.
    NotMapped(u64),
    /// Something is mapped there already.
    InUse(u64),
    /// The address lies in a large page, which is not split here.
    LargePage(u64),
    /// No frame for a page table.
    NoMemory,
    /// The page is out of the tables, but some processor may still use it.
    Stale(NoAnswer),
}

impl fmt::Display for PagingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadAddress(address) => write!(f, "{address:#x} is not the address of a page"),
            Self::NotMapped(address) => write!(f, "{address:#x} is not mapped"),
            Self::InUse(address) => write!(f, "{address:#x} is mapped already"),
            Self::LargePage(address) => write!(f, "{address:#x} lies in a large page"),
            Self::NoMemory => f.write_str("no frame for a page table"),
            Self::Stale(reason) => write!(f, "it may still be in use: {reason}"),
        }
    }
}

impl core::error::Error for PagingError {}

/// The virtual address, in the window, of a physical one.
pub fn window(physical: PhysAddr) -> Option<u64> {
    let address = physical.as_u64();
    (address < WINDOW_END - WINDOW).then_some(WINDOW + address)
}

/// Reads bytes of physical memory that nobody has to itself, such as tables of the firmware. `None` beyond the window; what the
/// window does not show must not be asked for.
pub fn read_bytes(physical: PhysAddr, out: &mut [u8]) -> Option<()> {
    let start = window(physical)? as *const u8;
    for (index, byte) in out.iter_mut().enumerate() {
        // SAFETY: the window shows the address (the caller's knowledge), any bits are a byte, and the read is volatile because whoever
        // writes there is unknown.
        *byte = unsafe { start.add(index).read_volatile() };
    }
    Some(())
}

/// The physical address of a virtual one: by subtraction in the window, by the page tables elsewhere.
pub fn physical(address: u64) -> Option<PhysAddr> {
    if in_window(address) {
        return Some(PhysAddr::new(address - WINDOW));
    }
    look_up(address)
}

/// Whether anything is mapped at `address`.
fn is_mapped(address: u64) -> bool {
    look_up(address).is_some()
}

fn look_up(address: u64) -> Option<PhysAddr> {
    let address = VirtAddr::try_new(address).ok()?;
    with_tables(|tables| match tables.translate(address) {
        TranslateResult::Mapped { frame, offset, .. } => {
            Some(PhysAddr::new(frame.start_address().as_u64().checked_add(offset)?))
        }
        TranslateResult::NotMapped | TranslateResult::InvalidFrameAddress(_) => None,
    })
}

/// Whether `address` lies in the window, where consecutive addresses are consecutive in physical memory too.
pub fn in_window(address: u64) -> bool {
    (WINDOW..WINDOW_END).contains(&address)
}

/// Takes the page at `address` out of the page tables; touching it faults from now on, whoever does. The frame behind it is not
/// freed. No lock may be held, as all processors are waited for.
///
/// # Errors
/// If no 4 KiB page is mapped at `address`; [`PagingError::Stale`], if a processor does not answer.
pub fn unmap_page(address: u64) -> Result<(), PagingError> {
    let page: Page<Size4KiB> = page_at(address)?;
    with_tables(|tables| match tables.unmap(page) {
        Ok((_, flush)) => {
            flush.flush();
            Ok(())
        }
        Err(UnmapError::ParentEntryHugePage) => Err(PagingError::LargePage(address)),
        Err(UnmapError::PageNotMapped | UnmapError::InvalidFrameAddress(_)) => Err(PagingError::NotMapped(address)),
    })?;
    // A page that appears need not be told to anybody: what is not mapped is in no TLB.
    calls::call(Whom::Others, forget, address).map_err(PagingError::Stale)
}

/// Takes what this processor knows of the page at `address` out of its TLB.
fn forget(address: u64) {
    if let Ok(address) = VirtAddr::try_new(address) {
        tlb::flush(address);
    }
}

/// Makes the window show device registers that the boot stage left out, past the caches. Pages that are mapped stay as
/// they are; new page tables come from `memory` and stay in use for good.
///
/// # Errors
/// If the frames are beyond the window, or there is no frame for a page table; what was mapped until then stays.
pub fn show_registers(memory: &'static Memory, range: PfnRange) -> Result<(), PagingError> {
    (0..range.count).try_for_each(|index| {
        show_page::<Size4KiB>(memory, range.start.offset(index), PageTableFlags::NO_CACHE).map(drop)
    })
}

/// Makes the window show memory that is no RAM of the memory map, such as what a device plugs in. Pages that are mapped stay as
/// they are; new page tables come from `memory` and stay in use for good.
///
/// # Errors
/// As for [`show_registers`].
pub fn show_memory(memory: &'static Memory, range: PfnRange) -> Result<(), PagingError> {
    let mut next = range.start;
    while next < range.end() {
        let left = range.end().get() - next.get();
        let large = next.get().is_multiple_of(LARGE) && left >= LARGE;
        if large && let Ok(true) = show_page::<Size2MiB>(memory, next, PageTableFlags::empty()) {
            next = next.offset(LARGE);
            continue;
        }
        // One large page's worth in small pages: where some of it is mapped, or up to where large pages begin.
        let end = next.offset((LARGE - next.get() % LARGE).min(left));
        while next < end {
            show_page::<Size4KiB>(memory, next, PageTableFlags::empty())?;
            next = next.offset(1);
        }
    }
    Ok(())
}

/// Frames of a large page.
const LARGE: u64 = Size2MiB::SIZE / Size4KiB::SIZE;

/// Makes the window show the page that begins with frame `first`, unless something is mapped where it begins; says whether it
/// did.
fn show_page<S: PageSize>(memory: &'static Memory, first: Pfn, flags: PageTableFlags) -> Result<bool, PagingError>
where
    for<'a> OffsetPageTable<'a>: Mapper<S>,
{
    let physical = first.addr();
    let address = window(physical).ok_or(PagingError::BadAddress(physical.as_u64()))?;
    if is_mapped(address) {
        return Ok(false);
    }
    let flags = flags | PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE;
    let frame = PhysFrame::<S>::containing_address(x86_64::PhysAddr::new(physical.as_u64()));
    // SAFETY: nothing is mapped there, so no reference to it exists, and the window shows each frame at one address only.
    // Registers are no memory that anybody owns, and memory that a device brings has no owner before it is shown.
    let mapped = with_tables(|tables| unsafe {
        tables
            .map_to(page_at(address)?, frame, flags, &mut TableFrames(memory))
            .map_err(|error| map_error(error, address))
    });
    mapped?.flush();
    Ok(true)
}

fn page_at<S: PageSize>(address: u64) -> Result<Page<S>, PagingError> {
    VirtAddr::try_new(address)
        .ok()
        .and_then(|address| Page::from_start_address(address).ok())
        .ok_or(PagingError::BadAddress(address))
}

/// Maps consecutive frames from `address` on, 2^`order` of them, for a stack: devices are given buffers that lie on it, in one piece.
/// They stay in use for good.
///
/// # Errors
/// If there are no such frames, or something is mapped there.
pub fn map_stack(memory: &'static Memory, address: u64, order: u32) -> Result<(), PagingError> {
    let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE;
    let run = memory.allocate_run(Zones::Ephemeral, order).ok_or(PagingError::NoMemory)?;
    let frames = run.range();
    core::mem::forget(run);
    (0..frames.count).try_for_each(|index| {
        let frame = frames.start.offset(index).addr().as_u64();
        let frame = PhysFrame::containing_address(x86_64::PhysAddr::new(frame));
        // SAFETY: the frame was just taken for this and belongs to nobody else, so it is reached by this address only.
        unsafe { map_small(memory, address + index * Size4KiB::SIZE, frame, flags) }
    })
}

/// Maps frame 0 at its own address, for code that has to be there while it switches paging on.
///
/// # Errors
/// If there is no frame for a page table.
pub fn show_frame_zero_at_zero(memory: &'static Memory) -> Result<(), PagingError> {
    let frame = PhysFrame::containing_address(x86_64::PhysAddr::zero());
    // SAFETY: it can be read and executed there, and what is written by way of the window are no references.
    unsafe { map_small(memory, 0, frame, PageTableFlags::PRESENT) }
}

/// # Safety
/// Whoever writes to the frame by another address expects it to be read by this one.
unsafe fn map_small(
    memory: &'static Memory,
    address: u64,
    frame: PhysFrame,
    flags: PageTableFlags,
) -> Result<(), PagingError> {
    let page: Page<Size4KiB> = page_at(address)?;
    // SAFETY: the caller's promise.
    let mapped = with_tables(|tables| unsafe {
        tables.map_to(page, frame, flags, &mut TableFrames(memory)).map_err(|error| map_error(error, address))
    });
    mapped?.flush();
    Ok(())
}

fn map_error<S: PageSize>(error: MapToError<S>, address: u64) -> PagingError {
    match error {
        MapToError::FrameAllocationFailed => PagingError::NoMemory,
        MapToError::ParentEntryHugePage => PagingError::LargePage(address),
        MapToError::PageAlreadyMapped(_) => PagingError::InUse(address),
    }
}

/// Whoever reads or changes tables.
static TURN: Lock<()> = Lock::new(Rank::PageTables, ());

/// Runs `f` on the tables that are in use.
fn with_tables<R>(f: impl FnOnce(&mut OffsetPageTable<'_>) -> R) -> R {
    let root = WINDOW + cpu::page_table_root();
    let _turn = TURN.lock();
    // SAFETY: CR3 names a valid top-level table, the window maps it (the boot stage's contract), and this module holds
    // the only code that looks at tables; it has its turn, and does not call itself.
    let mut tables = unsafe { OffsetPageTable::new(&mut *(root as *mut PageTable), VirtAddr::new(WINDOW)) };
    f(&mut tables)
}

/// Frames for page tables. They belong to the tables from then on, and die with this kernel.
struct TableFrames(&'static Memory);

// SAFETY: each frame comes out of the allocator, so nobody else has it, and it is leaked, so nobody else ever will.
unsafe impl FrameAllocator<Size4KiB> for TableFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.0.allocate(Zones::Ephemeral)?;
        let address = frame.pfn().addr().as_u64();
        core::mem::forget(frame);
        Some(PhysFrame::containing_address(x86_64::PhysAddr::new(address)))
    }
}
