//! The shell on the serial line: reads lines, runs their commands one after the other, says how each ended.
//!
//! One room for each family of commands ([`list`], [`content`], [`names`], [`xattrs`], [`sums`], [`par`], [`space`], [`memory`],
//! [`machine`]), which [`commands`] lists in one table; [`kexec`] alone has a room for itself. A command gets a [`Session`]: the
//! system, the working directory and a place for its
//! output; it answers with a [`Failure`] or nothing. Whatever a command meets, the shell goes on with the next one.
//!
//! The language itself, line editing and the reading of options are in crate `prompt`, where the host can test them.

mod commands;
mod complete;
pub mod content;
pub mod failure;
pub mod files;
mod fill;
pub mod kexec;
mod list;
pub mod machine;
mod memory;
mod names;
mod output;
mod par;
pub mod resume;
mod session;
mod space;
pub mod sums;
mod terminal;
pub mod walk;
mod xattrs;

pub use failure::{Failure, Outcome};
pub use output::Output;
pub use session::Session;

use protocol::event;

use crate::arch::tsc;
use crate::console::{self, Mode};
use crate::power;
use crate::system::System;
use terminal::{Input, Terminal};

/// Runs the shell until the machine is powered off. What a line before a kexec left to do comes first.
pub fn run(system: &System) -> ! {
    let mut session = Session::new(system);
    let mut terminal = Terminal::default();
    let came_back = system.generation.came_back();
    if let Some(why) = came_back {
        kexec::tell_of_return(why);
    }
    match resume::take(&mut session) {
        Some(rest) => {
            let succeeded = commands::run_line(&mut session, &rest.line);
            done(succeeded && rest.succeeded && came_back.is_none());
        }
        None if came_back.is_some() => done(false),
        None => {}
    }
    if console::mode() == Mode::Plain {
        session.out.print(format_args!("`help` lists the commands, Control-D ends the machine\n"));
    }
    loop {
        console::event(event::PROMPT, |prompt| prompt.field("tsc", tsc::now()));
        system.generation.look_again(system);
        match terminal.read_line(&session) {
            Input::Line(line) => done(commands::run_line(&mut session, &line)),
            Input::TooLong => {
                console::error(format_args!("shell: the line is longer than {} bytes", prompt::editor::MAX_LINE));
                done(false);
            }
            Input::End => power::power_off(),
        }
    }
}

/// Says that a line has been carried out.
fn done(succeeded: bool) {
    console::flush();
    console::event(event::DONE, |done| done.field("status", u8::from(!succeeded)));
}
