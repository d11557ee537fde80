//! Generations: what this kernel got from the one before, and how it makes way for the next.
//!
//! One room for each part of a kernel's life: [`begin`] takes over what was handed over, until the kernel is *up*; [`load`]
//! gets ready what is to run next, and does ahead what can be done ahead; [`exec`] hands over and jumps; [`way_back`] prepares
//! for the next kernel's failing; [`report`] says how all that went.
//!
//! Invariants: until this kernel is up nothing of what was handed over is changed or freed, so that the kernel before could be
//! started again with the same; and until the devices are stopped, which cannot fail, a kexec that is called off has changed
//! nothing.

mod ahead;
mod begin;
mod error;
mod exec;
mod load;
mod provoke;
mod report;
mod way_back;

pub use begin::open;
pub use error::{KexecError, Step};
pub use exec::exec;
pub use load::{abort, load, status};
pub use provoke::Provoke;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use frames::Lock;
use fs::tmpfs::{Casualty, Rejected, Tmpfs};
use handover::{Handover, Summary};

use crate::time;
use load::Loaded;
use provoke::Provoked;

/// A kernel in the line of kernels.
#[derive(Debug)]
pub struct Generation {
    /// How many kexecs ago the machine was booted.
    pub number: u32,
    previous_build: String,
    /// What became of the kernel between, if this one had made way already and was started again.
    came_back: Option<String>,
    /// What was handed over, and in which version of the format.
    handed_over: Option<(u32, Summary)>,
    /// What did not survive, with the mount point that it was below.
    casualties: Vec<(Vec<u8>, Casualty)>,
    /// Ticks from the beginning of the kexec to a tree in which files can be opened; 0 on a first boot.
    downtime: u64,
    /// What was handed over, and content that has no place any more: until this kernel is up.
    handover: Lock<Option<(Handover, Vec<Rejected>)>>,
    /// Filesystems that were handed over and could not be mounted, likewise.
    unmounted: Lock<Vec<Arc<Tmpfs>>>,
    /// What runs next.
    loaded: Lock<Option<Loaded>>,
    provoked: Lock<Provoked>,
}

impl Generation {
    /// From the beginning of the kexec until files could be opened again.
    pub fn downtime(&self) -> Duration {
        Duration::from_micros(time::ticks_to_micros(self.downtime))
    }

    /// Why this kernel runs again after it had made way for another; `None` if it did not.
    pub fn came_back(&self) -> Option<&str> {
        self.came_back.as_deref()
    }
}
