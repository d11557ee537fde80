//! The boot stage's decisions, without the machine.
//!
//! The boot stage is entered by PVH, finds out what memory there is and whether a kernel before it left something, and
//! starts the kernel that it carries by `bootloader_api`'s contract. This library decides; the binary beside it acts.
//! The order of the rooms is the order of a boot:
//!
//! 1. [`handoff`] reads what the VMM or the previous kernel says;
//! 2. [`scratch`] finds the memory that may be written, and parcels it out;
//! 3. [`plan`] checks the kernel's file and says where each part goes;
//! 4. [`layout`] chooses virtual addresses as the kernel's `BootloaderConfig` wants them;
//! 5. [`regions`] writes the memory map that the kernel gets.
//!
//! Everything that comes from outside is hostile: it is bounds-checked, nothing panics, and a refusal has a reason.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod handoff;
pub mod layout;
pub mod plan;
pub mod regions;
pub mod scratch;

#[cfg(test)]
mod tests;
