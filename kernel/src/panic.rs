//! The end of a kernel with a bug: say what is known, then leave with an exit status of its own; or, before the kernel was up, go
//! back to the kernel before, if there is a way.
//!
//! Whoever panics may hold any lock, so nothing here waits for one. The other processors are stopped first, once the line is finished
//! that one of them may be writing. Then comes the message, because each later step is likelier to fail; a panic inside the panic
//! ends at once, and one of another processor is not heard any more. The way back is the boot processor's, whoever panicked.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use protocol::exit::Exit;
use protocol::{Level, emit, event};

use crate::arch::backtrace::{self, Backtrace};
use crate::arch::trap::{self, Cause, TrapFrame};
use crate::arch::{apic, cpu, local};
use crate::console::{self, Mode, Port, input};
use crate::drivers::{self, debug_exit};
use crate::kexec::way_back;
use crate::smp::{self, stop};
use crate::time;

/// Who panics: the number of the processor, and one more; 0 for nobody.
static PANICKING: AtomicUsize = AtomicUsize::new(0);

/// Does not come back if another processor panics.
pub fn give_way() {
    let panicking = PANICKING.load(Ordering::Relaxed);
    if panicking != 0 && panicking != local::number() + 1 {
        cpu::halt_forever();
    }
}

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
    let first = PANICKING.compare_exchange(0, local::number() + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    give_way();
    if first {
        if smp::online().count() > 1 {
            console::close();
            stop::stop_others();
        }
        let mut port = console::emergency();
        let is_end = !way_back::is_open();
        // The port never fails; a `Display` that does has said what it could.
        let _ = match console::mode() {
            Mode::Plain => tell_people(&mut port, message, location, registers, trace, is_end),
            Mode::Tagged => tell_programs(&mut port, message, location, registers, trace, is_end),
        };
        port.flush();
        if is_end || local::number() == 0 || !stop::leave_to_boot_processor() {
            leave();
        }
        cpu::halt_forever();
    }
    end()
}

/// Leaves this kernel: by the way back, if that is open and this is the boot processor, or for good.
pub fn leave() -> ! {
    // What goes wrong on the way is not for whoever panicked to say.
    PANICKING.store(local::number() + 1, Ordering::Relaxed);
    if local::number() == 0
        && let Some(way_back) = way_back::take()
    {
        drivers::stop::all();
        input::stop();
        stop::reset_others();
        apic::quiesce_in_emergency();
        // SAFETY: the other processors wait for a start, and every device that could write to memory was just reset.
        unsafe { way_back.go() }
    }
    end()
}

fn end() -> ! {
    debug_exit::exit(Exit::Panic);
    cpu::halt_forever()
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
    if local::number() > 0 {
        write!(port, "\n  on CPU {}", local::number())?;
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
    if local::number() > 0 {
        let number = local::number();
        emit::log_line(port, time::uptime_micros(), Level::Error, "panic", format_args!("on CPU {number}"))?;
    }
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
