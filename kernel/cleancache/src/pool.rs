//! Pools: whose the frames are.

use crate::stats::PoolStats;
use alloc::string::String;
use core::fmt;
use frames::{FrameList, Memory, Pfn};

/// Whether one frame of a pool is as good as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interchange {
    /// Any frame serves (a balloon): pages move in and out by exchanging frames, no byte copied.
    Exchangeable,
    /// The donor wants its own addresses back: pages are copied.
    Fixed,
}

/// What a donor says of its pool.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// For people.
    pub name: String,
    /// Whether frames can be exchanged.
    pub interchange: Interchange,
    /// Whether a frame is set to zeros before it goes back.
    pub scrub: bool,
}

/// Why a frame was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DonateError {
    /// There is no such pool.
    NoPool,
    /// The frame is another machine's.
    Foreign,
}

impl fmt::Display for DonateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPool => "no such pool",
            Self::Foreign => "a frame of another machine",
        })
    }
}

impl core::error::Error for DonateError {}

/// Why a frame cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError {
    /// There is no such pool.
    NoPool,
    /// The pool does not have this frame: never donated to it, or taken back before.
    NotHere(Pfn),
}

impl fmt::Display for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPool => f.write_str("no such pool"),
            Self::NotHere(pfn) => write!(f, "frame {:#x} is not in this pool", pfn.get()),
        }
    }
}

impl core::error::Error for TakeError {}

/// A pool, and its frames that hold nothing.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) config: PoolConfig,
    pub(crate) free: FrameList,
    pub(crate) cached: u64,
    pub(crate) donated: u64,
    pub(crate) stores: u64,
    pub(crate) hits: u64,
    pub(crate) evictions: u64,
    pub(crate) taken_free: u64,
    pub(crate) taken_used: u64,
    /// Whether the pool stands on the stack of pools that may have a free frame.
    pub(crate) stacked: bool,
}

impl Pool {
    pub(crate) fn new(memory: &'static Memory, config: PoolConfig) -> Self {
        Self {
            config,
            free: FrameList::new(memory),
            cached: 0,
            donated: 0,
            stores: 0,
            hits: 0,
            evictions: 0,
            taken_free: 0,
            taken_used: 0,
            stacked: false,
        }
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let free = self.free.len() as u64;
        PoolStats {
            name: self.config.name.clone(),
            interchange: self.config.interchange,
            donated: self.donated,
            free,
            cached: self.cached,
            in_transit: self.donated - free - self.cached,
            stores: self.stores,
            hits: self.hits,
            evictions: self.evictions,
            taken_free: self.taken_free,
            taken_used: self.taken_used,
        }
    }
}
