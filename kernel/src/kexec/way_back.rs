//! Taking the way back: the jump that the kernel before has prepared, for when this one fails before it is up.
//!
//! The way is open from the moment when the parcel is read until the kernel is up, or until memory that it needs is handed
//! out. A panic takes it, so nothing here takes a lock or allocates.

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use bootproto::{Jump, PAGE_SIZE, Parcel, Span};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use frames::{PfnRange, PhysAddr};
use log::warn;
use spin::Once;

use super::jump;
use crate::arch::paging;

static WAY: Once<Jump> = Once::new();
static OPEN: AtomicBool = AtomicBool::new(false);

/// Bytes of a page table that map the lower half of the address space.
const LOWER_HALF: usize = PAGE_SIZE as usize / 2;

/// What a parcel calls a way back, and which is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoWay(Jump);

impl fmt::Display for NoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not where one could be: {:x?}", self.0)
    }
}

impl core::error::Error for NoWay {}

/// Opens the way that `parcel` tells of, if there is one.
///
/// # Errors
/// [`NoWay`], if what it needs does not lie in memory, outside the scratch area where it must not be written over, and inside where
/// it is written to.
pub fn open(parcel: &Parcel<'_>, regions: &[MemoryRegion]) -> Result<(), NoWay> {
    let Some(way) = parcel.way_back else { return Ok(()) };
    let page = |start: u64| Span { start, len: PAGE_SIZE };
    let memory = |page: Span| {
        regions.iter().any(|region| {
            region.kind == MemoryRegionKind::Usable && Span::between(region.start, region.end).contains(page)
        })
    };
    let is_kept = |&start: &u64| {
        let (scratch, page) = (parcel.scratch, page(start));
        let outside = page.end() <= Some(scratch.start) || scratch.end() <= Some(page.start);
        page.is_aligned_to(PAGE_SIZE) && outside && memory(page)
    };
    let is_written = |&start: &u64| parcel.scratch.contains(page(start));
    let sound = [way.page_tables, way.code, way.moves].iter().all(is_kept)
        && [way.code_copy, way.start_info].iter().all(is_written)
        && parcel.scratch.contains(Span { start: way.entry.into(), len: 1 });
    if !sound {
        return Err(NoWay(way));
    }
    WAY.call_once(|| way);
    OPEN.store(true, Ordering::Release);
    Ok(())
}

/// Closes it: this kernel goes on alone.
pub fn close() {
    OPEN.store(false, Ordering::Release);
}

/// Closes it unless what it needs is among the frames that are kept.
pub fn close_unless(kept: impl Iterator<Item = PfnRange>) {
    let Some(way) = WAY.get() else { return };
    let pages = [way.page_tables, way.code, way.moves].map(|page| PhysAddr::new(page).pfn());
    // The ranges are disjoint, so no page is counted twice.
    let found: usize = kept.map(|range| pages.iter().filter(|&&page| range.contains(page)).count()).sum();
    if found < pages.len() {
        warn!(target: "kexec", "no way back: it is not among what was kept");
        close();
    }
}

/// Whether it is open.
pub fn is_open() -> bool {
    OPEN.load(Ordering::Relaxed)
}

/// The way back, if it is open; closes it, so that it is taken once.
pub fn take() -> Option<WayBack> {
    let open = OPEN.swap(false, Ordering::Acquire);
    WAY.get().filter(|_| open).map(WayBack)
}

/// An open way back.
pub struct WayBack(&'static Jump);

impl WayBack {
    /// Ends this kernel, and starts the one before again. Returns only if the page tables in use cannot be read.
    ///
    /// # Safety
    /// This is the only processor that runs, and no device writes to memory any more.
    pub unsafe fn go(self) {
        let Self(way) = self;
        let window = paging::window(PhysAddr::new(way.page_tables));
        let (Some(current), Some(window)) = (jump::current_top_table(), window) else { return };
        let kernel = &current[LOWER_HALF..];
        // SAFETY: the top table is a page of memory that the kernel before has set aside for this, which `open` has checked and
        // nobody was given since; the window shows it. In its lower half it maps memory at its own address, and with ours in
        // the upper half this code too.
        unsafe {
            let target = (window as *mut u8).add(LOWER_HALF);
            core::ptr::copy_nonoverlapping(kernel.as_ptr(), target, kernel.len());
            jump::go(way)
        }
    }
}
