//! What the name space asks of an ext2.

use super::Ext2;
use super::inode::Inode;
use super::layout::ROOT_INO;
use super::zeroed;
use crate::error::{Error, Result};
use crate::filesystem::{DirEntry, FileSystem, FileType, Ino, OpenFile, Stat, StatFs};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cache::ReadAhead;
use frames::FRAME_SIZE;

/// A file held open. Once the filesystem has left the page cache, reads fail.
struct OpenInode(Arc<Inode>);

impl OpenFile for OpenInode {
    #[inline]
    fn read(&self, pos: u64, out: &mut [u8], ahead: &mut ReadAhead) -> Result<usize> {
        Ok(self.0.file.read(self.0.stat.size, pos, out, ahead)?)
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
        true
    }

    fn root(&self) -> Ino {
        Ino(ROOT_INO.into())
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Ino> {
        let dir = self.inode(dir.0)?;
        let child = self.find(&dir, name)?.ok_or(Error::NotFound)?;
        if child.stat.kind == FileType::Directory {
            self.check_held(&child, &dir)?;
        }
        Ok(child.stat.ino)
    }

    fn parent(&self, dir: Ino) -> Result<Ino> {
        Ok(Ino(self.parent_of(&*self.inode(dir.0)?)?.into()))
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        Ok(self.inode(ino.0)?.stat)
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
                    None => self.inode(ino)?.stat.kind,
                };
                entries.try_reserve(1).map_err(|_| Error::NoMemory)?;
                entries.push(DirEntry { name: record.name.to_vec(), ino: Ino(ino), kind });
            }
            Ok((next < dir.stat.size && next.is_multiple_of(FRAME_SIZE as u64)).then_some(next))
        })?;
        Ok((entries, next))
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        let inode = self.inode(ino.0)?;
        if inode.stat.kind != FileType::Symlink {
            return Err(Error::NotASymlink);
        }
        let target = match inode.fast_target() {
            Some(target) => target,
            None => {
                // Checked when the inode was read: the size is that of a path at most.
                let mut target = zeroed(inode.stat.size as usize)?;
                inode.file.read(inode.stat.size, 0, &mut target, &mut ReadAhead::default())?;
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
        match inode.stat.kind {
            FileType::Regular => Ok(Arc::new(OpenInode(inode))),
            FileType::Directory => Err(Error::IsADirectory),
            FileType::Symlink | FileType::Special => Err(Error::NotAFile),
        }
    }

    fn stat_fs(&self) -> Result<StatFs> {
        self.check_mounted()?;
        Ok(self.geometry.stat_fs())
    }

    fn unmount(&self) -> Result<()> {
        self.check_mounted()?;
        self.leave();
        Ok(())
    }
}
