//! What a command works with: the system, the working directory, its output; and the way to report what went wrong.
//!
//! What commands do with files is in [`super::files`], as methods of the session.

use alloc::vec::Vec;

use super::{Failure, Outcome, Output};
use crate::arch::local;
use crate::console;
use crate::system::System;

/// The state of the shell.
pub struct Session<'s> {
    /// What there is.
    pub system: &'s System,
    /// The working directory, a real path.
    pub directory: Vec<u8>,
    /// Where the command's output goes.
    pub out: Output,
    command: &'static str,
    rest: Rest,
}

/// What a line has left to do after the command that runs now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Whether every command so far succeeded.
    pub succeeded: bool,
    /// The other commands.
    pub line: Vec<u8>,
}

impl<'s> Session<'s> {
    /// A session in the root directory.
    pub fn new(system: &'s System) -> Self {
        Self { system, directory: b"/".to_vec(), out: Output::console(), command: "shell", rest: Rest::default() }
    }

    /// Says which command speaks from now on.
    pub fn begin(&mut self, command: &'static str) {
        self.command = command;
    }

    /// Notes what the line has left to do.
    pub fn set_rest(&mut self, succeeded: bool, line: &[u8]) {
        self.rest = Rest { succeeded, line: line.to_vec() };
    }

    /// What the line has left to do.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// Reports a failure as `COMMAND: PATH: reason`.
    pub fn report(&mut self, failure: &Failure) {
        self.out.flush();
        if *failure != Failure::Said {
            console::error(format_args!("{}: {failure}", self.command));
        }
    }

    /// Reports a failure that is no reason to stop, and answers `None`; others are handed on.
    pub fn tolerate<T>(&mut self, outcome: Outcome<T>) -> Outcome<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(failure @ (Failure::Interrupted | Failure::Output)) => Err(failure),
            Err(failure) => {
                self.report(&failure);
                Ok(None)
            }
        }
    }

    /// Does `work` for each operand, in order; one that fails is reported and does not keep the others from their turn.
    pub fn each(&mut self, operands: &[&[u8]], mut work: impl FnMut(&mut Self, &[u8]) -> Outcome) -> Outcome {
        let mut failed = false;
        for operand in operands {
            let outcome = work(self, operand);
            failed |= self.tolerate(outcome)?.is_none();
        }
        if failed { Err(Failure::Said) } else { Ok(()) }
    }

    /// Whether to go on: asked now and then by whoever may run for long. On the boot processor donors that call are served here, and
    /// changes written behind, so no lock may be held.
    ///
    /// # Errors
    /// [`Failure::Interrupted`] after Control-C, [`Failure::Output`] when the output goes nowhere.
    pub fn check(&self) -> Outcome {
        if local::number() > 0 {
            return if console::input::is_interrupted() { Err(Failure::Interrupted) } else { Ok(()) };
        }
        if console::input::take_interruption() {
            return Err(Failure::Interrupted);
        }
        self.system.serve_donors();
        self.system.write_behind();
        if self.out.is_broken() { Err(Failure::Output) } else { Ok(()) }
    }
}
