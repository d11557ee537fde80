//! The block map, cut back: blocks of a file freed, from its end, and with them the indirect blocks that lead nowhere then.
//!
//! A pointer is cleared before what it leads to is freed, and room is made between two blocks; so a commit that comes in between
//! finds a map that leads to no freed block. Depth is fixed by the format. A map that leads to a block twice frees it
//! twice, which ends the change.

use super::buffer::Phase;
use super::change::Change;
use super::inode::Inode;
use super::layout::{DIRECT, XATTR_MAGIC};
use crate::block::SECTOR_SIZE;
use crate::error::Result;
use alloc::sync::Arc;
use core::ops::Range;

/// What is cut out of which file.
struct Cut<'a> {
    inode: &'a Arc<Inode>,
    range: Range<u64>,
    /// When indirect blocks that stay are written.
    phase: Phase,
    /// It is part of a step that has found room for it, and nothing is to be committed before its end.
    within_step: bool,
}

/// A subtree of a map.
#[derive(Clone, Copy)]
struct Tree {
    top: u32,
    /// Indirect blocks above its data blocks; 0 is a data block.
    depth: u32,
    /// The first block of the file in it.
    first: u64,
}

impl Change<'_> {
    /// Free what a file has past its end.
    pub(super) fn cut_tail(&self, inode: &Arc<Inode>) -> Result<()> {
        let end = inode.size().div_ceil(self.fs.geometry.block_size() as u64);
        self.cut(inode, end..u64::MAX, Phase::Map).inspect_err(|error| self.left_behind(inode, error))?;
        inode.lock().now.excess = false;
        Ok(())
    }

    /// Free the blocks `range` of a file.
    pub(super) fn cut(&self, inode: &Arc<Inode>, range: Range<u64>, phase: Phase) -> Result<()> {
        self.cut_out(&Cut { inode, range, phase, within_step: false })
    }

    /// Take back the blocks `range`, which lie within a page and were allocated by the step that is under way.
    pub(super) fn undo(&self, inode: &Arc<Inode>, range: Range<u64>) -> Result<()> {
        self.cut_out(&Cut { inode, range, phase: Phase::Map, within_step: true })
    }

    fn cut_out(&self, cut: &Cut<'_>) -> Result<()> {
        {
            let mut state = cut.inode.lock();
            (state.now.last, state.now.leaf) = ((0, 0), (0, 0));
            state.now.dense = state.now.dense.min(cut.range.start * self.fs.geometry.block_size() as u64);
        }
        let pointers = self.fs.geometry.pointers_per_block();
        let firsts = [0, pointers, pointers + pointers * pointers].map(|blocks| blocks + DIRECT as u64);
        for (depth, first) in [(3, firsts[2]), (2, firsts[1]), (1, firsts[0])] {
            self.cut_root(cut, DIRECT + depth as usize - 1, depth, first)?;
        }
        for at in (0..DIRECT).rev() {
            self.cut_root(cut, at, 0, at as u64)?;
        }
        self.mark(cut.inode)
    }

    fn cut_root(&self, cut: &Cut<'_>, at: usize, depth: u32, first: u64) -> Result<()> {
        let top = cut.inode.lock().blocks.get(at).copied().unwrap_or(0);
        let tree = Tree { top, depth, first };
        if top == 0 || !self.reaches(cut, tree) {
            return Ok(());
        }
        self.fs.geometry.block(top)?;
        if self.cut_below(cut, tree)? {
            self.prepare(cut, top)?;
            if let Some(pointer) = cut.inode.lock().blocks.get_mut(at) {
                *pointer = 0;
            }
            self.free_of(cut, tree)?;
        }
        Ok(())
    }

    /// Free what of a tree is to go, but not its top; whether that is to go too.
    fn cut_below(&self, cut: &Cut<'_>, tree: Tree) -> Result<bool> {
        if tree.depth == 0 {
            return Ok(true);
        }
        let below = self.span(tree.depth - 1);
        for at in (0..self.fs.geometry.pointers_per_block()).rev() {
            let child = Tree { top: 0, depth: tree.depth - 1, first: tree.first + at * below };
            if !self.reaches(cut, child) {
                continue;
            }
            let child = Tree { top: self.pointer(tree.top, at)?, ..child };
            if child.top == 0 {
                continue;
            }
            self.fs.geometry.block(child.top)?;
            if self.cut_below(cut, child)? {
                self.prepare(cut, child.top)?;
                self.set_pointer(cut.inode, tree.top, at, 0, cut.phase)?;
                self.free_of(cut, child)?;
            }
        }
        Ok(cut.range.start <= tree.first && tree.first + self.span(tree.depth) <= cut.range.end)
    }

    /// Before `block` is let go: what its freeing needs is read while nothing leads anywhere else yet.
    fn prepare(&self, cut: &Cut<'_>, block: u32) -> Result<()> {
        match (cut.within_step, cut.phase) {
            (true, _) => {}
            (false, Phase::Last) => self.make_room()?,
            // What a file gives up that cannot be written may wait for long.
            (false, _) => self.make_room_to_grow(cut.inode)?,
        }
        self.ready(self.fs.geometry.group_of(block).0)?;
        self.mark(cut.inode)
    }

    fn free_of(&self, cut: &Cut<'_>, tree: Tree) -> Result<()> {
        let content = tree.depth == 0 && cut.inode.regular().is_ok();
        if content {
            self.free_block(tree.top, cut.inode.number)?
        } else {
            self.free_metadata(tree.top, cut.inode.number)?
        }
        let sectors = (self.fs.geometry.block_size() / SECTOR_SIZE) as u32;
        let mut state = cut.inode.lock();
        state.sectors = state.sectors.saturating_sub(sectors);
        Ok(())
    }

    /// Blocks of a file that a tree leads to.
    fn span(&self, depth: u32) -> u64 {
        self.fs.geometry.pointers_per_block().pow(depth)
    }

    fn reaches(&self, cut: &Cut<'_>, tree: Tree) -> bool {
        tree.first < cut.range.end && cut.range.start < tree.first + self.span(tree.depth)
    }

    /// The file has neither a name nor anybody who has it open: free all that it has, and itself.
    pub(super) fn reap(&self, inode: &Arc<Inode>) -> Result<()> {
        self.free_all(inode).inspect_err(|error| self.left_behind(inode, error))
    }

    fn free_all(&self, inode: &Arc<Inode>) -> Result<()> {
        inode.file.forget();
        {
            let mut state = inode.lock();
            (state.size, state.now.grown) = (0, false);
            state.dtime = self.now().seconds as u32;
        }
        self.make_room()?;
        self.mark(inode)?;
        if inode.has_blocks(&self.fs.geometry) {
            self.cut(inode, 0..u64::MAX, Phase::Last)?;
        }
        self.make_room()?;
        self.drop_attributes(inode)?;
        self.mark(inode)?;
        self.free_inode(inode.number, inode.directory().is_ok())
    }

    /// Let go of a block of extended attributes, which other files may have too.
    fn drop_attributes(&self, inode: &Arc<Inode>) -> Result<()> {
        let block = inode.lock().file_acl;
        if block == 0 {
            return Ok(());
        }
        self.fs.geometry.block(block)?;
        let bytes = self.fs.read_block(block)?;
        let word =
            |at: usize| bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word));
        let shared = word(0) == XATTR_MAGIC && word(4) > 1;
        self.mark(inode)?;
        inode.lock().file_acl = 0;
        if shared {
            return self.edit(block, Phase::Map, |bytes| {
                if let Some(count) = bytes.get_mut(4..).and_then(<[u8]>::first_chunk_mut) {
                    *count = (word(4) - 1).to_le_bytes();
                }
            });
        }
        self.free_metadata(block, inode.number)?;
        let sectors = (self.fs.geometry.block_size() / SECTOR_SIZE) as u32;
        let mut state = inode.lock();
        state.sectors = state.sectors.saturating_sub(sectors);
        Ok(())
    }
}
