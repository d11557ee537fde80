//! Kexec: the kernel replaces itself.
//!
//! What runs next is a bootable file, either one that [`Image::load`] has read and checked or the one that is running,
//! which lies unchanged where it was loaded. It is entered by PVH exactly as QEMU enters it. So a kexec is a list of
//! page moves into the scratch area ([`moves`]), and a jump:
//!
//! 1. [`Image::load`] stages the file's bytes in frames outside the scratch area; nothing is lost if that fails.
//! 2. [`prepare`] adds the start info, the memory map and the parcel, and builds page tables and code that survive
//!    the moves; all that can fail has failed by its end, and dropping its result undoes it.
//! 3. [`prepare::Prepared::jump`] does not return.
//!
//! The top pages of the scratch area ([`prepare::TAIL_LEN`]) receive what the boot stage reads. It copies all of that before it
//! writes there, so nothing handed over needs room outside the scratch area or below 4 GiB, however fragmented memory is.

mod image;
mod jump;
mod moves;
mod prepare;

pub use image::{Found, Image, LoadError};
pub use prepare::{Machine, PrepareError, Prepared, Target, prepare};
