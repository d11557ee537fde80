//! Filesystems: one name space ([`vfs`]) over the filesystems that are mounted in it ([`ext2`] and [`ext4`] on a block device,
//! [`tmpfs`] in memory).
//!
//! May touch: the page cache, for pages of files on disk and for every frame it needs; the handover format, for a tmpfs
//! and cached pages ([`heritage`]) that cross a kexec. Knows nothing of devices but the [`block::BlockDevice`] trait.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod block;
pub mod error;
pub mod ext2;
pub mod ext4;
pub mod filesystem;
pub mod heritage;
mod requests;
pub mod tmpfs;
pub mod vfs;

pub use error::Error;
pub use filesystem::FileSystem;
pub use vfs::Vfs;
