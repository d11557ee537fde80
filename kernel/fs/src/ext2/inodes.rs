//! Inodes, given out and freed.
//!
//! A directory at the top goes where few are, so that trees are spread over the disk; one further down stays with its parent as
//! long as there is room (after Orlov). Files are put beside their directory.

use super::buffer::Phase;
use super::change::{Change, Metadata, Workbench};
use super::geometry::InodeNumber;
use super::groups::{bit, count_clear, find_clear, set_bit, turn_bit};
use super::inode::Inode;
use super::layout::{ROOT_INO, RawInode};
use super::map::ReadDisk;
use crate::error::{Error, Result};
use zerocopy::FromBytes;

impl Change<'_> {
    /// A number for a new inode in `parent`, and a generation that tells it from those that had the number.
    pub(super) fn allocate_inode(&self, parent: &Inode, directory: bool) -> Result<(InodeNumber, u32)> {
        let (home, _) = self.fs.geometry.group_of_inode(parent.number);
        let count = self.fs.metadata.lock().groups.count();
        let first = if directory { self.directory_group(parent, home)? } else { self.file_group(home, count)? };
        for step in 0..count {
            let group = (first + step) % count;
            if self.fs.metadata.lock().groups.get(group)?.free_inodes == 0 {
                continue;
            }
            if let Some(found) = self.take_inode(group, directory)? {
                return Ok(found);
            }
        }
        Err(Error::NoSpace)
    }

    /// Where a directory goes.
    fn directory_group(&self, parent: &Inode, home: u32) -> Result<u32> {
        let metadata = self.fs.metadata.lock();
        let groups = &metadata.groups;
        let count = groups.count().max(1);
        let (inodes, blocks) = (groups.free_inodes / count, groups.free_blocks / count);
        if parent.number.get() != ROOT_INO {
            // With the parent, unless its group is much fuller than others.
            let group = groups.get(home)?;
            if group.free_inodes > inodes / 4 && group.free_blocks > blocks / 4 {
                return Ok(home);
            }
        }
        let mut best = (home, u32::MAX);
        for number in 0..groups.count() {
            let group = groups.get(number)?;
            if group.free_inodes > 0
                && group.free_inodes >= inodes
                && group.free_blocks >= blocks
                && group.directories < best.1
            {
                best = (number, group.directories);
            }
        }
        Ok(best.0)
    }

    /// Where a file goes: home, or the next group with room for some content in steps that double.
    fn file_group(&self, home: u32, count: u32) -> Result<u32> {
        let metadata = self.fs.metadata.lock();
        let mut step = 0;
        while step < count {
            let number = (home + step) % count;
            let group = metadata.groups.get(number)?;
            if group.free_inodes > 0 && group.free_blocks > 0 {
                return Ok(number);
            }
            step = (step * 2).max(1);
        }
        Ok(home)
    }

    /// Take the first free inode of a group.
    fn take_inode(&self, number: u32, directory: bool) -> Result<Option<(InodeNumber, u32)>> {
        let geometry = &self.fs.geometry;
        let bitmap = self.ready_inodes(number)?;
        let reserved = if number == 0 { geometry.first_inode().saturating_sub(1) } else { 0 };
        let found = {
            let metadata = self.fs.metadata.lock();
            let bytes = metadata.buffer.get(bitmap).ok_or(Error::NoMemory)?;
            find_clear(bytes, reserved, geometry.inodes_per_group())
        };
        let Some(index) = found else { return Ok(None) };
        let ino = geometry.inode(u64::from(number) * u64::from(geometry.inodes_per_group()) + u64::from(index) + 1)?;
        let generation = self.last_generation(ino)?.wrapping_add(1);
        let mut metadata = self.fs.metadata.lock();
        let Metadata { buffer, groups, .. } = &mut *metadata;
        set_bit(buffer.edit(bitmap, Phase::Map).ok_or(Error::NoMemory)?, index, true);
        groups.free_inodes = groups.free_inodes.saturating_sub(1);
        let group = groups.get_mut(number)?;
        group.free_inodes = group.free_inodes.saturating_sub(1);
        group.directories += u32::from(directory);
        groups.directories += u32::from(directory);
        Ok(Some((ino, generation)))
    }

    /// The generation of the file that had this number last. It must be gone.
    fn last_generation(&self, ino: InodeNumber) -> Result<u32> {
        let mut bytes = [0; size_of::<RawInode>()];
        self.fs.read_disk(self.fs.locate(ino, self.fs)?, &mut bytes)?;
        let short = |_| Error::Corrupt { what: "an inode is short", value: ino.get().into() };
        let raw = RawInode::read_from_bytes(&bytes).map_err(short)?;
        if raw.links.get() != 0 {
            return Err(Error::Corrupt { what: "an inode in use is marked as free", value: ino.get().into() });
        }
        Ok(raw.generation.get())
    }

    /// Have a group's descriptor and its bitmap of inodes in the buffer; the bitmap's block.
    fn ready_inodes(&self, number: u32) -> Result<u32> {
        self.touch(number)?;
        let known = *self.fs.metadata.lock().groups.get(number)?;
        self.load(known.inode_bitmap)?;
        if known.checked_inodes {
            return Ok(known.inode_bitmap);
        }
        let mut metadata = self.fs.metadata.lock();
        let sound = metadata.superblock.as_ref().is_some_and(|superblock| superblock.sound);
        let Metadata { buffer, groups, .. } = &mut *metadata;
        let bytes = buffer.get(known.inode_bitmap).ok_or(Error::NoMemory)?;
        let clear = count_clear(bytes, self.fs.geometry.inodes_per_group());
        if clear != known.free_inodes && sound {
            let what = "a bitmap of inodes contradicts its group's count, group";
            return Err(Error::Corrupt { what, value: number.into() });
        }
        groups.free_inodes = groups.free_inodes - known.free_inodes + clear;
        let group = groups.get_mut(number)?;
        (group.free_inodes, group.checked_inodes) = (clear, true);
        Ok(known.inode_bitmap)
    }

    /// Free an inode, to be given out again when a commit has ended.
    pub(super) fn free_inode(&self, ino: InodeNumber, directory: bool) -> Result<()> {
        let (number, index) = self.fs.geometry.group_of_inode(ino);
        let bitmap = self.ready_inodes(number)?;
        let mut metadata = self.fs.metadata.lock();
        let Metadata { buffer, groups, .. } = &mut *metadata;
        let marked = buffer.edit(bitmap, Phase::Map).is_some_and(|bytes| bit(bytes, index));
        if !marked || ino.get() < self.fs.geometry.first_inode() {
            return Err(Error::Corrupt { what: "an inode in use is marked as free", value: ino.get().into() });
        }
        if groups.freed_inodes.len() >= groups.freed_inodes.capacity() {
            return Err(Error::NoMemory);
        }
        groups.freed_inodes.push((ino.get(), directory));
        Ok(())
    }

    /// Clear the bit of the freed inode at place `at`, or set it again.
    pub(super) fn apply_freed_inode(&self, at: usize, free: bool, bench: &mut Workbench) -> Result<()> {
        let freed = self.fs.metadata.lock().groups.freed_inodes.get(at).copied();
        let Some((ino, directory)) = freed else { return Ok(()) };
        let (number, index) = self.fs.geometry.group_of_inode(self.fs.geometry.inode(ino.into())?);
        let bitmap = self.fs.metadata.lock().groups.get(number)?.inode_bitmap;
        if !self.edit_in_commit(bench, bitmap, |bytes| turn_bit(bytes, index, !free))? {
            return Ok(());
        }
        let mut metadata = self.fs.metadata.lock();
        let groups = &mut metadata.groups;
        let add = |count: u32, n: u32| if free { count.saturating_add(n) } else { count.saturating_sub(n) };
        let take = |count: u32, n: u32| if free { count.saturating_sub(n) } else { count.saturating_add(n) };
        groups.free_inodes = add(groups.free_inodes, 1);
        groups.directories = take(groups.directories, directory.into());
        let group = groups.get_mut(number)?;
        group.free_inodes = add(group.free_inodes, 1);
        group.directories = take(group.directories, directory.into());
        group.changed = true;
        Ok(())
    }
}
