//! A machine's memory on the host, for tests: the same code over a block of ordinary memory.
//!
//! Every arena's frames are numbered from [`BASE`] on; an annex lies above them, behind a hole. An arena asserts, when dropped,
//! that each frame came back, and takes all of them: its block is kept for ever, and is a new machine for the next arena
//! of the same shape, or for the next generation of one. So a thousand kexecs need the blocks of two machines. A `&'static Memory` that a
//! test still holds is then stale, never dangling, and has no frame to give.

use crate::addr::{FRAME_SHIFT, FRAME_SIZE, Page, Pfn, PfnRange};
use crate::layout::Layout;
use crate::memory::{Memory, Retired};
use crate::meta::FrameMeta;
use crate::run::FrameRun;
use alloc::alloc::{Layout as Block, alloc_zeroed, handle_alloc_error};
use alloc::vec::Vec;
use core::ptr::NonNull;
use std::sync::Mutex;

/// The first frame of every arena.
pub const BASE: Pfn = Pfn::new(1024);

/// Machines that are over.
static OVER: Mutex<Vec<(Shape, Retired)>> = Mutex::new(Vec::new());

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

    /// A machine with `frames` frames, the first `scratch` of them the scratch area, that was just entered by a kexec which nobody saw:
    /// all frames are free but those of `set_aside` (sorted, disjoint), which hold what `fill` writes to them.
    pub fn found(frames: usize, scratch: usize, set_aside: &[PfnRange], fill: impl Fn(Pfn, &mut Page)) -> Self {
        let shape = Shape { frames, scratch, annex: 0 };
        let fill = |slot: u32, page: &mut Page| fill(BASE.offset(u64::from(slot)), page);
        Self { shape, memory: install(shape, over(shape), set_aside, fill) }
    }

    fn of_shape(shape: Shape) -> Self {
        Self { shape, memory: install(shape, over(shape), &[], |_, _| ()) }
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
    /// hold here; the others hold whatever was there. This machine is left as it is, so that what the old kernel owned can be
    /// dropped; once it is dropped itself, its block can be the generation after the next.
    pub fn kexec(&self, set_aside: &[PfnRange]) -> Self {
        let old = self.memory;
        // Nobody counts who owns the frames of an annex, so such a machine is not known to be over within one test.
        let over = if self.shape.annex == 0 { over(self.shape) } else { None };
        let memory = install(self.shape, over, set_aside, |slot, page| {
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

/// A machine of this shape that is over.
fn over(shape: Shape) -> Option<Retired> {
    let mut over = OVER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let at = over.iter().position(|&(known, _)| known == shape)?;
    Some(over.swap_remove(at).1)
}

/// A machine whose frames that are set aside hold what `fill` writes to them: one that is over, or one that is made for it.
fn install(
    shape: Shape,
    over: Option<Retired>,
    set_aside: &[PfnRange],
    fill: impl Fn(u32, &mut Page),
) -> &'static Memory {
    let Shape { frames, scratch, annex: annexed } = shape;
    let all = PfnRange { start: BASE, count: frames as u64 };
    let scratch = PfnRange { start: BASE, count: scratch as u64 };
    let layout = Layout { span: all, scratch, usable: &[all], set_aside, annex: annexed as u32 };
    let aside = || {
        let pfns = set_aside.iter().flat_map(|range| range.start.get()..range.end().get());
        pfns.map(|pfn| {
            assert!(all.contains(Pfn::new(pfn)), "set aside outside the arena");
            (pfn - BASE.get()) as u32
        })
    };
    let memory = match over {
        Some(mut over) => {
            aside().for_each(|slot| fill(slot, over.page_mut(slot)));
            over.install(&layout)
        }
        None => {
            let behind = shape.annex_start().get() - BASE.get() + annexed as u64;
            let window: NonNull<u8> = zeroed((behind as usize) << FRAME_SHIFT, FRAME_SIZE);
            let meta: NonNull<u8> = zeroed((frames + annexed) * size_of::<FrameMeta>(), align_of::<FrameMeta>());
            for slot in aside() {
                // SAFETY: the slot lies within the block, which nobody else knows yet.
                fill(slot, unsafe { window.byte_add((slot as usize) << FRAME_SHIFT).cast().as_mut() });
            }
            // SAFETY: both blocks were just allocated in the right sizes, are never freed, and are known to nobody else.
            unsafe { Memory::install(window, meta.cast(), &layout) }
        }
    };
    let memory = memory.expect("a well-formed arena");
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
        // Somebody who still has a reference to it may have taken a frame since.
        let over = self.memory.retire().expect("all frames of a machine that is over");
        OVER.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((self.shape, over));
    }
}
