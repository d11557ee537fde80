//! Donors: who lends memory to cleancache, how much, and what happens when it is wanted back.
//!
//! A [`Donor`] owns a pool of cleancache and, where it has one, a device of the host's. It is *served* at safe points, where
//! nothing is locked, whenever its device has called; each call of [`Donor::serve`] does a bounded piece of work and says whether
//! more is left. There is one file for each kind of memory:
//! - [`balloon`]: frames of the guest's own that the host may have when it wants them;
//! - [`mem`]: blocks that the host plugs in and out (virtio-mem);
//! - [`ivshmem`]: memory of the host's that others can write to;
//! - [`carve_out`]: frames set aside at boot, of which any number in one piece can be had back at once.
//!
//! Devices are traits here, so that the policy is tested on the host with devices that lie. A device that breaks the rules is
//! reset and not used any more; a frame that it might still hold is then used again only if it confirmed the reset.
//!
//! May touch: `frames`, `cleancache`, `cache`, the log. Knows nothing of buses, queues or interrupts.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod balloon;
pub mod carve_out;
mod fault;
pub mod ivshmem;
pub mod mem;
mod statistics;

pub use fault::Fault;

use alloc::string::String;
use cleancache::{Cleancache, Kind, PoolConfig, PoolId};
use core::fmt;

/// Cleancache has as many pools as it can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyPools;

impl fmt::Display for TooManyPools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there can be no more pools")
    }
}

impl core::error::Error for TooManyPools {}

/// A new pool. Nothing is scrubbed on return: pages of a disk's files are no secret from those who have the disk.
pub(crate) fn pool(cleancache: &Cleancache, name: &str, kind: Kind) -> Result<PoolId, TooManyPools> {
    let config = PoolConfig { name: String::from(name), kind, scrub: false };
    cleancache.register_pool(config).ok_or(TooManyPools)
}

/// Somebody who lends memory.
pub trait Donor: Send + Sync {
    /// What the pool is called.
    fn name(&self) -> &str;

    /// Does what the host asks for, a bounded piece of it; says whether there is more to be done at once. Called with no lock
    /// held. A donor without a device is asked for nothing.
    fn serve(&self) -> bool {
        false
    }

    /// Ends all dealings with the device, for good: afterwards it touches no memory and does not call. Another kernel takes over.
    fn quiesce(&self) {}

    /// Memory is short: make up to `frames` lent frames the guest's own; returns how many. The caller may hold locks that come
    /// before those of the caches.
    fn relieve(&self, _frames: usize) -> usize {
        0
    }

    /// As [`Donor::relieve`], for callers that may hold any lock: only what can be done without waiting for one.
    fn relieve_at_once(&self, _frames: usize) -> usize {
        0
    }

    /// Frames of the guest's own memory that the host has now, or might have.
    fn away(&self) -> u64 {
        0
    }

    /// Frames of the donor's pool that are no memory of the guest's own.
    fn foreign(&self) -> u64 {
        0
    }

    /// How things stand, for people: whole lines.
    ///
    /// # Errors
    /// Those of `out`.
    fn report(&self, out: &mut dyn fmt::Write) -> fmt::Result;
}
