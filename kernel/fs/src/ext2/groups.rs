//! The groups, as far as free space goes: what their descriptors count, and what was freed and cannot be given out yet.
//!
//! A block or an inode that was freed stays marked as used in its bitmap until a commit: what is on the disk still refers to
//! it, and after a crash it would be two files' if it had been given to another. The counts here are those of the bitmaps in the
//! buffer; `df` counts what waits as free.

use super::geometry::Geometry;
use super::layout::RawGroup;
use crate::error::{Error, Result};
use alloc::vec::Vec;
use frames::chunks::{Chunks, piece};

/// Groups that are known, at most: with more a filesystem is not written.
const MOST_GROUPS: u32 = 1 << 16;
/// Runs of blocks, and inodes, that can wait.
pub(super) const MOST_FREED: usize = 512;

/// One group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    pub(super) block_bitmap: u32,
    pub(super) inode_bitmap: u32,
    pub(super) inode_table: u32,
    pub(super) free_blocks: u32,
    pub(super) free_inodes: u32,
    pub(super) directories: u32,
    /// The bitmaps were compared with the counts.
    pub(super) checked_blocks: bool,
    pub(super) checked_inodes: bool,
    /// Its descriptor is to be written by the next commit.
    pub(super) changed: bool,
}

/// A run of blocks that was freed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Freed {
    pub(super) start: u32,
    pub(super) len: u32,
    /// The inode whose they were: the disk says so until that is written.
    pub(super) owner: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Chunks<Group, { piece::<Group>() }>,
    count: u32,
    /// Free in all groups.
    pub(super) free_blocks: u32,
    pub(super) free_inodes: u32,
    pub(super) directories: u32,
    /// Blocks that are free once a commit has ended.
    pub(super) freed_blocks: Vec<Freed>,
    pub(super) waiting_blocks: u32,
    /// Inodes likewise, and whether they were directories.
    pub(super) freed_inodes: Vec<(u32, bool)>,
}

impl Groups {
    /// Read the descriptors of all groups by `read`, which is told where each lies.
    pub(super) fn read(geometry: &Geometry, mut read: impl FnMut(u64) -> Result<RawGroup>) -> Result<Self> {
        let count = geometry.groups();
        if count > MOST_GROUPS {
            return Err(Error::Corrupt {
                what: "the number of groups is too large to be written",
                value: count.into(),
            });
        }
        let mut all = Self { count, ..Self::default() };
        all.freed_blocks.try_reserve_exact(MOST_FREED).map_err(|_| Error::NoMemory)?;
        all.freed_inodes.try_reserve_exact(MOST_FREED).map_err(|_| Error::NoMemory)?;
        all.groups.grow(count as usize, |_| Group::default());
        for number in 0..count {
            let raw = read(geometry.descriptor_of(number))?;
            let group = Group {
                block_bitmap: raw.block_bitmap.get(),
                inode_bitmap: raw.inode_bitmap.get(),
                inode_table: raw.inode_table.get(),
                free_blocks: raw.free_blocks.get().into(),
                free_inodes: raw.free_inodes.get().into(),
                directories: raw.directories.get().into(),
                ..Group::default()
            };
            check(geometry, number, &group)?;
            all.free_blocks = all.free_blocks.saturating_add(group.free_blocks);
            all.free_inodes = all.free_inodes.saturating_add(group.free_inodes);
            all.directories = all.directories.saturating_add(group.directories);
            *all.get_mut(number)? = group;
        }
        Ok(all)
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn get(&self, group: u32) -> Result<&Group> {
        self.groups.get(group as usize).filter(|_| group < self.count).ok_or(beyond(group))
    }

    pub(super) fn get_mut(&mut self, group: u32) -> Result<&mut Group> {
        let known = group < self.count;
        self.groups.get_mut(group as usize).filter(|_| known).ok_or(beyond(group))
    }

    /// Blocks that are free, those included that still wait.
    pub(super) fn blocks_for_df(&self) -> u64 {
        u64::from(self.free_blocks) + u64::from(self.waiting_blocks)
    }

    /// Inodes likewise.
    pub(super) fn inodes_for_df(&self) -> u64 {
        u64::from(self.free_inodes) + self.freed_inodes.len() as u64
    }

    /// Whether something waits for a commit to be free.
    pub(super) fn is_waiting(&self) -> bool {
        !self.freed_blocks.is_empty() || !self.freed_inodes.is_empty()
    }

    /// A block of the inode `owner` is freed. It must not have been before.
    pub(super) fn free_later(&mut self, block: u32, owner: u32) -> Result<()> {
        let within = |run: &Freed| block >= run.start && block - run.start < run.len;
        if self.freed_blocks.iter().any(within) {
            return Err(Error::Corrupt { what: "a block of two files", value: block.into() });
        }
        // Files are freed from their end, so most runs grow at their beginning.
        let room = self.freed_blocks.len() < self.freed_blocks.capacity();
        match self.freed_blocks.last_mut().filter(|run| run.owner == owner) {
            Some(run) if block + 1 == run.start => (run.start, run.len) = (block, run.len + 1),
            Some(run) if run.start + run.len == block => run.len += 1,
            _ if room => self.freed_blocks.push(Freed { start: block, len: 1, owner }),
            _ => return Err(Error::NoMemory),
        }
        self.waiting_blocks += 1;
        Ok(())
    }
}

impl Groups {
    /// A commit has ended, and left out the inodes `held`: what was freed is free, but for theirs.
    pub(super) fn settle(&mut self, held: &[u32]) -> Result<()> {
        self.freed_blocks.retain(|run| held.contains(&run.owner));
        self.waiting_blocks = self.freed_blocks.iter().map(|run| run.len).sum();
        self.freed_inodes.clear();
        (0..self.count).try_for_each(|number| self.get_mut(number).map(|group| group.changed = false))
    }
}

/// The bitmaps and the table of a group lie in it, and none on another.
fn check(geometry: &Geometry, number: u32, group: &Group) -> Result<()> {
    let (start, blocks) = (geometry.group_start(number), geometry.blocks_in(number));
    let head = start + geometry.head_blocks(number);
    let table = geometry.table_blocks();
    let inside = |block: u32, len: u32| block >= head && u64::from(block) + u64::from(len) <= u64::from(start + blocks);
    let apart = |block: u32| block < group.inode_table || block - group.inode_table >= table;
    let corrupt = |what, value: u32| Err(Error::Corrupt { what, value: value.into() });
    if !inside(group.block_bitmap, 1) || !apart(group.block_bitmap) {
        return corrupt("where the bitmap of blocks lies", group.block_bitmap);
    }
    if !inside(group.inode_bitmap, 1) || !apart(group.inode_bitmap) || group.inode_bitmap == group.block_bitmap {
        return corrupt("where the bitmap of inodes lies", group.inode_bitmap);
    }
    if !inside(group.inode_table, table) {
        return corrupt("where the table of inodes lies", group.inode_table);
    }
    if group.free_blocks > blocks || group.free_inodes > geometry.inodes_per_group() {
        return corrupt("what is free in a group is more than there is, group", number);
    }
    Ok(())
}

/// Whether a block is the filesystem's own: a bitmap, a table, a superblock or descriptors.
pub(super) fn is_reserved(geometry: &Geometry, number: u32, group: &Group, block: u32) -> bool {
    let start = geometry.group_start(number);
    let table = block >= group.inode_table && block - group.inode_table < geometry.table_blocks();
    let head = block >= start && block - start < geometry.head_blocks(number);
    table || head || block == group.block_bitmap || block == group.inode_bitmap
}

fn beyond(group: u32) -> Error {
    Error::Corrupt { what: "a group that there is not", value: group.into() }
}

/// The bit of `index` in a bitmap.
pub(super) fn bit(bitmap: &[u8], index: u32) -> bool {
    bitmap.get(index as usize / 8).is_none_or(|byte| byte >> (index % 8) & 1 != 0)
}

/// Set it, or clear it.
pub(super) fn set_bit(bitmap: &mut [u8], index: u32, to: bool) {
    if let Some(byte) = bitmap.get_mut(index as usize / 8) {
        let mask = 1 << (index % 8);
        *byte = if to { *byte | mask } else { *byte & !mask };
    }
}

/// Set it, or clear it, and tell whether that changed it.
pub(super) fn turn_bit(bitmap: &mut [u8], index: u32, to: bool) -> bool {
    let turns = bit(bitmap, index) != to;
    set_bit(bitmap, index, to);
    turns
}

/// The first bit that is clear, of bits `from..to`.
pub(super) fn find_clear(bitmap: &[u8], from: u32, to: u32) -> Option<u32> {
    let mut at = from;
    while at < to {
        // Whole words that are full are passed over at once.
        if at.is_multiple_of(64)
            && let Some(word) = bitmap.get(at as usize / 8..).and_then(<[u8]>::first_chunk)
        {
            let ones = u64::from_le_bytes(*word).trailing_ones();
            if ones == 64 {
                at += 64;
                continue;
            }
            return Some(at + ones).filter(|&at| at < to);
        }
        if !bit(bitmap, at) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// How many of the first `count` bits are clear.
pub(super) fn count_clear(bitmap: &[u8], count: u32) -> u32 {
    let whole: u32 = bitmap.iter().take(count as usize / 8).map(|byte| byte.count_zeros()).sum();
    whole + (count / 8 * 8..count).filter(|&index| !bit(bitmap, index)).count() as u32
}
