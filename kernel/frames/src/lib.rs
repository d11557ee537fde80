//! Physical memory: who owns which frame.
//!
//! A [`Frame`] is owned, like a `Box`: it is not `Copy`, and dropping it gives it back. A [`Pfn`] is the name of a frame and
//! gives no access to it. Everything that keeps frames keeps them as values: the allocator's free lists ([`Memory`]), a
//! [`FrameList`], a [`FrameMap`], a [`FrameRun`]; a frame "in transit" is a local variable. So two owners of one frame
//! cannot be written down in safe code.
//!
//! The same code runs in the guest, over the machine's memory, and on the host, over an [`arena`] of ordinary memory.
//! This is the only crate below the kernel binary with `unsafe` in it: it turns frame numbers into memory. Its
//! invariant: *for each frame there is at most one owner*, which is a `Frame`, a part of a `FrameRun`, an entry of a list
//! or map here, a block on a free list, or a range that is [set aside](Memory::claim). Memory that is not ours, as a host lends
//! it, has records too, in an [annex](Memory::annex); the allocator never hands it out.
#![no_std]

extern crate alloc;
#[cfg(not(target_os = "none"))]
extern crate std;

mod addr;
mod annex;
#[cfg(not(target_os = "none"))]
pub mod arena;
mod aside;
mod buddy;
pub mod checksum;
pub mod chunks;
mod copy;
pub mod cpu;
mod frame;
mod layout;
mod list;
pub mod lock;
mod map;
mod memory;
mod meta;
mod percpu;
mod report;
mod run;
mod sections;
mod sync;
pub mod waits;
mod zone;

pub use addr::{FRAME_SHIFT, FRAME_SIZE, Page, Pfn, PfnRange, PhysAddr, Zone, Zones};
pub use annex::AnnexError;
pub use aside::ClaimError;
pub use copy::PagePart;
pub use frame::Frame;
pub use layout::{Layout, LayoutError, Stats, Watermarks};
pub use list::FrameList;
pub use lock::{Lock, LockGuard, Rank};
pub use map::{FrameMap, FrameMut, FrameRef, Glance, Key, Occupied, Taken, Vacant};
pub use memory::Memory;
pub use meta::FrameMeta;
pub use run::FrameRun;
