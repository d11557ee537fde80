//! What went wrong with a guest that is tried or shown at length: it ended, or something was found.

use std::path::Path;

use anyhow::anyhow;

use crate::outcome::Ending;
use crate::workshop::Workshop;

/// What was found to be wrong.
pub enum Wrong {
    /// The guest did not live.
    Ending(Ending),
    /// It lives, and errs; or its disk does.
    Found(String),
}

impl Wrong {
    /// In lines for a person, after `what` was run; `log` is kept.
    pub fn report(&self, workshop: &Workshop, what: &str, log: &Path) -> String {
        let mut lines = vec![what.to_owned()];
        match self {
            Wrong::Found(what) => lines.push(what.clone()),
            Wrong::Ending(ending) => {
                lines.push(ending.to_string());
                lines.extend(workshop.backtrace(ending));
            }
        }
        lines.push(format!("log: {}", log.display()));
        lines.join("\n      ")
    }
}

/// Why a show cannot go on.
pub enum Problem {
    /// The guest ended.
    Ending(Ending),
    /// Something else.
    Host(anyhow::Error),
}

impl Problem {
    /// As an error of the command.
    pub fn told(self, workshop: &Workshop, log: &Path) -> anyhow::Error {
        match self {
            Problem::Host(error) => error,
            Problem::Ending(ending) => {
                let lines = [vec![ending.to_string()], workshop.backtrace(&ending)].concat();
                anyhow!("{}\nserial log: {}", lines.join("\n"), log.display())
            }
        }
    }
}

impl From<Ending> for Problem {
    fn from(ending: Ending) -> Problem {
        Problem::Ending(ending)
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Problem {
        Problem::Host(error)
    }
}
