//! A machine's memory on the host, for tests: the same code over a block of ordinary memory.
//!
//! Every arena's frames are numbered from [`BASE`] on; an annex lies above them, behind a hole. An arena asserts, when dropped, that each frame came back. Its block
//! is kept for ever, and used again by the next arena of the same shape: a `&'static Memory` that a test still holds is then
//! stale, never dangling.

use crate::addr::{FRAME_SHIFT, FRAME_SIZE, Page, Pfn, PfnRange};
use crate::layout::Layout;
use crate::memory::Memory;
use crate::meta::FrameMeta;
use crate::run::FrameRun;
use alloc::alloc::{Layout as Block, alloc_zeroed, handle_alloc_error};
use alloc::vec::Vec;
use core::ptr::NonNull;
use std::sync::Mutex;

/// The first frame of every arena.
pub const BASE: Pfn = Pfn::new(1024);

/// Arenas that are free to be used again.
static FREE: Mutex<Vec<(Shape, &'static Memory)>> = Mutex::new(Vec::new());

/// How many frames of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    frames: usize,
    scratch: usize,
    annex: usize,
}

impl Shape {
    /// The first frame of the annex.
    fn annex_start(self) -> Pfn {
        const HOLE: u64 = 64;
        BASE.offset(self.frames as u64 + HOLE)
    }
}

/// The memory of one small machine.
#[derive(Debug)]
pub struct Arena {
    shape: Shape,
    memory: &'static Memory,
}

impl Arena {
    /// A machine with `frames` frames and no scratch area.
    pub fn new(frames: usize) -> Self {
        Self::with_scratch(frames, 0)
    }

    /// A machine with `frames` frames, the first `scratch` of them the scratch area.
    pub fn with_scratch(frames: usize, scratch: usize) -> Self {
        Self::of_shape(Shape { frames, scratch, annex: 0 })
    }

    /// A machine with `frames` frames of its own, and an annex of `annex` frames, which comes as a run.
    pub fn with_annex(frames: usize, annex: usize) -> (Self, FrameRun) {
        let arena = Self::of_shape(Shape { frames, scratch: 0, annex });
        let range = PfnRange { start: arena.shape.annex_start(), count: annex as u64 };
        // SAFETY: the block has room for the annex, at its place; every arena makes one run of it, and forgets the frames of the one
        // before, whose test has ended.
        let run = unsafe { FrameRun::from_range(arena.memory, range) };
        (arena, run)
    }

    fn of_shape(shape: Shape) -> Self {
        let mut free = FREE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = free.iter().position(|&(known, _)| known == shape).map(|at| free.swap_remove(at).1);
        drop(free);
        let memory = match known {
            Some(known) => again(shape, known),
            None => install(shape, &[], |_, _| ()),
        };
        Self { shape, memory }
    }

    /// Write to a byte of a frame of the annex behind everybody's back, as a host does that shares it.
    pub fn scribble(&self, pfn: Pfn, at: usize, change: impl FnOnce(u8) -> u8) {
        let annex = PfnRange { start: self.shape.annex_start(), count: self.shape.annex as u64 };
        assert!(annex.contains(pfn) && at < FRAME_SIZE, "not of the annex");
        let page = self.memory.page(self.memory.slot(pfn)).cast::<u8>();
        // SAFETY: the byte lies in the annex, of which nobody makes references (the contract of its runs), only copies.
        unsafe {
            let byte = page.byte_add(at);
            byte.write_volatile(change(byte.read_volatile()));
        }
    }

    /// The machine after a kexec: all frames free but those of `set_aside` (sorted, disjoint), which hold the bytes that they
    /// hold here. This machine is left as it is, so that what the old kernel owned can be dropped.
    pub fn kexec(&self, set_aside: &[PfnRange]) -> Self {
        let old = self.memory;
        let memory = install(self.shape, set_aside, |slot, page| {
            // SAFETY: both blocks have a frame at `slot`. The old machine stands still while it is copied: this is called by the
            // thread that plays its kernel.
            *page = unsafe { *old.page(slot).as_ref() };
        });
        Self { shape: self.shape, memory }
    }

    /// The memory.
    pub fn memory(&self) -> &'static Memory {
        self.memory
    }
}

/// The machine of an arena that is gone, for a new one. What its lists are like by now is of no concern to most tests.
#[cfg(not(feature = "shuttle"))]
fn again(_: Shape, memory: &'static Memory) -> &'static Memory {
    memory
}

/// The machine of an arena that is gone, as if it were new: a test that is repeated by its seed must find the same each time,
/// and locks of a test that has ended are not of the next one.
#[cfg(feature = "shuttle")]
fn again(shape: Shape, memory: &'static Memory) -> &'static Memory {
    let scratch = PfnRange { start: BASE, count: shape.scratch as u64 };
    let all = PfnRange { start: BASE, count: shape.frames as u64 };
    let layout = Layout { span: all, scratch, usable: &[all], set_aside: &[], annex: shape.annex as u32 };
    // SAFETY: the machine was installed with this shape; its arena is gone, which asserted that no frame has an owner.
    let memory = unsafe { memory.install_again(&layout) }.expect("as before");
    annex(shape, memory);
    memory
}

fn install(shape: Shape, set_aside: &[PfnRange], fill: impl Fn(u32, &mut Page)) -> &'static Memory {
    let Shape { frames, scratch, annex: annexed } = shape;
    let all = PfnRange { start: BASE, count: frames as u64 };
    let behind = shape.annex_start().get() - BASE.get() + annexed as u64;
    let window: NonNull<u8> = zeroed((behind as usize) << FRAME_SHIFT, FRAME_SIZE);
    let meta: NonNull<u8> = zeroed((frames + annexed) * size_of::<FrameMeta>(), align_of::<FrameMeta>());
    for range in set_aside {
        for pfn in range.start.get()..range.end().get() {
            let slot = (pfn - BASE.get()) as u32;
            assert!((slot as usize) < frames, "set aside outside the arena");
            // SAFETY: the slot lies within the block, which nobody else knows yet.
            fill(slot, unsafe { window.byte_add((slot as usize) << FRAME_SHIFT).cast().as_mut() });
        }
    }
    let scratch = PfnRange { start: BASE, count: scratch as u64 };
    let layout = Layout { span: all, scratch, usable: &[all], set_aside, annex: annexed as u32 };
    // SAFETY: both blocks were just allocated in the right sizes, are never freed, and are known to nobody else.
    let memory = unsafe { Memory::install(window, meta.cast(), &layout) }.expect("a well-formed arena");
    annex(shape, memory);
    memory
}

/// Give the annex its records.
fn annex(shape: Shape, memory: &Memory) {
    if shape.annex > 0 {
        memory.annex(PfnRange { start: shape.annex_start(), count: shape.annex as u64 }).expect("records for it");
    }
}

fn zeroed(bytes: usize, align: usize) -> NonNull<u8> {
    let block = Block::from_size_align(bytes.max(1), align).expect("a size that fits in memory");
    // SAFETY: the size is not zero.
    NonNull::new(unsafe { alloc_zeroed(block) }).unwrap_or_else(|| handle_alloc_error(block))
}

impl Drop for Arena {
    fn drop(&mut self) {
        // A test that failed has said so; its machine is not used again, since frames of it may be anywhere.
        if std::thread::panicking() {
            return;
        }
        let stats = self.memory.stats();
        assert_eq!(stats.owned(), 0, "frames that did not come back: {stats:?}");
        self.memory.release_set_aside();
        let mut free = FREE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        free.push((self.shape, self.memory));
    }
}
