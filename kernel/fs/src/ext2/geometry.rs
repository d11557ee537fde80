//! The shape of a filesystem: what its superblock says, checked once at mount time, and the arithmetic of inodes, groups and
//! blocks over it. Touches no disk.
//!
//! Invariant: a [`Block`] comes only from [`Geometry::block`], so it lies within the filesystem, and so within the disk.

use super::layout::{
    DIRECT, FIRST_INODE, INCOMPAT_FILETYPE, INCOMPAT_NAMES, MAGIC, RO_COMPAT_SPARSE_SUPER, RawGroup, RawSuperblock,
    SUPERBLOCK_SIZE,
};
use crate::block::SECTOR_SIZE;
use crate::error::{Error, Result};
use crate::filesystem::StatFs;
use cache::FillError;
use frames::FRAME_SIZE;
use zerocopy::FromBytes;

/// A block that lies within the filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block(u32);

impl Block {
    /// Its number.
    pub(super) fn number(self) -> u32 {
        self.0
    }
}

/// The number of an inode that the filesystem has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct InodeNumber(u32);

impl InodeNumber {
    pub(super) fn get(self) -> u32 {
        self.0
    }
}

/// What is known of the filesystem as a whole.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    /// log2 of the bytes in a block: 10, 11 or 12.
    block_shift: u32,
    blocks: u32,
    first_data_block: u32,
    blocks_per_group: u32,
    inodes: u32,
    inodes_per_group: u32,
    inode_size: u32,
    /// Directory entries say what they lead to.
    pub(super) file_types: bool,
    first_inode: u32,
    /// Copies of superblock and descriptors are in some groups only.
    sparse_super: bool,
    free_blocks: u32,
    free_inodes: u32,
}

impl Geometry {
    /// Read a superblock, for a disk of `disk` bytes.
    pub(super) fn parse(superblock: &[u8; SUPERBLOCK_SIZE], disk: u64) -> Result<Self> {
        let (raw, _) = RawSuperblock::read_from_prefix(superblock)
            .map_err(|_| Error::Corrupt { what: "the superblock is short", value: disk })?;
        if raw.magic.get() != MAGIC {
            return Err(Error::WrongFormat { wanted: "ext2", magic: raw.magic.get().into() });
        }
        // Revision 0 knew no features; what stands there is not theirs.
        let incompat = if raw.revision.get() == 0 { 0 } else { raw.feature_incompat.get() };
        let unknown = incompat & !INCOMPAT_FILETYPE;
        if unknown != 0 {
            let known = INCOMPAT_NAMES.iter().find(|(bit, _)| unknown & bit != 0);
            return Err(Error::Feature { name: known.map_or("unknown", |(_, name)| name), bits: unknown });
        }
        let geometry = Self {
            block_shift: match raw.log_block_size.get() {
                log @ 0..=2 => 10 + log,
                log => return corrupt("the logarithm of the block size, beyond 2 (4 KiB)", log),
            },
            blocks: raw.blocks_count.get(),
            first_data_block: raw.first_data_block.get(),
            blocks_per_group: raw.blocks_per_group.get(),
            inodes: raw.inodes_count.get(),
            inodes_per_group: raw.inodes_per_group.get(),
            inode_size: if raw.revision.get() == 0 { 128 } else { raw.inode_size.get().into() },
            file_types: incompat & INCOMPAT_FILETYPE != 0,
            first_inode: if raw.revision.get() == 0 { FIRST_INODE } else { raw.first_inode.get() },
            sparse_super: raw.revision.get() != 0 && raw.feature_ro_compat.get() & RO_COMPAT_SPARSE_SUPER != 0,
            free_blocks: raw.free_blocks.get(),
            free_inodes: raw.free_inodes.get(),
        };
        geometry.check(disk)?;
        Ok(geometry)
    }

    fn check(&self, disk: u64) -> Result<()> {
        let bits = 8 << self.block_shift;
        if self.first_data_block != u32::from(self.block_shift == 10) {
            return corrupt("the first data block", self.first_data_block);
        }
        if self.blocks <= self.first_data_block || u64::from(self.blocks) << self.block_shift > disk {
            return corrupt("more blocks than the disk has room for", self.blocks);
        }
        // One block of bitmap speaks of a whole group.
        if !(1..=bits).contains(&self.blocks_per_group) {
            return corrupt("blocks in a group", self.blocks_per_group);
        }
        if !(1..=bits).contains(&self.inodes_per_group) {
            return corrupt("inodes in a group", self.inodes_per_group);
        }
        if self.inode_size < 128 || self.inode_size > 1 << self.block_shift || !self.inode_size.is_power_of_two() {
            return corrupt("the size of an inode", self.inode_size);
        }
        if u64::from(self.inodes) > u64::from(self.groups()) * u64::from(self.inodes_per_group) {
            return corrupt("more inodes than its groups hold", self.inodes);
        }
        Ok(())
    }

    /// Block groups.
    pub(super) fn groups(&self) -> u32 {
        (self.blocks - self.first_data_block).div_ceil(self.blocks_per_group)
    }

    /// Inodes in a group.
    pub(super) fn inodes_per_group(&self) -> u32 {
        self.inodes_per_group
    }

    /// The first inode that is not reserved.
    pub(super) fn first_inode(&self) -> u32 {
        self.first_inode
    }

    /// What has to be so for a group's bitmaps and table to be written: whole blocks of inodes, and every inode in a group.
    pub(super) fn check_for_writing(&self) -> Result<()> {
        let table = u64::from(self.inodes_per_group) * u64::from(self.inode_size);
        if !table.is_multiple_of(self.block_size() as u64) {
            return corrupt("inodes in a group, which fill no whole number of blocks", self.inodes_per_group);
        }
        if u64::from(self.inodes) != u64::from(self.groups()) * u64::from(self.inodes_per_group) {
            return corrupt("the number of inodes, which is not that of all groups", self.inodes);
        }
        Ok(())
    }

    /// The group that a block lies in, and which of its blocks it is.
    pub(super) fn group_of(&self, block: u32) -> (u32, u32) {
        let index = block.saturating_sub(self.first_data_block);
        (index / self.blocks_per_group, index % self.blocks_per_group)
    }

    /// The first block of a group.
    pub(super) fn group_start(&self, group: u32) -> u32 {
        self.first_data_block.saturating_add(group.saturating_mul(self.blocks_per_group))
    }

    /// Blocks in a group: in the last one as many as there are.
    pub(super) fn blocks_in(&self, group: u32) -> u32 {
        self.blocks.saturating_sub(self.group_start(group)).min(self.blocks_per_group)
    }

    /// The group of an inode, and which of its inodes it is.
    pub(super) fn group_of_inode(&self, ino: InodeNumber) -> (u32, u32) {
        ((ino.0 - 1) / self.inodes_per_group, (ino.0 - 1) % self.inodes_per_group)
    }

    /// Blocks of a group's inode table.
    pub(super) fn table_blocks(&self) -> u32 {
        ((u64::from(self.inodes_per_group) * u64::from(self.inode_size)) >> self.block_shift) as u32
    }

    /// Blocks at the beginning of a group that a superblock and the descriptors, or copies of them, take. Groups 0 and 1 have them,
    /// and with `sparse_super` of the others those that are powers of 3, 5 and 7.
    pub(super) fn head_blocks(&self, group: u32) -> u32 {
        let power_of = |base: u32| core::iter::successors(Some(base), |n| n.checked_mul(base)).any(|n| n == group);
        if !self.sparse_super || group <= 1 || [3, 5, 7].into_iter().any(power_of) {
            1 + (self.groups() as usize * size_of::<RawGroup>()).div_ceil(self.block_size()) as u32
        } else {
            0
        }
    }

    /// Where on the disk the descriptor of a group lies, in bytes. All are in the blocks after the superblock's.
    pub(super) fn descriptor_of(&self, group: u32) -> u64 {
        (u64::from(self.first_data_block + 1) << self.block_shift) + u64::from(group) * size_of::<RawGroup>() as u64
    }

    /// The block that a byte of the disk lies in, and where in it.
    pub(super) fn place(&self, at: u64) -> (u32, usize) {
        ((at >> self.block_shift) as u32, (at & (self.block_size() as u64 - 1)) as usize)
    }

    /// Bytes in a block.
    pub(super) fn block_size(&self) -> usize {
        1 << self.block_shift
    }

    /// Blocks in a page: 4, 2 or 1.
    pub(super) fn blocks_per_page(&self) -> usize {
        FRAME_SIZE >> self.block_shift
    }

    /// Block pointers in an indirect block.
    pub(super) fn pointers_per_block(&self) -> u64 {
        1 << (self.block_shift - 2)
    }

    /// Bytes in an inode on disk.
    pub(super) fn inode_size(&self) -> usize {
        self.inode_size as usize
    }

    /// The largest file that the block map can hold and the page cache can number the pages of.
    pub(super) fn max_file_size(&self) -> u64 {
        let pointers = self.pointers_per_block();
        let blocks = DIRECT as u64 + pointers + pointers * pointers + pointers * pointers * pointers;
        (blocks << self.block_shift).min(FRAME_SIZE as u64 * u64::from(u32::MAX))
    }

    /// Bytes that the filesystem takes up.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.blocks) << self.block_shift
    }

    /// A pointer to a data or indirect block; 0 is a hole.
    pub(super) fn block(&self, pointer: u32) -> core::result::Result<Option<Block>, FillError> {
        match pointer {
            0 => Ok(None),
            // The superblock and whatever is before it can be no file's.
            _ if pointer <= self.first_data_block || pointer >= self.blocks => {
                Err(FillError::Corrupt { what: "a block number out of range", value: pointer.into() })
            }
            _ => Ok(Some(Block(pointer))),
        }
    }

    /// Where on the disk a block begins, in bytes.
    pub(super) fn block_at(&self, block: Block) -> u64 {
        u64::from(block.0) << self.block_shift
    }

    /// The sector that a block begins with.
    pub(super) fn sector_of(&self, block: Block) -> u64 {
        self.block_at(block) / SECTOR_SIZE as u64
    }

    /// An inode number from the disk or a caller.
    pub(super) fn inode(&self, number: u64) -> Result<InodeNumber> {
        match u32::try_from(number) {
            Ok(number) if number >= 1 && number <= self.inodes => Ok(InodeNumber(number)),
            _ => Err(Error::Corrupt { what: "an inode number out of range", value: number }),
        }
    }

    /// Where on the disk the descriptor of an inode's group lies, in bytes.
    pub(super) fn descriptor_at(&self, ino: InodeNumber) -> u64 {
        self.descriptor_of((ino.0 - 1) / self.inodes_per_group)
    }

    /// Where on the disk an inode lies, in bytes, where the table of its group begins with block `table`.
    pub(super) fn inode_at(&self, ino: InodeNumber, table: u32) -> Result<u64> {
        let table_bytes = u64::from(self.inodes_per_group) * u64::from(self.inode_size);
        let Ok(Some(block)) = self.block(table) else { return corrupt("an inode table out of range", table) };
        let start = self.block_at(block);
        if start + table_bytes > self.bytes() {
            return corrupt("an inode table that reaches past the end", table);
        }
        Ok(start + u64::from((ino.0 - 1) % self.inodes_per_group) * u64::from(self.inode_size))
    }

    /// What `df` tells. The superblock's counts are not believed further than they can be true.
    pub(super) fn stat_fs(&self) -> StatFs {
        StatFs {
            block_size: 1 << self.block_shift,
            blocks: self.blocks.into(),
            free_blocks: self.free_blocks.min(self.blocks).into(),
            inodes: self.inodes.into(),
            free_inodes: self.free_inodes.min(self.inodes).into(),
        }
    }
}

fn corrupt<T>(what: &'static str, value: u32) -> Result<T> {
    Err(Error::Corrupt { what, value: value.into() })
}
