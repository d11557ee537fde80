//! Commits: what was changed goes to the disk, in an order in which a crash at any moment loses what is recent and nothing else.
//!
//! 1. The content of files that have new blocks, and blocks of metadata that nothing on the disk leads to yet. Then the device
//!    flushes: from here on what leads to them may be there.
//! 2. Bitmaps, descriptors, pointers, inodes; directories. Where a file got another name, names that are gained are flushed
//!    before those that are lost, and before files that lost their last one.
//! 3. The device flushes. Only now is given out again what was freed: until then the disk may still say whose it was.
//!
//! Nothing is locked while the disk works: blocks are copied out first. It is the committer's turn all the while, so nobody
//! changes them meanwhile.

use super::Ext2;
use super::buffer::Phase;
use super::change::{Change, Workbench};
use super::inode::Inode;
use super::layout::RawGroup;
use super::map::ReadDisk;
use super::outgoing::Outgoing;
use super::store::store;
use super::{INODE_MAX, proof};
use crate::block::SECTOR_SIZE;
use crate::error::{Error, Result};
use crate::filesystem::FileType;
use alloc::sync::Arc;
use core::mem;
use core::sync::atomic::Ordering::Relaxed;
use frames::Frame;
use log::warn;
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

impl Ext2 {
    /// Bring everything to the disk, and let it say that it was left as it should be. What failed since everything was asked for
    /// last is told, even if it is on the disk by now.
    pub(super) fn sync_all(&self) -> Result<()> {
        self.check_mounted()?;
        let content = self.cache.sync(None).map_err(Error::from);
        content.and(self.commit_and_rest())
    }

    /// Likewise without being asked, or before a kexec or the end of the mount: all that matters is whether something is not on the
    /// disk.
    pub(super) fn write_all(&self) -> Result<()> {
        self.check_mounted()?;
        let content = self.cache.write_out(None).map_err(Error::from);
        content.and(self.commit_and_rest())
    }

    fn commit_and_rest(&self) -> Result<()> {
        let change = self.turn();
        change.commit_all()?;
        change.rest()
    }

    /// Bring a file to the disk.
    pub(super) fn sync_inode(&self, inode: &Inode) -> Result<()> {
        self.check_mounted()?;
        let change = self.turn();
        inode.file.sync()?;
        change.commit_all()
    }

    /// Whether a commit has anything to do.
    pub(super) fn has_changes(&self) -> bool {
        self.metadata.lock().is_changed()
    }
}

impl Change<'_> {
    /// Commit, or at least flush. Whoever syncs a file that was left out hears why.
    fn commit_all(&self) -> Result<()> {
        if self.fs.metadata.lock().superblock.is_none() {
            return Ok(());
        }
        if !self.fs.has_changes() {
            return Ok(self.fs.device.flush()?);
        }
        self.commit()
    }

    /// The disk says that the filesystem was left as it should be, as long as it stays so.
    fn rest(&self) -> Result<()> {
        let ready = {
            let metadata = self.fs.metadata.lock();
            metadata.orphans == 0 && metadata.superblock.is_some() && !metadata.is_changed()
        };
        if !ready || self.fs.resting.load(Relaxed) {
            return Ok(());
        }
        let mut superblock = self.superblock()?;
        superblock.end(self.now());
        self.put_superblock(superblock)?;
        self.fs.resting.store(true, Relaxed);
        Ok(())
    }

    /// Write what was changed. Files whose content cannot be written are left out, and stay changed.
    pub(super) fn commit(&self) -> Result<()> {
        if !self.fs.has_changes() {
            return Ok(());
        }
        let mut bench = mem::take(&mut self.fs.metadata.lock().workbench);
        let result = self.commit_with(&mut bench);
        self.fs.metadata.lock().workbench = bench;
        result
    }

    fn commit_with(&self, bench: &mut Workbench) -> Result<()> {
        self.write_content(bench);
        self.write_phases(bench, |phase| phase == Phase::New)?;
        self.fs.device.flush()?;
        let strict = {
            let metadata = self.fs.metadata.lock();
            metadata.strict || metadata.buffer.has(Phase::Last)
        };
        self.put_inodes(bench, |links| links > 0)?;
        self.put_descriptors(bench)?;
        if strict {
            self.write_phases(bench, |phase| phase == Phase::Map)?;
            self.fs.device.flush()?;
            self.write_phases(bench, |phase| phase == Phase::Names)?;
            self.fs.device.flush()?;
        }
        let finished = self.finish(bench);
        if finished.is_err() {
            // What was freed is not free: the disk may still lead to it.
            self.apply_freed(false, bench)?;
        }
        finished?;
        self.settle(&bench.held)
    }

    /// The rest: what was lost and freed, and whatever is not written yet.
    fn finish(&self, bench: &mut Workbench) -> Result<()> {
        self.apply_freed(true, bench)?;
        self.put_inodes(bench, |links| links == 0)?;
        self.put_descriptors(bench)?;
        self.write_phases(bench, |phase| phase < Phase::Last)?;
        if self.fs.metadata.lock().buffer.has(Phase::Last) {
            self.fs.device.flush()?;
            self.write_phases(bench, |phase| phase == Phase::Last)?;
        }
        let mut superblock = self.superblock()?;
        let (blocks, inodes) = {
            let metadata = self.fs.metadata.lock();
            (metadata.groups.free_blocks, metadata.groups.free_inodes)
        };
        superblock.count(blocks, inodes, self.now());
        // This flushes.
        self.put_superblock(superblock)
    }

    /// The content of files that have new blocks. Those whose content the disk does not take are `held`: neither they nor the blocks
    /// that lead to their content are written by this commit, and what they had freed is not given out again, for on the disk it
    /// is still theirs.
    fn write_content(&self, Workbench { held, refusal, .. }: &mut Workbench) {
        held.clear();
        *refusal = None;
        let file = |at: usize| self.fs.metadata.lock().changed.get(at).cloned();
        for inode in (0..).map_while(file) {
            let grown = {
                let mut state = inode.lock();
                state.now.held = false;
                state.now.grown
            };
            if !grown {
                continue;
            }
            let written = inode.file.write_out();
            let mut state = inode.lock();
            (state.now.grown, state.now.held) = (written.is_err(), written.is_err());
            drop(state);
            if let Err(error) = written {
                let (source, ino) = (&self.fs.source, inode.number.get());
                warn!(target: "ext2", "{source}: inode {ino} is not written, as its content cannot be: {error}");
                // There is room for as many as can be changed.
                held.push(ino);
                *refusal = Some(error.into());
            }
        }
    }

    /// Put the changed inodes, those with so many links as `which` says, into their blocks.
    fn put_inodes(&self, bench: &mut Workbench, which: impl Fn(u32) -> bool) -> Result<()> {
        let inode = |at: usize| self.fs.metadata.lock().changed.get(at).cloned();
        for inode in (0..).map_while(inode) {
            let state = inode.lock().clone();
            if state.now.held || !which(state.links) {
                continue;
            }
            let (block, from) = self.fs.geometry.place(self.fs.locate(inode.number, self.fs)?);
            let size = self.fs.geometry.inode_size();
            self.edit_in_commit(bench, block, |bytes| {
                if let Some(place) = bytes.get_mut(from..from + size) {
                    store(&inode, &state, &self.fs.geometry, place);
                }
            })?;
        }
        Ok(())
    }

    /// Put the counts of the groups that changed into their descriptors.
    fn put_descriptors(&self, bench: &mut Workbench) -> Result<()> {
        let count = self.fs.metadata.lock().groups.count();
        for number in 0..count {
            let group = *self.fs.metadata.lock().groups.get(number)?;
            if !group.changed {
                continue;
            }
            let (block, from) = self.fs.geometry.place(self.fs.geometry.descriptor_of(number));
            self.edit_in_commit(bench, block, |bytes| {
                let place = bytes.get_mut(from..).unwrap_or_default();
                let Ok((mut raw, _)) = RawGroup::read_from_prefix(place) else { return };
                raw.free_blocks = U16::new(group.free_blocks as u16);
                raw.free_inodes = U16::new(group.free_inodes as u16);
                raw.directories = U16::new(group.directories as u16);
                let _ = raw.write_to_prefix(place);
            })?;
        }
        Ok(())
    }

    /// Change a block that the commit under way writes. It may have left the buffer since the change that is written now; where that is
    /// full, what is ready makes room.
    pub(super) fn edit_in_commit<T>(
        &self,
        bench: &mut Workbench,
        block: u32,
        mut edit: impl FnMut(&mut [u8]) -> T,
    ) -> Result<T> {
        match self.edit(block, Phase::Map, &mut edit) {
            Err(Error::NoMemory) => {
                self.write_phases(bench, |phase| phase == Phase::Map)?;
                self.edit(block, Phase::Map, edit)
            }
            done => done,
        }
    }

    /// Write the blocks of some phases, neighbours together.
    fn write_phases(&self, bench: &mut Workbench, phases: impl Fn(Phase) -> bool) -> Result<()> {
        let Workbench { list, staging, held, .. } = bench;
        self.fs.metadata.lock().buffer.list(phases, held, list);
        for blocks in list.chunks((staging.len() * self.fs.geometry.blocks_per_page()).max(1)) {
            self.write_blocks(blocks, staging)?;
        }
        Ok(())
    }

    /// Write these blocks, by way of `staging`, which has room for them.
    fn write_blocks(&self, blocks: &[u32], staging: &mut [Frame]) -> Result<()> {
        let block_size = self.fs.geometry.block_size();
        {
            let metadata = self.fs.metadata.lock();
            let places = staging.iter_mut().flat_map(|frame| frame.bytes_mut().chunks_mut(block_size));
            for (block, place) in blocks.iter().zip(places) {
                place.copy_from_slice(metadata.buffer.get(*block).ok_or(Error::NoMemory)?);
            }
        }
        let places = staging.iter().flat_map(|frame| frame.bytes().chunks(block_size));
        let mut outgoing = Outgoing::new(self.fs, true);
        for (&block, place) in blocks.iter().zip(places) {
            outgoing.add(u64::from(block) * (block_size / SECTOR_SIZE) as u64, place)?;
        }
        outgoing.send()?;
        let mut metadata = self.fs.metadata.lock();
        blocks.iter().for_each(|&block| metadata.buffer.written(block));
        Ok(())
    }

    /// All of it is on the disk: what was freed is free, and who was deleted is gone.
    fn settle(&self, held: &[u32]) -> Result<()> {
        let mut metadata = self.fs.metadata.lock();
        metadata.groups.settle(held)?;
        metadata.strict = false;
        drop(metadata);
        let mut at = 0;
        loop {
            let Some(inode) = self.fs.metadata.lock().changed.get(at).cloned() else { return Ok(()) };
            let gone = {
                let mut state = inode.lock();
                if state.now.held {
                    at += 1;
                    continue;
                }
                (state.now.changed, state.now.born) = (false, false);
                state.links == 0 && state.opens == 0
            };
            self.fs.metadata.lock().changed.swap_remove(at);
            if gone {
                self.fs.inodes.lock().remove(inode.number);
            } else {
                self.restamp(&inode)?;
            }
        }
    }

    /// What the file is told by after a kexec is what was just written.
    fn restamp(&self, inode: &Arc<Inode>) -> Result<()> {
        if inode.kind != FileType::Regular {
            return Ok(());
        }
        let mut bytes = [0; INODE_MAX];
        let bytes = bytes.get_mut(..self.fs.geometry.inode_size().min(INODE_MAX)).unwrap_or_default();
        self.fs.read_disk(self.fs.locate(inode.number, self.fs)?, bytes)?;
        let (stamp, _) = proof::stamp(bytes);
        inode.file.restamp(stamp);
        Ok(())
    }
}
