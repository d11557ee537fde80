//! Writing: changed pages stay here as dirty ones until they are [written back](crate::write_back); they are not clean before the
//! disk has them, so reclaim cannot lose them.

use crate::backing::FillError;
use crate::dirty::Change;
use crate::read::page_of;
use crate::{PageCache, State};
use cleancache::FileId;
use core::sync::atomic::Ordering::Relaxed;
use frames::{FRAME_SIZE, Key, Zones};

impl PageCache {
    /// Write `data` at `pos` of `file`, which was `size` bytes long. The pages become dirty; the caller keeps the new size.
    ///
    /// # Errors
    /// As for reading, since a page that is changed in part is read first; and what the disk said when it did not take pages, when
    /// these have become too many. What stands before the page that failed is written.
    pub fn write(&self, file: FileId, size: u64, pos: u64, data: &[u8]) -> Result<usize, FillError> {
        let mut done = 0;
        while done < data.len() {
            self.pace()?;
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
                self.dirtied.fetch_add(1, Relaxed);
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
        let change = state.pages.modify(key, within, data);
        // What was dirty already is nowhere else, and nobody can be filling it.
        if change == Change::Anew {
            self.dirtied.fetch_add(1, Relaxed);
            state.files.bump(file);
            self.cleancache.invalidate(file, key.index);
        }
        Ok(change != Change::Absent)
    }

    /// The file is `size` bytes long from now on: pages past the end are dropped everywhere, and the rest of the last page, where it is
    /// here, reads as zeros. None of these pages is on its way to the disk when this returns. A copy of that page in cleancache, or inherited, is dropped too, so that the tail cannot come back.
    pub fn truncate(&self, file: FileId, size: u64) {
        let within = size as usize % FRAME_SIZE;
        let Ok(first) = page_of(size) else { return };
        let mut state = self.landed_from(file, first);
        if !state.files.knows(file) {
            return;
        }
        state.files.bump(file);
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
}
