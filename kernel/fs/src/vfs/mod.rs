//! The name space: paths over the filesystems that are mounted in it.
//!
//! The root is a small directory that cannot be changed and holds the mount points. May touch filesystems only through
//! [`FileSystem`], and holds no lock while it calls one. Paths are bytes; one that does not begin with `/` is taken from the
//! root, so a caller with a working directory joins them first ([`path::join`]). Users and permissions are not checked.

mod file;
mod mounts;
pub mod path;
mod root;
mod walk;
mod xattrs;

pub use file::File;
pub use walk::AtEnd;

use crate::error::{Error, Result};
use crate::filesystem::{DirEntry, FileSystem, FileType, NewNode, SetAttr, Stat, StatFs};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use mounts::{Mount, MountTable, Node};
use root::RootDirectory;
use walk::{Found, Missing, Place, Walk};

/// What `mount` lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// Where.
    pub path: Vec<u8>,
    /// `ext2`, `tmpfs`.
    pub kind: &'static str,
    /// From what.
    pub source: String,
    /// Whether changes are refused.
    pub read_only: bool,
    /// Other options, separated by commas.
    pub options: String,
    /// Frames that it has set aside for its own work.
    pub own_frames: u64,
}

/// What [`Vfs::create`] does with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// Open it as it is.
    Keep,
    /// Open it and cut it to nothing (`O_TRUNC`).
    Truncate,
    /// Answer [`Error::Exists`] (`O_EXCL`); a symbolic link counts as well.
    Refuse,
}

/// How long changes may wait until a filesystem commits them.
pub const COMMIT_AGE: Duration = Duration::from_secs(5);

/// The name space.
pub struct Vfs {
    directory: Arc<RootDirectory>,
    root: Arc<Mount>,
    mounts: MountTable,
}

impl Vfs {
    /// A root directory with these mount points, nothing mounted on them.
    pub fn new(points: &[&[u8]]) -> Self {
        let directory = Arc::new(RootDirectory::new(points));
        let (root, mounts) = (Mount::new(directory.clone()), MountTable::new(directory.len()));
        Self { directory, root, mounts }
    }

    // Mounts.

    /// Mount `fs` at the mount point `path`; [`Error::Busy`] where something is mounted already.
    pub fn mount(&self, path: &[u8], fs: Arc<dyn FileSystem>) -> Result<()> {
        self.mounts.mount(self.point(path)?, Mount::new(fs))
    }

    /// Unmount what is mounted at `path`; [`Error::Busy`] while files of it are open.
    pub fn unmount(&self, path: &[u8]) -> Result<()> {
        self.mounts.unmount(self.point(path)?)
    }

    /// The path of the mount point that `path` names: `/tmp` for `//tmp/`.
    pub fn point_path(&self, path: &[u8]) -> Result<Vec<u8>> {
        Ok(path::join(b"/", self.directory.name(self.point(path)?)))
    }

    /// Everything that is mounted.
    pub fn mounts(&self) -> Vec<MountInfo> {
        let info = |(place, mount): (usize, Arc<Mount>)| MountInfo {
            path: path::join(b"/", self.directory.name(place)),
            kind: mount.fs.kind(),
            source: mount.fs.source().into(),
            read_only: mount.fs.read_only(),
            options: mount.fs.options(),
            own_frames: mount.fs.own_frames(),
        };
        self.mounts.all().into_iter().map(info).collect()
    }

    /// Bring everything to the disks. Every filesystem is tried; the first error is returned.
    pub fn sync(&self) -> Result<()> {
        self.mounts.all().iter().map(|(_, mount)| mount.fs.sync()).fold(Ok(()), Result::and)
    }

    /// As [`Vfs::sync`], but what is to be told to the next who syncs still is.
    pub fn commit(&self) -> Result<()> {
        self.mounts.all().iter().map(|(_, mount)| mount.fs.commit()).fold(Ok(()), Result::and)
    }

    /// Bring what `path` leads to to the disk, a directory's names for a directory.
    pub fn fsync(&self, path: &[u8]) -> Result<()> {
        let Found { node, kind, .. } = self.find(path, AtEnd::Follow)?;
        // An open file knows which errors it was told already.
        if kind == FileType::Regular { File::open(node)?.fsync() } else { node.fs().fsync(node.ino) }
    }

    /// Bring to the disks what has been changed for [`COMMIT_AGE`] or longer. To be called now and then, with the time since some
    /// moment. Whether there was anything; every filesystem is tried, the first error is returned, and the next attempt made when
    /// that time has passed again.
    pub fn commit_aged(&self, now: Duration) -> Result<bool> {
        let (mut outcome, mut place) = (Ok(false), 0);
        while let Some((at, mount)) = self.mounts.next(place) {
            if mount.is_due(now, COMMIT_AGE) {
                outcome = outcome.and(mount.fs.commit().map(|()| true));
            }
            place = at + 1;
        }
        outcome
    }

    /// Whether a filesystem has changes that [`Vfs::commit_aged`] will bring to a disk some time.
    pub fn is_changed(&self) -> bool {
        let mounted = core::iter::successors(self.mounts.next(0), |(place, _)| self.mounts.next(place + 1));
        mounted.into_iter().any(|(_, mount)| mount.fs.is_changed())
    }

    /// Space used and free on the filesystem of `path`.
    pub fn stat_fs(&self, path: &[u8]) -> Result<StatFs> {
        self.find(path, AtEnd::Follow)?.node.fs().stat_fs()
    }

    // Files.

    /// Open the regular file at `path`.
    pub fn open(&self, path: &[u8]) -> Result<File> {
        open(self.find(path, AtEnd::Follow)?)
    }

    /// Open the regular file at `path`, making it with permissions `mode` where there is none.
    pub fn create(&self, path: &[u8], mode: u16, if_exists: IfExists) -> Result<File> {
        let at_end = if if_exists == IfExists::Refuse { AtEnd::Keep } else { AtEnd::Follow };
        match self.walk(path, at_end)? {
            Place::Found(_) if if_exists == IfExists::Refuse => Err(Error::Exists),
            Place::Found(found) => {
                let file = open(found)?;
                if if_exists == IfExists::Truncate {
                    file.truncate(0)?;
                }
                Ok(file)
            }
            Place::Missing(Missing { slash: true, .. }) => Err(Error::IsADirectory),
            Place::Missing(Missing { dir, name, .. }) => {
                let ino = dir.fs().create(dir.ino, &name, NewNode::Regular, mode)?;
                File::open(Node { ino, ..dir })
            }
        }
    }

    /// Make the file at `path` `size` bytes long.
    pub fn truncate(&self, path: &[u8], size: u64) -> Result<()> {
        self.open(path)?.truncate(size)
    }

    /// Make a hole of `len` bytes at `pos` in the file at `path`.
    pub fn punch(&self, path: &[u8], pos: u64, len: u64) -> Result<()> {
        self.open(path)?.punch(pos, len)
    }

    /// Reserve room for `len` bytes at `pos` of the file at `path`; grows it if it ends before.
    pub fn preallocate(&self, path: &[u8], pos: u64, len: u64) -> Result<()> {
        self.open(path)?.preallocate(pos, len)
    }

    // Attributes.

    /// Attributes of what `path` leads to.
    pub fn stat(&self, path: &[u8]) -> Result<Stat> {
        let Found { node, .. } = self.find(path, AtEnd::Follow)?;
        node.fs().stat(node.ino)
    }

    /// Attributes of what `path` names, were it a symbolic link.
    pub fn lstat(&self, path: &[u8]) -> Result<Stat> {
        let Found { node, .. } = self.find(path, AtEnd::Keep)?;
        node.fs().stat(node.ino)
    }

    /// Change attributes of what `path` leads to.
    pub fn set_attr(&self, path: &[u8], attr: &SetAttr) -> Result<()> {
        let Found { node, .. } = self.find(path, AtEnd::Follow)?;
        node.fs().set_attr(node.ino, attr)
    }

    /// Change attributes of what `path` names, were it a symbolic link.
    pub fn lset_attr(&self, path: &[u8], attr: &SetAttr) -> Result<()> {
        let Found { node, .. } = self.find(path, AtEnd::Keep)?;
        node.fs().set_attr(node.ino, attr)
    }

    // Names.

    /// The entries of the directory at `path`, without `.` and `..`, in the filesystem's order.
    pub fn read_dir(&self, path: &[u8]) -> Result<Vec<DirEntry>> {
        let Found { node, kind, .. } = self.find(path, AtEnd::Follow)?;
        if kind != FileType::Directory {
            return Err(Error::NotADirectory);
        }
        let (mut all, mut cursor) = node.fs().read_dir(node.ino, 0)?;
        while let Some(from) = cursor {
            let (more, next) = node.fs().read_dir(node.ino, from)?;
            all.try_reserve(more.len()).map_err(|_| Error::NoMemory)?;
            all.extend(more);
            cursor = next;
        }
        Ok(all)
    }

    /// The path that the symbolic link at `path` holds.
    pub fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        let Found { node, kind, .. } = self.find(path, AtEnd::Keep)?;
        if kind != FileType::Symlink {
            return Err(Error::NotASymlink);
        }
        node.fs().read_link(node.ino)
    }

    /// The path of what `path` leads to, without links, `.` and `..`.
    pub fn real_path(&self, path: &[u8]) -> Result<Vec<u8>> {
        Ok(self.find(path, AtEnd::Follow)?.real)
    }

    /// Make a directory with permissions `mode`.
    pub fn mkdir(&self, path: &[u8], mode: u16) -> Result<()> {
        let Missing { dir, name, .. } = self.free(path)?;
        dir.fs().create(dir.ino, &name, NewNode::Directory, mode).map(drop)
    }

    /// Make a symbolic link at `path` that holds `target`.
    pub fn symlink(&self, target: &[u8], path: &[u8]) -> Result<()> {
        path::check(target)?;
        match self.free(path)? {
            Missing { slash: true, .. } => Err(Error::NotFound),
            Missing { dir, name, .. } => dir.fs().create(dir.ino, &name, NewNode::Symlink(target), 0o777).map(drop),
        }
    }

    /// Give the file at `existing` (a symbolic link itself, not what it leads to) another name.
    pub fn link(&self, existing: &[u8], path: &[u8]) -> Result<()> {
        let Found { node, kind, .. } = self.find(existing, AtEnd::Keep)?;
        match self.free(path)? {
            _ if kind == FileType::Directory => Err(Error::IsADirectory),
            Missing { slash: true, .. } => Err(Error::NotFound),
            Missing { dir, .. } if !dir.same_mount(&node) => Err(Error::CrossDevice),
            Missing { dir, name, .. } => dir.fs().link(dir.ino, &name, node.ino),
        }
    }

    /// Remove a name that is not a directory's.
    pub fn unlink(&self, path: &[u8]) -> Result<()> {
        let last = path::last(path)?;
        let dir = self.directory(last.dir)?;
        if last.slash {
            let kind = Node { ino: dir.fs().lookup(dir.ino, last.name)?, ..dir }.kind()?;
            return Err(if kind == FileType::Directory { Error::IsADirectory } else { Error::NotADirectory });
        }
        dir.fs().unlink(dir.ino, last.name)
    }

    /// Remove an empty directory.
    pub fn rmdir(&self, path: &[u8]) -> Result<()> {
        let last = path::last(path)?;
        let dir = self.directory(last.dir)?;
        dir.fs().rmdir(dir.ino, last.name)
    }

    /// Move the name `from` to `to`, replacing what `to` named (rename(2)).
    pub fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let (old, new) = (path::last(from)?, path::last(to)?);
        let (old_dir, new_dir) = (self.directory(old.dir)?, self.directory(new.dir)?);
        if !old_dir.same_mount(&new_dir) {
            return Err(Error::CrossDevice);
        }
        if old.slash || new.slash {
            let ino = old_dir.fs().lookup(old_dir.ino, old.name)?;
            if old_dir.fs().stat(ino)?.kind != FileType::Directory {
                return Err(Error::NotADirectory);
            }
        }
        old_dir.fs().rename(old_dir.ino, old.name, new_dir.ino, new.name)
    }

    // Ways to a node.

    fn walk(&self, path: &[u8], at_end: AtEnd) -> Result<Place> {
        Walk::new(&self.root, &self.mounts).run(path, at_end)
    }

    fn find(&self, path: &[u8], at_end: AtEnd) -> Result<Found> {
        match self.walk(path, at_end)? {
            Place::Found(found) => Ok(found),
            Place::Missing(_) => Err(Error::NotFound),
        }
    }

    /// A place for a new name.
    fn free(&self, path: &[u8]) -> Result<Missing> {
        match self.walk(path, AtEnd::Keep)? {
            Place::Found(_) => Err(Error::Exists),
            Place::Missing(missing) => Ok(missing),
        }
    }

    fn directory(&self, path: &[u8]) -> Result<Node> {
        match self.find(path, AtEnd::Follow)? {
            Found { node, kind: FileType::Directory, .. } => Ok(node),
            _ => Err(Error::NotADirectory),
        }
    }

    /// The place of the mount point at `path`, which is looked for in the root directory itself, under whatever is
    /// mounted on it.
    fn point(&self, path: &[u8]) -> Result<usize> {
        let last = path::last(path)?;
        if path::first(last.dir).is_some() {
            return Err(Error::Unsupported("mount points other than those in the root directory"));
        }
        let ino = self.directory.lookup(self.root.root, last.name)?;
        RootDirectory::place(ino).ok_or(Error::NotFound)
    }
}

impl fmt::Debug for Vfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vfs").field("mounts", &self.mounts()).finish_non_exhaustive()
    }
}

fn open(found: Found) -> Result<File> {
    match found.kind {
        FileType::Regular => File::open(found.node),
        FileType::Directory => Err(Error::IsADirectory),
        FileType::Symlink | FileType::Special => Err(Error::NotAFile),
    }
}
