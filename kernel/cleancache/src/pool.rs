//! A pool: whose the frames are, and what becomes of them.

use crate::latency::{Histogram, Latency};
use crate::names::PoolId;
use crate::stats::PoolStats;
use crate::tags::Tags;
use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use frames::{FrameList, Memory, Page, Pfn, PfnRange};
use log::warn;

/// What a pool's frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any frame serves (a balloon): pages move in and out by exchanging frames, no byte copied. Frames of the scratch area are not
    /// exchanged but copied, so that a pool that was given none of them never has one.
    Exchangeable,
    /// The donor wants its own addresses back: pages are copied.
    Fixed,
    /// As fixed, and somebody else may write to the frames, which lie in this range: each page is checked before it is used.
    Untrusted(PfnRange),
}

/// What a donor says of its pool.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// For people.
    pub name: String,
    /// What its frames are.
    pub kind: Kind,
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
    /// The frame is not in the range that the pool was registered with.
    OutOfRange(Pfn),
}

impl fmt::Display for DonateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPool => f.write_str("no such pool"),
            Self::Foreign => f.write_str("a frame of another machine"),
            Self::OutOfRange(pfn) => write!(f, "frame {:#x} is not in the pool's range", pfn.get()),
        }
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

/// A pool, and its frames that hold nothing. How many hold a page, the map of entries knows.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) free: FrameList,
    pub(crate) donated: u64,
    /// Whether frames are exchanged, and whether pages are checked: what the kind says, at hand.
    pub(crate) exchange: bool,
    pub(crate) checked: bool,
    /// Whether the pool stands on the stack of pools that have a free frame.
    pub(crate) stacked: bool,
    pub(crate) stores: u64,
    pub(crate) hits: u64,
    pub(crate) evictions: u64,
    pub(crate) invalidations: u64,
    pub(crate) rare: Box<Rare>,
}

/// What a store or a restore by exchange has no need of.
#[derive(Debug)]
pub(crate) struct Rare {
    pub(crate) config: PoolConfig,
    pub(crate) tags: Option<Tags>,
    pub(crate) damaged: u64,
    pub(crate) taken_free: u64,
    pub(crate) taken_used: u64,
    pub(crate) take_backs: Histogram,
}

impl Pool {
    pub(crate) fn new(memory: &'static Memory, config: PoolConfig, tags: Option<Tags>) -> Self {
        Self {
            free: FrameList::new(memory),
            donated: 0,
            exchange: config.kind == Kind::Exchangeable,
            checked: tags.is_some(),
            stacked: false,
            stores: 0,
            hits: 0,
            evictions: 0,
            invalidations: 0,
            rare: Box::new(Rare {
                config,
                tags,
                damaged: 0,
                taken_free: 0,
                taken_used: 0,
                take_backs: Histogram::new(),
            }),
        }
    }

    /// `page` is about to be copied into the frame `pfn`, where somebody else can write.
    #[cold]
    pub(crate) fn note(&mut self, pfn: Pfn, page: &Page) {
        if let Some(tags) = &mut self.rare.tags {
            tags.note(pfn, page);
        }
    }

    /// Whether `copy`, made of the frame `pfn`, where somebody else can write, is the page that was stored there.
    #[cold]
    pub(crate) fn confirms(&mut self, pfn: Pfn, copy: &Page) -> bool {
        let rare = &mut self.rare;
        let sound = rare.tags.as_ref().is_some_and(|tags| tags.confirms(pfn, copy));
        if !sound {
            rare.damaged += 1;
            // Whoever writes there can write often; the log is to stay readable.
            if rare.damaged.is_power_of_two() {
                let (name, damaged) = (&rare.config.name, rare.damaged);
                warn!(target: "cleancache", "{name}: frame {:#x} is not what was stored: a miss, the {damaged}th", pfn.get());
            }
        }
        sound
    }

    /// What happened, but for how long take-backs took, which is beside it.
    pub(crate) fn stats(&self, id: PoolId, cached: u64) -> (PoolStats, Histogram) {
        let (free, rare) = (self.free.len() as u64, &self.rare);
        let stats = PoolStats {
            id,
            name: rare.config.name.clone(),
            kind: rare.config.kind,
            donated: self.donated,
            free,
            cached,
            in_transit: self.donated - free - cached,
            stores: self.stores,
            hits: self.hits,
            evictions: self.evictions,
            invalidations: self.invalidations,
            damaged: rare.damaged,
            taken_free: rare.taken_free,
            taken_used: rare.taken_used,
            take_backs: Latency::default(),
        };
        (stats, rare.take_backs.clone())
    }
}
