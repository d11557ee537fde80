//! Walking the stack by frame pointers.
//!
//! The kernel is built with frame pointers, so each frame holds the caller's rbp and, above it, the return address.
//! After a crash none of that can be trusted: a step is taken only inside a known stack, upwards, and to an address in
//! the kernel's code. Code without frame pointers (a precompiled `core`) breaks the chain and merely ends it early.

use super::{image, stacks};

/// No real call chain here has more different steps; a corrupted one ends here.
const MAX_STEPS: usize = 64;

/// Return addresses, innermost first. An address that follows itself, as in a recursion that filled the stack, is given
/// once, so that what led there comes into view.
#[derive(Clone, Debug)]
pub struct Backtrace {
    /// The interrupted instruction, which comes before all return addresses.
    first: Option<u64>,
    last: Option<u64>,
    frame: u64,
    left: usize,
}

/// The callers above the frame that `frame_pointer` points to.
pub fn from(frame_pointer: u64) -> Backtrace {
    Backtrace { first: None, last: None, frame: frame_pointer, left: MAX_STEPS }
}

/// First the interrupted instruction itself, then its callers.
pub fn from_interrupted(instruction: u64, frame_pointer: u64) -> Backtrace {
    Backtrace { first: Some(instruction), ..from(frame_pointer) }
}

impl Iterator for Backtrace {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if let Some(instruction) = self.first.take() {
            return Some(instruction);
        }
        self.left = self.left.checked_sub(1)?;
        // This ends, because each step leads further up a stack of finite size.
        loop {
            let address = self.step()?;
            if self.last.replace(address) != Some(address) {
                return Some(address);
            }
        }
    }
}

impl Backtrace {
    /// Reads one frame record and moves on to the next.
    fn step(&mut self) -> Option<u64> {
        let stack = stacks::containing(self.frame)?;
        let end = self.frame.checked_add(16)?;
        if end > stack.end || !self.frame.is_multiple_of(8) {
            return None;
        }
        let words = self.frame as *const u64;
        // SAFETY: both words lie inside one of our stacks, which stay mapped for ever; they are aligned, and any bits
        // are a valid u64. The read is volatile because the compiler knows nothing about who wrote them.
        let (caller, return_address) = unsafe { (words.read_volatile(), words.add(1).read_volatile()) };
        // Frames of one stack lie above each other; anything else could lead in circles.
        self.frame = if caller > self.frame { caller } else { 0 };
        image::is_code(return_address).then_some(return_address)
    }
}
