//! The boot stage: entered by PVH, it starts the kernel that it carries, or says on the serial line why not.
//!
//! It is entered by QEMU's `-kernel` and by our own kexec alike. It writes to its own .bss and to the scratch area and
//! nowhere else, since any other page may be one that a kernel preserved. The decisions are in the library; here is
//! what needs the machine.

#![no_std]
#![no_main]

mod boot_pages;
mod entry;
mod machine;
mod notice;
mod paging;

use boot::handoff::{Buffers, Handoff, HandoffError};
use boot::layout::{Layout, LayoutError, Place, Wanted};
use boot::plan::{KernelPlan, PlanError, Segment, Source};
use boot::scratch::{self, Bump, ScratchError};
use boot_pages::BootPages;
use bootproto::memmap::MemoryMap;
use bootproto::parcel::{EncodeError, PARCEL_MAX, Parcel};
use bootproto::{Jump, PAGE_SIZE, Span};
use core::convert::Infallible;
use core::fmt;
use machine::pointer;
use notice::Notice;
use paging::{Access, Tables};

#[repr(C, align(4096))]
struct PageAligned<T: ?Sized>(T);

/// The kernel's ELF file. It lies on a page boundary, so that its segments can be mapped where they are.
static KERNEL: &PageAligned<[u8]> = &PageAligned(*include_bytes!(concat!(env!("OUT_DIR"), "/kernel.elf")));

/// Why the kernel is not started.
#[derive(Debug)]
enum Refusal {
    Handoff(HandoffError),
    Scratch(ScratchError),
    Plan(PlanError),
    Layout(LayoutError),
    Parcel(EncodeError),
    Regions,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Handoff(error) => error.fmt(f),
            Refusal::Scratch(error) => error.fmt(f),
            Refusal::Plan(error) => error.fmt(f),
            Refusal::Layout(error) => error.fmt(f),
            Refusal::Parcel(error) => error.fmt(f),
            Refusal::Regions => f.write_str("memory map does not fit in the boot info"),
        }
    }
}

macro_rules! refusal_from {
    ($($variant:ident($error:ty)),*) => {
        $(impl From<$error> for Refusal {
            fn from(error: $error) -> Refusal {
                Refusal::$variant(error)
            }
        })*
    };
}
refusal_from!(Handoff(HandoffError), Scratch(ScratchError), Plan(PlanError), Layout(LayoutError), Parcel(EncodeError));

/// Where the entry code arrives, with the address of the start info.
extern "C" fn main(start_info: u64) -> ! {
    let mut way_back = None;
    let Err(refusal) = start_kernel(start_info, &mut way_back);
    match way_back {
        None => machine::refuse(refusal),
        Some(way_back) => {
            machine::say_fallback(refusal);
            // SAFETY: the parcel came whole from the kernel before, which has prepared this jump and stopped all devices; since
            // then only the scratch area was written to, where nothing of what the jump reads lies.
            unsafe { entry::go_back(&way_back) }
        }
    }
}

/// Starts it, or says why not. From then on when it is known `way_back` is how the kernel before can be started again.
fn start_kernel(start_info: u64, way_back: &mut Option<Jump>) -> Result<Infallible, Refusal> {
    let mut buffers = Buffers::new();
    let mut notice = Notice::default();
    let handoff = Handoff::read(&machine::Identity, start_info, &mut buffers)?;
    let parcel = parcel(&handoff, &mut notice)?;
    *way_back = parcel.way_back.filter(|way| scratch::is_untouched(&handoff.map, parcel.scratch, way));
    let mut room = Bump::behind(entry::image(), parcel.scratch);

    let file = &KERNEL.0;
    let kernel = KernelPlan::new(file)?;
    let wanted = Wanted {
        image: kernel.extent(),
        switch: entry::switch_page(),
        memory_end: handoff.map.ram_end(),
        boot_info_len: BootPages::LEN,
        ramdisk_len: parcel.encoded_len() as u64,
    };
    let layout = Layout::new(&kernel.config, &wanted)?;

    let mut tables = Tables::new(&mut room)?;
    tables.map(&mut room, wanted.switch.start, wanted.switch, Access::Code)?;
    for segment in kernel.segments() {
        let physical = place_segment(&mut room, file, segment)?;
        let access = Access::new(segment.writable, segment.executable);
        tables.map(&mut room, segment.start, physical, access)?;
    }
    // Not cleared: a stack holds nothing before it is written.
    let stack = Span { start: room.allocate(layout.stack.len)?, len: layout.stack.len };
    tables.map(&mut room, layout.stack.start, stack, Access::Data)?;
    if let Some(window) = layout.physical_memory {
        map_physical_memory(&mut tables, &mut room, window, &handoff.map)?;
    }

    let ramdisk = Span { start: machine::zeroed(&mut room, PARCEL_PAGES)?, len: wanted.ramdisk_len };
    // SAFETY: the pages were given out just now, cleared, and nothing else refers to them.
    let out = unsafe { core::slice::from_raw_parts_mut(pointer::<u8>(ramdisk.start), PARCEL_PAGES as usize) };
    parcel.encode(out)?;
    let ramdisk_at = map_place(&mut tables, &mut room, layout.ramdisk, ramdisk)?;
    let pages = BootPages::allocate(&mut room)?;
    let boot_info_at = map_place(&mut tables, &mut room, layout.boot_info, pages.span())?;

    // The last allocation is done, so it is known what the kernel has to leave alone: not what the boot stage alone writes to.
    let used = Span::between(entry::constant().start, room.next());
    let written = pages.write(boot_info_at, &handoff.map, used, |boot_info| {
        boot_info.physical_memory_offset = layout.physical_memory.map(|window| window.start).into();
        boot_info.rsdp_addr = handoff.rsdp.into();
        boot_info.tls_template = kernel.tls.into();
        boot_info.ramdisk_addr = Some(ramdisk_at).into();
        boot_info.ramdisk_len = ramdisk.len;
        boot_info.kernel_addr = file.as_ptr() as u64;
        boot_info.kernel_len = file.len() as u64;
        boot_info.kernel_image_offset = wanted.image.start;
        boot_info.kernel_stack_bottom = layout.stack.start;
        boot_info.kernel_stack_len = layout.stack.len;
    });
    written.ok_or(Refusal::Regions)?;

    let stack_end = layout.stack.start + layout.stack.len;
    // SAFETY: the tables map the switch page at its own address, the kernel with its entry, its stack, which is whole
    // pages, and the boot info.
    unsafe { entry::switch(tables.root(), stack_end, kernel.entry, boot_info_at) }
}

/// What the kernel is told: the parcel of the kernel before it, brought up to date, or a first one.
fn parcel<'a>(handoff: &Handoff<'a>, notice: &'a mut Notice) -> Result<Parcel<'a>, ScratchError> {
    let image = entry::image();
    let handed_over = match handoff.parcel {
        Ok(parcel) if scratch::is_usable(&handoff.map, image, parcel.scratch) => Some(parcel),
        Ok(parcel) => {
            notice.say(format_args!("no scratch area at {}", parcel.scratch));
            None
        }
        Err(Some(fault)) => {
            notice.say(format_args!("{fault}"));
            None
        }
        Err(None) => None,
    };
    let mut parcel = match handed_over {
        Some(parcel) => parcel,
        None => Parcel { scratch: scratch::choose(&handoff.map, image)?, notice: notice.text(), ..Parcel::default() },
    };
    parcel.boot_image = entry::constant();
    parcel.boot_entry = entry::address();
    if !handoff.command_line.is_empty() {
        parcel.command_line = handoff.command_line;
    }
    Ok(parcel)
}

/// Puts a segment into memory and returns where it lies.
fn place_segment(room: &mut Bump, file: &'static [u8], segment: &Segment) -> Result<Span, Refusal> {
    let start = match segment.source {
        Source::InPlace(file_offset) => file.as_ptr() as u64 + file_offset,
        Source::Copied { file_offset, file_len, into } => {
            let start = machine::zeroed(room, segment.len)?;
            let from = file.get(file_offset as usize..).and_then(|rest| rest.get(..file_len as usize));
            let from = from.unwrap_or_default();
            // SAFETY: the pages were given out just now; the plan has checked that the part of the file fits in them
            // behind `into`.
            unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), pointer(start + into), from.len()) };
            start
        }
    };
    Ok(Span { start, len: segment.len })
}

/// Maps all physical memory at `window`, writable and not executable: memory cached, what lies between it not.
fn map_physical_memory(
    tables: &mut Tables,
    room: &mut Bump,
    window: Span,
    map: &MemoryMap,
) -> Result<(), ScratchError> {
    const LARGE_PAGE: u64 = 1 << 21;

    let mut done = 0;
    let mut map_to = |end: u64, access: Access| {
        let physical = Span::between(done, end.min(window.len));
        done += physical.len;
        tables.map(room, window.start + physical.start, physical, access)
    };
    for range in map.ranges().iter().filter(|range| range.kind.is_memory()) {
        // A large page with some memory in it is cached as a whole: devices do not lie that close.
        map_to(range.start - range.start % LARGE_PAGE, Access::Device)?;
        map_to(range.end.next_multiple_of(LARGE_PAGE), Access::Data)?;
    }
    map_to(window.len, Access::Device)
}

/// Maps something small where the layout wants it and returns its virtual address.
fn map_place(tables: &mut Tables, room: &mut Bump, place: Place, physical: Span) -> Result<u64, ScratchError> {
    match place {
        Place::InPhysicalMemory(window) => Ok(window + physical.start),
        Place::Own(start) => {
            let pages = Span { start: physical.start, len: physical.len.next_multiple_of(PAGE_SIZE) };
            tables.map(room, start, pages, Access::Data)?;
            Ok(start)
        }
    }
}

/// Whole pages that take any parcel.
const PARCEL_PAGES: u64 = PARCEL_MAX as u64;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    machine::refuse(format_args!("boot stage: {info}"))
}
