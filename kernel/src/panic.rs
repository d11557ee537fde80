//! The end of a kernel with a bug: say what is known, then leave with an exit status of its own.
//!
//! Whoever panics may hold any lock, so nothing here takes one. The message comes first, because each later step is
//! likelier to fail; a panic inside the panic ends at once.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use protocol::exit::Exit;
use protocol::{Level, emit, event};

use crate::arch::backtrace::{self, Backtrace};
use crate::arch::cpu;
use crate::arch::trap::{self, Cause, TrapFrame};
use crate::console::{self, Mode, Port};
use crate::drivers::debug_exit;
use crate::time;

static PANICKING: AtomicBool = AtomicBool::new(false);

/// Called by the language for every `panic!`, failed assertion and the like.
#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    let registers = trap::snapshot();
    let location = info.location().map(|location| location as &dyn fmt::Display);
    die(&info.message(), location, &registers, backtrace::from(registers.rbp))
}

/// Called for every exception: they are all bugs.
pub fn on_exception(frame: &TrapFrame, cause: &Cause) -> ! {
    let trace = backtrace::from_interrupted(frame.rip, frame.rbp);
    die(cause, None, frame, trace)
}

fn die(message: &dyn fmt::Display, location: Option<&dyn fmt::Display>, registers: &TrapFrame, trace: Backtrace) -> ! {
    cpu::disable_interrupts();
    if !PANICKING.swap(true, Ordering::Relaxed) {
        let mut port = console::emergency();
        // The port never fails; a `Display` that does has said what it could.
        let _ = match console::mode() {
            Mode::Plain => tell_people(&mut port, message, location, registers, trace),
            Mode::Tagged => tell_programs(&mut port, message, location, registers, trace),
        };
        port.flush();
    }
    debug_exit::exit(Exit::Panic);
    cpu::halt_forever()
}

fn tell_people(
    port: &mut Port,
    message: &dyn fmt::Display,
    location: Option<&dyn fmt::Display>,
    registers: &TrapFrame,
    trace: Backtrace,
) -> fmt::Result {
    write!(port, "\nkernel panic: {message}")?;
    if let Some(location) = location {
        write!(port, "\n  at {location}")?;
    }
    for row in registers.rows() {
        write!(port, "\n  {row}")?;
    }
    writeln!(port, "\nbacktrace:")?;
    port.flush();
    for address in trace {
        writeln!(port, "  {address:#x}")?;
    }
    Ok(())
}

fn tell_programs(
    port: &mut Port,
    message: &dyn fmt::Display,
    location: Option<&dyn fmt::Display>,
    registers: &TrapFrame,
    trace: Backtrace,
) -> fmt::Result {
    let panic = emit::event(port, event::PANIC).field("message", message);
    match location {
        Some(location) => panic.field("location", location).end()?,
        None => panic.end()?,
    }
    port.flush();
    for row in registers.rows() {
        emit::log_line(port, time::uptime_micros(), Level::Error, "panic", format_args!("{row}"))?;
    }
    for address in trace {
        emit::event(port, event::TRACE).field("pc", format_args!("{address:#x}")).end()?;
        port.flush();
    }
    emit::event(port, event::END).field("reason", event::REASON_PANIC).end()
}
