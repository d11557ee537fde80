//! The names of the events, and what their fields mean.
//!
//! A reader passes over events and fields that it does not know, so either side may be newer.

/// `@boot generation=N build="..."`: a kernel has started; generation 0 came from `-kernel`.
pub const BOOT: &str = "boot";
/// `@prompt tsc=N`: the shell waits for one command line; `tsc` is the time-stamp counter.
pub const PROMPT: &str = "prompt";
/// `@done status=0|1`: the command line has been carried out; 1 if any command of it failed.
pub const DONE: &str = "done";
/// `@kexec tsc=N`: the next generation is loaded and the jump comes now.
pub const KEXEC: &str = "kexec";
/// `@up generation=N`: the kernel stands, and the one before it will not be started again.
pub const UP: &str = "up";
/// `@fallback message="..." location="..."`: the kernel gives up before it was up, and the one before it is started again; frames
/// of the stack follow, then another boot.
pub const FALLBACK: &str = "fallback";
/// `@bench name=... instructions=N ops=N`: a measurement; cost per operation is the quotient.
pub const BENCH: &str = "bench";
/// `@refused reason="..."`: the boot stage will not start this kernel.
pub const REFUSED: &str = "refused";
/// `@panic message="..." location="..."`: the kernel gives up; frames of the stack follow.
pub const PANIC: &str = "panic";
/// `@trace pc=0x...`: one return address, innermost first.
pub const TRACE: &str = "trace";
/// `@end reason=poweroff|panic`: the closing line. Nothing follows it.
pub const END: &str = "end";

/// Value of `reason` in [`END`] after an orderly shutdown.
pub const REASON_POWEROFF: &str = "poweroff";
/// Value of `reason` in [`END`] after a panic.
pub const REASON_PANIC: &str = "panic";
