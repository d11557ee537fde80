//! Memory of the host's that a device shows: it is no part of the guest's RAM, and others can write to it at any time.
//!
//! So the pool is untrusted: cleancache keeps a tag of each page in the guest's own memory, and a page that does not fit its tag
//! any more is a miss. Nothing is asked of the device while the machine runs.

use alloc::sync::Arc;
use cleancache::{Cleancache, Kind, PoolId};
use core::fmt;
use frames::FrameRun;
use log::{error, info};

use crate::{Donor, TooManyPools, pool};

/// What the pool is called.
pub const NAME: &str = "ivshmem";

/// The shared memory that was lent.
#[derive(Debug)]
pub struct SharedMemory {
    cleancache: Arc<Cleancache>,
    pool: PoolId,
    frames: u64,
}

impl SharedMemory {
    /// Lends the frames of `run` to cleancache, for good.
    ///
    /// # Errors
    /// [`TooManyPools`].
    pub fn lend(cleancache: Arc<Cleancache>, run: FrameRun) -> Result<Self, TooManyPools> {
        let pool = pool(&cleancache, NAME, Kind::Untrusted(run.range()))?;
        let mut frames = run.len() as u64;
        if let Err((reason, rest)) = cleancache.donate_run(pool, run) {
            error!(target: "donate", "{NAME}: {} frames not lent: {reason}", rest.len());
            frames -= rest.len() as u64;
        }
        info!(target: "donate", "{NAME}: {frames} frames lent to cleancache, not trusted");
        Ok(Self { cleancache, pool, frames })
    }

    /// The pool.
    pub fn pool(&self) -> PoolId {
        self.pool
    }

    /// The cache that has the frames.
    pub fn cleancache(&self) -> &Arc<Cleancache> {
        &self.cleancache
    }
}

/// There is no interrupt and no DMA, and what others can write to is of no use when memory is short.
impl Donor for SharedMemory {
    fn name(&self) -> &str {
        NAME
    }

    fn foreign(&self) -> u64 {
        self.frames
    }

    fn report(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{NAME}: {} frames of the host's, not trusted", self.frames)
    }
}
