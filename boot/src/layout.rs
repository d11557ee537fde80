//! Which virtual addresses the kernel's surroundings get.
//!
//! The kernel asks for them in its `BootloaderConfig`, each as a fixed address or as "anywhere". Physical memory that
//! may lie anywhere gets top-level table entries of its own; the small things share one, except that the boot info and
//! the ramdisk need no mapping of their own where all physical memory is mapped anyway.

use bootloader_api::config::{BootloaderConfig, Mapping};
use bootproto::{PAGE_SIZE, Span};
use core::fmt;

/// What one entry of the top-level page table maps.
const SLOT: u64 = 1 << 39;
const SLOTS: u64 = 512;
const LARGE_PAGE: u64 = 1 << 21;
/// The least physical memory that is mapped, so that the devices below are reachable.
const PHYSICAL_MEMORY_MIN: u64 = 1 << 32;
/// The largest kernel stack.
const STACK_MAX: u64 = 1 << 30;
/// The first address of the upper half of the address space; bits 47 to 63 are equal in every address.
const UPPER_HALF: u64 = 0xffff_8000_0000_0000;

/// Why the kernel cannot have the addresses that it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// It wants something that this boot stage does not do.
    Unsupported(&'static str),
    /// It wants no stack, or a stack larger than all memory.
    StackSize(u64),
    /// A fixed address is not aligned as it must be.
    Unaligned {
        /// Of what.
        what: &'static str,
        /// The address.
        address: u64,
    },
    /// Something does not lie within one half of the address space.
    OutOfRange {
        /// What.
        what: &'static str,
        /// Its first address.
        address: u64,
    },
    /// Two things overlap.
    Overlap {
        /// The one.
        what: &'static str,
        /// The other.
        with: &'static str,
    },
    /// There is no room in the dynamic range.
    NoRoom(&'static str),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kernel configuration: ")?;
        match self {
            LayoutError::Unsupported(what) => write!(f, "{what} is not supported"),
            LayoutError::StackSize(size) => write!(f, "kernel stack of {size} bytes"),
            LayoutError::Unaligned { what, address } => write!(f, "{what} at {address:#x} is not aligned"),
            LayoutError::OutOfRange { what, address } => {
                write!(f, "{what} at {address:#x} is not within the address space")
            }
            LayoutError::Overlap { what, with } => write!(f, "{what} overlaps {with}"),
            LayoutError::NoRoom(what) => write!(f, "no room for {what} in the dynamic range"),
        }
    }
}

impl core::error::Error for LayoutError {}

/// What has to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The kernel's image, which is where it is.
    pub image: Span,
    /// The page from which the kernel is entered; it has the same address in both page tables.
    pub switch: Span,
    /// The end of memory.
    pub memory_end: u64,
    /// The length of the boot info.
    pub boot_info_len: u64,
    /// The length of the ramdisk.
    pub ramdisk_len: u64,
}

/// Where something small is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a mapping of its own.
    Own(u64),
    /// In the mapping of all physical memory, which starts here.
    InPhysicalMemory(u64),
}

/// The addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The kernel's stack, without the guard page, which is the page below.
    pub stack: Span,
    /// The mapping of all physical memory from 0 on, if one is wanted; large pages.
    pub physical_memory: Option<Span>,
    /// The boot info.
    pub boot_info: Place,
    /// The ramdisk.
    pub ramdisk: Place,
}

impl Layout {
    /// Places everything.
    pub fn new(config: &BootloaderConfig, wanted: &Wanted) -> Result<Layout, LayoutError> {
        let mappings = &config.mappings;
        if mappings.page_table_recursive.is_some() {
            return Err(LayoutError::Unsupported("page_table_recursive"));
        }
        if mappings.aslr {
            return Err(LayoutError::Unsupported("aslr"));
        }
        if let Mapping::FixedAddress(base) = mappings.kernel_base
            && base != wanted.image.start
        {
            return Err(LayoutError::Unsupported("kernel_base other than where the kernel was linked"));
        }
        let stack_len = Some(config.kernel_stack_size)
            .filter(|size| (1..=STACK_MAX).contains(size))
            .map(|size| size.next_multiple_of(PAGE_SIZE))
            .ok_or(LayoutError::StackSize(config.kernel_stack_size))?;
        let stack_and_guard = stack_len + PAGE_SIZE;

        let mut taken = Taken::default();
        taken.add("kernel image", wanted.image)?;
        taken.add("entry page", wanted.switch)?;
        let physical_len = wanted.memory_end.max(PHYSICAL_MEMORY_MIN).next_multiple_of(LARGE_PAGE);
        let small = [
            ("kernel stack", mappings.kernel_stack, stack_and_guard),
            ("boot info", mappings.boot_info, wanted.boot_info_len),
            ("ramdisk", mappings.ramdisk_memory, wanted.ramdisk_len),
        ];
        // Fixed addresses first: what may go anywhere goes round them.
        if let Some(Mapping::FixedAddress(start)) = mappings.physical_memory {
            taken.add_aligned("physical memory", Span { start, len: physical_len }, LARGE_PAGE)?;
        }
        for (what, mapping, len) in small {
            if let Mapping::FixedAddress(start) = mapping {
                let len = len.next_multiple_of(PAGE_SIZE);
                taken.add_aligned(what, Span { start, len }, PAGE_SIZE)?;
            }
        }

        let range = DynamicRange::new(config);
        let physical_memory = match mappings.physical_memory {
            None => None,
            Some(Mapping::FixedAddress(start)) => Some(start),
            Some(Mapping::Dynamic) => {
                let start = range.free_slots(&taken, physical_len).ok_or(LayoutError::NoRoom("physical memory"))?;
                taken.add("physical memory", Span { start, len: physical_len })?;
                Some(start)
            }
        }
        .map(|start| Span { start, len: physical_len });

        let mut shared = SharedSlot { range, next: None };
        let [stack, boot_info, ramdisk] = small;
        let mut place = |(what, mapping, len): (&'static str, Mapping, u64)| match (mapping, physical_memory) {
            (Mapping::FixedAddress(start), _) => Ok(Place::Own(start)),
            (Mapping::Dynamic, Some(memory)) => Ok(Place::InPhysicalMemory(memory.start)),
            (Mapping::Dynamic, None) => shared.take(&taken, len).map(Place::Own).ok_or(LayoutError::NoRoom(what)),
        };
        let boot_info = place(boot_info)?;
        let ramdisk = place(ramdisk)?;
        let guard = match stack.1 {
            Mapping::FixedAddress(start) => start,
            Mapping::Dynamic => shared.take(&taken, stack.2).ok_or(LayoutError::NoRoom(stack.0))?,
        };
        let stack = Span { start: guard + PAGE_SIZE, len: stack_len };
        Ok(Layout { stack, physical_memory, boot_info, ramdisk })
    }
}

/// The addresses that have a use. None overlap.
#[derive(Default)]
struct Taken {
    spans: [(&'static str, Span); 8],
    count: usize,
}

impl Taken {
    fn add_aligned(&mut self, what: &'static str, span: Span, align: u64) -> Result<(), LayoutError> {
        if !span.start.is_multiple_of(align) {
            return Err(LayoutError::Unaligned { what, address: span.start });
        }
        self.add(what, span)
    }

    fn add(&mut self, what: &'static str, span: Span) -> Result<(), LayoutError> {
        let last = span.start.checked_add(span.len.saturating_sub(1));
        let half = |address: u64| [0, UPPER_HALF].into_iter().find(|half| address >> 47 == half >> 47);
        let in_one_half = last.is_some_and(|last| half(span.start).is_some() && half(span.start) == half(last));
        if !in_one_half {
            return Err(LayoutError::OutOfRange { what, address: span.start });
        }
        if let Some((with, _)) = self.iter().find(|(_, other)| overlap(*other, span)) {
            return Err(LayoutError::Overlap { what, with });
        }
        let slot = self.spans.get_mut(self.count).ok_or(LayoutError::NoRoom(what))?;
        *slot = (what, span);
        self.count += 1;
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, Span)> + '_ {
        self.spans.iter().copied().take(self.count)
    }

    fn uses(&self, span: Span) -> bool {
        self.iter().any(|(_, other)| overlap(other, span))
    }
}

/// Whether two spans share a byte. Unlike a difference of ends, this holds at the top of the address space too.
fn overlap(a: Span, b: Span) -> bool {
    let last = |span: Span| span.start.saturating_add(span.len.saturating_sub(1));
    !a.is_empty() && !b.is_empty() && a.start <= last(b) && b.start <= last(a)
}

/// The top-level table entries from which "anywhere" may choose.
#[derive(Clone, Copy)]
struct DynamicRange {
    first: u64,
    last: u64,
}

impl DynamicRange {
    fn new(config: &BootloaderConfig) -> DynamicRange {
        DynamicRange {
            // Never the first: null pointers have to fault, and the boot stage is there.
            first: config.mappings.dynamic_range_start.unwrap_or(0).max(SLOT),
            last: config.mappings.dynamic_range_end.unwrap_or(0xffff_ffff_ffff_f000),
        }
    }

    /// The start of a run of free entries that maps `len` bytes: the lowest in the upper half, or else in the lower.
    fn free_slots(self, taken: &Taken, len: u64) -> Option<u64> {
        let len = len.checked_next_multiple_of(SLOT)?;
        (SLOTS / 2..SLOTS).chain(1..SLOTS / 2).map(slot_address).find(|&start| {
            let last = start.checked_add(len - 1);
            let in_half = last.is_some_and(|last| last >> 47 == start >> 47 && last <= self.last);
            in_half && start >= self.first && !taken.uses(Span { start, len })
        })
    }
}

/// The first address that entry `index` of the top-level table maps.
fn slot_address(index: u64) -> u64 {
    let address = index * SLOT;
    if address >> 47 == 0 { address } else { address | UPPER_HALF }
}

/// One entry that small things share, with an unmapped page between them.
struct SharedSlot {
    range: DynamicRange,
    next: Option<Span>,
}

impl SharedSlot {
    fn take(&mut self, taken: &Taken, len: u64) -> Option<u64> {
        let free = match self.next {
            Some(free) => free,
            None => Span { start: self.range.free_slots(taken, SLOT)?, len: SLOT },
        };
        let used = len.checked_next_multiple_of(PAGE_SIZE)?.checked_add(PAGE_SIZE)?;
        let left = free.len.checked_sub(used)?;
        self.next = Some(Span { start: free.start.checked_add(used)?, len: left });
        Some(free.start)
    }
}
