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
use frames::{Frame, FrameList, FrameRef, FrameRun, Lock, LockGuard, Memory, Pfn, PfnRange, Rank};

/// Frames that a donor is given in one hold of the lock, when it wants many: stores and restores go on in between.
const TAKE_BATCH: usize = 64;

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

    /// A new pool, without frames. Everything that its frames will need is set aside here. `None` when there are as many pools
    /// as there can be, some 4,000, or its range is larger than all memory that there are records for.
    pub fn register_pool(&self, config: PoolConfig) -> Option<PoolId> {
        let _names = self.names.lock();
        let pool = self.shard(0).register_pool(config.clone(), None)?;
        for at in 1..self.deal.shards() {
            if self.shard(at).register_pool(config.clone(), Some(pool)).is_none() {
                (0..at).for_each(|at| drop(self.shard(at).unregister_pool(pool)));
                return None;
            }
        }
        Some(pool)
    }

    /// Close a pool: every frame of it comes out, whatever is in it.
    pub fn unregister_pool(&self, pool: PoolId) -> Result<FrameList, StaleId> {
        let _names = self.names.lock();
        let mut frames = self.shard(0).unregister_pool(pool)?;
        for mut shard in self.others() {
            let mut more = shard.unregister_pool(pool)?;
            while let Some(frame) = more.pop_front() {
                frames.push_back(frame);
            }
        }
        Ok(frames)
    }

    /// Lend a frame. An error hands the frame back.
    pub fn donate(&self, pool: PoolId, frame: Frame) -> Result<(), (DonateError, Frame)> {
        self.shard(self.deal.frame(frame.pfn())).donate(pool, frame)
    }

    /// Lend many frames. Those that are refused come back, all of them and no other, with the reason of the first.
    pub fn donate_list(&self, pool: PoolId, mut frames: FrameList) -> Result<(), (DonateError, FrameList)> {
        let count = frames.len();
        let memory = frames.memory();
        self.donate_all(pool, memory, core::iter::from_fn(|| frames.pop_front()).take(count))
    }

    /// Lend a run of frames. Those that are refused come back, all of them and no other, with the reason of the first.
    pub fn donate_run(&self, pool: PoolId, run: FrameRun) -> Result<(), (DonateError, FrameList)> {
        self.donate_all(pool, run.memory(), run.into_iter())
    }

    fn donate_all(
        &self,
        pool: PoolId,
        memory: &'static Memory,
        frames: impl Iterator<Item = Frame>,
    ) -> Result<(), (DonateError, FrameList)> {
        let mut rejects: Option<(DonateError, FrameList)> = None;
        let mut frames = frames.peekable();
        while let Some(first) = frames.peek() {
            let at = self.deal.frame(first.pfn());
            let mut shard = self.shard(at);
            while let Some(frame) = frames.next_if(|frame| self.deal.frame(frame.pfn()) == at) {
                if let Err((error, frame)) = shard.donate(pool, frame) {
                    rejects.get_or_insert_with(|| (error, FrameList::unnamed(memory))).1.push_back(frame);
                }
            }
        }
        rejects.map_or(Ok(()), Err)
    }

    /// The donor wants this frame back. An entry in it is dropped and misses from here on.
    ///
    /// # Errors
    /// [`TakeError`], when there is no such pool or the frame is none of it (taken already, or never donated).
    #[inline]
    pub fn take_back(&self, pool: PoolId, pfn: Pfn) -> Result<Frame, TakeError> {
        match self.others.is_empty() {
            true => self.first.0.lock().take_back(pool, pfn),
            false => self.take_from_shards(pool, pfn),
        }
    }

    #[inline(never)]
    fn take_from_shards(&self, pool: PoolId, pfn: Pfn) -> Result<Frame, TakeError> {
        // It is where it was dealt to, or else, by exchange, somewhere else.
        let dealt = self.deal.frame(pfn);
        for at in dealt..dealt + self.deal.shards() {
            match self.shard(at).take_back(pool, pfn) {
                Err(TakeError::NotHere(_)) => {}
                taken => return taken,
            }
        }
        Err(TakeError::NotHere(pfn))
    }

    /// The donor wants `most` frames back, any of them: free ones first, then those whose pages are the next to go. The shards keep
    /// about as many each. Fewer come only when the pool has no more, or another takes from it or closes it just now.
    ///
    /// # Errors
    /// [`TakeError::NoPool`].
    pub fn take_any(&self, pool: PoolId, most: usize) -> Result<FrameList, TakeError> {
        let mut taken = FrameList::unnamed(self.memory);
        while taken.len() < most {
            let before = taken.len();
            match self.take_some(pool, (TAKE_BATCH / self.deal.shards()).min(most - taken.len()), &mut taken) {
                // Closed since the last hold of a lock: what came out until then is the donor's all the same.
                Err(error) if taken.is_empty() => return Err(error),
                _ if taken.len() == before => break,
                _ => {}
            }
        }
        Ok(taken)
    }

    /// Take up to `most` frames from the shard that can best do without, in one hold of its lock.
    fn take_some(&self, pool: PoolId, most: usize, taken: &mut FrameList) -> Result<(), TakeError> {
        let (mut from, mut richest) = (0, (false, 0));
        // With one shard there is nothing to choose.
        for at in (0..self.deal.shards()).filter(|_| !self.others.is_empty()) {
            let (free, all) = self.shard(at).frames_of(pool)?;
            if (free > 0, all) > richest {
                (from, richest) = (at, (free > 0, all));
            }
        }
        let mut shard = self.shard(from);
        // Free ones of other shards go before pages of this one. But if a store took the last just now, one page goes.
        let (free, _) = shard.frames_of(pool)?;
        let most = if richest.0 { most.min(free.max(1)) } else { most };
        for _ in 0..most {
            let Some(frame) = shard.take_any(pool)? else { break };
            taken.push_back(frame);
        }
        Ok(())
    }

    /// The donor wants consecutive frames back, `range` and no other.
    ///
    /// # Errors
    /// [`TakeError`], with the first frame that is not in the pool; no frame is taken then, but the pages in those before it are
    /// gone. (But whoever closes the pool meanwhile,
    /// with frames of the range out of it already, has them freed: there is no pool any more to lend them to again.)
    pub fn take_range(&self, pool: PoolId, range: PfnRange) -> Result<FrameRun, TakeError> {
        let mut run: Option<FrameRun> = None;
        let mut next = range.start;
        while next < range.end() {
            let joined = self.take_back(pool, next).and_then(|frame| match &mut run {
                None => {
                    run = Some(frame.into());
                    Ok(())
                }
                // Neighbours in two annexes are not one run.
                Some(run) => run.append(frame.into()).map_err(|frame| {
                    let _ = frame.into_frame().map(|frame| self.donate(pool, frame));
                    TakeError::NotHere(next)
                }),
            });
            if let Err(error) = joined {
                for frame in run.into_iter().flatten() {
                    // It was in this pool just now.
                    let _ = self.donate(pool, frame);
                }
                return Err(error);
            }
            next = next.offset(1);
        }
        run.ok_or(TakeError::NotHere(range.start))
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
