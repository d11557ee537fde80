//! Blocks, given out and freed.
//!
//! A block is looked for from a goal on, in the goal's group and then in the others. One that is freed stays marked as used until
//! a commit has ended: see [`groups`](super::groups).

use super::buffer::Phase;
use super::change::{Change, Metadata, Workbench};
use super::geometry::{Geometry, InodeNumber};
use super::groups::{Freed, bit, count_clear, find_clear, is_reserved, set_bit, turn_bit};
use crate::error::{Error, Result};
use frames::FRAME_SIZE;

impl Change<'_> {
    /// A block that was free, as near to `goal` as can be.
    pub(super) fn allocate_block(&self, goal: u32) -> Result<u32> {
        let geometry = &self.fs.geometry;
        let (group, from) = geometry.group_of(goal);
        if let Some(block) = take(&mut self.fs.metadata.lock(), geometry, group, from)? {
            return Ok(block);
        }
        self.search(group, from)?.ok_or(Error::NoSpace)
    }

    /// In all groups, from the goal's on and back to what in that is before the goal.
    fn search(&self, first: u32, from: u32) -> Result<Option<u32>> {
        let count = self.fs.metadata.lock().groups.count();
        for step in 0..=count {
            let group = (first % count.max(1) + step) % count.max(1);
            let from = if step == 0 { from } else { 0 };
            if self.fs.metadata.lock().groups.get(group)?.free_blocks == 0 {
                continue;
            }
            self.ready(group)?;
            if let Some(block) = take(&mut self.fs.metadata.lock(), &self.fs.geometry, group, from)? {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// Have a group's descriptor and its bitmap of blocks in the buffer, to be written.
    pub(super) fn ready(&self, group: u32) -> Result<u32> {
        self.touch(group)?;
        let known = *self.fs.metadata.lock().groups.get(group)?;
        self.load(known.block_bitmap)?;
        if !known.checked_blocks {
            self.check_blocks(group)?;
        }
        Ok(known.block_bitmap)
    }

    /// Have a group's descriptor in the buffer, to be written.
    pub(super) fn touch(&self, group: u32) -> Result<()> {
        if self.fs.metadata.lock().groups.get(group)?.changed {
            return Ok(());
        }
        let (block, _) = self.fs.geometry.place(self.fs.geometry.descriptor_of(group));
        self.edit(block, Phase::Map, |_| ())?;
        self.fs.metadata.lock().groups.get_mut(group)?.changed = true;
        Ok(())
    }

    /// Compare a bitmap with what else is known. Where a crash may have come between the two the bitmap is right.
    fn check_blocks(&self, number: u32) -> Result<()> {
        let geometry = &self.fs.geometry;
        let mut metadata = self.fs.metadata.lock();
        let sound = metadata.superblock.as_ref().is_some_and(|superblock| superblock.sound);
        let Metadata { buffer, groups, .. } = &mut *metadata;
        let group = *groups.get(number)?;
        let bitmap = buffer.get(group.block_bitmap).ok_or(Error::NoMemory)?;
        let (start, blocks) = (geometry.group_start(number), geometry.blocks_in(number));
        let table = group.inode_table..group.inode_table + geometry.table_blocks();
        let head = start..start + geometry.head_blocks(number);
        let mut own = head.chain(table).chain([group.block_bitmap, group.inode_bitmap]);
        if let Some(block) = own.find(|block| !bit(bitmap, block - start)) {
            let what = "a block of the filesystem's own that is marked as free";
            return Err(Error::Corrupt { what, value: block.into() });
        }
        let clear = count_clear(bitmap, blocks);
        if clear != group.free_blocks && sound {
            let what = "a bitmap of blocks contradicts its group's count, group";
            return Err(Error::Corrupt { what, value: number.into() });
        }
        groups.free_blocks = groups.free_blocks - group.free_blocks + clear;
        let group = groups.get_mut(number)?;
        (group.free_blocks, group.checked_blocks) = (clear, true);
        Ok(())
    }

    /// Free a block of the inode `owner`, to be given out again when a commit has ended.
    pub(super) fn free_block(&self, block: u32, owner: InodeNumber) -> Result<()> {
        let geometry = &self.fs.geometry;
        let (number, index) = geometry.group_of(block);
        let bitmap = self.ready(number)?;
        let mut metadata = self.fs.metadata.lock();
        let Metadata { buffer, groups, .. } = &mut *metadata;
        if is_reserved(geometry, number, groups.get(number)?, block) {
            return Err(Error::Corrupt { what: "a file's block is the filesystem's own", value: block.into() });
        }
        // It will be changed by the commit; room for it is taken now.
        if !buffer.edit(bitmap, Phase::Map).is_some_and(|bytes| bit(bytes, index)) {
            return Err(Error::Corrupt { what: "a file's block is marked as free", value: block.into() });
        }
        groups.free_later(block, owner.get())?;
        buffer.discard(block);
        Ok(())
    }

    /// Free a block of metadata; what the page cache has of it is out of date.
    pub(super) fn free_metadata(&self, block: u32, owner: InodeNumber) -> Result<()> {
        self.free_block(block, owner)?;
        let page = u64::from(block) * self.fs.geometry.block_size() as u64 / FRAME_SIZE as u64;
        self.fs.disk.invalidate(page as u32, page as u32);
        Ok(())
    }

    /// Clear the bits of what waits to be free, or set them again after a commit that failed; but for what was of inodes that
    /// are held.
    pub(super) fn apply_freed(&self, free: bool, bench: &mut Workbench) -> Result<()> {
        let geometry = &self.fs.geometry;
        let (blocks, inodes) = {
            let metadata = self.fs.metadata.lock();
            (metadata.groups.freed_blocks.len(), metadata.groups.freed_inodes.len())
        };
        let run = |at: usize| self.fs.metadata.lock().groups.freed_blocks.get(at).copied().unwrap_or_default();
        for Freed { start, len, owner } in (0..blocks).map(run) {
            if bench.held.contains(&owner) {
                continue;
            }
            for block in start..start + len {
                let (number, index) = geometry.group_of(block);
                let bitmap = self.fs.metadata.lock().groups.get(number)?.block_bitmap;
                if !self.edit_in_commit(bench, bitmap, |bytes| turn_bit(bytes, index, !free))? {
                    continue;
                }
                let mut metadata = self.fs.metadata.lock();
                let groups = &mut metadata.groups;
                let step = |count: u32| if free { count.saturating_add(1) } else { count.saturating_sub(1) };
                groups.free_blocks = step(groups.free_blocks);
                let group = groups.get_mut(number)?;
                (group.free_blocks, group.changed) = (step(group.free_blocks), true);
            }
        }
        for at in 0..inodes {
            self.apply_freed_inode(at, free, bench)?;
        }
        Ok(())
    }
}

/// Take the first free block of a group from `from` on, if the group is [ready](Change::ready).
fn take(metadata: &mut Metadata, geometry: &Geometry, number: u32, from: u32) -> Result<Option<u32>> {
    let Metadata { buffer, groups, .. } = metadata;
    let group = groups.get_mut(number)?;
    if !group.changed || !group.checked_blocks || group.free_blocks == 0 {
        return Ok(None);
    }
    let Some(bytes) = buffer.get(group.block_bitmap) else { return Ok(None) };
    let Some(index) = find_clear(bytes, from, geometry.blocks_in(number)) else { return Ok(None) };
    let Some(bytes) = buffer.edit(group.block_bitmap, Phase::Map) else { return Ok(None) };
    set_bit(bytes, index, true);
    group.free_blocks -= 1;
    groups.free_blocks = groups.free_blocks.saturating_sub(1);
    Ok(Some(geometry.group_start(number) + index))
}
