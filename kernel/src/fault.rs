//! Bugs on purpose, so that tests see what a real one would look like. Reached only through the shell's `fault` word, and the
//! command line's `panic-at=`, which that word gives to the next kernel.

use core::arch::asm;
use core::hint;

use frames::Memory;
use log::info;

use crate::arch::paging::{self, PagingError};
use crate::arch::stacks;
use crate::smp::{
    self,
    calls::{self, Whom},
};
use crate::time::Deadline;

/// How a kernel is to fail before it is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// By a panic, as early as the command line is known: before memory is handed out.
    Early,
    /// By a panic, when everything stands and devices are in use.
    Late,
    /// By an exception, at the same moment as the latter.
    Overflow,
    /// By a panic of another processor, at the same moment.
    Other,
    /// Not at all, but the processor with number 1 does not come.
    Mute,
}

impl Stage {
    /// All of them, by name.
    const NAMES: [(&str, Stage); 5] = [
        ("early", Stage::Early),
        ("late", Stage::Late),
        ("overflow", Stage::Overflow),
        ("other", Stage::Other),
        ("mute", Stage::Mute),
    ];

    /// The stage of that name.
    pub fn named(name: &str) -> Option<Stage> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|&(_, stage)| stage)
    }

    /// What makes a kernel fail then, to be put behind its command line.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Early => " panic-at=early",
            Stage::Late => " panic-at=late",
            Stage::Overflow => " panic-at=overflow",
            Stage::Other => " panic-at=other",
            Stage::Mute => " panic-at=mute",
        }
    }
}

/// Where a kernel fails that is to fail early.
pub fn early(asked_for: Option<Stage>) {
    if asked_for == Some(Stage::Early) {
        panic!("provoked by `panic-at=early`");
    }
}

/// Where a kernel fails that is to fail late.
pub fn late(asked_for: Option<Stage>) {
    match asked_for {
        Some(Stage::Late) => panic!("provoked by `panic-at=late`"),
        Some(Stage::Overflow) => stack_overflow(),
        // Where there is no other processor, nobody fails.
        Some(Stage::Other) => drop(calls::call(Whom::One(1), |_| panic!("provoked by `panic-at=other`"), 0)),
        Some(Stage::Early | Stage::Mute) | None => {}
    }
}

/// How long the others wait for the processor that is to fail.
const PATIENCE_SECONDS: u64 = 5;

/// A panic of the processor with number 1, if it takes part, while all others write to the log.
pub fn other_panics() {
    const BEFORE: usize = 20;
    let patience = Deadline::after_seconds(PATIENCE_SECONDS);
    smp::spread(&|this| {
        let mut lines = 0;
        while smp::has_others() && !patience.passed() {
            assert!(this != 1 || lines < BEFORE, "provoked by `fault other-panic`");
            info!(target: "fault", "CPU {this} has nothing to say, and says so");
            lines += 1;
        }
    });
}

/// The processor with number 1 runs over its stack, if it takes part.
pub fn other_overflows() {
    let patience = Deadline::after_seconds(PATIENCE_SECONDS);
    smp::spread(&|this| {
        if this == 1 {
            stack_overflow();
        }
        while smp::has_others() && !patience.passed() {
            hint::spin_loop();
        }
    });
}

/// Another processor reads a page, which then is taken away, and reads it again: that ends the kernel, unless it still finds it.
pub fn stale_page(memory: &'static Memory) -> Result<(), PagingError> {
    let read = |address: u64| {
        // SAFETY: the page is mapped, or the processor says that it is not, which ends the kernel; any bits are a byte.
        unsafe { (address as *const u8).read_volatile() };
    };
    let address = stacks::unused();
    let call = || calls::call(Whom::One(1), read, address).map_err(PagingError::Stale);
    paging::map_stack(memory, address, 0)?;
    call()?;
    paging::unmap_page(address)?;
    call()
}

/// An ordinary panic.
pub fn panic() -> ! {
    panic!("provoked by `fault panic`")
}

/// A double fault: a push to a stack pointer that is no address raises a stack fault, whose own frame has nowhere to go
/// either.
pub fn double_fault() -> ! {
    // SAFETY: this never continues. The processor leaves the broken stack for the double-fault stack, whose handler
    // ends the kernel.
    unsafe {
        asm!(
            "mov rsp, {nowhere}",
            "push rax",
            "ud2",
            nowhere = in(reg) 0x8000_0000_0000_0000_u64,
            options(noreturn),
        )
    }
}

/// Recursion without an end, into the guard page under the kernel stack.
pub fn stack_overflow() -> ! {
    let depth = descend(0);
    unreachable!("a stack without an end: {depth} frames deep")
}

#[inline(never)]
fn descend(depth: u64) -> u64 {
    let ballast = core::hint::black_box([depth; 32]);
    let below = if depth == u64::MAX { 0 } else { descend(depth + 1) };
    below + core::hint::black_box(ballast)[0]
}
