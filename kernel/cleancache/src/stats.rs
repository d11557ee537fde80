//! What can be seen from outside: counters for each pool and each filesystem.

use crate::latency::Latency;
use crate::names::PoolId;
use crate::pool::Kind;
use alloc::string::String;

/// What became of a page that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is here, and no copy of it was before.
    Inserted,
    /// It is here, in the place of an older copy.
    Replaced,
    /// It was not kept; no older copy is here either, but for [`Refusal::InUse`].
    Refused(Refusal),
}

/// Why a page was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was not part of the working set.
    Gate,
    /// The policy would rather keep what is here.
    Policy,
    /// No frame is donated, or all are taken and nothing may be evicted.
    NoFrame,
    /// Its file is not known any more.
    Stale,
    /// The shard was in use, and [must not be waited for](crate::Cleancache::try_store_all). An older copy may be here.
    InUse,
}

/// One pool. `donated == free + cached + in_transit` at every moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// The pool.
    pub id: PoolId,
    /// The donor's name for it.
    pub name: String,
    /// What its frames are.
    pub kind: Kind,
    /// Frames lent and not taken back.
    pub donated: u64,
    /// Of these: holding nothing.
    pub free: u64,
    /// Of these: holding a page.
    pub cached: u64,
    /// Of these: between two owners. The lock covers every change of hands, so nobody can see one.
    pub in_transit: u64,
    /// Pages put into it.
    pub stores: u64,
    /// Pages restored from it.
    pub hits: u64,
    /// Pages dropped to make room.
    pub evictions: u64,
    /// Pages dropped because they changed or went away.
    pub invalidations: u64,
    /// Pages that were not any more what had been stored.
    pub damaged: u64,
    /// Frames taken back while they held nothing.
    pub taken_free: u64,
    /// Frames taken back with a page in them.
    pub taken_used: u64,
    /// How long it took to take a frame back, in units of [`Config::clock`](crate::Config::clock).
    pub take_backs: Latency,
}

impl PoolStats {
    /// Those of another shard come to these.
    pub(crate) fn add(&mut self, more: &Self) {
        self.donated += more.donated;
        self.free += more.free;
        self.cached += more.cached;
        self.in_transit += more.in_transit;
        self.stores += more.stores;
        self.hits += more.hits;
        self.evictions += more.evictions;
        self.invalidations += more.invalidations;
        self.damaged += more.damaged;
        self.taken_free += more.taken_free;
        self.taken_used += more.taken_used;
    }
}

/// One filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsStats {
    /// Its name.
    pub name: String,
    /// Pages of it that are here.
    pub cached: u64,
    /// Pages found.
    pub hits: u64,
    /// Pages asked for and not found.
    pub misses: u64,
    /// Pages kept.
    pub stores: u64,
    /// Pages not kept: not of the working set.
    pub refused_gate: u64,
    /// Pages not kept: the policy would rather keep others.
    pub refused_policy: u64,
    /// Pages not kept: no frame.
    pub refused_no_frame: u64,
    /// Of those kept: in the place of an older copy.
    pub replaced: u64,
    /// Pages dropped because they changed or went away.
    pub invalidations: u64,
    /// Pages lost to make room, to the donor, to somebody who wrote to them, or when everything was dropped.
    pub lost: u64,
}

impl FsStats {
    /// Those of another shard come to these.
    pub(crate) fn add(&mut self, more: &Self) {
        self.cached += more.cached;
        self.hits += more.hits;
        self.misses += more.misses;
        self.stores += more.stores;
        self.refused_gate += more.refused_gate;
        self.refused_policy += more.refused_policy;
        self.refused_no_frame += more.refused_no_frame;
        self.replaced += more.replaced;
        self.invalidations += more.invalidations;
        self.lost += more.lost;
    }
}
