//! Inodes on their way to the disk: what is known of one, put over what stands in its place there.

use super::geometry::Geometry;
use super::inode::{Inode, State, time_on_disk};
use super::layout::{EXTRA_SIZE, RawInode, RawInodeExtra};
use crate::filesystem::FileType;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

/// Whether a new inode has room for the additional part.
pub(super) fn has_extra(geometry: &Geometry) -> bool {
    geometry.inode_size() >= size_of::<RawInode>() + usize::from(EXTRA_SIZE)
}

/// Put `inode` into its place, `bytes`. What is not known here stays as it is there.
pub(super) fn store(inode: &Inode, state: &State, geometry: &Geometry, bytes: &mut [u8]) {
    if state.now.born {
        bytes.fill(0);
    }
    let Ok((mut raw, rest)) = RawInode::read_from_prefix(bytes) else { return };
    let (atime, atime_extra) = time_on_disk(state.attr.atime);
    let (mtime, mtime_extra) = time_on_disk(state.attr.mtime);
    let (ctime, ctime_extra) = time_on_disk(state.attr.ctime);
    let high = |value: u32| U16::new((value >> 16) as u16);
    let low = |value: u32| U16::new(value as u16);
    raw.mode = U16::new(inode.format | state.attr.mode);
    (raw.uid, raw.uid_high) = (low(state.attr.uid), high(state.attr.uid));
    (raw.gid, raw.gid_high) = (low(state.attr.gid), high(state.attr.gid));
    if inode.kind != FileType::Special {
        raw.size = U32::new(state.size as u32);
    }
    if inode.kind == FileType::Regular {
        raw.size_high = U32::new((state.size >> 32) as u32);
    }
    (raw.atime, raw.mtime, raw.ctime) = (U32::new(atime), U32::new(mtime), U32::new(ctime));
    raw.dtime = U32::new(state.dtime);
    raw.links = U16::new(state.links as u16);
    raw.sectors = U32::new(state.sectors);
    raw.flags = U32::new(state.flags);
    raw.block = state.blocks.map(U32::new);
    raw.generation = U32::new(inode.generation);
    raw.file_acl = U32::new(state.file_acl);
    let mut extra = RawInodeExtra::read_from_prefix(rest).map_or(RawInodeExtra::default(), |(extra, _)| extra);
    if state.now.born && has_extra(geometry) {
        extra.extra_size = U16::new(EXTRA_SIZE);
    }
    if usize::from(extra.extra_size.get()) >= size_of::<RawInodeExtra>() {
        extra.atime_extra = U32::new(atime_extra);
        extra.mtime_extra = U32::new(mtime_extra);
        extra.ctime_extra = U32::new(ctime_extra);
        let _ = extra.write_to_prefix(rest_of(bytes));
    }
    let _ = raw.write_to_prefix(bytes);
}

/// What follows the fixed part.
fn rest_of(bytes: &mut [u8]) -> &mut [u8] {
    bytes.get_mut(size_of::<RawInode>()..).unwrap_or_default()
}
