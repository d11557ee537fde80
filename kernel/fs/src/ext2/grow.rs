//! The block map, grown: blocks for what is written, and the indirect blocks that lead to them.
//!
//! A pointer is set when the block that it leads to has been taken; a new indirect block is zeros in the buffer before anything
//! points to it, and on the disk before anything there does.

use super::backing::Direct;
use super::buffer::Phase;
use super::change::Change;
use super::inode::{Inode, State};
use super::layout::DIRECT;
use super::map::ReadDisk;
use crate::block::SECTOR_SIZE;
use crate::error::{Error, Result};
use crate::filesystem::FileType;
use alloc::sync::Arc;
use cache::FillError;

/// A block of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) block: u32,
    /// It was allocated just now.
    pub(super) new: bool,
}

/// Where a block's pointer is: in the inode, or in the tree below one of its pointers.
pub(super) struct Way {
    /// Which pointer of the inode.
    pub(super) root: usize,
    /// Indirect blocks on the way: 0 to 3.
    pub(super) depth: usize,
    /// Which block of the tree.
    pub(super) rest: u64,
}

impl Way {
    /// To block `index`, with `pointers` in an indirect block.
    pub(super) fn to(index: u64, pointers: u64) -> Result<Self> {
        let Some(mut rest) = index.checked_sub(DIRECT as u64) else {
            return Ok(Self { root: index as usize, depth: 0, rest: 0 });
        };
        let mut blocks = pointers;
        for depth in 1..=3 {
            if rest < blocks {
                return Ok(Self { root: DIRECT + depth - 1, depth, rest });
            }
            rest -= blocks;
            blocks *= pointers;
        }
        Err(Error::Corrupt { what: "a block beyond the largest file", value: index })
    }
}

impl Change<'_> {
    /// Block `index` of a file, allocated where there is none. What an allocation changes of the inode is in its state, also where
    /// it fails half way; that it is to be written the caller has [marked](Self::mark).
    pub(super) fn block_for(&self, inode: &Arc<Inode>, index: u64) -> Result<Mapped> {
        let pointers = self.fs.geometry.pointers_per_block();
        let (leaf, start) = {
            let state = inode.lock();
            let (first, leaf) = state.now.leaf;
            (leaf, index.checked_sub(first).filter(|&at| leaf != 0 && at < pointers))
        };
        if let Some(at) = start {
            return self.block_in(inode, index, leaf, at);
        }
        let way = Way::to(index, pointers)?;
        let root = inode.lock().blocks.get(way.root).copied().unwrap_or(0);
        if way.depth == 0 {
            if root != 0 {
                return self.found(inode, index, root);
            }
            let block = self.allocate_for(inode, index)?;
            set_root(&mut inode.lock(), way.root, block);
            return Ok(Mapped { block, new: true });
        }
        let mut node = root;
        if node == 0 {
            node = self.allocate_indirect(inode, index)?;
            set_root(&mut inode.lock(), way.root, node);
        }
        self.fs.geometry.block(node)?;
        let mut below = pointers.pow(way.depth as u32 - 1);
        let mut rest = way.rest;
        while below > 1 {
            let at = rest / below;
            let mut next = self.pointer(node, at)?;
            if next == 0 {
                next = self.allocate_indirect(inode, index)?;
                self.lead(inode, node, at, next)?;
            }
            self.fs.geometry.block(next)?;
            (node, rest, below) = (next, rest % below, below / pointers);
        }
        inode.lock().now.leaf = (index - rest, node);
        self.block_in(inode, index, node, rest)
    }

    /// The block that pointer `at` of the indirect block `leaf` leads to.
    fn block_in(&self, inode: &Arc<Inode>, index: u64, leaf: u32, at: u64) -> Result<Mapped> {
        let known = self.pointer(leaf, at)?;
        if known != 0 {
            return self.found(inode, index, known);
        }
        let block = self.allocate_for(inode, index)?;
        self.lead(inode, leaf, at, block)?;
        Ok(Mapped { block, new: true })
    }

    /// Let pointer `at` of an indirect block lead to `block`, which was just allocated, or give that back.
    fn lead(&self, inode: &Arc<Inode>, node: u32, at: u64, block: u32) -> Result<()> {
        let led = self.set_pointer(inode, node, at, block, Phase::Map);
        if led.is_err() {
            self.give_back(inode, block)?;
        }
        led
    }

    fn give_back(&self, inode: &Arc<Inode>, block: u32) -> Result<()> {
        self.free_block(block, inode.number)?;
        inode.lock().sectors -= (self.fs.geometry.block_size() / SECTOR_SIZE) as u32;
        Ok(())
    }

    fn found(&self, inode: &Inode, index: u64, block: u32) -> Result<Mapped> {
        self.fs.geometry.block(block)?;
        inode.lock().now.last = (index, block);
        Ok(Mapped { block, new: false })
    }

    fn allocate_indirect(&self, inode: &Arc<Inode>, index: u64) -> Result<u32> {
        let block = self.allocate_for(inode, index)?;
        match self.fresh(block) {
            Ok(()) => Ok(block),
            Err(error) => self.give_back(inode, block).and(Err(error)),
        }
    }

    /// A block for block `index` of a file, or for an indirect block before it: after the one before, or else where the inode is.
    fn allocate_for(&self, inode: &Arc<Inode>, index: u64) -> Result<u32> {
        let sectors = (self.fs.geometry.block_size() / SECTOR_SIZE) as u32;
        let (last, counted) = {
            let state = inode.lock();
            (state.now.last.1, state.sectors.checked_add(sectors))
        };
        let Some(counted) = counted else {
            return Err(Error::FileTooLarge { limit: u64::from(u32::MAX) * SECTOR_SIZE as u64 });
        };
        let goal = if last != 0 {
            last.saturating_add(1)
        } else {
            self.fs.geometry.group_start(self.fs.geometry.group_of_inode(inode.number).0)
        };
        let block = self.allocate_block(goal)?;
        let mut state = inode.lock();
        state.sectors = counted;
        state.now.last = (index, block);
        state.now.grown |= inode.kind == FileType::Regular;
        Ok(block)
    }

    /// Pointer `at` of an indirect block.
    pub(super) fn pointer(&self, node: u32, at: u64) -> Result<u32> {
        let mut bytes = [0; 4];
        let place = u64::from(node) * self.fs.geometry.block_size() as u64 + at * 4;
        match self.fs.read_disk(place, &mut bytes) {
            // Something may have to be taken back for that very reason.
            Err(FillError::NoMemory) => Direct(self.fs).read_disk(place, &mut bytes)?,
            read => read?,
        }
        Ok(u32::from_le_bytes(bytes))
    }

    /// Let pointer `at` of an indirect block of a file lead to `to`.
    pub(super) fn set_pointer(&self, inode: &Inode, node: u32, at: u64, to: u32, phase: Phase) -> Result<()> {
        self.edit_of(inode.number.get(), node, phase, |bytes| {
            if let Some(place) = bytes.get_mut(at as usize * 4..).and_then(<[u8]>::first_chunk_mut) {
                *place = to.to_le_bytes();
            }
        })
    }
}

fn set_root(state: &mut State, at: usize, to: u32) {
    if let Some(pointer) = state.blocks.get_mut(at) {
        *pointer = to;
    }
}
