//! The end of the machine: the closing line, then the exit status that proves it.

use log::info;
use protocol::event;
use protocol::exit::Exit;

use crate::arch::cpu;
use crate::console;
use crate::drivers::debug_exit;
use crate::smp::chores;

/// Ends the machine in good order. Nothing may be written after the closing line.
pub fn power_off() -> ! {
    // Others could still have something to say.
    let _rest = chores::rest();
    info!(target: "power", "power off");
    cpu::disable_interrupts();
    console::flush();
    console::event(event::END, |end| end.field("reason", event::REASON_POWEROFF));
    debug_exit::exit(Exit::Clean);
    cpu::halt_forever()
}
