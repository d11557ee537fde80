//! The handover format: how one kernel tells the next what it has left in memory.
//!
//! A handover is a chain of frames, the *blob*, which begins at a root whose address travels in the boot parcel. It holds no
//! file content: it names the frames that do. The old kernel builds it with a [`Writer`] and jumps. The new one opens it
//! with [`Handover::open`] before it has an allocator, learns which frames to leave alone
//! ([`Handover::reserved`]), and reads the trees in it ([`Handover::items`]) once it has a heap.
//!
//! May touch: frames that it is given to write to, and bytes that a [`PhysRead`] copies for it. Everything read here is hostile: the
//! kernel that wrote it may have been broken, and the memory may have changed since. So
//!
//! - nothing is used before the checksums of the whole chain are proved;
//! - every count is bounded by the bytes that are there, so work and memory grow with the blob and not with what it claims;
//! - a frame has one use: an extent that names a frame a second time is handed out as rejected, with the reason;
//! - no input makes this crate panic.
//!
//! The first 24 bytes of the root (magic, versions, checksum, generation) and the way its checksum is taken are the same
//! in all versions, so that a kernel can always tell why it does not understand another.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cache_writer;
mod chain;
mod checksum;
mod error;
mod items;
mod items_cache;
mod layout;
mod open;
mod set;
mod types;
mod writer;

pub use cache_writer::CacheWriter;
pub use chain::Sealed;
pub use error::{HandoverError, WriteError};
pub use items::Items;
pub use layout::{MAX_BUILD, MAX_NAME, MAX_TARGET, MAX_VALUE, OLDEST_READ, SUM_PAGES, SUMS_AT_ONCE, VERSION};
pub use open::{Caches, Handover, PhysMap, PhysRead, Summary};
pub use types::{CacheOf, CachedFile, CachedPages, Extent, ExtentFault, Filesystem, Inode, Item, Kind, Time};
pub use writer::{About, FilesystemWriter, Writer};
