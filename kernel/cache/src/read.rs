//! Reading: from the page cache, else from cleancache, else from what was inherited, else from disk.
//!
//! A page that is here is read without the lock, and nothing is written that another processor needs for that: it is copied, and the copy
//! counts if the page was neither changed nor taken meanwhile ([`Glance`](frames::Glance)) and the file is still known, which it
//! was when this reader had the lock last ([era](PageCache)). Any doubt, and the lock is taken after all.

use crate::backing::FillError;
use crate::files::Source;
use crate::pages::is_touched;
use crate::read_ahead::ReadAhead;
use crate::{PageCache, State};
use alloc::vec::Vec;
use cleancache::{FileId, Keepsake, Wanted};
use core::sync::atomic::Ordering::{Acquire, Relaxed};
use frames::{FRAME_SIZE, Frame, Key, PagePart, Zones};

/// Consecutive pages that only the disk has, with the frames to fill.
struct Gap {
    first: u32,
    frames: Vec<Frame>,
    /// What cleancache gave each page to take along.
    keepsakes: Vec<Keepsake>,
}

impl PageCache {
    /// Read `out.len()` bytes at `pos` of `file`, which is `size` bytes long. Returns the number of bytes, short only at the
    /// end of the file. `ahead` is the reader's memory of how it has been reading. Each page is what it was at one moment; a writer may
    /// come in between two pages, as with Linux's pread.
    ///
    /// # Errors
    /// What the [`Backing`](crate::Backing) said of the page that could not be filled; [`FillError::NoMemory`];
    /// [`FillError::Unmounted`] when the file is not known; [`FillError::TooLarge`] past page 2^32.
    pub fn read(
        &self,
        file: FileId,
        size: u64,
        pos: u64,
        out: &mut [u8],
        ahead: &mut ReadAhead,
    ) -> Result<usize, FillError> {
        let end = size.min(pos.saturating_add(out.len() as u64));
        if pos >= end {
            return Ok(0);
        }
        let last = page_of(end - 1)?;
        let out = &mut out[..(end - pos) as usize];
        ahead.begin(pos);
        let mut done = 0;
        while done < out.len() {
            let at = pos + done as u64;
            let (page, mut part) = (page_of(at)?, PagePart::first(at, &mut out[done..]));
            // Who does not know his file yet would copy for nothing.
            let known = ahead.era == self.era.load(Relaxed);
            if known && self.glance_at(file, page, &mut part, ahead)
                || self.read_locked(file, page, &mut part, ahead)?
            {
                done += part.len();
                continue;
            }
            let fetch = ahead.fetch((last - page).saturating_add(1), self.window);
            let last_of_file = page_of(size - 1).unwrap_or(u32::MAX);
            self.fetch(file, page, page.saturating_add(fetch - 1).min(last_of_file))?;
        }
        ahead.finish(end);
        Ok(done)
    }

    /// The read that most are: as [`PageCache::read`], of a page that is here, or a part of it. Whether it was that; if not, nothing has
    /// happened but that `out` may have bytes of anybody.
    #[inline(always)]
    pub fn read_within_page(&self, file: FileId, size: u64, pos: u64, out: &mut [u8], ahead: &mut ReadAhead) -> bool {
        // Of a number of a page and one of bytes, the sum cannot overflow.
        let end = pos.wrapping_add(out.len() as u64);
        let (Ok(index), Some(mut part)) = (page_of(pos), PagePart::all(pos, out)) else { return false };
        if end > size || !self.glance_at(file, index, &mut part, ahead) {
            return false;
        }
        // Whether it followed the last one is asked only by who fetches.
        ahead.finish(end);
        true
    }

    /// Copy a part of page `index` of `file` without the lock; whether that was possible. If not, the part has bytes of anybody.
    #[inline(always)]
    fn glance_at(&self, file: FileId, index: u32, part: &mut PagePart<'_>, ahead: &mut ReadAhead) -> bool {
        let key = Key { file: file.slot(), index };
        let Some(bits) = self.glance.read(key, part) else { return false };
        if self.era.load(Acquire) != ahead.era {
            return false;
        }
        if ahead.enters(index) {
            self.touched.hit();
            if !is_touched(bits) {
                self.tell(key.packed());
            }
        }
        true
    }

    /// Reclaim should hear that the page with this key was read.
    #[cold]
    fn tell(&self, key: u64) {
        if self.touched.touch(key)
            && let Some(mut state) = self.state.try_lock()
        {
            self.touched.drain(|key| state.pages.touch(key));
        }
    }

    /// Copy from a page with the lock held; `false` when it is not here.
    fn read_locked(
        &self,
        file: FileId,
        index: u32,
        part: &mut PagePart<'_>,
        ahead: &mut ReadAhead,
    ) -> Result<bool, FillError> {
        let mut state = self.state.lock();
        let State { pages, files, .. } = &mut *state;
        let ino = files.ino(file).ok_or(FillError::Unmounted)?;
        let hits = pages.counters.hits;
        let here = pages.copy_page(file, index, part, ahead);
        pages.counters.misses += u64::from(!here);
        match &mut pages.trace {
            Some(trace) if hits != pages.counters.hits => trace.note(ino, index),
            Some(_) => {}
            None => ahead.era = self.era.load(Acquire),
        }
        Ok(here)
    }

    /// Copy `out.len()` bytes at `pos` of `file`, if the pages that they lie in are in the page cache; whether they are. This brings
    /// nothing in, and asks for no memory.
    #[inline(never)]
    pub fn peek(&self, file: FileId, pos: u64, out: &mut [u8]) -> bool {
        let mut state = self.state.lock();
        state.files.knows(file) && state.pages.copy_out(file, pos, out, &mut ReadAhead::default()) == out.len()
    }

    /// Bring pages `first..=last` of `file` into the cache, `first` without fail.
    pub(crate) fn fetch(&self, file: FileId, first: u32, last: u32) -> Result<(), FillError> {
        let mut spare = Vec::new();
        for index in first..=last {
            match self.allocate(Zones::Ephemeral) {
                Ok(frame) => spare.push(frame),
                Err(_) if index > first => break,
                Err(_) => return Err(FillError::NoMemory),
            }
        }
        let (source, gaps) = self.restore_what_is_there(file, first, spare)?;
        for mut gap in gaps {
            match source.backing.fill(source.ino, gap.first, &mut gap.frames) {
                Ok(()) => self.admit(file, &source, gap),
                // Only the first page is owed to the reader. If it was not alone, its neighbours may be to blame.
                Err(error) if gap.first == first => {
                    if gap.frames.len() == 1 {
                        return Err(error);
                    }
                    gap.frames.truncate(1);
                    source.backing.fill(source.ino, first, &mut gap.frames)?;
                    self.admit(file, &source, gap);
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Take from cleancache what it has of the pages from `first` on, one for each frame, and then of what was inherited; what is
    /// nowhere is left in gaps.
    ///
    /// Cleancache is asked without the lock. What it gives is clean, so who looks for the same page meanwhile and finds it in neither
    /// cache may read it from disk. What it gave enters if the file has not changed since before it was asked.
    fn restore_what_is_there(
        &self,
        file: FileId,
        first: u32,
        spare: Vec<Frame>,
    ) -> Result<(Source, Vec<Gap>), FillError> {
        let key = |index: u32| Key { file: file.slot(), index };
        let mut state = self.state.lock();
        let State { pages, files, .. } = &mut *state;
        let mut source = files.source(file)?;
        let wanted = (first..=u32::MAX).zip(spare).filter(|&(index, _)| !pages.contains(key(index)));
        let mut wanted: Vec<Wanted> = wanted.map(|(index, frame)| Wanted::new(index, frame)).collect();
        pages.beyond = self.cleancache.donated() as usize;
        let evictions = pages.counters.evictions;
        drop(state);

        self.cleancache.restore_run(file, &mut wanted);

        let mut state = self.state.lock();
        let State { pages, files, inherited, .. } = &mut *state;
        let changed = files.epoch(file) != Some(source.epoch);
        if changed {
            // What was found may be of before, and is read from disk. Once more, and this time nobody comes between.
            source = files.source(file)?;
            self.cleancache.restore_run(file, &mut wanted);
        } else if pages.counters.evictions != evictions
            && let (Some(first), Some(last)) = (wanted.first(), wanted.last())
        {
            // Another reader may have filled these, and reclaim evicted them again: a page is in one of the caches.
            self.cleancache.invalidate_range(file, first.index, last.index);
        }
        let heir = files.heir(file).filter(|_| !inherited.is_empty());
        let mut gaps: Vec<Gap> = Vec::new();
        for Wanted { index, mut frame, found, keepsake } in wanted {
            if pages.contains(key(index)) {
                continue;
            }
            pages.counters.restored += u64::from(found);
            let found = found || heir.is_some_and(|heir| inherited.restore(heir, index, &mut frame, &self.cleancache));
            if found {
                pages.insert(key(index), frame, keepsake);
                continue;
            }
            let follows = |gap: &&mut Gap| gap.first + gap.frames.len() as u32 == index;
            match gaps.last_mut().filter(follows) {
                Some(gap) => {
                    gap.frames.push(frame);
                    gap.keepsakes.push(keepsake);
                }
                None => {
                    let mut gap = Gap { first: index, frames: Vec::new(), keepsakes: Vec::new() };
                    gap.frames.reserve(self.window as usize);
                    gap.keepsakes.reserve(self.window as usize);
                    gap.frames.push(frame);
                    gap.keepsakes.push(keepsake);
                    gaps.push(gap);
                }
            }
        }
        Ok((source, gaps))
    }

    /// Filled pages enter the cache, unless their file has changed since.
    fn admit(&self, file: FileId, source: &Source, gap: Gap) {
        let mut state = self.state.lock();
        let State { pages, files, .. } = &mut *state;
        if files.epoch(file) != Some(source.epoch) {
            return;
        }
        // Another reader may have filled these too, and reclaim may have evicted them again: a page is in one of the caches.
        let last = gap.first.saturating_add(gap.frames.len() as u32 - 1);
        self.cleancache.invalidate_range(file, gap.first, last);
        for ((index, frame), keepsake) in (gap.first..=u32::MAX).zip(gap.frames).zip(gap.keepsakes) {
            pages.counters.filled += 1;
            pages.insert(Key { file: file.slot(), index }, frame, keepsake);
        }
    }
}

/// The page that a byte lies in.
pub(crate) fn page_of(pos: u64) -> Result<u32, FillError> {
    u32::try_from(pos / FRAME_SIZE as u64).map_err(|_| FillError::TooLarge)
}
