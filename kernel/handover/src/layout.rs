//! The format, byte by byte: little-endian structures without padding, pinned by a test.
//!
//! ```text
//! root frame      Root (128 bytes) · payload
//! other frames    Link (16 bytes)  · payload
//! payload         section, section, …            the payloads of all frames, joined
//! section         SectionHeader · its bytes
//! filesystem      FilesystemHeader · label · inode, inode, …
//! inode           InodeHeader · xattrs · content · sums
//! xattrs          XattrHeader · name · value, …                                          since version 2
//! content         directory: EntryHeader · name, …     symlink: target     regular file: ExtentRecord, …
//! sums            SumsHeader · checksum, checksum, …, and again                          since version 2
//! cache           CacheHeader · label · CachedFileHeader · runs, and again               since version 2
//! run             ExtentRecord · checksum, checksum, …
//! kept            KeptRecord, …                                                          since version 2
//! ```
//!
//! Each frame holds the checksum of the next, and the root holds its own, so the root's checksum vouches for the chain.
//! Any change here is a new [`VERSION`], and is told in docs/handover-format.md.

use core::ops::Range;
use frames::FRAME_SIZE;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The newest version that this crate writes and reads. It writes the one before as well, for a kernel that knows no other.
pub const VERSION: u32 = if cfg!(feature = "previous") { 1 } else { 2 };
/// The oldest version that this crate reads and writes.
pub const OLDEST_READ: u32 = 1;
/// The first version with extended attributes, checksums of content, caches and kept frames.
pub(crate) const VERSION_2: u32 = 2;

/// The oldest reader that understands a handover of this version: no version can be read without knowing it.
pub(crate) const fn min_reader(version: u32) -> u32 {
    version
}

/// Pages of a file that one checksum covers: a window, which begins at a multiple of this.
pub const SUM_PAGES: u32 = 64;
/// The most checksums in one item.
pub const SUMS_AT_ONCE: usize = 256;
/// The longest value of an extended attribute.
pub const MAX_VALUE: usize = 64 * 1024;

/// The longest name of a build, in bytes.
pub const MAX_BUILD: usize = 64;
/// The longest name in a directory, and the longest label of a filesystem.
pub const MAX_NAME: usize = 255;
/// The longest target of a symbolic link.
pub const MAX_TARGET: usize = 4095;

/// What a root begins with.
pub(crate) const MAGIC: [u8; 8] = *b"HOLDOVER";

/// Where in a root its checksum lies.
pub(crate) const ROOT_CHECKSUM: Range<usize> = 16..20;

/// Payload in the root.
pub(crate) const ROOT_PAYLOAD: usize = FRAME_SIZE - size_of::<Root>();
/// Payload in any other frame.
pub(crate) const LINK_PAYLOAD: usize = FRAME_SIZE - size_of::<Link>();

/// The beginning of the first frame.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Root {
    pub magic: [u8; 8],
    pub version: U32,
    /// The oldest version of a reader that understands this.
    pub min_reader: U32,
    /// CRC-32C of the root frame with this field as zeros.
    pub checksum: U32,
    /// The kernel that wrote this was the n-th after the first boot.
    pub generation: U32,
    /// Physical address of the next frame, 0 at the end.
    pub next: U64,
    /// CRC-32C of the next frame, 0 at the end.
    pub next_checksum: U32,
    /// Frames in the chain, this one included.
    pub frames: U32,
    /// Bytes of payload in all.
    pub length: U64,
    /// The build that wrote this, padded with zeros.
    pub build: [u8; MAX_BUILD],
    pub reserved: [u8; 16],
}

/// The beginning of every other frame.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Link {
    /// Physical address of the next frame, 0 at the end.
    pub next: U64,
    /// CRC-32C of the next frame, 0 at the end.
    pub next_checksum: U32,
    /// This is the n-th frame; the root would be number 0.
    pub sequence: U32,
}

/// The beginning of a section.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SectionHeader {
    pub kind: U32,
    pub flags: U32,
    /// Bytes that follow.
    pub length: U64,
}

/// A section that holds one filesystem.
pub(crate) const SECTION_FILESYSTEM: u32 = 1;
/// A section that holds what was cached of one disk; optional.
pub(crate) const SECTION_CACHE: u32 = 2;
/// A section that names frames which the next kernel is to keep until it is up; optional.
pub(crate) const SECTION_KEPT: u32 = 3;
/// A reader that does not know this section passes over it. Without the flag it refuses the handover.
pub(crate) const SECTION_OPTIONAL: u32 = 1;

/// One filesystem; its label follows, then its inodes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct FilesystemHeader {
    /// Inode number of the root directory.
    pub root: U64,
    /// The inode number to be given out next.
    pub next_ino: U64,
    /// Inodes that follow.
    pub inodes: U64,
    /// The most bytes that the filesystem may hold, 0 if that was left to the kernel.
    pub size_limit: U64,
    /// Bytes of label.
    pub label: U16,
    pub reserved: [u8; 6],
}

/// One inode; its content follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct InodeHeader {
    pub ino: U64,
    /// Bytes of content; of the target for a symbolic link; 0 for a directory.
    pub size: U64,
    pub atime: I64,
    pub mtime: I64,
    pub ctime: I64,
    pub atime_nanos: U32,
    pub mtime_nanos: U32,
    pub ctime_nanos: U32,
    pub uid: U32,
    pub gid: U32,
    pub links: U32,
    /// Permission bits.
    pub mode: U16,
    pub kind: u8,
    pub flags: u8,
    /// Entries, bytes of target, or extents that follow.
    pub count: U32,
    /// Bytes of extended attributes between this header and the content. Version 1 has none: 0.
    pub xattrs: U32,
    /// Bytes of checksums behind the content of a regular file. Version 1 has none: 0.
    pub sums: U32,
}

pub(crate) const KIND_REGULAR: u8 = 1;
pub(crate) const KIND_DIRECTORY: u8 = 2;
pub(crate) const KIND_SYMLINK: u8 = 3;
/// The content of a regular file was found damaged by an earlier kernel.
pub(crate) const INODE_QUARANTINED: u8 = 1;

/// One extended attribute; the name's bytes follow, then the value's.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct XattrHeader {
    /// Bytes of value.
    pub value: U32,
    /// Bytes of name.
    pub name: u8,
}

/// One name in a directory; the name's bytes follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct EntryHeader {
    pub ino: U64,
    /// Bytes of name.
    pub name: u8,
}

/// Consecutive pages of a file that lie in consecutive frames.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ExtentRecord {
    /// Bits 0 to 51: number of the first frame. Bits 52 to 63: flags.
    pub location: U64,
    /// The first page of the file.
    pub index: U32,
    /// Pages.
    pub count: U32,
}

pub(crate) const EXTENT_PFN_BITS: u32 = 52;
/// The frames are reserved and their bytes mean nothing: the pages read as zeros.
pub(crate) const EXTENT_PREALLOCATED: u64 = 1 << EXTENT_PFN_BITS;

/// Beside it, in a cache: the page was in cleancache.
pub(crate) const EXTENT_COLD: u64 = 2 << EXTENT_PFN_BITS;

/// Checksums of consecutive windows of a file; they follow, four bytes each.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SumsHeader {
    /// The first window.
    pub first: U32,
    /// Windows.
    pub count: U32,
}

/// What was cached of one disk, and how that disk is told; its label follows, then its files.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct CacheHeader {
    pub uuid: [u8; 16],
    /// Sectors of 512 bytes.
    pub sectors: U64,
    /// Files that follow.
    pub files: U64,
    /// CRC-32C of the superblock.
    pub superblock: U32,
    /// Seconds since 1970, as the superblock has them: mounted last, written last.
    pub mounted: U32,
    pub written: U32,
    /// How often it was mounted, and the state that it was left in.
    pub mounts: U16,
    pub state: U16,
    /// Bytes of label.
    pub label: U16,
    pub reserved: [u8; 6],
}

/// What was cached of one file, and how that file is told; its runs follow, each an [`ExtentRecord`] and a checksum for each page.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct CachedFileHeader {
    pub ino: U64,
    pub ctime: I64,
    pub ctime_nanos: U32,
    pub generation: U32,
    /// CRC-32C of the inode as it is on the disk.
    pub inode: U32,
    /// Runs that follow.
    pub runs: U32,
}

/// Frames that are to be kept until the next kernel is up.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct KeptRecord {
    /// Number of the first frame.
    pub start: U64,
    /// Frames.
    pub count: U64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields get distinct values, so a field that moves, grows or turns round changes the bytes.
    #[test]
    fn version_1_is_pinned_byte_by_byte() {
        assert_eq!((OLDEST_READ, min_reader(1)), (1, 1));
        let mut expected = alloc::vec::Vec::new();
        expected.extend_from_slice(b"HOLDOVER");
        expected.extend_from_slice(&[1, 2, 0, 0, 3, 4, 0, 0, 5, 6, 7, 8, 9, 10, 0, 0]);
        expected.extend_from_slice(&[11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 0, 0]);
        expected.extend_from_slice(&[25, 26, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[b'b'; 64]);
        expected.extend_from_slice(&[0; 16]);
        let root = Root {
            magic: MAGIC,
            version: 0x0201.into(),
            min_reader: 0x0403.into(),
            checksum: 0x0807_0605.into(),
            generation: 0x0a09.into(),
            next: 0x1211_100f_0e0d_0c0b.into(),
            next_checksum: 0x1615_1413.into(),
            frames: 0x1817.into(),
            length: 0x1a19.into(),
            build: [b'b'; 64],
            reserved: [0; 16],
        };
        assert_eq!(root.as_bytes(), expected);
        assert_eq!(expected.len(), 128);
        assert_eq!(&root.as_bytes()[ROOT_CHECKSUM], [5, 6, 7, 8]);

        let link =
            Link { next: 0x0807_0605_0403_0201.into(), next_checksum: 0x0c0b_0a09.into(), sequence: 0x0e0d.into() };
        assert_eq!(link.as_bytes(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0, 0]);

        let section = SectionHeader { kind: 0x0201.into(), flags: 0x0403.into(), length: 0x0605.into() };
        assert_eq!(section.as_bytes(), [1, 2, 0, 0, 3, 4, 0, 0, 5, 6, 0, 0, 0, 0, 0, 0]);

        let filesystem = FilesystemHeader {
            root: 0x0201.into(),
            next_ino: 0x0403.into(),
            inodes: 0x0605.into(),
            size_limit: 0x0807.into(),
            label: 0x0a09.into(),
            reserved: [0; 6],
        };
        assert_eq!(
            filesystem.as_bytes(),
            [
                1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0, 5, 6, 0, 0, 0, 0, 0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 9, 10,
                0, 0, 0, 0, 0, 0
            ]
        );

        let inode = InodeHeader {
            ino: 0x0201.into(),
            size: 0x0403.into(),
            atime: 0x0605.into(),
            mtime: (-2).into(),
            ctime: 0x0807.into(),
            atime_nanos: 0x0a09.into(),
            mtime_nanos: 0x0c0b.into(),
            ctime_nanos: 0x0e0d.into(),
            uid: 0x100f.into(),
            gid: 0x1211.into(),
            links: 0x1413.into(),
            mode: 0x1615.into(),
            kind: 23,
            flags: 24,
            count: 0x1a19.into(),
            xattrs: 0x1c1b.into(),
            sums: 0.into(),
        };
        assert_eq!(
            inode.as_bytes(),
            [
                1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0, 5, 6, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255, 255, 255,
                255, 255, 7, 8, 0, 0, 0, 0, 0, 0, 9, 10, 0, 0, 11, 12, 0, 0, 13, 14, 0, 0, 15, 16, 0, 0, 17, 18, 0, 0,
                19, 20, 0, 0, 21, 22, 23, 24, 25, 26, 0, 0, 27, 28, 0, 0, 0, 0, 0, 0
            ]
        );
        assert_eq!((KIND_REGULAR, KIND_DIRECTORY, KIND_SYMLINK, INODE_QUARANTINED), (1, 2, 3, 1));
        assert_eq!((SECTION_FILESYSTEM, SECTION_OPTIONAL), (1, 1));

        let entry = EntryHeader { ino: 0x0201.into(), name: 3 };
        assert_eq!(entry.as_bytes(), [1, 2, 0, 0, 0, 0, 0, 0, 3]);

        let extent = ExtentRecord {
            location: (EXTENT_PREALLOCATED | 0x0201).into(),
            index: 0x0403.into(),
            count: 0x0605.into(),
        };
        assert_eq!(extent.as_bytes(), [1, 2, 0, 0, 0, 0, 0x10, 0, 3, 4, 0, 0, 5, 6, 0, 0]);
    }

    #[test]
    fn version_2_is_pinned_byte_by_byte() {
        let newest = if cfg!(feature = "previous") { 1 } else { 2 };
        assert_eq!((VERSION, min_reader(2)), (newest, 2), "a new version pins its own bytes, next to these");
        assert_eq!((SUM_PAGES, MAX_VALUE, SUMS_AT_ONCE), (64, 65536, 256));
        assert_eq!(core::mem::offset_of!(InodeHeader, xattrs), 72);
        assert_eq!(core::mem::offset_of!(InodeHeader, sums), 76);
        assert_eq!(size_of::<InodeHeader>(), 80);
        let xattr = XattrHeader { value: 0x0201.into(), name: 3 };
        assert_eq!(xattr.as_bytes(), [1, 2, 0, 0, 3]);

        let sums = SumsHeader { first: 0x0201.into(), count: 0x0403.into() };
        assert_eq!(sums.as_bytes(), [1, 2, 0, 0, 3, 4, 0, 0]);

        let cache = CacheHeader {
            uuid: *b"0123456789abcdef",
            sectors: 0x0201.into(),
            files: 0x0403.into(),
            superblock: 0x0605.into(),
            mounted: 0x0807.into(),
            written: 0x0a09.into(),
            mounts: 0x0c0b.into(),
            state: 0x0e0d.into(),
            label: 0x100f.into(),
            reserved: [0; 6],
        };
        let mut expected = alloc::vec::Vec::from(b"0123456789abcdef");
        expected.extend_from_slice(&[1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0, 5, 6, 0, 0, 7, 8, 0, 0]);
        expected.extend_from_slice(&[9, 10, 0, 0, 11, 12, 13, 14, 15, 16, 0, 0, 0, 0, 0, 0]);
        assert_eq!(cache.as_bytes(), expected);

        let file = CachedFileHeader {
            ino: 0x0201.into(),
            ctime: (-2).into(),
            ctime_nanos: 0x0403.into(),
            generation: 0x0605.into(),
            inode: 0x0807.into(),
            runs: 0x0a09.into(),
        };
        assert_eq!(
            file.as_bytes(),
            [
                1, 2, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255, 255, 255, 255, 255, 3, 4, 0, 0, 5, 6, 0, 0, 7, 8, 0, 0, 9,
                10, 0, 0
            ]
        );

        let kept = KeptRecord { start: 0x0201.into(), count: 0x0403.into() };
        assert_eq!(kept.as_bytes(), [1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!((SECTION_CACHE, SECTION_KEPT, EXTENT_COLD), (2, 3, 1 << 53));
    }
}
