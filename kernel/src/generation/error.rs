//! Why there was no kexec.

use core::fmt;

use handover::WriteError;

use crate::kexec::{LoadError, PrepareError};

/// How far a kexec had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// What is to run next is in memory, and checked.
    Load,
    /// What can be done ahead is done.
    Ahead,
    /// The handover is written.
    Handover,
    /// All that the jump needs is there. What comes next cannot fail: devices are stopped, and the jump.
    Prepare,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Load => "the image was loaded",
            Step::Ahead => "the work ahead was done",
            Step::Handover => "the handover was written",
            Step::Prepare => "the jump was prepared",
        })
    }
}

/// Why there was no kexec. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KexecError {
    /// The file cannot be opened or read.
    File(fs::Error),
    /// What has changed cannot be brought to the disks, and would be lost.
    Changes(fs::Error),
    /// The file is none that can be started here.
    Load(LoadError<fs::Error>),
    /// What has to be made before the jump cannot be made.
    Prepare(PrepareError),
    /// The handover cannot be written.
    Handover(WriteError),
    /// Somebody called it off.
    CalledOff(Step),
}

impl fmt::Display for KexecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Changes(error) => write!(f, "changes cannot be written to the disk: {error}"),
            Self::Load(error) => error.fmt(f),
            Self::Prepare(error) => error.fmt(f),
            Self::Handover(error) => error.fmt(f),
            Self::CalledOff(step) => write!(f, "called off after {step}"),
        }
    }
}

impl core::error::Error for KexecError {}
