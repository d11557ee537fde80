//! Cleancache: a victim cache for clean pages, in frames that somebody donated and may take back at any moment.
//!
//! Reclaim offers pages on their way out ([`Cleancache::store_all`]); the page-in path asks here before it asks the disk
//! ([`Cleancache::restore_run`]). Donors own [pools](PoolId): they [donate](Cleancache::donate) frames and
//! [take them back](Cleancache::take_back), which never fails for a frame of theirs, whatever is in it. Which page goes when the
//! pools are full is for a [`Policy`] to say.
//!
//! Pages and frames are dealt to *shards*, each with a lock of its own, so that processors do not wait for each other who want pages
//! of different files, or far from each other. There is one unless [more](Config::shards) are asked for.
//!
//! Invariants, in each shard:
//! - a frame of a pool is free or holds one page, and every page is in one frame: donated = free + cached + in transit; the page
//!   is of the same shard as the frame, so a shard that is full evicts by its own policy though another has free frames;
//! - an entry holds what the disk holds: whoever changes a page [invalidates](Cleancache::invalidate_range) it first;
//! - entries belong to live files of live filesystems only, so what comes too late finds no place;
//! - the bytes of an untrusted pool's frames are never borrowed, only copied, and a copy that is not what was stored is a miss.
//!
//! Nothing allocates that a page goes through: a store cannot fail for want of memory. Files, filesystems and pools do when they
//! come, and so does `remove_fs`.
//!
//! May touch: `frames`. Knows nothing of the page cache, of disks or of donors.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod deal;
mod entries;
mod flow;
pub mod ghost;
mod latency;
mod lending;
mod lessons;
mod names;
pub mod policy;
mod pool;
mod pools;
mod restore;
mod stats;
mod tags;

pub use latency::Latency;
pub use names::{FileId, FsId, PoolId, StaleId};
pub use policy::{Arrival, Keepsake, Policy};
pub use pool::{DonateError, Kind, PoolConfig, TakeError};
pub use stats::{FsStats, PoolStats, Refusal, Stored};
pub use tags::TagKey;

use crate::deal::Deal;
use crate::entries::State;
use crate::policy::MakePolicy;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use frames::{Frame, FrameRef, Lock, LockGuard, Memory, Pfn, Rank};

/// How the cache behaves.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Keep only pages that were part of the working set (the four cases of [`Cleancache::store`]).
    pub gate: bool,
    /// Whether a page leaves when it is restored. An inclusive cache keeps a copy.
    pub exclusive: bool,
    /// Whether a store into full pools drops another page. The alternative is to refuse the store.
    pub evict: bool,
    /// Which page that is.
    pub policy: MakePolicy,
    /// Frames that will be donated, about: the index is made for so many. More make it slower, not wrong.
    pub capacity: usize,
    /// Parts with a lock each, rounded down to a power of two, 8 at most. Every file takes some 90 bytes in each, and a policy
    /// sees the pages of one only.
    pub shards: usize,
    /// What take-backs are timed with, in any unit.
    pub clock: fn() -> u64,
    /// What the pages of untrusted pools are told by.
    pub tag_key: TagKey,
}

impl Default for Config {
    /// Exclusive, evicting, no gate: when the working set exceeds memory few pages are ever activated, and a gate
    /// would leave the pools empty just when they are needed.
    fn default() -> Self {
        Self {
            gate: false,
            exclusive: true,
            evict: true,
            policy: policy::DEFAULT,
            capacity: 0,
            shards: 1,
            clock: || 0,
            tag_key: TagKey::default(),
        }
    }
}

/// A clean page that leaves the page cache.
#[derive(Debug)]
pub struct Offer {
    /// Its file.
    pub file: FileId,
    /// Which page of it.
    pub index: u32,
    /// The frame that it is in.
    pub frame: Frame,
    /// What is known of it.
    pub arrival: Arrival,
}

/// A page that is wanted, and a frame for it.
#[derive(Debug)]
pub struct Wanted {
    /// Which page of the file.
    pub index: u32,
    /// Its frame; on a hit perhaps another one, by exchange. On a miss its bytes are unspecified.
    pub frame: Frame,
    /// Whether it was found.
    pub found: bool,
    /// What it takes along.
    pub keepsake: Keepsake,
}

impl Wanted {
    /// Page `index`, to be put into `frame`.
    pub fn new(index: u32, frame: Frame) -> Self {
        Self { index, frame, found: false, keepsake: Keepsake::default() }
    }
}

/// The cache.
pub struct Cleancache {
    memory: &'static Memory,
    deal: Deal,
    /// The shard that there always is, and those that there may be.
    first: Shard,
    others: Box<[Shard]>,
    /// Whoever has this tells all shards, one after the other, which pools, filesystems and files there are.
    names: Lock<()>,
    /// Frames of all pools, in all shards.
    donated: Arc<AtomicU64>,
}

/// A part of the cache, in lines of memory that it shares with no other.
#[repr(align(64))]
struct Shard(Lock<State>);

impl Cleancache {
    /// An empty cache for donated frames of `memory`.
    pub fn new(memory: &'static Memory, config: Config) -> Self {
        let deal = Deal::to(config.shards);
        let donated = Arc::new(AtomicU64::new(0));
        let shard = |_| Shard(Lock::new(Rank::Cleancache, State::new(memory, config, deal, donated.clone())));
        Self {
            memory,
            deal,
            first: shard(0),
            others: (1..deal.shards()).map(shard).collect(),
            names: Lock::new(Rank::CleancacheNames, ()),
            donated,
        }
    }

    /// A shard, in turn.
    #[inline(always)]
    fn place(&self, at: usize) -> &Shard {
        let another = self.deal.turn(at).checked_sub(1).and_then(|at| self.others.get(at));
        another.unwrap_or(&self.first)
    }

    /// A shard, in turn, locked.
    #[inline(always)]
    fn shard(&self, at: usize) -> LockGuard<'_, State> {
        self.place(at).0.lock()
    }

    /// The shards, each locked while it is looked at.
    fn each(&self) -> impl Iterator<Item = LockGuard<'_, State>> {
        core::iter::once(&self.first).chain(&self.others).map(|shard| shard.0.lock())
    }

    /// All but the first.
    fn others(&self) -> impl Iterator<Item = LockGuard<'_, State>> {
        self.others.iter().map(|shard| shard.0.lock())
    }

    /// Tell every shard something of names; they give the same answer.
    fn tell<T: PartialEq + fmt::Debug>(&self, tell: impl Fn(&mut State) -> T) -> T {
        let _names = self.names.lock();
        let answer = tell(&mut self.shard(0));
        for mut shard in self.others() {
            let same = tell(&mut shard);
            debug_assert_eq!(same, answer, "shards that know different names");
        }
        answer
    }

    /// A filesystem was mounted.
    pub fn add_fs(&self, name: &str) -> FsId {
        self.tell(|shard| shard.add_fs(name))
    }

    /// A filesystem is unmounted: everything of it is dropped, and its files are unknown from here on.
    pub fn remove_fs(&self, fs: FsId) -> Result<(), StaleId> {
        self.tell(|shard| shard.remove_fs(fs))
    }

    /// A file whose pages may be stored.
    pub fn add_file(&self, fs: FsId) -> Result<FileId, StaleId> {
        self.tell(|shard| shard.add_file(fs))
    }

    /// The file is gone: its entries are dropped, and its name refers to nothing from here on.
    pub fn remove_file(&self, file: FileId) -> Result<(), StaleId> {
        self.tell(|shard| shard.remove_file(file))
    }

    /// How many pages of `file` are here.
    pub fn file_len(&self, file: FileId) -> usize {
        self.each().map(|shard| shard.file_len(file)).sum()
    }

    /// A clean page leaves the page cache: keep it, or see to it that no older copy stays.
    ///
    /// With the [gate](Config::gate): a page of the working set is inserted or overwrites its old copy; any other page is not
    /// kept, and its old copy, if there is one, is dropped. The caller gets a frame back, with unspecified bytes: the same
    /// one where the page was copied or refused, another where frames could be exchanged.
    pub fn store(&self, offer: Offer) -> (Stored, Frame) {
        self.shard(self.deal.page(offer.file, offer.index)).store(offer)
    }

    /// As [`Cleancache::store`], for a set of pages, those that follow one another in a shard in one operation; `done` is
    /// given what became of each. `offers` may be asked for the next page, and `done` is called, with a shard locked.
    pub fn store_all(&self, offers: impl IntoIterator<Item = Offer>, done: impl FnMut(Stored, Frame)) {
        if self.others.is_empty() {
            self.first.0.lock().store_all(offers, done);
        } else {
            self.store_in_shards(offers.into_iter(), done);
        }
    }

    #[inline(never)]
    fn store_in_shards(&self, mut offers: impl Iterator<Item = Offer>, mut done: impl FnMut(Stored, Frame)) {
        let mut next = offers.next();
        while let Some(first) = next.take() {
            let at = self.deal.page(first.file, first.index);
            self.shard(at).store_all(self.deal.offers(at, first, &mut offers, &mut next), &mut done);
        }
    }

    /// As [`Cleancache::store_all`], for callers that may hold any lock: pages of a shard that is in use are not kept
    /// ([`Refusal::InUse`]). Old copies of such pages may then stay, so the pages must be what the disk has.
    pub fn try_store_all(&self, offers: impl IntoIterator<Item = Offer>, mut done: impl FnMut(Stored, Frame)) {
        for offer in offers {
            let (stored, frame) = match self.place(self.deal.page(offer.file, offer.index)).0.try_lock() {
                Some(mut shard) => shard.store(offer),
                None => (Stored::Refused(Refusal::InUse), offer.frame),
            };
            done(stored, frame);
        }
    }

    /// Put pages of a file into their frames as far as they are here, those of a shard in one operation.
    pub fn restore_run(&self, file: FileId, mut pages: &mut [Wanted]) {
        while let Some(first) = pages.first() {
            let at = self.deal.page(file, first.index);
            let (here, others) = pages.split_at_mut(self.deal.run(at, file, pages));
            self.restore_together(at, file, here);
            pages = others;
        }
    }

    #[inline(never)]
    fn restore_together(&self, at: usize, file: FileId, pages: &mut [Wanted]) {
        let pages = pages.iter_mut().map(|page| (page.index, &mut page.frame, (&mut page.found, &mut page.keepsake)));
        self.shard(at).restore_all(file, pages, |(page_found, page_keepsake), found, keepsake| {
            (*page_found, *page_keepsake) = (found, keepsake);
        });
    }

    /// Put one page into `frame` if it is here. `frame` may become another frame, by exchange; on a miss its bytes are unspecified.
    pub fn restore(&self, file: FileId, index: u32, frame: &mut Frame) -> bool {
        let mut restored = false;
        let mut shard = self.shard(self.deal.page(file, index));
        shard.restore_all(file, core::iter::once((index, frame, ())), |(), found, _| restored = found);
        restored
    }

    /// The page has changed, or is about to: drop its entry.
    pub fn invalidate(&self, file: FileId, index: u32) {
        self.shard(self.deal.page(file, index)).invalidate(file, index);
    }

    /// Pages `first..=last` have changed, or are about to: drop their entries, in one operation for each shard.
    pub fn invalidate_range(&self, file: FileId, first: u32, last: u32) {
        self.deal.pages(file, first, last).for_each(|at| self.shard(at).invalidate_range(file, first, last));
    }

    /// Drop every entry of every file.
    pub fn clear(&self) {
        self.each().for_each(|mut shard| shard.clear());
    }

    /// Let `look` see the page in the frame `pfn`, if one is there.
    pub fn look_at(&self, pfn: Pfn, look: impl FnOnce(FrameRef<'_>)) {
        let Some(key) = self.memory.key_in_record(pfn) else { return };
        if let Some(page) = self.shard(self.deal.key(key)).entries.find(pfn) {
            look(page);
        }
    }

    /// Let `look` see each page of `file`.
    pub fn each_page(&self, file: FileId, mut look: impl FnMut(FrameRef<'_>)) {
        for shard in self.each().filter(|shard| shard.files.get(file).is_some()) {
            shard.entries.of_file(file.slot()).for_each(&mut look);
        }
    }

    /// Frames that are donated, in all pools.
    pub fn donated(&self) -> u64 {
        self.donated.load(Relaxed)
    }

    /// Frames that hold nothing, in all pools.
    pub fn free(&self) -> u64 {
        self.each().map(|shard| shard.pools.free()).sum()
    }

    /// The name of the policy.
    pub fn policy(&self) -> &'static str {
        self.shard(0).policy()
    }

    /// What happened to each pool.
    pub fn pool_stats(&self) -> Vec<PoolStats> {
        let _names = self.names.lock();
        let mut sums = self.shard(0).pool_stats();
        for shard in self.others() {
            for ((sum, times), (more, more_times)) in sums.iter_mut().zip(shard.pool_stats()) {
                sum.add(&more);
                times.add_all(&more_times);
            }
        }
        sums.into_iter().map(|(sum, times)| PoolStats { take_backs: times.summary(), ..sum }).collect()
    }

    /// What happened for each filesystem.
    pub fn fs_stats(&self) -> Vec<FsStats> {
        let _names = self.names.lock();
        let mut sums = self.shard(0).fs_stats();
        for shard in self.others() {
            sums.iter_mut().zip(shard.fs_stats()).for_each(|(sum, more)| sum.add(&more));
        }
        sums
    }
}

impl fmt::Debug for Cleancache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cleancache").finish_non_exhaustive()
    }
}
