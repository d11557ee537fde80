//! What a device can do wrong.

use core::fmt;

/// Why a device is not used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It did not answer in time.
    Silent,
    /// Its configuration changes whenever it is read.
    Unsteady,
    /// It has no configuration, or too short a one.
    NoConfig,
    /// It has no such queue, or a short one, or there was no memory for ours.
    NoQueue(u16),
    /// It says so itself.
    NeedsReset,
    /// It will not have this.
    Refused(&'static str),
    /// It handed back what it cannot have.
    Garbage(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no answer"),
            Self::Unsteady => f.write_str("its configuration does not hold still"),
            Self::NoConfig => f.write_str("its configuration cannot be read"),
            Self::NoQueue(number) => write!(f, "queue {number} cannot be set up"),
            Self::NeedsReset => f.write_str("it says that it needs a reset"),
            Self::Refused(what) => write!(f, "it refuses {what}"),
            Self::Garbage(what) => write!(f, "rubbish from the device: {what}"),
        }
    }
}

impl core::error::Error for Fault {}
