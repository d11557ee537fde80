//! Changes: what every one of them needs, whatever it does.
//!
//! A [`Change`] is the proof that it is one's turn. It edits blocks of metadata in the buffer and marks inodes as changed; a
//! commit brings both to the disk. Before each step [`Change::make_room`] sees to it that the step finds room for all that it may
//! edit, so it is between steps that a commit can come, and there everything has to be consistent. What a commit itself edits it
//! makes room for, by writing what is ready.

use super::Ext2;
use super::buffer::{Buffer, Phase};
use super::geometry::Geometry;
use super::groups::{Groups, MOST_FREED};
use super::inode::Inode;
use super::proof;
use super::superblock::Superblock;
use super::turn::Turn;
use crate::error::{Error, Result};
use crate::filesystem::Time;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cache::PageCache;
use core::sync::atomic::Ordering::Relaxed;
use frames::{Frame, Zones};
use log::error;

/// Blocks that one step edits, at most: a directory that gains a block, with its bitmap, its descriptor and three indirect blocks,
/// an inode with as much, and four inodes' own blocks.
const STEP: usize = 24;
/// What is left of that for steps that free something, when others find no room any more.
const RESERVE: usize = 8;
/// Inodes that can be changed between two commits.
const MOST_CHANGED: usize = 512;
/// Frames through which blocks go to the disk.
const STAGING: usize = 16;

/// What is behind the lock.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) buffer: Buffer,
    pub(super) groups: Groups,
    /// `None` when the filesystem is mounted for reading.
    pub(super) superblock: Option<Superblock>,
    /// The inodes to write.
    pub(super) changed: Vec<Arc<Inode>>,
    /// A file has another name than before: names that are lost go after names that are gained.
    pub(super) strict: bool,
    /// Files without a name that are held open.
    pub(super) orphans: u32,
    pub(super) workbench: Workbench,
    /// A frame through which a block comes into the buffer, while it is not in use.
    pub(super) desk: Option<Frame>,
}

/// What a commit works with, set aside for it.
#[derive(Debug, Default)]
pub(super) struct Workbench {
    pub(super) list: Vec<u32>,
    pub(super) staging: Vec<Frame>,
    /// Inodes that the latest commit left out, and why the last of them.
    pub(super) held: Vec<u32>,
    pub(super) refusal: Option<Error>,
}

impl Metadata {
    /// Ready for changes.
    pub(super) fn new(cache: &PageCache, buffer: Buffer, groups: Groups) -> Result<Self> {
        let mut metadata = Self { buffer, groups, ..Self::default() };
        metadata.changed.try_reserve_exact(MOST_CHANGED).map_err(|_| Error::NoMemory)?;
        let Workbench { list, staging, held, .. } = &mut metadata.workbench;
        held.try_reserve_exact(MOST_CHANGED).map_err(|_| Error::NoMemory)?;
        list.try_reserve_exact(metadata.buffer.most()).map_err(|_| Error::NoMemory)?;
        staging.try_reserve_exact(STAGING).map_err(|_| Error::NoMemory)?;
        for _ in 0..STAGING {
            staging.push(cache.allocate(Zones::Ephemeral).map_err(|_| Error::NoMemory)?);
        }
        metadata.desk = Some(cache.allocate(Zones::Ephemeral).map_err(|_| Error::NoMemory)?);
        Ok(metadata)
    }

    /// Frames that are set aside.
    pub(super) fn frames(&self) -> usize {
        self.buffer.frames() + self.workbench.staging.len() + usize::from(self.desk.is_some())
    }

    /// Copy bytes of the disk that lie in one block, if that block is here.
    pub(super) fn copy(&self, geometry: &Geometry, at: u64, out: &mut [u8]) -> bool {
        let (block, from) = geometry.place(at);
        let bytes = self.buffer.get(block).and_then(|bytes| bytes.get(from..from + out.len()));
        bytes.map(|bytes| out.copy_from_slice(bytes)).is_some()
    }

    /// Whether a commit has anything to do.
    pub(super) fn is_changed(&self) -> bool {
        let superblock = self.superblock.as_ref().is_some_and(|superblock| superblock.changed);
        superblock || self.buffer.is_changed() || !self.changed.is_empty() || self.groups.is_waiting()
    }

    /// Whether a step finds room, and leaves so much of each kind.
    fn has_room(&self, left: usize) -> bool {
        self.buffer.room() >= STEP + left
            && self.changed.len() + 8 + left <= MOST_CHANGED
            && self.groups.freed_blocks.len() + STEP + left <= MOST_FREED
            && self.groups.freed_inodes.len() + 8 <= MOST_FREED
    }
}

/// Somebody's turn to change things.
pub(super) struct Change<'a> {
    pub(super) fs: &'a Ext2,
    _turn: Turn<'a>,
}

impl Ext2 {
    /// Whether changes are refused.
    #[inline]
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only.load(Relaxed)
    }

    /// Wait for one's turn; no room is made yet.
    #[inline]
    pub(super) fn turn(&self) -> Change<'_> {
        Change { fs: self, _turn: self.turns.take() }
    }

    /// Wait for one's turn to change something.
    #[inline]
    pub(super) fn begin(&self) -> Result<Change<'_>> {
        let change = self.turn();
        self.check_mounted()?;
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        if self.resting.load(Relaxed) {
            change.wake()?;
        }
        Ok(change)
    }

    /// The superblock on the disk is another one: so is what the filesystem is told by, and the page of the disk that it lies in.
    pub(super) fn superblock_written(&self, superblock: &Superblock) {
        self.backing.identify(proof::identity(superblock.bytes(), self.device.sectors()));
        self.disk.invalidate(0, 0);
    }

    /// Change something. Where there is no space, what waits for a commit is space: `change` is tried again after that, so it has to
    /// leave everything consistent when it fails.
    pub(super) fn change<T>(&self, change: impl Fn(&Change<'_>) -> Result<T>) -> Result<T> {
        let turn = self.begin()?;
        let attempt = || turn.make_room().and_then(|()| change(&turn));
        let result = match attempt() {
            Err(Error::NoSpace) if turn.has_waiting() => turn.commit().and_then(|()| attempt()),
            result => result,
        };
        turn.judge(result)
    }
}

impl Change<'_> {
    pub(super) fn now(&self) -> Time {
        (self.fs.clock)()
    }

    /// The disk is in use again.
    #[cold]
    fn wake(&self) -> Result<()> {
        let mut superblock = self.superblock()?;
        superblock.begin(self.now(), false);
        self.put_superblock(superblock)?;
        self.fs.resting.store(false, Relaxed);
        Ok(())
    }

    pub(super) fn superblock(&self) -> Result<Superblock> {
        self.fs.metadata.lock().superblock.clone().ok_or(Error::ReadOnly)
    }

    /// Write the superblock and wait for it.
    pub(super) fn put_superblock(&self, mut superblock: Superblock) -> Result<()> {
        superblock.write(&*self.fs.device)?;
        self.fs.superblock_written(&superblock);
        superblock.changed = false;
        self.fs.metadata.lock().superblock = Some(superblock);
        Ok(())
    }

    /// After a contradiction on the disk nothing is changed any more, so that it does not become worse.
    pub(super) fn judge<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(damage @ Error::Corrupt { .. }) = &result
            && !self.fs.read_only.swap(true, Relaxed)
        {
            error!(target: "ext2", "{}: {damage}; read-only from now on, e2fsck is advised", self.fs.source);
            if let Ok(mut superblock) = self.superblock() {
                superblock.blame();
                if let Err(error) = self.put_superblock(superblock) {
                    error!(target: "ext2", "{}: that cannot be written down: {error}", self.fs.source);
                }
            }
        }
        result
    }

    /// What an inode does not need any more was not freed, for want of a disk that works: the disk says from now on that e2fsck is
    /// to look at it, and the file does not grow before it was tried again.
    pub(super) fn left_behind(&self, inode: &Inode, failure: &Error) {
        inode.lock().now.excess = true;
        if matches!(failure, Error::Corrupt { .. }) {
            return;
        }
        let (source, ino) = (&self.fs.source, inode.number.get());
        error!(target: "ext2", "{source}: inode {ino} keeps blocks that it does not need, e2fsck is advised: {failure}");
        if let Some(superblock) = &mut self.fs.metadata.lock().superblock {
            superblock.blame();
        }
    }

    /// Whether a commit makes something free.
    pub(super) fn has_waiting(&self) -> bool {
        self.fs.metadata.lock().groups.is_waiting()
    }

    /// See to it that the next step finds room.
    pub(super) fn make_room(&self) -> Result<()> {
        if self.fs.metadata.lock().has_room(0) || self.grow(0) {
            return Ok(());
        }
        self.commit()?;
        self.check_room(0)
    }

    /// Likewise for a step that lets a file need more, or give up something and stay: what belongs to files that the disk does not take
    /// is not written, so they may not take up the room in which others change, nor those that in which files are deleted.
    pub(super) fn make_room_to_grow(&self, inode: &Inode) -> Result<()> {
        if self.fs.metadata.lock().has_room(2 * RESERVE) || self.grow(2 * RESERVE) {
            return Ok(());
        }
        self.commit()?;
        let held = inode.lock().now.held;
        self.check_room(if held { 2 * RESERVE } else { RESERVE })
    }

    /// Let the buffer grow rather than commit, as long as free memory is plenty, or cached pages are: four for each frame that it may
    /// have. Whether the next step finds room then, and leaves so much.
    #[cold]
    fn grow(&self, left: usize) -> bool {
        let (cache, memory) = (&self.fs.cache, self.fs.cache.memory());
        loop {
            let metadata = self.fs.metadata.lock();
            let may_have = metadata.buffer.may_have();
            if metadata.buffer.room() >= STEP + left || may_have == 0 {
                return metadata.has_room(left);
            }
            drop(metadata);
            let plenty = memory.has_more(Zones::Ephemeral, memory.watermarks().high);
            if !plenty && (cache.stats().pages() < 4 * may_have as u64 || cache.try_reclaim(STEP) == 0) {
                return false;
            }
            let Some(frame) = memory.allocate(Zones::Ephemeral) else { return false };
            self.fs.metadata.lock().buffer.add(frame);
        }
    }

    /// Whether the commit that was just made left so much room; if not, why.
    fn check_room(&self, left: usize) -> Result<()> {
        let metadata = self.fs.metadata.lock();
        if metadata.has_room(left) { Ok(()) } else { Err(metadata.workbench.refusal.unwrap_or(Error::NoMemory)) }
    }

    /// Have `block` in the buffer.
    pub(super) fn load(&self, block: u32) -> Result<()> {
        if self.fs.metadata.lock().buffer.get(block).is_some() {
            return Ok(());
        }
        let mut desk = self.fs.metadata.lock().desk.take().ok_or(Error::NoMemory)?;
        let read = self.read_at(&mut desk, block);
        let mut metadata = self.fs.metadata.lock();
        let loaded = read.and_then(|bytes| {
            metadata.buffer.insert(block).ok_or(Error::NoMemory)?.copy_from_slice(bytes);
            Ok(())
        });
        metadata.desk = Some(desk);
        loaded
    }

    /// Read a block that is not in the buffer. This may be a commit, which is how memory is made free, so it asks for none.
    fn read_at<'d>(&self, desk: &'d mut Frame, block: u32) -> Result<&'d [u8]> {
        let (bytes, _) = desk.bytes_mut().split_at_mut(self.fs.geometry.block_size());
        let at = u64::from(block) * bytes.len() as u64;
        if !self.fs.disk.peek(at, bytes) {
            self.fs.read_below(at, bytes)?;
        }
        Ok(bytes)
    }

    /// Change a block, to be written in `phase`.
    #[inline]
    pub(super) fn edit<T>(&self, block: u32, phase: Phase, edit: impl FnOnce(&mut [u8]) -> T) -> Result<T> {
        self.edit_of(0, block, phase, edit)
    }

    /// Likewise a block that leads to blocks of the inode `owner`, to be written only with that; 0 is none.
    #[inline]
    pub(super) fn edit_of<T>(
        &self,
        owner: u32,
        block: u32,
        phase: Phase,
        edit: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T> {
        if let Some(bytes) = self.fs.metadata.lock().buffer.edit_of(owner, block, phase) {
            return Ok(edit(bytes));
        }
        self.load(block)?;
        let mut metadata = self.fs.metadata.lock();
        Ok(edit(metadata.buffer.edit_of(owner, block, phase).ok_or(Error::NoMemory)?))
    }

    /// A block that is metadata from now on, all zeros.
    pub(super) fn fresh(&self, block: u32) -> Result<()> {
        let mut metadata = self.fs.metadata.lock();
        metadata.buffer.insert(block).ok_or(Error::NoMemory)?.fill(0);
        metadata.buffer.edit(block, Phase::New);
        Ok(())
    }

    /// The inode is to be written.
    #[inline]
    pub(super) fn mark(&self, inode: &Arc<Inode>) -> Result<()> {
        if inode.lock().now.changed { Ok(()) } else { self.mark_now(inode) }
    }

    fn mark_now(&self, inode: &Arc<Inode>) -> Result<()> {
        let at = self.fs.locate(inode.number, self.fs)?;
        self.edit(self.fs.geometry.place(at).0, Phase::Map, |_| ())?;
        let mut metadata = self.fs.metadata.lock();
        if metadata.changed.len() >= MOST_CHANGED {
            return Err(Error::NoMemory);
        }
        metadata.changed.push(Arc::clone(inode));
        drop(metadata);
        inode.lock().now.changed = true;
        Ok(())
    }
}
