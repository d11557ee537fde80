//! Which processor this is: a number that lies where its GS leads to, and that crate `frames` reads there.
//!
//! The boot processor is number 0, from the first instructions of the kernel on.

pub use frames::cpu::number;

use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

/// The most processors that have a number.
pub const MOST: usize = frames::lock::PROCESSORS;

static NUMBERS: [u32; MOST] = {
    let mut numbers = [0; MOST];
    let mut index = 0;
    while index < MOST {
        numbers[index] = index as u32;
        index += 1;
    }
    numbers
};

/// Gives this processor its number. Its GS stays as it is from here on; every processor does this before it takes its first lock.
pub fn set(number: usize) {
    GsBase::write(VirtAddr::from_ptr(&NUMBERS[number % MOST]));
}
