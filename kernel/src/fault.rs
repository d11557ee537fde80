//! Bugs on purpose, so that tests see what a real one would look like. Reached only through the shell's `fault` word.

use core::arch::asm;

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
