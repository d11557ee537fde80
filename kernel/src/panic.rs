//! The end of a kernel with a bug: say what is known, then leave with an exit status of its own; or, before the kernel was up, go
//! back to the kernel before, if there is a way.
//!
//! Whoever panics may hold any lock, so nothing here takes one. The message comes first, because each later step is
//! likelier to fail; a panic inside the panic ends at once.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use protocol::exit::Exit;
use protocol::{Level, emit, event};

use crate::arch::backtrace::{self, Backtrace};
use crate::arch::trap::{self, Cause, TrapFrame};
use crate::arch::{apic, cpu};
use crate::console::{self, Mode, Port, input};
use crate::drivers::{debug_exit, stop};
use crate::kexec::way_back::{self, WayBack};
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
        let way_back = way_back::take();
        let mut port = console::emergency();
        let is_end = way_back.is_none();
        // The port never fails; a `Display` that does has said what it could.
        let _ = match console::mode() {
            Mode::Plain => tell_people(&mut port, message, location, registers, trace, is_end),
            Mode::Tagged => tell_programs(&mut port, message, location, registers, trace, is_end),
        };
        port.flush();
        if let Some(way_back) = way_back {
            go_back(way_back);
        }
    }
    debug_exit::exit(Exit::Panic);
    cpu::halt_forever()
}

/// Stops whatever could disturb the kernel before, and starts it. Comes back only if that cannot be done.
fn go_back(way_back: WayBack) {
    stop::all();
    input::stop();
    apic::quiesce_in_emergency();
    // SAFETY: there is one processor, and every device that could write to memory was just reset.
    unsafe { way_back.go() }
}

fn tell_people(
    port: &mut Port,
    message: &dyn fmt::Display,
    location: Option<&dyn fmt::Display>,
    registers: &TrapFrame,
    trace: Backtrace,
    is_end: bool,
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
    if is_end { Ok(()) } else { writeln!(port, "going back to the kernel before") }
}

fn tell_programs(
    port: &mut Port,
    message: &dyn fmt::Display,
    location: Option<&dyn fmt::Display>,
    registers: &TrapFrame,
    trace: Backtrace,
    is_end: bool,
) -> fmt::Result {
    let panic = emit::event(port, if is_end { event::PANIC } else { event::FALLBACK }).field("message", message);
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
    match is_end {
        true => emit::event(port, event::END).field("reason", event::REASON_PANIC).end(),
        false => Ok(()),
    }
}
