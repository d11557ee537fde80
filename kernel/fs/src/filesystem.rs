//! What every filesystem can be asked: the trait between the name space and the filesystems.
//!
//! Inodes are named by number; a filesystem finds its own state for it. Names are bytes, as on disk. Path walking, symbolic
//! links and mounts are the business of the name space (`vfs`), so `lookup` takes one name at a time.

use crate::error::{Error, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cache::ReadAhead;

/// An inode number, unique within its filesystem while the inode exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A file with content.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device node, socket or pipe: listed, never opened.
    Special,
}

/// Seconds and nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

/// What `stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The inode's number.
    pub ino: Ino,
    /// What it is.
    pub kind: FileType,
    /// Permission bits, `0o7777`.
    pub mode: u16,
    /// Names that lead here.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that the content takes up (holes take none).
    pub allocated: u64,
    /// Last read.
    pub atime: Time,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without `/` and NUL, at most 255 bytes.
    pub name: Vec<u8>,
    /// The inode that it names.
    pub ino: Ino,
    /// What that is.
    pub kind: FileType,
}

/// What is to be made by [`FileSystem::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewNode<'a> {
    /// An empty file.
    Regular,
    /// An empty directory.
    Directory,
    /// A symbolic link to this path.
    Symlink(&'a [u8]),
}

/// Attributes to change; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last read.
    pub atime: Option<Time>,
    /// Last change.
    pub mtime: Option<Time>,
}

/// What [`FileSystem::set_xattr`] does with an attribute that is, or is not, there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetXattr {
    /// Make it or change it.
    #[default]
    Either,
    /// Make it; [`Error::Exists`] where there is one (`XATTR_CREATE`).
    Create,
    /// Change it; [`Error::NoSuchAttribute`] where there is none (`XATTR_REPLACE`).
    Replace,
}

/// What `df` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Bytes in a block.
    pub block_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks free.
    pub free_blocks: u64,
    /// Inodes in all; 0 where there is no fixed number.
    pub inodes: u64,
    /// Inodes free.
    pub free_inodes: u64,
}

/// A regular file held open. It keeps what reading needs at hand, so that a read looks nothing up by number, and it keeps
/// the inode: while it lives the content stays and the number is not given to another file, even when the last name is
/// gone. Dropping it closes the file.
pub trait OpenFile: Send + Sync {
    /// Read at `pos` into `out`; returns the number of bytes, short only at the end of the file. `ahead` is the reader's
    /// own memory of how it has been reading.
    fn read(&self, pos: u64, out: &mut [u8], ahead: &mut ReadAhead) -> Result<usize>;
    /// Write all of `data` at `pos`, growing the file where needed; returns how much was written, less than all only when
    /// the error is sure to come again on the next call.
    fn write(&self, _pos: u64, _data: &[u8]) -> Result<usize> {
        Err(Error::ReadOnly)
    }
    /// Bring content and attributes to the disk; returns when the disk has said that it has them. What was written earlier and
    /// failed behind the writer's back is told here, once. There is nothing to do where content lies in memory, or never changes.
    fn fsync(&self) -> Result<()> {
        Ok(())
    }
}

/// What a filesystem answers that has no extended attributes.
const NO_XATTRS: Error = Error::Unsupported("extended attributes");

/// A mounted filesystem. Operations that a filesystem does not have answer [`Error::ReadOnly`] or
/// [`Error::Unsupported`], as the defaults here do.
pub trait FileSystem: Send + Sync {
    /// `ext2`, `tmpfs`.
    fn kind(&self) -> &'static str;
    /// What it is mounted from, for `mount` and `df` (`vda`, `tmpfs`).
    fn source(&self) -> &str;
    /// Whether changes are refused.
    fn read_only(&self) -> bool;
    /// The options that it is mounted with, for `mount`, apart from `ro` and `rw`: `size=16384k,handover=no`.
    fn options(&self) -> String {
        String::new()
    }
    /// Frames that it has set aside for its own work, apart from the page cache's and from content.
    fn own_frames(&self) -> u64 {
        0
    }
    /// The root directory.
    fn root(&self) -> Ino;
    /// The inode that `name` leads to in `dir`; `.` and `..` never come here.
    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Ino>;
    /// The directory that holds the directory `dir` (the root holds itself).
    fn parent(&self, dir: Ino) -> Result<Ino>;
    /// Attributes.
    fn stat(&self, ino: Ino) -> Result<Stat>;
    /// Entries of `dir` from `cursor` (0 at first) on, without `.` and `..`, as many as are convenient at once. Returns them with
    /// the cursor to go on from, or `None` at the end.
    fn read_dir(&self, dir: Ino, cursor: u64) -> Result<(Vec<DirEntry>, Option<u64>)>;
    /// The path that a symbolic link holds.
    fn read_link(&self, ino: Ino) -> Result<Vec<u8>>;
    /// Hold the regular file `ino` open for reading and writing; [`Error::IsADirectory`] or [`Error::NotAFile`] for what
    /// has no content of that kind.
    fn open(&self, ino: Ino) -> Result<Arc<dyn OpenFile>>;
    /// Make the file `size` bytes long: cut off, or grown by a hole.
    fn truncate(&self, _ino: Ino, _size: u64) -> Result<()> {
        Err(Error::ReadOnly)
    }
    /// Make a hole of `len` bytes at `pos`; the size stays.
    fn punch(&self, _ino: Ino, _pos: u64, _len: u64) -> Result<()> {
        Err(Error::ReadOnly)
    }
    /// Reserve memory or disk for `len` bytes at `pos`, to read as zeros; grows the file if it ends before.
    fn preallocate(&self, _ino: Ino, _pos: u64, _len: u64) -> Result<()> {
        Err(Error::ReadOnly)
    }
    /// Make a new inode under `name` in `dir`.
    fn create(&self, _dir: Ino, _name: &[u8], _node: NewNode<'_>, _mode: u16) -> Result<Ino> {
        Err(Error::ReadOnly)
    }
    /// Another name for the file `ino`.
    fn link(&self, _dir: Ino, _name: &[u8], _ino: Ino) -> Result<()> {
        Err(Error::ReadOnly)
    }
    /// Remove a name that is not a directory's.
    fn unlink(&self, _dir: Ino, _name: &[u8]) -> Result<()> {
        Err(Error::ReadOnly)
    }
    /// Remove an empty directory.
    fn rmdir(&self, _dir: Ino, _name: &[u8]) -> Result<()> {
        Err(Error::ReadOnly)
    }
    /// Move a name, replacing what the new name led to (rename(2)); [`Error::Loop`] for a directory moved below itself.
    fn rename(&self, _from: Ino, _name: &[u8], _to: Ino, _new: &[u8]) -> Result<()> {
        Err(Error::ReadOnly)
    }
    /// Change attributes.
    fn set_attr(&self, _ino: Ino, _attr: &SetAttr) -> Result<()> {
        Err(Error::ReadOnly)
    }
    /// The value of the extended attribute `name` of `ino`.
    fn xattr(&self, _ino: Ino, _name: &[u8]) -> Result<Vec<u8>> {
        Err(NO_XATTRS)
    }
    /// The names of the extended attributes of `ino`.
    fn xattr_names(&self, _ino: Ino) -> Result<Vec<Vec<u8>>> {
        Err(NO_XATTRS)
    }
    /// Give `ino` the extended attribute `name`.
    fn set_xattr(&self, _ino: Ino, _name: &[u8], _value: &[u8], _how: SetXattr) -> Result<()> {
        Err(NO_XATTRS)
    }
    /// Take the extended attribute `name` from `ino`.
    fn remove_xattr(&self, _ino: Ino, _name: &[u8]) -> Result<()> {
        Err(NO_XATTRS)
    }
    /// Space used and free.
    fn stat_fs(&self) -> Result<StatFs>;
    /// Bring everything to the disk; returns when the disk has said that it has it.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    /// Bring one file or directory to the disk, and with it whatever has to be there for that to be found after a crash.
    fn fsync(&self, _ino: Ino) -> Result<()> {
        self.sync()
    }
    /// Whether there is anything that [`FileSystem::sync`] would bring to the disk. This is asked often.
    fn is_changed(&self) -> bool {
        false
    }
    /// Bring everything to the disk because it has waited for long, not because somebody asked: as [`FileSystem::sync`], but what
    /// was to be told to the next who asks still is.
    fn commit(&self) -> Result<()> {
        self.sync()
    }
    /// Leave: write what is dirty, forget every page in caches. The filesystem answers [`Error::Unmounted`] from then on.
    fn unmount(&self) -> Result<()>;
}
