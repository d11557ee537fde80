//! The carve-out: memory set aside at boot and lent to cleancache until the machine wants it for itself.
//!
//! The frames lie in one piece at the top of memory. They are taken back from the top, and become ordinary memory.

use cleancache::{Cleancache, Kind, PoolConfig, PoolId};
use frames::{Lock, Memory, PfnRange, Rank};
use log::{info, warn};

/// What the pool is called.
pub const NAME: &str = "carveout";

/// A carve-out that was lent.
#[derive(Debug)]
pub struct CarveOut {
    pool: Option<PoolId>,
    /// What has not been taken back.
    lent: Lock<PfnRange>,
}

/// How many frames were taken back, and what was in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Frames that held nothing.
    pub free: u64,
    /// Frames that held a page, which is gone.
    pub used: u64,
}

impl Taken {
    /// All of them.
    pub fn frames(&self) -> u64 {
        self.free + self.used
    }
}

impl CarveOut {
    /// Lends the frames of `range`, which are set aside in `memory`.
    pub fn lend(memory: &'static Memory, cleancache: &Cleancache, range: PfnRange) -> Self {
        let config = PoolConfig { name: NAME.into(), kind: Kind::Fixed, scrub: false };
        let pool = cleancache.register_pool(config);
        let mut lent = PfnRange { start: range.start, count: 0 };
        if let Some(pool) = pool
            && !range.is_empty()
        {
            match memory.claim(range) {
                Ok(run) => match cleancache.donate_run(pool, run) {
                    Ok(()) => lent = range,
                    Err((error, rest)) => {
                        lent.count = range.count - rest.len() as u64;
                        warn!(target: "donate", "{NAME}: {} frames not lent: {error}", rest.len());
                    }
                },
                Err(error) => warn!(target: "donate", "{NAME}: {error}"),
            }
        }
        info!(target: "donate", "{NAME}: {} frames lent to cleancache", lent.count);
        Self { pool, lent: Lock::new(Rank::Donation, lent) }
    }

    /// Takes up to `wanted` frames back; they become free memory.
    pub fn take_back(&self, cleancache: &Cleancache, wanted: u64) -> Taken {
        let mut lent = self.lent.lock();
        let used_before = used(cleancache);
        let mut frames = 0;
        let Some(pool) = self.pool else { return Taken::default() };
        while frames < wanted && lent.count > 0 {
            lent.count -= 1;
            // The pool has every frame that was lent, so this fails for none of them.
            if let Err(error) = cleancache.take_back(pool, lent.end()) {
                warn!(target: "donate", "{NAME}: {error}");
                continue;
            }
            frames += 1;
        }
        let used = used(cleancache) - used_before;
        Taken { free: frames - used, used }
    }
}

/// Frames of the pool that were taken back with a page in them, so far.
fn used(cleancache: &Cleancache) -> u64 {
    cleancache.pool_stats().iter().filter(|pool| pool.name == NAME).map(|pool| pool.taken_used).sum()
}
