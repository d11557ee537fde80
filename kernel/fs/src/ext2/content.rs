//! The content of files: written, cut off, punched.
//!
//! A write goes page by page. The blocks that it needs are allocated first, then the page cache takes the bytes, then the size
//! grows. Until the page cache has them the new blocks are *fresh*: the page cache is told that they are holes, so that nobody
//! sees what was in them before. A page whose write failed gives its fresh blocks back.
//!
//! What the disk has past the end of a file is nobody's; whoever lets a file grow makes it zeros first.

use super::Ext2;
use super::buffer::Phase;
use super::change::Change;
use super::inode::Inode;
use super::map::BlockMap;
use crate::error::{Error, Result};
use alloc::sync::Arc;
use frames::FRAME_SIZE;

/// A size from which a file counts as large.
const LARGE: u64 = 1 << 31;
const ZEROS: [u8; FRAME_SIZE] = [0; FRAME_SIZE];

impl Ext2 {
    /// Write `data` at `pos`; how much was written, less than all when the disk is full or failed half way.
    pub(super) fn write(&self, inode: &Arc<Inode>, pos: u64, data: &[u8]) -> Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let change = self.begin()?;
        if let Some(size) = change.written_over(inode, pos, data.len()) {
            return Ok(inode.file.write(size, pos, data)?);
        }
        let limit = self.geometry.max_file_size();
        let data = match limit.checked_sub(pos) {
            None | Some(0) => return Err(Error::FileTooLarge { limit }),
            Some(left) if left < data.len() as u64 => data.get(..left as usize).unwrap_or(data),
            Some(_) => data,
        };
        let (size, excess) = {
            let state = inode.lock();
            (state.size, state.now.excess)
        };
        if excess && pos + data.len() as u64 > size {
            change.judge(change.cut_tail(inode))?;
        }
        if pos > size {
            change.judge(change.make_room().and_then(|()| change.zero_tail(inode, pos)))?;
        }
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let at = pos + done as u64;
            let len = rest.len().min(FRAME_SIZE - at as usize % FRAME_SIZE);
            let result = change.write_in_page(inode, at, rest.get(..len).unwrap_or(rest));
            match change.judge(result) {
                Ok(written) => done += written,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

impl Change<'_> {
    /// The size of a file where `len` bytes at `pos`, which lie within a page, have all their blocks, and the inode is going to be
    /// written anyway: nothing is left to do then but to write them, and the file counts as changed.
    #[inline]
    fn written_over(&self, inode: &Inode, pos: u64, len: usize) -> Option<u64> {
        let end = pos.checked_add(len as u64)?;
        let within = pos as usize % FRAME_SIZE + len <= FRAME_SIZE;
        let mut state = inode.lock();
        if !within || end > state.now.dense || end > state.size || !state.now.changed {
            return None;
        }
        state.touch(inode.storable(self.now()));
        Some(state.size)
    }

    /// Write `data`, which lies within a page; how much of it was written, at least a byte.
    fn write_in_page(&self, inode: &Arc<Inode>, at: u64, data: &[u8]) -> Result<usize> {
        match self.written_over(inode, at, data.len()) {
            Some(size) => Ok(inode.file.write(size, at, data)?),
            None => self.write_anew(inode, at, data),
        }
    }

    /// As [`Change::write_in_page`], where blocks may have to be allocated or the file grows.
    fn write_anew(&self, inode: &Arc<Inode>, at: u64, data: &[u8]) -> Result<usize> {
        self.make_room_to_grow(inode)?;
        self.mark(inode)?;
        let large = at + data.len() as u64 >= LARGE;
        if large && inode.size() < LARGE {
            self.large()?;
        }
        let mapped = match self.map(inode, at, at + data.len() as u64) {
            Err(Error::NoSpace) if self.has_waiting() => {
                self.commit()?;
                self.mark(inode)?;
                self.map(inode, at, at + data.len() as u64)?
            }
            result => result?,
        };
        let data = data.get(..(mapped - at) as usize).unwrap_or(data);
        let end = at + data.len() as u64;
        let size = {
            let mut state = inode.lock();
            state.now.growing = end;
            state.size
        };
        let written = inode.file.write(size, at, data);
        if let Err(error) = written {
            let fresh = inode.lock().now.fresh.clone();
            let undone = if fresh.is_empty() { Ok(()) } else { self.undo(inode, fresh) };
            let undone = undone.inspect_err(|error| self.left_behind(inode, error));
            let now = &mut inode.lock().now;
            (now.growing, now.fresh) = (0, 0..0);
            return undone.and(Err(error.into()));
        }
        let block_size = self.fs.geometry.block_size() as u64;
        let mut state = inode.lock();
        (state.now.growing, state.now.fresh) = (0, 0..0);
        state.size = size.max(end);
        if at / block_size * block_size <= state.now.dense {
            state.now.dense = state.now.dense.max(end.next_multiple_of(block_size));
        }
        state.touch(inode.storable(self.now()));
        drop(state);
        self.mark(inode)?;
        Ok(data.len())
    }

    /// Allocate what bytes `at..end`, which lie within a page, lack of blocks. Where there are not enough, the position up to which
    /// there are.
    fn map(&self, inode: &Arc<Inode>, at: u64, end: u64) -> Result<u64> {
        if end <= inode.lock().now.dense {
            return Ok(end);
        }
        let block_size = self.fs.geometry.block_size() as u64;
        for index in at / block_size..end.div_ceil(block_size) {
            match self.block_for(inode, index) {
                Ok(mapped) if mapped.new => {
                    let mut state = inode.lock();
                    let fresh = &mut state.now.fresh;
                    *fresh = if fresh.is_empty() { index } else { fresh.start }..index + 1;
                }
                Ok(_) => {}
                Err(error) => {
                    let mapped = (index * block_size).max(at);
                    return if mapped > at { Ok(mapped) } else { Err(error) };
                }
            }
        }
        Ok(end)
    }

    /// There is going to be a file of 2 GiB.
    fn large(&self) -> Result<()> {
        match &mut self.fs.metadata.lock().superblock {
            Some(superblock) => superblock.allow_large_files(),
            None => Err(Error::ReadOnly),
        }
    }

    /// Let a file grow to `size` bytes, by a hole.
    fn extend(&self, inode: &Arc<Inode>, size: u64) -> Result<()> {
        self.make_room_to_grow(inode)?;
        let old = inode.size();
        if old < LARGE && size >= LARGE {
            self.large()?;
        }
        if inode.lock().now.excess {
            self.cut_tail(inode)?;
        }
        self.zero_tail(inode, size)?;
        self.mark(inode)?;
        let mut state = inode.lock();
        state.size = size;
        state.touch(inode.storable(self.now()));
        Ok(())
    }

    /// A file is going to be `size` bytes long or longer: what its last block has past the end becomes zeros.
    fn zero_tail(&self, inode: &Arc<Inode>, size: u64) -> Result<()> {
        let old = inode.size();
        self.zero(inode, old, size.min(old.next_multiple_of(self.fs.geometry.block_size() as u64)))
    }

    /// Make zeros of bytes `from..to` that lie in one page, where there is a block for some of them.
    fn zero(&self, inode: &Arc<Inode>, from: u64, to: u64) -> Result<()> {
        let block_size = self.fs.geometry.block_size() as u64;
        let mut blocks = from / block_size..to.div_ceil(block_size);
        let roots = inode.lock().blocks;
        let mut map = BlockMap::new(&self.fs.geometry, &roots, self.fs);
        let mapped = blocks.try_fold(false, |mapped, index| map.find(index).map(|block| mapped || block.is_some()))?;
        if from < to && mapped {
            let zeros = ZEROS.get(..(to - from) as usize).unwrap_or(&ZEROS);
            // With the new end as its size, so that a page is read before it is changed.
            inode.file.write(inode.size().max(from), from, zeros)?;
        }
        Ok(())
    }

    /// Make a file `size` bytes long.
    pub(super) fn truncate(&self, inode: &Arc<Inode>, size: u64) -> Result<()> {
        inode.regular()?;
        let limit = self.fs.geometry.max_file_size();
        if size > limit {
            return Err(Error::FileTooLarge { limit });
        }
        let old = inode.size();
        if size >= old {
            return if size > old { self.extend(inode, size) } else { self.touch_content(inode) };
        }
        let block_size = self.fs.geometry.block_size() as u64;
        // The tail of the block that stays is made zeros while it can still fail.
        self.zero(inode, size, old.min(size.next_multiple_of(block_size)))?;
        self.mark(inode)?;
        inode.lock().size = size;
        inode.file.truncate(size);
        self.touch_content(inode)?;
        self.cut_tail(inode)
    }

    /// Make a hole of bytes `pos..pos + len`, as far as the file goes.
    pub(super) fn punch(&self, inode: &Arc<Inode>, pos: u64, len: u64) -> Result<()> {
        inode.regular()?;
        let end = inode.size().min(pos.saturating_add(len));
        if pos >= end {
            return Ok(());
        }
        let (page, block_size) = (FRAME_SIZE as u64, self.fs.geometry.block_size() as u64);
        let (first_page, last_page) = (pos.div_ceil(page), end / page);
        // Pages that stay in part; what lies past the end of the file in the last one stays as it is.
        self.zero(inode, pos, end.min(first_page * page))?;
        if last_page >= first_page {
            self.zero(inode, last_page * page, end)?;
        }
        self.touch_content(inode)?;
        // The last block goes too when the hole reaches to the end of the file.
        let last = if end == inode.size() { end.div_ceil(block_size) } else { end / block_size };
        self.cut(inode, pos.div_ceil(block_size)..last, Phase::Map)?;
        // Not before, nor when it fails: blocks that are still there may not have their content yet. Until this turn ends nobody is given
        // a block to which something is on its way.
        if last_page > first_page {
            inode.file.invalidate(first_page as u32, (last_page - 1) as u32);
        }
        Ok(())
    }

    fn touch_content(&self, inode: &Arc<Inode>) -> Result<()> {
        self.mark(inode)?;
        inode.lock().touch(inode.storable(self.now()));
        Ok(())
    }
}
