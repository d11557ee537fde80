//! What crosses from one boot to the next.
//!
//! A boot has two sides that never run at the same time: whoever starts the boot stage (QEMU, or the previous kernel's
//! kexec) and whoever is started by it. They agree on four things, one room each:
//!
//! - [`pvh`]: the structures of the PVH entry protocol, by which the boot stage is entered;
//! - [`memmap`]: the machine's memory map in its one normal form, the same in every generation;
//! - [`parcel`]: the small checked structure with everything that neither PVH nor `BootInfo` has a field for;
//! - [`image`]: what makes a file bootable, checked before a running kernel gives itself up for it.
//!
//! All input is hostile here: every length is checked, nothing panics, and an error names what was wrong. The crate
//! touches no memory but the slices it is given.

#![no_std]
#![forbid(unsafe_code)]

pub mod image;
pub mod memmap;
pub mod parcel;
pub mod pvh;
mod span;

pub use parcel::{Jump, Parcel};
pub use span::Span;

/// The size of a page and of a frame, in bytes.
pub const PAGE_SIZE: u64 = 4096;
