//! What the firmware's tables say of the machine: which processors there are (ACPI 6.4, 5.2).
//!
//! Tables are hostile input: each length is checked before it is used, checksums have to be right, loops are bounded by what was
//! checked, and an error names what was wrong. The crate reaches memory only through [`Physical`], so all of it runs on the host.

#![no_std]
#![forbid(unsafe_code)]

mod madt;
mod tables;

pub use madt::{MOST, Processors, processors};
pub use tables::{AcpiError, Physical, Signature};
