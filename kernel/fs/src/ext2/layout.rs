//! ext2's structures as they lie on disk, little-endian, and nothing more: what is believed of them is decided in
//! `geometry`, `inode` and `directory`.
//!
//! Field names and offsets: "The Second Extended File System" (D. Poirier), chapter 3, and for what came with larger inodes
//! the ext4 documentation of Linux (Documentation/filesystems/ext4/inodes.rst).

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the superblock begins, in bytes.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
/// Bytes that a superblock takes.
pub(super) const SUPERBLOCK_SIZE: usize = 1024;
/// `s_magic` of ext2, ext3 and ext4.
pub(super) const MAGIC: u16 = 0xef53;
/// The root directory.
pub(super) const ROOT_INO: u32 = 2;
/// Pointers to data blocks in an inode.
pub(super) const DIRECT: usize = 12;
/// All pointers in an inode: direct, indirect, double and triple indirect.
pub(super) const POINTERS: usize = 15;

/// Directory entries say what they lead to.
pub(super) const INCOMPAT_FILETYPE: u32 = 0x2;
/// Incompatible features by name (Linux: fs/ext4/ext4.h).
pub(super) const INCOMPAT_NAMES: [(u32, &str); 16] = [
    (0x1, "compression"),
    (0x2, "filetype"),
    (0x4, "needs_recovery"),
    (0x8, "journal_dev"),
    (0x10, "meta_bg"),
    (0x40, "extent"),
    (0x80, "64bit"),
    (0x100, "mmp"),
    (0x200, "flex_bg"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x2000, "metadata_csum_seed"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x1_0000, "encrypt"),
    (0x2_0000, "casefold"),
];

/// Read-only-compatible features by name.
pub(super) const RO_COMPAT_NAMES: [(u32, &str); 12] = [
    (RO_COMPAT_SPARSE_SUPER, "sparse_super"),
    (RO_COMPAT_LARGE_FILE, "large_file"),
    (0x4, "btree_dir"),
    (0x8, "huge_file"),
    (0x10, "uninit_bg"),
    (0x20, "dir_nlink"),
    (0x40, "extra_isize"),
    (0x100, "quota"),
    (0x200, "bigalloc"),
    (0x400, "metadata_csum"),
    (0x2000, "project"),
    (0x8000, "verity"),
];
/// Copies of the superblock are in some groups only.
pub(super) const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
/// Files may be of 2 GiB and more.
pub(super) const RO_COMPAT_LARGE_FILE: u32 = 0x2;
/// Those that are known here: `sparse_super`, `large_file`, and `btree_dir`, which nobody ever made use of.
pub(super) const RO_COMPAT_KNOWN: u32 = 0x7;
/// `s_state`: it was unmounted as it should be.
pub(super) const STATE_VALID: u16 = 1;
/// `s_state`: something on it was found to contradict itself.
pub(super) const STATE_ERROR: u16 = 2;
/// The first inode that is not reserved, in revision 0.
pub(super) const FIRST_INODE: u32 = 11;
/// The most links that an inode can have.
pub(super) const LINKS_MAX: u32 = 32_000;
/// `h_magic` of a block of extended attributes.
pub(super) const XATTR_MAGIC: u32 = 0xea02_0000;
/// Bytes of the additional part of an inode that new inodes use, where there is room for them (ext4's inodes.rst).
pub(super) const EXTRA_SIZE: u16 = 32;

/// `i_flags`: the directory has an index, which whoever changes it without knowing indexes has to give up.
pub(super) const FLAG_INDEX: u32 = 0x1000;
/// `i_flags`: the pointers are an extent tree (ext4).
pub(super) const FLAG_EXTENTS: u32 = 0x8_0000;
/// `i_flags`: the content is in the inode (ext4).
pub(super) const FLAG_INLINE_DATA: u32 = 0x1000_0000;

/// The beginning of a superblock.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Debug)]
#[repr(C)]
pub(super) struct RawSuperblock {
    pub(super) inodes_count: U32,
    pub(super) blocks_count: U32,
    pub(super) reserved_blocks: U32,
    pub(super) free_blocks: U32,
    pub(super) free_inodes: U32,
    pub(super) first_data_block: U32,
    pub(super) log_block_size: U32,
    pub(super) log_fragment_size: U32,
    pub(super) blocks_per_group: U32,
    pub(super) fragments_per_group: U32,
    pub(super) inodes_per_group: U32,
    pub(super) mount_time: U32,
    pub(super) write_time: U32,
    pub(super) mount_count: U16,
    pub(super) max_mount_count: U16,
    pub(super) magic: U16,
    pub(super) state: U16,
    pub(super) errors: U16,
    pub(super) minor_revision: U16,
    pub(super) last_check: U32,
    pub(super) check_interval: U32,
    pub(super) creator_os: U32,
    pub(super) revision: U32,
    pub(super) reserved_uid: U16,
    pub(super) reserved_gid: U16,
    pub(super) first_inode: U32,
    pub(super) inode_size: U16,
    pub(super) group_number: U16,
    pub(super) feature_compat: U32,
    pub(super) feature_incompat: U32,
    pub(super) feature_ro_compat: U32,
    pub(super) uuid: [u8; 16],
}

/// A block group's descriptor.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Debug)]
#[repr(C)]
pub(super) struct RawGroup {
    pub(super) block_bitmap: U32,
    pub(super) inode_bitmap: U32,
    pub(super) inode_table: U32,
    pub(super) free_blocks: U16,
    pub(super) free_inodes: U16,
    pub(super) directories: U16,
    pub(super) pad: [u8; 14],
}

/// An inode, without what large ones have after the first 128 bytes.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Debug)]
#[repr(C)]
pub(super) struct RawInode {
    pub(super) mode: U16,
    pub(super) uid: U16,
    pub(super) size: U32,
    pub(super) atime: U32,
    pub(super) ctime: U32,
    pub(super) mtime: U32,
    pub(super) dtime: U32,
    pub(super) gid: U16,
    pub(super) links: U16,
    /// In units of 512 bytes.
    pub(super) sectors: U32,
    pub(super) flags: U32,
    pub(super) os_1: U32,
    pub(super) block: [U32; POINTERS],
    pub(super) generation: U32,
    pub(super) file_acl: U32,
    /// The upper half of the size of a regular file.
    pub(super) size_high: U32,
    pub(super) fragment: U32,
    pub(super) fragment_number: U16,
    pub(super) pad: U16,
    pub(super) uid_high: U16,
    pub(super) gid_high: U16,
    pub(super) os_2: U32,
}

/// What large inodes have after that, as far as it is of use here.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Debug, Default)]
#[repr(C)]
pub(super) struct RawInodeExtra {
    /// Bytes of this part that are in use.
    pub(super) extra_size: U16,
    pub(super) checksum_high: U16,
    pub(super) ctime_extra: U32,
    pub(super) mtime_extra: U32,
    pub(super) atime_extra: U32,
}

/// The fixed part of a directory entry; the name follows.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Debug)]
#[repr(C)]
pub(super) struct RawEntry {
    pub(super) inode: U32,
    pub(super) record_len: U16,
    pub(super) name_len: u8,
    /// With [`INCOMPAT_FILETYPE`]; before that the upper half of the name's length, which was always zero.
    pub(super) file_type: u8,
}

const _: () = {
    assert!(size_of::<RawSuperblock>() == 120);
    assert!(size_of::<RawGroup>() == 32);
    assert!(size_of::<RawInode>() == 128);
    assert!(size_of::<RawInodeExtra>() == 16);
    assert!(size_of::<RawEntry>() == 8);
};
