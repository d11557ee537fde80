//! What the name space asks of an ext2.

use super::Ext2;
use super::inode::Inode;
use super::layout::ROOT_INO;
use super::zeroed;
use crate::block::BlockError;
use crate::error::{Error, Result};
use crate::filesystem::{DirEntry, FileSystem, FileType, Ino, NewNode, OpenFile, SetAttr, Stat, StatFs};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cache::ReadAhead;
use frames::FRAME_SIZE;
use log::warn;

/// A file held open. Once the filesystem has left the page cache, reads fail.
struct OpenInode {
    fs: Arc<Ext2>,
    inode: Arc<Inode>,
}

impl OpenInode {
    #[cold]
    fn read_any(&self, pos: u64, out: &mut [u8], ahead: &mut ReadAhead) -> Result<usize> {
        let read = self.inode.file.read(self.inode.size(), pos, out, ahead)?;
        // It may have been cut off meanwhile: what was behind the end reads as zeros, and is no part of it.
        Ok(read.min(usize::try_from(self.inode.size().saturating_sub(pos)).unwrap_or(usize::MAX)))
    }
}

impl OpenFile for OpenInode {
    #[inline]
    fn read(&self, pos: u64, out: &mut [u8], ahead: &mut ReadAhead) -> Result<usize> {
        if self.inode.file.read_within_page(self.inode.size(), pos, out, ahead) {
            return Ok(out.len());
        }
        self.read_any(pos, out, ahead)
    }

    #[inline]
    fn write(&self, pos: u64, data: &[u8]) -> Result<usize> {
        self.fs.write(&self.inode, pos, data)
    }

    fn fsync(&self) -> Result<()> {
        self.fs.sync_inode(&self.inode)
    }
}

impl Drop for OpenInode {
    fn drop(&mut self) {
        let last = {
            let mut state = self.inode.lock();
            state.opens = state.opens.saturating_sub(1);
            state.opens == 0 && state.links == 0
        };
        if last && let Err(error) = self.fs.change(|change| change.close(&self.inode)) {
            let (source, ino) = (self.fs.source(), self.inode.number.get());
            warn!(target: "ext2", "{source}: inode {ino}, which has no name, is not freed: {error}");
        }
    }
}

impl FileSystem for Ext2 {
    fn kind(&self) -> &'static str {
        "ext2"
    }

    fn source(&self) -> &str {
        &self.source
    }

    fn read_only(&self) -> bool {
        self.is_read_only()
    }

    fn own_frames(&self) -> u64 {
        self.metadata.lock().frames() as u64
    }

    fn root(&self) -> Ino {
        Ino(ROOT_INO.into())
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Ino> {
        let dir = self.inode(dir.0)?;
        let child = self.find(&dir, name)?.ok_or(Error::NotFound)?;
        if child.kind == FileType::Directory {
            self.check_held(&child, &dir)?;
        }
        Ok(Ino(child.number.get().into()))
    }

    fn parent(&self, dir: Ino) -> Result<Ino> {
        Ok(Ino(self.parent_of(&*self.inode(dir.0)?)?.into()))
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        Ok(self.inode(ino.0)?.stat())
    }

    /// A cursor is a position in the directory, the beginning of a block; one call reads the blocks of a page.
    fn read_dir(&self, dir: Ino, cursor: u64) -> Result<(Vec<DirEntry>, Option<u64>)> {
        let dir = self.inode(dir.0)?;
        let mut entries = Vec::new();
        let next = self.blocks_of(&dir, cursor, |records, next| {
            for record in records {
                let record = record?;
                if matches!(record.name, b"." | b"..") {
                    continue;
                }
                let ino = u64::from(record.ino.get());
                let kind = match record.kind {
                    Some(kind) => kind,
                    None => self.inode(ino)?.kind,
                };
                entries.try_reserve(1).map_err(|_| Error::NoMemory)?;
                entries.push(DirEntry { name: record.name.to_vec(), ino: Ino(ino), kind });
            }
            Ok((next < dir.size() && next.is_multiple_of(FRAME_SIZE as u64)).then_some(next))
        })?;
        Ok((entries, next))
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        let inode = self.inode(ino.0)?;
        if inode.kind != FileType::Symlink {
            return Err(Error::NotASymlink);
        }
        let target = match inode.fast_target(&self.geometry) {
            Some(target) => target,
            None => {
                // Checked when the inode was read: the size is that of a path at most.
                let (size, roots) = {
                    let state = inode.lock();
                    (state.size as usize, state.blocks)
                };
                let mut target = zeroed(size)?;
                for (index, part) in (0..).zip(target.chunks_mut(self.geometry.block_size())) {
                    let bytes = self.read_block(self.content_block(&roots, index)?)?;
                    part.copy_from_slice(bytes.get(..part.len()).unwrap_or_default());
                }
                target
            }
        };
        if target.contains(&0) {
            return Err(Error::Corrupt { what: "the target of a symbolic link, inode", value: ino.0 });
        }
        Ok(target)
    }

    fn open(&self, ino: Ino) -> Result<Arc<dyn OpenFile>> {
        let inode = self.inode(ino.0)?;
        inode.regular()?;
        let fs = self.me.upgrade().ok_or(Error::Unmounted)?;
        {
            let mut state = inode.lock();
            if state.links == 0 && state.opens == 0 {
                return Err(Error::NotFound);
            }
            state.opens = state.opens.checked_add(1).ok_or(Error::Busy)?;
        }
        Ok(Arc::new(OpenInode { fs, inode }))
    }

    fn truncate(&self, ino: Ino, size: u64) -> Result<()> {
        self.change(|change| change.truncate(&self.inode(ino.0)?, size))
    }

    fn punch(&self, ino: Ino, pos: u64, len: u64) -> Result<()> {
        self.change(|change| change.punch(&self.inode(ino.0)?, pos, len))
    }

    fn preallocate(&self, ino: Ino, _pos: u64, _len: u64) -> Result<()> {
        self.inode(ino.0)?.regular()?;
        // The format has no mark for a block that is a file's and reads as zeros.
        Err(Error::Unsupported("preallocation on ext2"))
    }

    fn create(&self, dir: Ino, name: &[u8], node: NewNode<'_>, mode: u16) -> Result<Ino> {
        self.change(|change| Ok(Ino(change.create(dir.0, name, node, mode)?.number.get().into())))
    }

    fn link(&self, dir: Ino, name: &[u8], ino: Ino) -> Result<()> {
        self.change(|change| change.link(dir.0, name, ino.0))
    }

    fn unlink(&self, dir: Ino, name: &[u8]) -> Result<()> {
        self.change(|change| change.unlink(dir.0, name))
    }

    fn rmdir(&self, dir: Ino, name: &[u8]) -> Result<()> {
        self.change(|change| change.rmdir(dir.0, name))
    }

    fn rename(&self, from: Ino, name: &[u8], to: Ino, new: &[u8]) -> Result<()> {
        self.change(|change| change.rename(from.0, name, to.0, new))
    }

    fn set_attr(&self, ino: Ino, attr: &SetAttr) -> Result<()> {
        self.change(|change| change.set_attr(&self.inode(ino.0)?, attr))
    }

    fn sync(&self) -> Result<()> {
        self.sync_all()
    }

    fn fsync(&self, ino: Ino) -> Result<()> {
        self.sync_inode(&*self.inode(ino.0)?)
    }

    fn is_changed(&self) -> bool {
        self.has_changes()
    }

    fn commit(&self) -> Result<()> {
        self.write_all()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        self.check_mounted()?;
        let metadata = self.metadata.lock();
        let stat = self.geometry.stat_fs();
        if metadata.superblock.is_none() {
            return Ok(stat);
        }
        let (free_blocks, free_inodes) = (metadata.groups.blocks_for_df(), metadata.groups.inodes_for_df());
        Ok(StatFs { free_blocks, free_inodes, ..stat })
    }

    fn unmount(&self) -> Result<()> {
        match self.write_all() {
            Ok(()) => {}
            // It will never be written, and is not to be kept for that.
            Err(error @ Error::Device(BlockError::Dead)) => {
                warn!(target: "ext2", "{}: unmounted with changes that are lost: {error}", self.source);
            }
            Err(error) => return Err(error),
        }
        self.leave();
        Ok(())
    }
}
