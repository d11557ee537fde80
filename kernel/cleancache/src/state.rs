//! What the lock guards: entries, pools, filesystems and files, and every step that a page or a frame can take.
//!
//! A cached frame lies in the map, its pool's place in the map's bits for it; a free one on its pool's list. A frame is
//! in neither only as a local variable of one of these functions.

use crate::Config;
use crate::insertion::Insertion;
use crate::names::{FileId, FsId, PoolId, StaleId, Table};
use crate::pool::{DonateError, Interchange, Pool, PoolConfig, TakeError};
use crate::stats::{FsStats, PoolStats, Refusal, Stored};
use alloc::string::String;
use alloc::vec::Vec;
use frames::{Frame, FrameList, FrameMap, Key, Memory, Pfn};

/// The one order of the map: the next entry to be evicted is at its front.
const AGE: u8 = 0;

pub(crate) struct State {
    memory: &'static Memory,
    config: Config,
    entries: FrameMap,
    insertion: Insertion,
    pools: Table<Pool>,
    /// Places of pools that may have a free frame, so that a store need not look through all of them.
    with_free: Vec<u32>,
    filesystems: Table<FsStats>,
    /// The filesystem of each file.
    files: Table<FsId>,
}

impl State {
    pub(crate) fn new(memory: &'static Memory, config: Config) -> Self {
        Self {
            memory,
            config,
            entries: FrameMap::new(memory, memory.span().count as usize / 4, 1),
            insertion: Insertion::default(),
            pools: Table::new(),
            with_free: Vec::new(),
            filesystems: Table::new(),
            files: Table::new(),
        }
    }

    pub(crate) fn add_fs(&mut self, name: &str) -> FsId {
        self.filesystems.insert(FsStats { name: String::from(name), ..FsStats::default() })
    }

    pub(crate) fn remove_fs(&mut self, fs: FsId) -> Result<(), StaleId> {
        self.filesystems.get(fs).ok_or(StaleId)?;
        let files: Vec<FileId> = self.files.iter().filter(|&(_, &of)| of == fs).map(|(file, _)| file).collect();
        for file in files {
            self.remove_file(file)?;
        }
        self.filesystems.remove(fs).map(drop).ok_or(StaleId)
    }

    pub(crate) fn add_file(&mut self, fs: FsId) -> Result<FileId, StaleId> {
        self.filesystems.get(fs).ok_or(StaleId)?;
        let file: FileId = self.files.insert(fs);
        self.entries.add_file(file.slot());
        Ok(file)
    }

    pub(crate) fn remove_file(&mut self, file: FileId) -> Result<(), StaleId> {
        self.invalidate_range(file, 0, u32::MAX);
        self.files.remove(file).map(drop).ok_or(StaleId)
    }

    pub(crate) fn file_len(&self, file: FileId) -> usize {
        self.files.get(file).map_or(0, |_| self.entries.file_len(file.slot()))
    }

    pub(crate) fn register_pool(&mut self, config: PoolConfig) -> PoolId {
        let pool = self.pools.insert(Pool::new(self.memory, config));
        self.with_free.reserve(self.pools.iter::<PoolId>().count());
        pool
    }

    pub(crate) fn unregister_pool(&mut self, id: PoolId) -> Result<FrameList, StaleId> {
        self.pools.get(id).ok_or(StaleId)?;
        let mut frames = FrameList::new(self.memory);
        let mut cursor = self.entries.front(AGE).map(|entry| entry.key());
        while let Some(key) = cursor {
            cursor = self.entries.after(key).map(|entry| entry.key());
            let ours = self.entries.get(key).is_some_and(|entry| u32::from(entry.private()) == id.slot());
            if ours && let Some((frame, _)) = self.detach(key) {
                frames.push_back(frame);
            }
        }
        let mut pool = self.pools.remove(id).ok_or(StaleId)?;
        self.with_free.retain(|&slot| slot != id.slot());
        while let Some(frame) = pool.free.pop_front() {
            frames.push_back(frame);
        }
        if pool.config.scrub {
            frames = scrubbed(self.memory, frames);
        }
        Ok(frames)
    }

    pub(crate) fn donate(&mut self, id: PoolId, frame: Frame) -> Result<(), (DonateError, Frame)> {
        if !core::ptr::eq(frame.memory(), self.memory) {
            return Err((DonateError::Foreign, frame));
        }
        // The map has sixteen bits for a pool's place.
        let Some(pool) = self.pools.get_mut(id).filter(|_| id.slot() <= u32::from(u16::MAX)) else {
            return Err((DonateError::NoPool, frame));
        };
        pool.donated += 1;
        self.release(id.slot(), frame);
        Ok(())
    }

    pub(crate) fn take_back(&mut self, id: PoolId, pfn: Pfn) -> Result<Frame, TakeError> {
        let pool = self.pools.get_mut(id).ok_or(TakeError::NoPool)?;
        let mut frame = match pool.free.remove(pfn) {
            Some(frame) => {
                pool.taken_free += 1;
                frame
            }
            None => {
                let entry = self.entries.find(pfn).filter(|entry| u32::from(entry.private()) == id.slot());
                let key = entry.ok_or(TakeError::NotHere(pfn))?.key();
                let (frame, _) = self.detach(key).ok_or(TakeError::NotHere(pfn))?;
                self.pools.get_mut(id).ok_or(TakeError::NoPool)?.taken_used += 1;
                frame
            }
        };
        let pool = self.pools.get_mut(id).ok_or(TakeError::NoPool)?;
        pool.donated -= 1;
        if pool.config.scrub {
            frame.zero();
        }
        Ok(frame)
    }

    pub(crate) fn store(&mut self, file: FileId, index: u32, frame: Frame, workingset: bool) -> (Stored, Frame) {
        let Some(&fs) = self.files.get(file) else {
            return (Stored::Refused(Refusal::Stale), frame);
        };
        let key = Key { file: file.slot(), index };
        // Whatever happens below, the old copy must not survive.
        let old = self.detach(key);
        let had = old.is_some();
        if self.config.gate && !workingset {
            self.release_detached(old);
            self.count(fs, |stats| {
                stats.refused_gate += 1;
                stats.invalidations += u64::from(had);
            });
            return (Stored::Refused(Refusal::Gate), frame);
        }
        let place = old.or_else(|| self.free_frame()).map(|place| (place, false));
        let Some(((mut place, slot), evicted)) = place.or_else(|| self.evict().map(|place| (place, true))) else {
            self.count(fs, |stats| stats.refused_no_frame += 1);
            return (Stored::Refused(Refusal::NoFrame), frame);
        };
        let exchange = self.pools.at_mut(slot).is_some_and(|pool| {
            pool.cached += 1;
            pool.stores += 1;
            pool.config.interchange == Interchange::Exchangeable
        });
        let (kept, returned) = if exchange {
            (frame, place)
        } else {
            place.copy_from(frame.bytes());
            (place, frame)
        };
        match self.entries.insert(key, kept, AGE, slot as u16) {
            Ok(()) => {
                if evicted && self.insertion.store(self.entries.len() as u64) {
                    self.entries.move_to_front(key, AGE);
                }
                self.count(fs, |stats| {
                    stats.stores += 1;
                    stats.cached += 1;
                });
                (if had { Stored::Replaced } else { Stored::Inserted }, returned)
            }
            // The key was just freed and its file is known, so this cannot come about; the frame is the pool's all the same.
            Err(kept) => {
                if let Some(pool) = self.pools.at_mut(slot) {
                    pool.cached -= 1;
                }
                self.release(slot, kept);
                (Stored::Refused(Refusal::Stale), returned)
            }
        }
    }

    pub(crate) fn restore(&mut self, file: FileId, index: u32, frame: &mut Frame) -> bool {
        let Some(&fs) = self.files.get(file) else { return false };
        let key = Key { file: file.slot(), index };
        let found = if self.config.exclusive { self.restore_out(key, frame) } else { self.restore_copy(key, frame) };
        if found {
            self.insertion.hit();
        }
        self.count(fs, |stats| if found { stats.hits += 1 } else { stats.misses += 1 });
        found
    }

    /// Restore, and let the entry go.
    fn restore_out(&mut self, key: Key, frame: &mut Frame) -> bool {
        let Some((mut entry, slot)) = self.detach(key) else { return false };
        let exchange = self.pools.at_mut(slot).is_some_and(|pool| {
            pool.hits += 1;
            pool.config.interchange == Interchange::Exchangeable
        });
        if exchange {
            core::mem::swap(frame, &mut entry);
        } else {
            frame.copy_from(entry.bytes());
        }
        self.release(slot, entry);
        true
    }

    /// Restore, and keep the entry, as the youngest.
    fn restore_copy(&mut self, key: Key, frame: &mut Frame) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        frame.copy_from(entry.bytes());
        let slot = u32::from(entry.private());
        self.entries.move_to_back(key, AGE);
        if let Some(pool) = self.pools.at_mut(slot) {
            pool.hits += 1;
        }
        true
    }

    pub(crate) fn invalidate_range(&mut self, file: FileId, first: u32, last: u32) {
        let Some(&fs) = self.files.get(file) else { return };
        let (pools, with_free, mut dropped) = (&mut self.pools, &mut self.with_free, 0);
        self.entries.remove_range(file.slot(), first, last, |frame, slot| {
            dropped += 1;
            if let Some(pool) = pools.at_mut(u32::from(slot)) {
                pool.cached -= 1;
                put_free(pool, u32::from(slot), with_free, frame);
            }
        });
        self.count(fs, |stats| {
            stats.invalidations += dropped;
            stats.cached -= dropped;
        });
    }

    pub(crate) fn clear(&mut self) {
        while let Some(key) = self.entries.front(AGE).map(|entry| entry.key()) {
            let entry = self.detach(key);
            self.release_detached(entry);
        }
    }

    pub(crate) fn pool_stats(&self) -> Vec<PoolStats> {
        self.pools.iter::<PoolId>().map(|(_, pool)| pool.stats()).collect()
    }

    pub(crate) fn fs_stats(&self) -> Vec<FsStats> {
        self.filesystems.iter::<FsId>().map(|(_, stats)| stats.clone()).collect()
    }

    /// A frame without a page, and its pool's place.
    fn free_frame(&mut self) -> Option<(Frame, u32)> {
        while let Some(&slot) = self.with_free.last() {
            if let Some(pool) = self.pools.at_mut(slot) {
                if let Some(frame) = pool.free.pop_front() {
                    return Some((frame, slot));
                }
                pool.stacked = false;
            }
            self.with_free.pop();
        }
        None
    }

    /// The frame of the entry that is to go first, and its pool's place.
    fn evict(&mut self) -> Option<(Frame, u32)> {
        if !self.config.evict {
            return None;
        }
        let first = self.entries.front(AGE)?.key();
        let (frame, slot) = self.detach(first)?;
        if let Some(pool) = self.pools.at_mut(slot) {
            pool.evictions += 1;
        }
        Some((frame, slot))
    }

    /// Take the entry under `key` out; its frame is in transit, and no longer counted as cached.
    fn detach(&mut self, key: Key) -> Option<(Frame, u32)> {
        let (frame, slot) = self.entries.take(key)?;
        let slot = u32::from(slot);
        if let Some(pool) = self.pools.at_mut(slot) {
            pool.cached -= 1;
        }
        if let Some(&fs) = self.files.at_mut(key.file).as_deref() {
            self.count(fs, |stats| stats.cached -= 1);
        }
        Some((frame, slot))
    }

    fn release_detached(&mut self, entry: Option<(Frame, u32)>) {
        if let Some((frame, slot)) = entry {
            self.release(slot, frame);
        }
    }

    /// Put a frame that holds nothing on its pool's list.
    fn release(&mut self, slot: u32, frame: Frame) {
        if let Some(pool) = self.pools.at_mut(slot) {
            put_free(pool, slot, &mut self.with_free, frame);
        }
    }

    fn count(&mut self, fs: FsId, change: impl FnOnce(&mut FsStats)) {
        if let Some(stats) = self.filesystems.get_mut(fs) {
            change(stats);
        }
    }
}

fn put_free(pool: &mut Pool, slot: u32, with_free: &mut Vec<u32>, frame: Frame) {
    pool.free.push_front(frame);
    if !pool.stacked {
        pool.stacked = true;
        with_free.push(slot);
    }
}

fn scrubbed(memory: &'static Memory, mut frames: FrameList) -> FrameList {
    let mut clean = FrameList::new(memory);
    while let Some(mut frame) = frames.pop_front() {
        frame.zero();
        clean.push_back(frame);
    }
    clean
}
