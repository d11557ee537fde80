//! The heap before there are frames: a small region in `.bss`, and more from the scratch area where a handover needs it.
//!
//! It serves what is allocated while memory is being found: lists of ranges, and the frame allocator itself. Objects in
//! it may be freed at any time later. Once there are frames, only large objects go in.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ptr::NonNull;

use linked_list_allocator::Heap;

/// Bytes in `.bss`. A boot without a handover uses some 3 KiB of them, and a byte for each 4 MiB of memory.
pub const BUILT_IN: usize = 32 * 1024;

#[repr(C, align(4096))]
struct Region(UnsafeCell<[u8; BUILT_IN]>);

// SAFETY: the bytes are reached only through the one `EarlyHeap`, which a lock guards.
unsafe impl Sync for Region {}

static REGION: Region = Region(UnsafeCell::new([0; BUILT_IN]));

/// The built-in region, and at most one more.
pub struct EarlyHeap {
    built_in: Option<Heap>,
    annex: Option<Heap>,
}

/// Bytes of the early heap: used, and all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EarlyUsage {
    /// Bytes that are allocated now.
    pub used: usize,
    /// All bytes.
    pub size: usize,
}

impl EarlyHeap {
    /// A heap that takes the built-in region at its first use.
    pub const fn new() -> Self {
        Self { built_in: None, annex: None }
    }

    /// Adds a second region. A third is refused.
    ///
    /// # Safety
    /// The bytes are valid for reads and writes for ever and used by nothing else.
    pub unsafe fn add(&mut self, start: NonNull<u8>, len: usize) -> bool {
        if self.annex.is_some() {
            return false;
        }
        // SAFETY: the caller's promise is the allocator's condition.
        self.annex = Some(unsafe { Heap::new(start.as_ptr(), len) });
        true
    }

    /// Room for `layout`, if there is any.
    pub fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let built_in = self.built_in.get_or_insert_with(|| {
            // SAFETY: the region is static, and this is the only place that hands it out; the option is filled once.
            unsafe { Heap::new(REGION.0.get().cast(), BUILT_IN) }
        });
        let regions = [Some(built_in), self.annex.as_mut()];
        regions.into_iter().flatten().find_map(|region| region.allocate_first_fit(layout).ok())
    }

    /// The most that any region has left, in however many pieces.
    pub fn left(&self) -> usize {
        [&self.built_in, &self.annex].into_iter().flatten().map(Heap::free).max().unwrap_or(0)
    }

    /// Takes `object` back.
    ///
    /// # Safety
    /// The object came from [`EarlyHeap::allocate`] with this layout, and nobody uses it any more.
    pub unsafe fn free(&mut self, object: NonNull<u8>, layout: Layout) {
        for heap in [&mut self.built_in, &mut self.annex].into_iter().flatten() {
            if (heap.bottom()..heap.top()).contains(&object.as_ptr()) {
                // SAFETY: the address lies in this heap's region, so it is an object of this heap.
                return unsafe { heap.deallocate(object, layout) };
            }
        }
    }

    /// How full it is.
    pub fn usage(&self) -> EarlyUsage {
        [&self.built_in, &self.annex].into_iter().flatten().fold(EarlyUsage::default(), |sum, heap| EarlyUsage {
            used: sum.used + heap.used(),
            size: sum.size + heap.size(),
        })
    }
}
