//! Small objects, by size class.
//!
//! A slab is one frame: a header at its start, objects of one class packed against its end. Since an object's size is a
//! multiple of its alignment, packing from the end aligns every object. Taking and giving back an object is O(1): a slab
//! keeps its free objects in a list threaded through them, a class keeps its slabs with room in a list. A slab owns its
//! frame by keeping it in the header; an empty one is given back unless it is the last of its class with room,
//! so that a class that breathes at the edge of a slab does not take and give a frame each time.

use core::alloc::Layout;
use core::ptr::{self, NonNull};
use frames::{FRAME_SIZE, FrameRun, Memory, Zones};

/// Object sizes: multiples of 16, from 512 on chosen so that 7, 6, 5, 4, 3 and 2 of them fill a slab.
const SIZES: [usize; 17] = [16, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 512, 672, 800, 1008, 1344, 2016];
/// The largest object; anything bigger is whole frames.
pub const LARGEST: usize = SIZES[SIZES.len() - 1];
/// The strictest alignment that some class has.
const LARGEST_ALIGN: usize = 512;

const UNIT: usize = 16;

/// For each size in units, rounded up, the smallest class that holds it.
const CLASS_OF: [u8; LARGEST / UNIT + 1] = {
    let mut table = [0; LARGEST / UNIT + 1];
    let (mut units, mut class) = (0, 0);
    while units < table.len() {
        if units * UNIT > SIZES[class] {
            class += 1;
        }
        table[units] = class as u8;
        units += 1;
    }
    table
};

/// The start of a slab's frame.
struct Header {
    /// The frame that the slab lies in; taken out only when the slab ends.
    frame: Option<FrameRun>,
    /// Neighbours in the class's list of slabs with room.
    next: *mut Header,
    prev: *mut Header,
    /// Objects that came back.
    free: *mut FreeObject,
    /// How many objects have ever been handed out; those beyond lie untouched.
    carved: u16,
    /// How many objects are out now.
    used: u16,
}

/// A free object holds the address of the next one.
struct FreeObject {
    next: *mut FreeObject,
}

const fn capacity(class: usize) -> u16 {
    ((FRAME_SIZE - size_of::<Header>()) / SIZES[class]) as u16
}

/// One size.
#[derive(Clone, Copy)]
struct Class {
    /// Slabs with at least one free object.
    with_room: *mut Header,
}

/// All sizes.
pub struct Slabs {
    classes: [Class; SIZES.len()],
    /// Frames held.
    frames: usize,
    /// Bytes of objects that are out, each counted with the size of its class.
    bytes: usize,
}

// SAFETY: the pointers lead to slabs, which belong to this value alone; whoever has it exclusively may follow them.
unsafe impl Send for Slabs {}

/// The class for a request, if it is one for slabs.
pub fn class_for(layout: &Layout) -> Option<usize> {
    if layout.align() > LARGEST_ALIGN {
        return None;
    }
    // Beyond 16 only a power of two is sure to be a multiple of the alignment.
    let size = match layout.align() {
        ..=UNIT => layout.size(),
        align => layout.size().max(align).checked_next_power_of_two()?,
    };
    let class = usize::from(*CLASS_OF.get(size.div_ceil(UNIT))?);
    (layout.align() <= UNIT || SIZES.get(class) == Some(&size)).then_some(class)
}

impl Slabs {
    /// No slabs yet.
    pub const fn new() -> Self {
        Self { classes: [Class { with_room: ptr::null_mut() }; SIZES.len()], frames: 0, bytes: 0 }
    }

    /// Frames held, and bytes of them in use.
    pub fn usage(&self) -> (usize, usize) {
        (self.frames, self.bytes)
    }

    /// Whether the next object of this class takes a frame.
    pub fn is_full(&self, class: usize) -> bool {
        self.classes.get(class).is_none_or(|class| class.with_room.is_null())
    }

    /// An object of `class`, or `None` when there is no frame for another slab.
    pub fn allocate(&mut self, memory: &'static Memory, class: usize) -> Option<NonNull<u8>> {
        let size = *SIZES.get(class)?;
        if self.classes.get(class)?.with_room.is_null() {
            let slab = new_slab(memory)?;
            self.frames += 1;
            self.link(class, slab);
        }
        let slab = self.classes.get(class)?.with_room;
        // SAFETY: slabs on the list are live frames with a header at their start, reached only from here.
        let header = unsafe { slab.as_mut()? };
        let object = if header.free.is_null() {
            header.carved += 1;
            // SAFETY: a slab with room and no returned object has carved fewer than its capacity, so the new one lies
            // between the header and the frame's end.
            unsafe { slab.byte_add(FRAME_SIZE - usize::from(header.carved) * size).cast::<u8>() }
        } else {
            let object = header.free;
            // SAFETY: a returned object holds the link that `free` wrote.
            header.free = unsafe { (*object).next };
            object.cast()
        };
        header.used += 1;
        if header.used == capacity(class) {
            self.unlink(class, slab);
        }
        self.bytes += size;
        NonNull::new(object)
    }

    /// Takes an object back.
    ///
    /// # Safety
    /// `object` came from [`Slabs::allocate`] of the same value with the same class, and nobody uses it any more.
    pub unsafe fn free(&mut self, object: NonNull<u8>, class: usize) {
        let object = object.as_ptr().cast::<FreeObject>();
        let slab = object.map_addr(|address| address & !(FRAME_SIZE - 1)).cast::<Header>();
        // SAFETY: objects lie in the frame of their slab, whose header is at its start.
        let header = unsafe { &mut *slab };
        let was_full = header.used == capacity(class);
        // SAFETY: the object is free, large enough for a link (16 bytes at least) and aligned for one.
        unsafe { object.write(FreeObject { next: header.free }) };
        header.free = object;
        header.used -= 1;
        let emptied = header.used == 0;
        self.bytes -= SIZES.get(class).copied().unwrap_or(0);
        if was_full {
            self.link(class, slab);
        }
        if emptied && !self.is_alone(class, slab) {
            self.unlink(class, slab);
            self.frames -= 1;
            // SAFETY: the slab is empty and on no list, so nothing refers to its frame once its owner is moved out.
            drop(unsafe { (*slab).frame.take() });
        }
    }

    fn is_alone(&self, class: usize, slab: *mut Header) -> bool {
        // SAFETY: `slab` is on the list of its class, so its header is live.
        let next = unsafe { (*slab).next };
        next.is_null() && self.classes.get(class).is_some_and(|class| class.with_room == slab)
    }

    fn link(&mut self, class: usize, slab: *mut Header) {
        let Some(class) = self.classes.get_mut(class) else { return };
        // SAFETY: `slab` and the head of the list are live headers that only this value reaches.
        unsafe {
            (*slab).prev = ptr::null_mut();
            (*slab).next = class.with_room;
            if let Some(head) = class.with_room.as_mut() {
                head.prev = slab;
            }
        }
        class.with_room = slab;
    }

    fn unlink(&mut self, class: usize, slab: *mut Header) {
        let Some(class) = self.classes.get_mut(class) else { return };
        // SAFETY: `slab` and its neighbours are live headers that only this value reaches.
        unsafe {
            let (prev, next) = ((*slab).prev, (*slab).next);
            match prev.as_mut() {
                Some(prev) => prev.next = next,
                None => class.with_room = next,
            }
            if let Some(next) = next.as_mut() {
                next.prev = prev;
            }
        }
    }
}

/// A fresh slab, on no list.
fn new_slab(memory: &'static Memory) -> Option<*mut Header> {
    let frame = memory.allocate_run(Zones::Ephemeral, 0)?;
    let slab = frame.as_ptr().as_ptr().cast::<Header>();
    let header = Header {
        frame: Some(frame),
        next: ptr::null_mut(),
        prev: ptr::null_mut(),
        free: ptr::null_mut(),
        carved: 0,
        used: 0,
    };
    // SAFETY: the frame is ours, page-aligned and larger than a header. From here on it is reached through this pointer
    // only; the owner inside merely keeps it from being handed out again.
    unsafe { slab.write(header) };
    Some(slab)
}
