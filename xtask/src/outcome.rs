//! How a run can end, and the exit status that says so.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

/// How the guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Exit value and closing line both say: powered off.
    Clean,
    /// The kernel panicked.
    Panic {
        /// What it said.
        message: String,
        /// Where in its source; empty if an exception ended it.
        location: String,
        /// Return addresses, innermost first.
        trace: Vec<u64>,
    },
    /// The boot stage would not start the kernel.
    Refused {
        /// Why not.
        reason: String,
    },
    /// It did not answer in time and was killed.
    TimedOut {
        /// What was waited for.
        waiting_for: String,
        /// For how long.
        limit: Duration,
    },
    /// QEMU ended, but not with the closing line and the exit status that belong together.
    Died {
        /// QEMU's exit status in words.
        status: String,
        /// The last line from the guest.
        last_line: String,
    },
}

impl Ending {
    /// The exit status of `run` for a guest that ended like this.
    pub fn exit(&self) -> Exit {
        match self {
            Ending::Clean => Exit::Success,
            Ending::Panic { .. } => Exit::Panic,
            Ending::TimedOut { .. } => Exit::TimedOut,
            Ending::Refused { .. } | Ending::Died { .. } => Exit::Died,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Clean => f.write_str("the guest powered off"),
            Ending::Panic { message, location, .. } => {
                f.write_str("the guest panicked")?;
                if !location.is_empty() {
                    write!(f, " at {location}")?;
                }
                write!(f, ": {message}")
            }
            Ending::Refused { reason } => write!(f, "the boot stage refused: {reason}"),
            Ending::TimedOut { waiting_for, limit } => {
                write!(f, "no {waiting_for} within {} s", limit.as_secs())
            }
            Ending::Died { status, last_line } => {
                write!(f, "the guest ended without its closing line ({status}; last line {last_line:?})")
            }
        }
    }
}

/// Exit status of xtask. Part of its interface: scripts tell these apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything succeeded.
    Success = 0,
    /// A command in the guest, or a test, failed.
    Failed = 1,
    /// Something on the host: wrong usage, a build error, a missing tool.
    Host = 2,
    /// The guest panicked.
    Panic = 3,
    /// The guest took too long.
    TimedOut = 4,
    /// The guest ended without its closing line.
    Died = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
