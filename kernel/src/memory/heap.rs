//! The kernel's heap: slabs for small objects, runs of frames for large ones, the early heap before there are frames.
//!
//! Where an object came from follows from its address and layout: in the early region or not, small enough for a slab or
//! not. So nothing is stored with an object. All of it is [`Zones::Ephemeral`]: the heap dies with this kernel.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::{hint, iter};

use frames::{FRAME_SIZE, FrameRun, Lock, Memory, PfnRange, PhysAddr, Rank, Zones};
use spin::Once;

use super::early::{EarlyHeap, EarlyUsage};
use super::slab::{self, Slabs};
use crate::arch::{local, paging};
use crate::smp;
use crate::time::Deadline;

/// How long an allocation waits for another processor that may have locked what could be freed.
const PATIENCE_MILLIS: u64 = 100;

/// The heap of the kernel.
struct Heap {
    memory: Once<&'static Memory>,
    early: Lock<EarlyHeap>,
    /// The most that any of its regions has left, so that its lock is not taken in vain.
    early_left: AtomicUsize,
    /// First and last byte of the early heap's second region, so that an ordinary free need not take its lock.
    annex: (AtomicUsize, AtomicUsize),
    slabs: Lock<Slabs>,
    large_frames: AtomicUsize,
    shortage: Once<ShortageHandler>,
    /// Set for a processor on which the handler runs, because it may allocate itself.
    in_shortage: [AtomicBool; local::MOST],
}

/// Tries to free at least this many frames, and says whether it freed any. It is called from within any allocation, so
/// it may take locks only by `try_lock`.
pub type ShortageHandler = fn(frames: usize) -> bool;

#[global_allocator]
static HEAP: Heap = Heap {
    memory: Once::new(),
    early: Lock::new(Rank::Heap, EarlyHeap::new()),
    early_left: AtomicUsize::new(usize::MAX),
    annex: (AtomicUsize::new(1), AtomicUsize::new(0)),
    slabs: Lock::new(Rank::Heap, Slabs::new()),
    large_frames: AtomicUsize::new(0),
    shortage: Once::new(),
    in_shortage: [const { AtomicBool::new(false) }; local::MOST],
};

/// Who holds how much of the heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapStats {
    /// Frames that are slabs.
    pub slab_frames: usize,
    /// Bytes of objects in slabs, each rounded up to its class.
    pub slab_bytes: usize,
    /// Frames that are large objects.
    pub large_frames: usize,
    /// The early heap, which is part of the kernel's own memory and not of the frames.
    pub early: EarlyUsage,
}

impl HeapStats {
    /// Frames that the heap owns.
    pub fn frames(&self) -> usize {
        self.slab_frames + self.large_frames
    }
}

/// From now on objects come from the frames of `memory`.
pub fn init(memory: &'static Memory) {
    HEAP.memory.call_once(|| memory);
}

/// Who is asked to free frames when an allocation finds none. The first handler stays.
pub fn on_shortage(handler: ShortageHandler) {
    HEAP.shortage.call_once(|| handler);
}

/// Gives the early heap a second region; says whether it took it.
///
/// # Safety
/// The bytes are valid for reads and writes for ever and used by nothing else.
pub unsafe fn extend_early(start: NonNull<u8>, len: usize) -> bool {
    // SAFETY: the caller's promise, passed on.
    let added = unsafe { HEAP.early.lock().add(start, len) };
    if added {
        let first = start.as_ptr().addr();
        HEAP.annex.0.store(first, Ordering::Relaxed);
        HEAP.annex.1.store(first + (len - 1), Ordering::Relaxed);
        HEAP.early_left.store(usize::MAX, Ordering::Relaxed);
    }
    added
}

/// Who holds how much, now.
pub fn stats() -> HeapStats {
    let (slab_frames, slab_bytes) = HEAP.slabs.lock().usage();
    HeapStats {
        slab_frames,
        slab_bytes,
        large_frames: HEAP.large_frames.load(Ordering::Relaxed),
        early: HEAP.early.lock().usage(),
    }
}

impl Heap {
    fn allocate(&self, layout: Layout) -> Option<NonNull<u8>> {
        let Some(&memory) = self.memory.get() else {
            return self.allocate_early(layout);
        };
        // Large objects fill what the early heap has left, so that it is not lost once boot is over.
        let attempt = || match slab::class_for(&layout) {
            Some(class) => self.slabs.lock().allocate(memory, class),
            None => self.allocate_early(layout).or_else(|| self.allocate_frames(memory, layout)),
        };
        // Before the last frames go: whoever allocates with the page cache locked cannot evict, and lives on them.
        let takes_frames = slab::class_for(&layout).is_none_or(|class| self.slabs.lock().is_full(class));
        if takes_frames && !memory.has_more(Zones::Ephemeral, memory.watermarks().min) {
            self.make_room(frames_for(&layout));
        }
        attempt().or_else(|| {
            // What the handler cannot lock another processor may be about to open.
            let patience = smp::has_others().then(|| Deadline::after_millis(PATIENCE_MILLIS));
            let turns = iter::once(()).chain(iter::from_fn(|| {
                hint::spin_loop();
                patience.is_some_and(|patience| !patience.passed()).then_some(())
            }));
            let mut made_room = turns.map(|()| self.make_room(frames_for(&layout)));
            made_room.find(|made| *made).and_then(|_| attempt())
        })
    }

    /// Asks for frames to be freed. No lock of the heap is held here.
    fn make_room(&self, frames: usize) -> bool {
        let Some(handler) = self.shortage.get() else { return false };
        let in_shortage = &self.in_shortage[local::number() % local::MOST];
        if in_shortage.swap(true, Ordering::Relaxed) {
            return false;
        }
        let made_room = handler(frames);
        in_shortage.store(false, Ordering::Relaxed);
        made_room
    }

    fn allocate_early(&self, layout: Layout) -> Option<NonNull<u8>> {
        if layout.size() > self.early_left.load(Ordering::Relaxed) {
            return None;
        }
        let mut early = self.early.lock();
        let object = early.allocate(layout);
        self.early_left.store(early.left(), Ordering::Relaxed);
        object
    }

    /// Whole frames. Blocks are powers of two and aligned to their size; what the object does not need goes back at once.
    fn allocate_frames(&self, memory: &'static Memory, layout: Layout) -> Option<NonNull<u8>> {
        let frames = frames_for(&layout);
        let block = frames.max(layout.align() / FRAME_SIZE).checked_next_power_of_two()?;
        let run = memory.allocate_run(Zones::Ephemeral, block.ilog2())?;
        let run = if frames < block { run.split_at(frames).0 } else { run };
        self.large_frames.fetch_add(frames, Ordering::Relaxed);
        let start = run.as_ptr();
        let _ = run.into_range();
        Some(start)
    }

    /// Whether an object is of the early heap: it lies in `.bss`, which is not in the window, or in the second region.
    fn is_early(&self, object: NonNull<u8>) -> bool {
        let address = object.as_ptr().addr();
        let annex = self.annex.0.load(Ordering::Relaxed)..=self.annex.1.load(Ordering::Relaxed);
        !paging::in_window(address as u64) || annex.contains(&address)
    }

    /// # Safety
    /// As for [`GlobalAlloc::dealloc`].
    unsafe fn free(&self, object: NonNull<u8>, layout: Layout) {
        if self.is_early(object) {
            let mut early = self.early.lock();
            // SAFETY: the caller's promise, passed on; the address says that the object is of the early heap.
            unsafe { early.free(object, layout) };
            self.early_left.store(early.left(), Ordering::Relaxed);
            return;
        }
        if let Some(class) = slab::class_for(&layout) {
            // SAFETY: an object of this layout that is not in the early heap came from the slabs, with this class.
            unsafe { self.slabs.lock().free(object, class) };
            return;
        }
        let frames = frames_for(&layout);
        let address = object.as_ptr().expose_provenance() as u64 - paging::WINDOW;
        let range = PfnRange { start: PhysAddr::new(address).pfn(), count: frames as u64 };
        if let Some(&memory) = self.memory.get() {
            self.large_frames.fetch_sub(frames, Ordering::Relaxed);
            // SAFETY: `allocate_frames` gave up exactly this range when it made the object, which is dead now.
            drop(unsafe { FrameRun::from_range(memory, range) });
        }
    }
}

fn frames_for(layout: &Layout) -> usize {
    layout.size().div_ceil(FRAME_SIZE).max(1)
}

// SAFETY: objects come from one of three allocators, each of which hands out memory of at least the asked size and
// alignment that nobody else has; none of them unwinds.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        if let Some(object) = NonNull::new(object) {
            // SAFETY: the caller's promise, passed on.
            unsafe { self.free(object, layout) };
        }
    }

    unsafe fn realloc(&self, object: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Ok(new_layout) = Layout::from_size_align(new_size, layout.align()) else { return ptr::null_mut() };
        let in_place = match (slab::class_for(&layout), slab::class_for(&new_layout)) {
            (Some(old), Some(new)) => old == new,
            (None, None) => frames_for(&layout) == frames_for(&new_layout),
            _ => false,
        };
        // In the early heap an object has exactly the size that was asked for.
        if in_place && !NonNull::new(object).is_none_or(|object| self.is_early(object)) {
            return object;
        }
        // SAFETY: the caller's promise; the new layout has a size that is not zero, as the old one has.
        let moved = unsafe { self.alloc(new_layout) };
        if !moved.is_null() {
            // SAFETY: both objects are live, do not overlap, and have at least the bytes that are copied.
            unsafe {
                ptr::copy_nonoverlapping(object, moved, layout.size().min(new_size));
                self.dealloc(object, layout);
            }
        }
        moved
    }
}
