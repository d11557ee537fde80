//! The table of all commands, and how a line is carried out.

use alloc::vec::Vec;

use prompt::words;

use super::failure::Named;
use super::output::Output;
use super::{Failure, Outcome, Session, content, fill, list, machine, memory, names, par, space, sums, xattrs};
use crate::console;

/// A command.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Its options and operands, as `help` shows them.
    pub usage: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// Does it; gets the words after the name.
    pub run: fn(&mut Session<'_>, &[Vec<u8>]) -> Outcome,
}

/// All commands, by family.
pub const FAMILIES: [(&str, &[Command]); 10] = [
    ("files: looking", list::COMMANDS),
    ("files: content", content::COMMANDS),
    ("files: for tests", fill::COMMANDS),
    ("files: names", names::COMMANDS),
    ("files: extended attributes", xattrs::COMMANDS),
    ("sums", sums::COMMANDS),
    ("on all CPUs", par::COMMANDS),
    ("space", space::COMMANDS),
    ("memory", memory::COMMANDS),
    ("the machine", machine::COMMANDS),
];

/// Every command.
pub fn all() -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().flat_map(|(_, commands)| commands.iter())
}

/// The command called `name`.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    all().find(|command| command.name.as_bytes() == name)
}

/// Carries out the commands of a line; says whether all of them succeeded. Control-C ends the whole line.
pub fn run_line(session: &mut Session<'_>, line: &[u8]) -> bool {
    let commands = match words::parse(line) {
        Ok(commands) => commands,
        Err(error) => {
            console::error(format_args!("shell: {error}"));
            return false;
        }
    };
    let mut succeeded = true;
    for command in &commands {
        session.set_rest(succeeded, line.get(command.rest..).unwrap_or_default());
        match run(session, command) {
            Ok(()) => {}
            Err(Failure::Interrupted) => return false,
            Err(_) => succeeded = false,
        }
        // Nothing is held between two commands, and donors may have waited for memory to become free.
        session.system.donors.serve();
    }
    succeeded
}

/// Carries out one command, and reports its failure.
fn run(session: &mut Session<'_>, parsed: &words::Command) -> Outcome {
    let Some((name, arguments)) = parsed.words.split_first() else { return Ok(()) };
    let Some(command) = find(name) else {
        console::error(format_args!("{}: no such command (`help` lists them)", Named(name)));
        return Err(Failure::Said);
    };
    session.begin(command.name);
    let opened = match &parsed.output {
        None => Ok(Output::console()),
        Some(redirect) => Output::file(session, redirect),
    };
    let outcome = opened.and_then(|output| {
        session.out = output;
        let outcome = (command.run)(session, arguments);
        let closed = core::mem::replace(&mut session.out, Output::console()).close();
        closed.and(outcome)
    });
    if let Err(failure) = &outcome {
        session.report(failure);
        if let Failure::Usage(_) = failure {
            console::error(format_args!("usage: {}{}{}", command.name, gap(command.usage), command.usage));
        }
    }
    outcome
}

/// What stands between a command's name and its usage.
pub fn gap(usage: &str) -> &'static str {
    if usage.is_empty() { "" } else { " " }
}
