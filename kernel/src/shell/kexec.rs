//! `kexec`: getting the next kernel ready, and going on in it.

use alloc::string::String;
use alloc::vec::Vec;

use prompt::options::{Args, UsageError};

use super::{Failure, Outcome, Session, resume};
use crate::console::{self, input};
use crate::generation;

/// What stands for the file where there is none.
const RUNNING: &[u8] = b"running image";

/// `kexec [load [PATH]|exec|abort|status|PATH]`.
pub fn run(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "")?;
    match args.operands.as_slice() {
        [] | [b"exec"] => exec(session, None),
        [b"abort"] => {
            let said =
                if generation::abort(session.system) { "what was loaded is forgotten" } else { "nothing is loaded" };
            session.out.print(format_args!("{said}\n"));
            Ok(())
        }
        [b"status"] => status(session),
        [b"load"] => load(session, None),
        [b"load", path] => load(session, Some(path)),
        [path] => exec(session, Some(path)),
        [b"load", _, extra, ..] | [_, extra, ..] => Err(UsageError::Extra(extra.to_vec()).into()),
    }
}

fn status(session: &mut Session<'_>) -> Outcome {
    let mut report = String::new();
    // A string takes everything.
    let _ = generation::status(session.system, &mut report);
    session.out.print(format_args!("{report}"));
    Ok(())
}

fn load(session: &mut Session<'_>, path: Option<&[u8]>) -> Outcome {
    get_ready(session, path)?;
    status(session)
}

fn get_ready(session: &mut Session<'_>, path: Option<&[u8]>) -> Outcome {
    let absolute = path.map(|path| session.absolute(path));
    generation::load(session.system, absolute.as_deref(), &mut input::take_interruption)
        .map_err(|error| Failure::other(path.unwrap_or(RUNNING), error))
}

fn exec(session: &mut Session<'_>, path: Option<&[u8]>) -> Outcome {
    let rest = session.rest().clone();
    resume::leave(session, &rest)?;
    go(session, path)
}

/// Goes on in a fresh kernel, where the shell does next what [`resume::leave`] left: the file at `path`, or what was loaded. Comes
/// back only with a failure.
pub fn go(session: &mut Session<'_>, path: Option<&[u8]>) -> Outcome {
    session.out.flush();
    console::flush();
    let failed = try_to_go(session, path);
    resume::forget(session);
    failed
}

fn try_to_go(session: &mut Session<'_>, path: Option<&[u8]>) -> Outcome {
    if let Some(path) = path {
        get_ready(session, Some(path))?;
    }
    let Err(error) = generation::exec(session.system, &mut input::take_interruption);
    if path.is_some() {
        // It was loaded for this one time.
        generation::abort(session.system);
    }
    Err(Failure::other(path.unwrap_or(RUNNING), error))
}

/// Says what became of a kexec after which the same kernel runs again.
pub fn tell_of_return(why: &str) {
    console::error(format_args!("kexec: {why}"));
}
