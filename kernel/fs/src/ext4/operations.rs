//! What the name space asks of an ext4. Whatever would change it is refused by the trait's defaults: [`Error::ReadOnly`].

use super::Ext4;
use super::backing::Pages;
use super::names::{ROOT, above, join};
use crate::error::{Error, Result};
use crate::filesystem::{DirEntry, FileSystem, FileType, Ino, OpenFile, Stat, StatFs, Time};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cache::ReadAhead;
use ext4_view::{Metadata, Timestamp};

/// The longest target of a symbolic link, in bytes.
const TARGET_MAX: u64 = 4095;
/// Entries of a directory that one call returns.
const ENTRIES: usize = 256;

/// A file held open.
#[derive(Debug)]
struct OpenContent(Pages);

impl OpenFile for OpenContent {
    #[inline]
    fn read(&self, pos: u64, out: &mut [u8], ahead: &mut ReadAhead) -> Result<usize> {
        self.0.read(pos, out, ahead)
    }
}

impl FileSystem for Ext4 {
    fn kind(&self) -> &'static str {
        "ext4"
    }

    fn source(&self) -> &str {
        &self.source
    }

    fn read_only(&self) -> bool {
        true
    }

    fn root(&self) -> Ino {
        Ino(ROOT)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Ino> {
        if dir.0 < ROOT {
            return Err(Error::NotADirectory);
        }
        let dir = self.node(dir.0)?;
        let path = join(&dir.path, name);
        let (view, metadata) = self.attributes(&path)?;
        let kind = kind(&metadata);
        if kind == FileType::Directory {
            // A directory that says it is in another one could lead in circles.
            let of = |path: &[u8]| view.symlink_metadata(path).map_err(|error| self.error(error));
            if of(&join(&path, b".."))? != of(&dir.path)? {
                return Err(Error::Corrupt { what: "a directory that is not in the one which names it", value: 0 });
            }
        }
        self.number(&view, &path, kind)
    }

    fn parent(&self, dir: Ino) -> Result<Ino> {
        let dir = self.node(dir.0)?;
        Ok(Ino(self.names.lock().number(above(&dir.path))?))
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        if ino.0 < ROOT {
            return Ok(self.content(ino.0)?.stat);
        }
        let (_, metadata) = self.attributes(&self.node(ino.0)?.path)?;
        let kind = kind(&metadata);
        let mtime = time(metadata.modified());
        Ok(Stat {
            ino,
            kind,
            mode: metadata.mode() & 0o7777,
            // The crate does not say.
            links: 1,
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: if kind == FileType::Special { 0 } else { metadata.len() },
            allocated: if kind == FileType::Directory { metadata.len() } else { 0 },
            atime: time(metadata.accessed()),
            mtime,
            ctime: mtime,
        })
    }

    /// A cursor is how many entries were returned before.
    fn read_dir(&self, dir: Ino, cursor: u64) -> Result<(Vec<DirEntry>, Option<u64>)> {
        let dir = self.node(dir.0)?;
        let view = self.view()?;
        let mut entries = Vec::new();
        let mut place = 0;
        for entry in view.read_dir(&dir.path[..]).map_err(|error| self.error(error))? {
            let entry = entry.map_err(|error| self.error(error))?;
            let name = entry.file_name();
            let name: &[u8] = name.as_ref();
            if matches!(name, b"." | b"..") {
                continue;
            }
            place += 1;
            if place <= cursor {
                continue;
            }
            if entries.len() == ENTRIES {
                return Ok((entries, Some(place - 1)));
            }
            let kind = entry.file_type().map_or(FileType::Special, kind_of);
            // A name that leads nowhere sound is listed all the same, and fails when it is looked up.
            let ino = self.number(&view, &join(&dir.path, name), kind).unwrap_or(Ino(0));
            entries.try_reserve(1).map_err(|_| Error::NoMemory)?;
            entries.push(DirEntry { name: name.to_vec(), ino, kind });
        }
        Ok((entries, None))
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        if ino.0 < ROOT {
            return Err(Error::NotASymlink);
        }
        let node = self.node(ino.0)?;
        let (view, metadata) = self.attributes(&node.path)?;
        if !metadata.is_symlink() {
            return Err(Error::NotASymlink);
        }
        // The crate takes as much memory as the size says.
        if metadata.len() > TARGET_MAX {
            return Err(Error::Corrupt { what: "the size of a symbolic link", value: metadata.len() });
        }
        let target = view.read_link(&node.path[..]).map_err(|error| self.error(error))?;
        Ok(AsRef::<[u8]>::as_ref(&target).to_vec())
    }

    fn open(&self, ino: Ino) -> Result<Arc<dyn OpenFile>> {
        if ino.0 >= ROOT {
            let (_, metadata) = self.attributes(&self.node(ino.0)?.path)?;
            return Err(if metadata.is_dir() { Error::IsADirectory } else { Error::NotAFile });
        }
        let content = self.content(ino.0)?;
        content.check()?;
        let pages = Pages::open(&self.cache, self.id, ino.0, content.generation, content.stat.size)?;
        Ok(Arc::new(OpenContent(pages)))
    }

    fn stat_fs(&self) -> Result<StatFs> {
        self.check_mounted()?;
        Ok(self.facts.stat_fs())
    }

    fn unmount(&self) -> Result<()> {
        self.check_mounted()?;
        self.leave();
        Ok(())
    }
}

fn kind(metadata: &Metadata) -> FileType {
    kind_of(metadata.file_type())
}

fn kind_of(kind: ext4_view::FileType) -> FileType {
    match kind {
        ext4_view::FileType::Regular => FileType::Regular,
        ext4_view::FileType::Directory => FileType::Directory,
        ext4_view::FileType::Symlink => FileType::Symlink,
        _ => FileType::Special,
    }
}

fn time(time: Timestamp) -> Time {
    Time { seconds: time.seconds(), nanos: time.nanoseconds().min(999_999_999) }
}
