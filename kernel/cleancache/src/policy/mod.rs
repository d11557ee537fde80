//! Which page goes when a pool is full.
//!
//! A [`Policy`] orders the pages of every pool in [`QUEUES`] queues and names the next one to go. One object serves all pools,
//! so what it remembers of pages that have left holds for all of them; the queues are each pool's own. What it wants to know
//! of a page that is found and goes back to the page cache, that page takes along and brings back: eight bits, its
//! [`Keepsake`].
//!
//! A policy is one file here and a line in [`BUILT_IN`]. It allocates when it is made and never after; each call takes the
//! same time however many pages there are.

mod arc;
mod density;
mod lru;
mod mq;
mod s3_fifo;
#[cfg(test)]
mod trial;
mod two_q;

pub use arc::Arc;
pub use density::Density;
pub use lru::Lru;
pub use mq::Mq;
pub use s3_fifo::S3Fifo;
pub use two_q::TwoQ;

use alloc::boxed::Box;
use frames::{FrameMap, Key};

/// Queues of a pool.
pub const QUEUES: u16 = 8;

/// Makes a policy for pools of so many frames in all.
pub type MakePolicy = fn(frames: usize) -> Box<dyn Policy>;

/// Every policy, by the name that the command line knows it by.
pub const BUILT_IN: &[(&str, MakePolicy)] = &[
    ("lru", |_| Box::new(Lru)),
    ("2q", |frames| Box::new(TwoQ::new(frames))),
    ("mq", |frames| Box::new(Mq::new(frames))),
    ("s3-fifo", |frames| Box::new(S3Fifo::new(frames))),
    ("arc", |frames| Box::new(Arc::new(frames))),
    ("density", |frames| Box::new(Density::new(frames))),
];

/// The policy that measurement chose: on no trace of `cargo xtask bench policy` does another find more than a little more.
pub const DEFAULT: MakePolicy = |frames| Box::new(Density::new(frames));

/// What a page carries with it through the page cache and back: eight bits of the policy's own. 0 for a page of which
/// nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepsake(pub u8);

/// What is known of a page that is offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// It was part of the page cache's working set.
    pub workingset: bool,
    /// What it took along when it was looked for here last.
    pub keepsake: Keepsake,
}

/// A page that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub key: Key,
    /// The queue that it is in.
    pub queue: u16,
    /// What the policy noted with it.
    pub bits: u16,
}

/// The two ends of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where pages come in, usually.
    Young,
    /// Where they go, usually.
    Old,
}

/// Where a page is to be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The queue, below [`QUEUES`].
    pub queue: u16,
    /// Which end of it.
    pub end: End,
    /// What to note with the page.
    pub bits: u16,
}

/// An eviction policy.
pub trait Policy: Send {
    /// Its name, as in [`BUILT_IN`].
    fn name(&self) -> &'static str;

    /// A page is about to be stored in the pool of `queues`; `full` when it takes another's place. `None` refuses it.
    fn admit(&mut self, key: Key, arrival: Arrival, queues: &Queues<'_>, full: bool) -> Option<Place>;

    /// What a page takes along that is found in `queue` and with `bits` noted.
    fn keepsake(&self, queue: u16, bits: u16) -> Keepsake;

    /// So many pages were found there, all with these bits.
    fn hit(&mut self, _queue: u16, _bits: u16, _pages: u32) {}

    /// A page that was found there stays (an inclusive cache), there.
    fn stay(&mut self, queue: u16, bits: u16) -> Place;

    /// A page was looked for and is not here: what it takes along. It is read from disk then, and may be offered one day.
    fn miss(&mut self, key: Key) -> Keepsake;

    /// The next page to go; it is evicted right after. `None` only when the pool has none.
    fn victim(&mut self, queues: &mut Queues<'_>) -> Option<Entry>;
}

/// The pages of one pool.
#[derive(Debug)]
pub struct Queues<'a> {
    entries: &'a mut FrameMap,
    /// The pool's first order.
    first: u16,
    frames: usize,
    all_frames: usize,
}

impl<'a> Queues<'a> {
    #[inline]
    pub(crate) fn new(entries: &'a mut FrameMap, pool: u32, frames: u64, all_frames: u64) -> Self {
        Self { entries, first: pool as u16 * QUEUES, frames: frames as usize, all_frames: all_frames as usize }
    }

    /// Frames of all pools.
    #[inline]
    pub fn all_frames(&self) -> usize {
        self.all_frames
    }

    /// Frames of the pool, those of pages and free ones.
    #[inline]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Pages in a queue.
    #[inline]
    pub fn len(&self, queue: u16) -> usize {
        self.entries.order_len(self.first + queue)
    }

    /// Pages in the pool.
    pub fn total(&self) -> usize {
        (0..QUEUES).map(|queue| self.len(queue)).sum()
    }

    /// Whether the pool has no page.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// The page at the old end of a queue.
    #[inline]
    pub fn front(&self, queue: u16) -> Option<Entry> {
        self.entries.front(self.first + queue).map(|frame| Entry { key: frame.key(), queue, bits: frame.private() })
    }

    /// The page at the young end of a queue.
    #[inline]
    pub fn back(&self, queue: u16) -> Option<Entry> {
        self.entries.back(self.first + queue).map(|frame| Entry { key: frame.key(), queue, bits: frame.private() })
    }

    /// Put a page of this pool elsewhere.
    pub fn move_to(&mut self, key: Key, place: Place) {
        let Place { queue, end, bits } = place;
        self.set_bits(key, bits);
        match end {
            End::Young => self.entries.move_to_back(key, self.first + queue % QUEUES),
            End::Old => self.entries.move_to_front(key, self.first + queue % QUEUES),
        };
    }

    /// Note something else with a page of this pool.
    pub fn set_bits(&mut self, key: Key, bits: u16) {
        if let Some(frame) = self.entries.get(key) {
            frame.set_private(bits);
        }
    }
}
