//! What a superblock says of the filesystem as a whole, believed only as far as it can be true of this disk.
//!
//! Field offsets: the ext4 documentation of Linux, Documentation/filesystems/ext4/super.rst and group_descr.rst.

use super::backing::Pages;
use crate::error::{Error, Result};
use crate::filesystem::StatFs;
use frames::checksum::crc32c;

/// Where the superblock begins, in bytes.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
/// Bytes that it takes.
pub(super) const SUPERBLOCK_SIZE: usize = 1024;

const MAGIC: u16 = 0xef53;
/// Group descriptors have 64 bytes or more, and block numbers 48 bits.
const INCOMPAT_64BIT: u32 = 0x80;
/// The seed of checksums stands in the superblock.
const INCOMPAT_SEED: u32 = 0x2000;
/// What `ext4-view` reads: filetype, extent, 64bit, flex_bg, metadata_csum_seed; and encrypt, where the encrypted files
/// themselves are refused.
const INCOMPAT_KNOWN: u32 = 0x2 | 0x40 | INCOMPAT_64BIT | 0x200 | INCOMPAT_SEED | 0x1_0000;
/// The others, by name.
const INCOMPAT_NAMES: [(u32, &str); 11] = [
    (0x1, "compression"),
    (0x4, "needs_recovery"),
    (0x8, "journal_dev"),
    (0x10, "meta_bg"),
    (0x100, "mmp"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x2_0000, "casefold"),
    (0x4_0000, "unknown"),
];
/// Metadata has checksums.
const RO_COMPAT_CHECKSUMS: u32 = 0x400;
/// Free blocks are counted in clusters.
const RO_COMPAT_BIGALLOC: u32 = 0x200;
/// Groups that a call reads the descriptors of, at most: 2 TiB with blocks of 4 KiB.
const MOST_GROUPS: u64 = 16_384;

/// The facts.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// log2 of the bytes in a block: 10, 11 or 12.
    pub(super) block_shift: u32,
    pub(super) blocks: u64,
    first_data_block: u32,
    inodes: u32,
    inodes_per_group: u32,
    inode_size: u16,
    descriptor_size: u16,
    wide: bool,
    /// What checksums of metadata begin with, if there are any.
    seed: Option<u32>,
    free_blocks: u64,
    free_inodes: u32,
}

impl Facts {
    /// Read a superblock, for a disk of `disk` bytes.
    pub(super) fn parse(superblock: &[u8; SUPERBLOCK_SIZE], disk: u64) -> Result<Self> {
        let (half, word) = (|at| half(superblock, at), |at| word(superblock, at));
        if half(0x38) != MAGIC {
            return Err(Error::WrongFormat { wanted: "ext4", magic: half(0x38).into() });
        }
        let (incompat, ro_compat) = (word(0x60), word(0x64));
        let unknown = incompat & !INCOMPAT_KNOWN;
        if unknown != 0 {
            let known = INCOMPAT_NAMES.iter().find(|(bit, _)| unknown & bit != 0);
            return Err(Error::Feature { name: known.map_or("unknown", |(_, name)| name), bits: unknown });
        }
        let wide = incompat & INCOMPAT_64BIT != 0;
        let high = |at| if wide { u64::from(word(at)) << 32 } else { 0 };
        let uuid = superblock.get(0x68..0x78).unwrap_or_default();
        let seed = if incompat & INCOMPAT_SEED != 0 { word(0x270) } else { raw_crc(u32::MAX, uuid) };
        let shift = if ro_compat & RO_COMPAT_BIGALLOC != 0 { word(0x1c).saturating_sub(word(0x18)).min(20) } else { 0 };
        let facts = Self {
            block_shift: match word(0x18) {
                log @ 0..=2 => 10 + log,
                log => return corrupt("the logarithm of the block size, beyond 2 (4 KiB)", log.into()),
            },
            blocks: u64::from(word(0x4)) | high(0x150),
            first_data_block: word(0x14),
            inodes: word(0x0),
            inodes_per_group: word(0x28),
            inode_size: half(0x58),
            descriptor_size: if wide { half(0xfe) } else { 32 },
            wide,
            seed: (ro_compat & RO_COMPAT_CHECKSUMS != 0).then_some(seed),
            free_blocks: (u64::from(word(0xc)) | high(0x158)).checked_shl(shift).unwrap_or(0),
            free_inodes: word(0x10),
        };
        facts.check(word(0x20), disk)?;
        Ok(facts)
    }

    fn check(&self, blocks_per_group: u32, disk: u64) -> Result<()> {
        if self.blocks <= self.first_data_block.into() || self.blocks > disk >> self.block_shift {
            return corrupt("more blocks than the disk has room for", self.blocks);
        }
        if self.first_data_block > 1 {
            return corrupt("the first data block", self.first_data_block.into());
        }
        if blocks_per_group == 0 {
            return corrupt("blocks in a group", 0);
        }
        let groups = (self.blocks - u64::from(self.first_data_block)).div_ceil(blocks_per_group.into());
        if groups > MOST_GROUPS {
            return Err(Error::Unsupported("more than 16384 block groups"));
        }
        if self.inodes_per_group == 0 || u64::from(self.inodes) > groups * u64::from(self.inodes_per_group) {
            return corrupt("more inodes than its groups hold", self.inodes.into());
        }
        if self.inode_size < 128 || u32::from(self.inode_size) > 1 << self.block_shift {
            return corrupt("the size of an inode", self.inode_size.into());
        }
        if self.descriptor_size < 32 || u32::from(self.descriptor_size) > 1 << self.block_shift {
            return corrupt("the size of a group's descriptor", self.descriptor_size.into());
        }
        Ok(())
    }

    /// Bytes in a block.
    pub(super) fn block_size(&self) -> usize {
        1 << self.block_shift
    }

    /// Whether inodes have room for what came with large ones.
    pub(super) fn has_extra(&self) -> bool {
        self.inode_size > 128
    }

    /// Where on the disk an inode lies, in bytes.
    pub(super) fn inode_at(&self, disk: &Pages, ino: u64) -> Result<u64> {
        let out_of_range = || Error::Corrupt { what: "an inode number out of range", value: ino };
        let index = ino.checked_sub(1).filter(|index| *index < self.inodes.into()).ok_or_else(out_of_range)?;
        let (group, place) = (index / u64::from(self.inodes_per_group), index % u64::from(self.inodes_per_group));
        let mut descriptor = [0; 64];
        let (bytes, _) = descriptor.split_at_mut(self.descriptor_size.min(64).into());
        let table = u64::from(self.first_data_block + 1) << self.block_shift;
        disk.read_exactly(table + group * u64::from(self.descriptor_size), bytes)?;
        let high = if self.wide { u64::from(word(&descriptor, 0x28)) << 32 } else { 0 };
        let block = u64::from(word(&descriptor, 0x8)) | high;
        if block == 0 || block >= self.blocks {
            return corrupt("an inode table out of range", block);
        }
        Ok((block << self.block_shift) + place * u64::from(self.inode_size))
    }

    /// What checksums of the metadata of an inode begin with, if there are any.
    pub(super) fn seed_of(&self, ino: u64, generation: u32) -> Option<u32> {
        let seed = raw_crc(self.seed?, &(ino as u32).to_le_bytes());
        Some(raw_crc(seed, &generation.to_le_bytes()))
    }

    /// What `df` tells. The superblock's counts are not believed further than they can be true.
    pub(super) fn stat_fs(&self) -> StatFs {
        StatFs {
            block_size: 1 << self.block_shift,
            blocks: self.blocks,
            free_blocks: self.free_blocks.min(self.blocks),
            inodes: self.inodes.into(),
            free_inodes: self.free_inodes.min(self.inodes).into(),
        }
    }
}

/// CRC-32C as ext4 has it: the register as it is, without the inversion at the ends.
pub(super) fn raw_crc(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c(!seed, bytes)
}

/// The 16 bits at `at`; zero past the end.
pub(super) fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

/// The 32 bits at `at`; zero past the end.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

pub(super) fn corrupt<T>(what: &'static str, value: u64) -> Result<T> {
    Err(Error::Corrupt { what, value })
}
