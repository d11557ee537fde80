//! What the kernel says: command output, errors, events and the log, on one serial line.
//!
//! `console=plain` is for people: output goes out as it is, events are not shown. `console=tagged` is for programs:
//! every line carries the tag that crate `protocol` defines. Everything said goes through one lock, except in a panic,
//! which may have interrupted the holder: [`emergency`] writes to the port without asking anybody.

pub mod dmesg;
pub mod input;
mod log_sink;
mod port;

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use frames::lock::LockGuard;
use frames::{Lock, Rank};
use protocol::emit::{self, Event, Output};

use crate::panic;
use crate::time::Deadline;
use dmesg::Ring;
pub use log_sink::init_log;
pub use port::Port;

/// Who reads the serial line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A person at a terminal.
    #[default]
    Plain,
    /// A program that knows the grammar.
    Tagged,
}

/// Kept outside the lock, because a panic must know it too.
static TAGGED: AtomicBool = AtomicBool::new(false);

struct Console {
    port: Port,
    output: Output,
    log: Ring,
}

static CONSOLE: Lock<Console> =
    Lock::new(Rank::Console, Console { port: Port::new(), output: Output::new(), log: Ring::new() });

fn lock() -> LockGuard<'static, Console> {
    // Once another processor panics, nobody else has anything to say.
    panic::give_way();
    CONSOLE.lock()
}

/// Waits until whoever writes has come to an end, if that is soon, and lets nobody write any more but by [`emergency`].
pub fn close() {
    const PATIENCE_MILLIS: u64 = 100;
    let patience = Deadline::after_millis(PATIENCE_MILLIS);
    while !patience.passed() {
        if let Some(guard) = CONSOLE.try_lock() {
            core::mem::forget(guard);
            return;
        }
        core::hint::spin_loop();
    }
}

/// Decides for whom the line is written. Called once, when the command line is known.
pub fn set_mode(mode: Mode) {
    TAGGED.store(mode == Mode::Tagged, Ordering::Relaxed);
}

/// For whom the line is written.
pub fn mode() -> Mode {
    if TAGGED.load(Ordering::Relaxed) { Mode::Tagged } else { Mode::Plain }
}

/// Output of a command: any bytes.
pub fn write(bytes: &[u8]) {
    let mut console = lock();
    let Console { port, output, .. } = &mut *console;
    match mode() {
        Mode::Plain => port.write_bytes(bytes),
        Mode::Tagged => port_never_fails(output.write(port, bytes)),
    }
    port.flush();
}

/// Sends what is held back of an unfinished line. Called when a command ends.
pub fn flush() {
    let mut console = lock();
    let Console { port, output, .. } = &mut *console;
    if mode() == Mode::Tagged {
        port_never_fails(output.flush(port));
    }
    port.flush();
}

/// One line of error output, such as `cat: /disk/none: not found`.
pub fn error(text: fmt::Arguments<'_>) {
    let mut console = lock();
    let Console { port, output, .. } = &mut *console;
    match mode() {
        Mode::Plain => {
            port.finish_line();
            port_never_fails(writeln!(port, "{text}"));
        }
        Mode::Tagged => port_never_fails(output.flush(port).and_then(|()| emit::error_line(port, text))),
    }
    port.flush();
}

/// Something that a program on the other end may want to know; people do not see it.
pub fn event(name: &str, fields: impl FnOnce(Event<'_, Port>) -> Event<'_, Port>) {
    if mode() == Mode::Plain {
        return;
    }
    let mut console = lock();
    let Console { port, output, .. } = &mut *console;
    port_never_fails(output.flush(port).and_then(|()| fields(emit::event(port, name)).end()));
    port.flush();
}

/// The port takes everything, so an error can only come from a `Display` that gave up, and what it wrote is sent.
fn port_never_fails(_: fmt::Result) {}

/// A port for the last words of a dying kernel: takes no lock, and begins on a fresh line.
pub fn emergency() -> Port {
    let mut port = Port::new();
    port.finish_line();
    port
}
