//! The pages that are here, in a few orders, and which of the clean ones goes first.
//!
//! *Inactive* holds pages read once, oldest at the front; *active* those read again. Reading only sets a bit; reclaim, when it
//! meets a page with the bit, moves it to *active*, and takes back from *active* when that outgrows *inactive* (the two lists of
//! Linux's mm/vmscan.c, promoted lazily as in CLOCK). A page that comes back soon after its eviction goes to *active* at once
//! ([ghosts](cleancache::ghost)). Pages that the disk does not have yet are in other orders, and are the business of
//! [`dirty`](crate::dirty): reclaim sees none of them.

use crate::dirty::FAILED;
use crate::read_ahead::ReadAhead;
use crate::trace::Trace;
use cleancache::ghost::Ghosts;
use cleancache::{Arrival, FileId, Keepsake};
use frames::{FRAME_SIZE, Frame, FrameMap, FrameRef, Key, Memory, Pfn};

pub(crate) const INACTIVE: u16 = 0;
pub(crate) const ACTIVE: u16 = 1;
/// Orders from here on are those of [`dirty`](crate::dirty).
pub(crate) const FIRST_DIRTY: u16 = 2;
pub(crate) const ORDERS: u16 = 6;

/// Not read since it came here: the first reader is the one that it was fetched for.
const FRESH: u16 = 1;
/// Read again since it came here, or since reclaim looked last.
pub(crate) const REFERENCED: u16 = 2;
/// Was active at some time.
const WORKINGSET: u16 = 4;
/// Bits of [`dirty`](crate::dirty).
pub(crate) const DIRTY_BITS: [u16; 3] = [8, 16, 32];
/// From this bit on: what the page has with it from cleancache.
const KEEPSAKE_SHIFT: u32 = 8;

/// What is in the page cache, and what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pages read once.
    pub inactive: u64,
    /// Pages read again.
    pub active: u64,
    /// Pages that the disk does not have yet, those being written included.
    pub dirty: u64,
    /// Those of them that could not be written when it was last tried.
    pub failed: u64,
    /// Pages that a reader found here.
    pub hits: u64,
    /// Times that a reader did not find its page here.
    pub misses: u64,
    /// Pages filled from disk, read-ahead included.
    pub filled: u64,
    /// Pages restored from cleancache.
    pub restored: u64,
    /// Pages that came back so soon after their eviction that they were made active.
    pub refaults: u64,
    /// Pages found by reclaim to have been read again.
    pub activations: u64,
    /// Pages evicted.
    pub evictions: u64,
    /// Pages written to disk.
    pub written: u64,
    /// Runs of neighbours that they were written in.
    pub runs: u64,
}

impl Stats {
    /// Pages that are here.
    pub fn pages(&self) -> u64 {
        self.inactive + self.active + self.dirty
    }
}

/// A page on its way out.
pub(crate) struct Victim {
    pub(crate) key: Key,
    pub(crate) frame: Frame,
    pub(crate) arrival: Arrival,
}

pub(crate) struct Pages {
    pub(crate) map: FrameMap,
    ghosts: Ghosts,
    /// Evictions and activations so far: the clock of refault distances.
    clock: u32,
    /// Frames of the cleancache that evicted pages go to.
    pub(crate) beyond: usize,
    pub(crate) trace: Option<Trace>,
    pub(crate) counters: Stats,
}

impl Pages {
    pub(crate) fn new(memory: &'static Memory, frames: usize) -> Self {
        Self {
            map: FrameMap::new(memory, frames, ORDERS),
            ghosts: Ghosts::new(frames / 2),
            clock: 0,
            trace: None,
            beyond: 0,
            counters: Stats::default(),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            inactive: self.map.order_len(INACTIVE) as u64,
            active: self.map.order_len(ACTIVE) as u64,
            dirty: self.dirty_len() as u64,
            failed: self.map.order_len(FAILED) as u64,
            ..self.counters
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn add_file(&mut self, file: FileId) {
        self.map.add_file(file.slot());
    }

    pub(crate) fn file_len(&self, file: FileId) -> usize {
        self.map.file_len(file.slot())
    }

    pub(crate) fn contains(&self, key: Key) -> bool {
        self.map.get(key).is_some()
    }

    /// Copy from byte `within` of page `index` of `file` into `out`, if that page is here; whether it is. Reads are not traced here.
    #[inline(always)]
    pub(crate) fn copy_page(
        &mut self,
        file: FileId,
        index: u32,
        within: usize,
        out: &mut [u8],
        ahead: &mut ReadAhead,
    ) -> bool {
        let Some(page) = self.map.get(Key { file: file.slot(), index }) else { return false };
        if ahead.enters(index) {
            touch(page);
            self.counters.hits += 1;
        }
        page.read(within, out);
        true
    }

    /// A page was read by somebody without the lock.
    pub(crate) fn touch(&mut self, key: Key) {
        if let Some(page) = self.map.get(key) {
            touch(page);
        }
    }

    /// Copy from `pos` of `file` into `out` as far as pages are here; returns the number of bytes.
    pub(crate) fn copy_out(&mut self, file: FileId, pos: u64, out: &mut [u8], ahead: &mut ReadAhead) -> usize {
        let mut done = 0;
        while done < out.len() {
            let at = pos + done as u64;
            let index = (at / FRAME_SIZE as u64) as u32;
            let within = at as usize % FRAME_SIZE;
            let len = (out.len() - done).min(FRAME_SIZE - within);
            if !self.copy_page(file, index, within, &mut out[done..done + len], ahead) {
                break;
            }
            done += len;
        }
        done
    }

    /// The page in the frame `pfn`, if it is here and clean.
    pub(crate) fn clean_at(&self, pfn: Pfn) -> Option<FrameRef<'_>> {
        self.map.find(pfn).filter(is_clean)
    }

    /// The clean pages of `file`.
    pub(crate) fn clean_of(&self, file: FileId) -> impl Iterator<Item = FrameRef<'_>> {
        self.map.of_file(file.slot()).filter(is_clean)
    }

    pub(crate) fn get(&self, key: Key) -> Option<FrameRef<'_>> {
        self.map.get(key)
    }

    /// The page under `key` lies in `frame` from now on, which holds the same; it becomes the youngest of its order.
    pub(crate) fn move_to(&mut self, key: Key, frame: Frame) {
        if let Some(old) = self.map.take(key) {
            // The place was just made free.
            let _ = self.map.insert(key, frame, old.order, old.private);
        }
    }

    /// A whole, clean page comes in. `false`, and the frame goes back to memory, when one is here already.
    pub(crate) fn insert(&mut self, key: Key, frame: Frame, keepsake: Keepsake) -> bool {
        // Would it be here still, or in cleancache, had there been twice the memory? Then it may be as good as what is active, which
        // makes room for it. Pages that were active once and are not read any more would stay for ever otherwise.
        let reach = self.map.len() + self.beyond;
        let (order, bits) = match self.ghosts.recall(key) {
            Some(ghost) if ghost.age(self.clock) as usize <= reach => {
                self.counters.refaults += 1;
                self.clock = self.clock.wrapping_add(1);
                (ACTIVE, FRESH | if ghost.note != 0 { WORKINGSET } else { 0 })
            }
            _ => (INACTIVE, FRESH),
        };
        self.map.insert(key, frame, order, bits | u16::from(keepsake.0) << KEEPSAKE_SHIFT).is_ok()
    }

    /// Drop pages `first..=last` of `file`.
    pub(crate) fn drop_range(&mut self, file: FileId, first: u32, last: u32) {
        self.map.remove_range(file.slot(), first, last, drop);
    }

    /// The next page to go, of those that `accept` takes. Each page looked at costs one of `budget`, which bounds the search.
    pub(crate) fn next_victim(&mut self, budget: &mut usize, accept: impl Fn(&FrameRef<'_>) -> bool) -> Option<Victim> {
        while *budget > 0 {
            *budget -= 1;
            if self.map.order_len(ACTIVE) > self.map.order_len(INACTIVE) {
                self.deactivate_one();
            }
            let Some(page) = self.map.front(INACTIVE) else {
                if self.map.order_len(ACTIVE) == 0 {
                    return None;
                }
                continue;
            };
            let (key, bits) = (page.key(), page.private());
            if bits & REFERENCED != 0 {
                page.set_private(bits & !REFERENCED);
                self.map.move_to_back(key, ACTIVE);
                self.clock = self.clock.wrapping_add(1);
                self.counters.activations += 1;
            } else if accept(&page) {
                return self.evict(key);
            } else {
                // What is wanted may be among the active pages only.
                self.map.move_to_back(key, INACTIVE);
                self.deactivate_one();
            }
        }
        None
    }

    /// A clean page, whatever reclaim would say; for dropping everything.
    pub(crate) fn any_victim(&mut self) -> Option<Victim> {
        let key = self.map.front(INACTIVE).or_else(|| self.map.front(ACTIVE))?.key();
        self.evict(key)
    }

    fn evict(&mut self, key: Key) -> Option<Victim> {
        let taken = self.map.take(key)?;
        let workingset = taken.private & WORKINGSET != 0;
        self.ghosts.remember(key, self.clock, u8::from(workingset));
        self.clock = self.clock.wrapping_add(1);
        self.counters.evictions += 1;
        let keepsake = Keepsake((taken.private >> KEEPSAKE_SHIFT) as u8);
        Some(Victim { key, frame: taken.frame, arrival: Arrival { workingset, keepsake } })
    }

    /// Give the oldest active page another round if it was read again; make it inactive if not.
    fn deactivate_one(&mut self) {
        let Some(page) = self.map.front(ACTIVE) else { return };
        let (key, bits) = (page.key(), page.private());
        if bits & REFERENCED != 0 {
            page.set_private(bits & !REFERENCED);
            self.map.move_to_back(key, ACTIVE);
        } else {
            page.set_private(bits | WORKINGSET);
            self.map.move_to_back(key, INACTIVE);
        }
    }
}

/// Whether the disk has a page as it is.
fn is_clean(page: &FrameRef<'_>) -> bool {
    matches!(page.order(), INACTIVE | ACTIVE)
}

/// Whether a page with these bits is as it would be if it had just been read.
#[inline]
pub(crate) fn is_touched(bits: u16) -> bool {
    bits & (FRESH | REFERENCED) == REFERENCED
}

/// Note that a page is read. The first reading is the one that it was fetched for; only later ones count.
#[inline]
fn touch(page: FrameRef<'_>) {
    let bits = page.private();
    if bits & FRESH != 0 {
        page.set_private(bits & !FRESH);
    } else if bits & REFERENCED == 0 {
        page.set_private(bits | REFERENCED);
    }
}
