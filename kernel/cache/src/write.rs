//! Writing: changed pages stay here as dirty ones until they are written back.
//!
//! A page on its way to disk is copied first, so that no lock is held and the page may change again; it is not clean before the
//! disk has it, so reclaim cannot lose it.

use crate::backing::FillError;
use crate::read::page_of;
use crate::{PageCache, State};
use cleancache::FileId;
use frames::{FRAME_SIZE, Key, Zones};

impl PageCache {
    /// Write `data` at `pos` of `file`, which was `size` bytes long. The pages become dirty; the caller keeps the new size.
    ///
    /// # Errors
    /// As for reading, since a page that is changed in part is read first. What stands before the page that failed is written.
    pub fn write(&self, file: FileId, size: u64, pos: u64, data: &[u8]) -> Result<usize, FillError> {
        let mut done = 0;
        while done < data.len() {
            let at = pos.checked_add(done as u64).ok_or(FillError::TooLarge)?;
            let within = at as usize % FRAME_SIZE;
            let len = (data.len() - done).min(FRAME_SIZE - within);
            self.write_page(file, size, page_of(at)?, within, &data[done..done + len])?;
            done += len;
        }
        Ok(done)
    }

    fn write_page(&self, file: FileId, size: u64, index: u32, within: usize, data: &[u8]) -> Result<(), FillError> {
        let key = Key { file: file.slot(), index };
        let page_start = u64::from(index) * FRAME_SIZE as u64;
        let nothing_to_keep = data.len() == FRAME_SIZE || page_start >= size;
        loop {
            if self.modify(file, key, within, data)? {
                return Ok(());
            }
            if !nothing_to_keep {
                self.fetch(file, index, index)?;
                continue;
            }
            let mut frame = self.allocate(Zones::Ephemeral).map_err(|_| FillError::NoMemory)?;
            frame.zero();
            frame.bytes_mut()[within..within + data.len()].copy_from_slice(data);
            let mut state = self.state.lock();
            let State { pages, files, .. } = &mut *state;
            if !files.knows(file) {
                return Err(FillError::Unmounted);
            }
            if pages.insert_dirty(key, frame) {
                files.bump(file);
                self.cleancache.invalidate(file, index);
                state.drop_inherited(file, index, index, &self.cleancache);
                return Ok(());
            }
        }
    }

    /// Change a page that is here; `false` when it is not.
    fn modify(&self, file: FileId, key: Key, within: usize, data: &[u8]) -> Result<bool, FillError> {
        let mut state = self.state.lock();
        if !state.files.knows(file) {
            return Err(FillError::Unmounted);
        }
        let changed = state.pages.modify(key, within, data);
        if changed {
            state.files.bump(file);
            self.cleancache.invalidate(file, key.index);
        }
        Ok(changed)
    }

    /// The file is `size` bytes long from now on: pages past the end are dropped everywhere, and the rest of the last page, where it is
    /// here, reads as zeros. A copy of that page in cleancache, or inherited, is dropped too, so that the tail cannot come back.
    pub fn truncate(&self, file: FileId, size: u64) {
        let mut state = self.state.lock();
        if !state.files.knows(file) {
            return;
        }
        state.files.bump(file);
        let within = size as usize % FRAME_SIZE;
        let Ok(first) = page_of(size) else { return };
        self.cleancache.invalidate_range(file, first, u32::MAX);
        state.drop_inherited(file, first, u32::MAX, &self.cleancache);
        let first_gone = if within == 0 {
            Some(first)
        } else {
            state.pages.zero_tail(Key { file: file.slot(), index: first }, within);
            first.checked_add(1)
        };
        if let Some(first) = first_gone {
            state.pages.drop_range(file, first, u32::MAX);
        }
    }

    /// Write dirty pages of `file` (of all files, at `None`) until none is left.
    ///
    /// # Errors
    /// The first page that could not be written; it stays dirty.
    pub fn sync(&self, file: Option<FileId>) -> Result<(), FillError> {
        // Pages made dirty while this runs are not owed.
        let mut owed = self.stats().dirty as usize;
        while owed > 0 {
            let written = self.write_back(file, owed)?;
            if written == 0 {
                break;
            }
            owed -= written;
        }
        Ok(())
    }

    /// Write up to `most` dirty pages; returns how many.
    pub(crate) fn write_back(&self, of: Option<FileId>, most: usize) -> Result<usize, FillError> {
        if self.stats().dirty == 0 {
            return Ok(0);
        }
        // From the reserve: writing back is how memory becomes free.
        let mut copy = self.memory.allocate(Zones::Ephemeral).ok_or(FillError::NoMemory)?;
        for written in 0..most {
            let mut state = self.state.lock();
            let State { pages, files, .. } = &mut *state;
            let Some(key) = pages.begin_write_back(of, &mut copy) else { return Ok(written) };
            let source = files.at(key.file).ok_or(FillError::Unmounted).and_then(|file| files.source(file));
            drop(state);
            let result = source.and_then(|source| source.backing.write(source.ino, key.index, &[copy.bytes()]));
            self.state.lock().pages.end_write_back(key, result.is_ok());
            result?;
        }
        Ok(most)
    }
}
