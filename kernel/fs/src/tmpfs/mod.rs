//! tmpfs: a filesystem in memory, which outlives the kernel.
//!
//! Names and inodes are kept in the heap (`tree`), content in frames of the kind that may be preserved (`content`), as extents,
//! so that what a kexec has to write down grows with the number of extents and not of bytes (`save`). After one the tree is
//! built again, and the content stays where it is until somebody wants it (`restore`): then it is claimed and proved by the window of
//! 64 pages (`windows`), of which checksums were taken ahead (`take_sums`).
//!
//! May touch: frames, by way of the page cache, which makes room where there is none; the handover format. Locks: the tree's
//! (rank `Tmpfs`), then one file's at a time (`TmpfsFile`); both are closed again before anything here returns.

mod casualty;
mod claims;
mod content;
mod directory;
mod extent;
mod extents;
mod handle;
mod node;
mod options;
mod restore;
mod save;
mod space;
mod sums;
mod take_sums;
mod tree;
mod windows;
mod xattrs;

pub use casualty::{Casualty, Fault};
pub use claims::Claims;
pub use options::Options;
pub use restore::{Rejected, Restored, Restorer};
pub use save::Census;
pub use take_sums::Progress;

use crate::error::{Error, Result};
use crate::filesystem::{DirEntry, FileSystem, Ino, NewNode, OpenFile, SetAttr, SetXattr, Stat, StatFs, Time};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cache::PageCache;
use content::Content;
use core::fmt;
use core::sync::atomic::AtomicU64;
use directory::check_name;
use frames::{FRAME_SIZE, Lock, Rank};
use handle::Handle;
use node::{Attr, Node};
use space::Space;
use tree::{Body, INODE_COST, Tree};

/// Entries that one `read_dir` returns.
const ENTRIES_AT_ONCE: usize = 64;

/// What a tmpfs needs of its kernel.
#[derive(Clone)]
pub struct Environment {
    /// Where frames come from.
    pub cache: Arc<PageCache>,
    /// What the time is.
    pub clock: fn() -> Time,
}

/// A filesystem in memory.
pub struct Tmpfs {
    shared: Arc<Shared>,
}

/// What a filesystem and its open files share.
struct Shared {
    tree: Lock<Tree>,
    space: Arc<Space>,
    clock: fn() -> Time,
    options: Options,
    /// The inode after which checksums are taken next.
    sums_at: AtomicU64,
}

impl Tmpfs {
    /// An empty filesystem.
    pub fn new(environment: Environment, options: Options) -> Self {
        let Environment { cache, clock } = environment;
        let space = Arc::new(Space::new(cache, &options));
        let tree = Tree::new(space.clone(), clock());
        Self::from_tree(tree, space, clock, options)
    }

    fn from_tree(tree: Tree, space: Arc<Space>, clock: fn() -> Time, options: Options) -> Self {
        let (tree, sums_at) = (Lock::new(Rank::Tmpfs, tree), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { tree, space, clock, options, sums_at }) }
    }

    /// How it is mounted.
    pub fn options(&self) -> Options {
        self.shared.options
    }

    /// What became of what a handover brought, so far.
    pub fn claims(&self) -> Claims {
        self.shared.space.claims.get()
    }

    /// Give back the frames that were allocated ahead of growing files. Returns how many there were.
    pub fn trim(&self) -> u64 {
        self.shared.trim()
    }

    fn node(&self, ino: Ino) -> Result<Arc<Node>> {
        Ok(self.shared.tree.lock().inode(ino.0)?.node.clone())
    }

    fn now(&self) -> Time {
        (self.shared.clock)()
    }

    /// Change the content of a file.
    fn change(&self, ino: Ino, change: impl FnMut(&mut Content) -> Result<()>) -> Result<()> {
        let node = self.node(ino)?;
        node.check_regular()?;
        self.shared.change(&node, change)
    }
}

impl Shared {
    fn trim(&self) -> u64 {
        let tree = self.tree.lock();
        let trim = |node: &Node| node.lock().parts().map_or(0, |(content, _)| content.trim());
        tree.inodes.values().map(|inode| trim(&inode.node)).sum()
    }

    /// Change the content of a file, and its times if that went well. Where there is no space, what other files hold ahead is
    /// space.
    fn change<T>(&self, node: &Node, mut change: impl FnMut(&mut Content) -> Result<T>) -> Result<T> {
        let mut attempt = || {
            let mut state = node.lock();
            let (content, attr) = state.parts()?;
            let done = change(content)?;
            attr.touch((self.clock)());
            Ok(done)
        };
        match attempt() {
            Err(Error::NoSpace) if self.trim() > 0 => attempt(),
            result => result,
        }
    }
}

impl FileSystem for Tmpfs {
    fn kind(&self) -> &'static str {
        "tmpfs"
    }

    fn source(&self) -> &str {
        "tmpfs"
    }

    fn read_only(&self) -> bool {
        false
    }

    fn options(&self) -> String {
        self.shared.options.to_string()
    }

    fn root(&self) -> Ino {
        Ino(self.shared.tree.lock().root)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Ino> {
        let tree = self.shared.tree.lock();
        tree.directory(dir.0)?.get(name).map(Ino).ok_or(Error::NotFound)
    }

    fn parent(&self, dir: Ino) -> Result<Ino> {
        Ok(Ino(self.shared.tree.lock().directory(dir.0)?.parent))
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let tree = self.shared.tree.lock();
        let inode = tree.inode(ino.0)?;
        let state = inode.node.lock();
        let content = state.content().ok_or(Error::Unmounted)?;
        let size = match &inode.body {
            Body::Regular => content.size(),
            Body::Symlink(target) => target.len() as u64,
            Body::Directory(_) => 0,
        };
        let Attr { mode, uid, gid, atime, mtime, ctime } = state.attr;
        Ok(Stat {
            ino,
            kind: inode.node.kind,
            mode,
            links: inode.links,
            uid,
            gid,
            size,
            allocated: content.pages() * FRAME_SIZE as u64,
            atime,
            mtime,
            ctime,
        })
    }

    fn read_dir(&self, dir: Ino, cursor: u64) -> Result<(Vec<DirEntry>, Option<u64>)> {
        let tree = self.shared.tree.lock();
        let mut rest = tree.directory(dir.0)?.after(cursor);
        let mut entries = Vec::new();
        let mut last = cursor;
        for (number, name, ino) in rest.by_ref().take(ENTRIES_AT_ONCE) {
            let kind = tree.inode(ino)?.node.kind;
            entries.push(DirEntry { name: name.into(), ino: Ino(ino), kind });
            last = number;
        }
        let more = rest.next().is_some();
        Ok((entries, more.then_some(last)))
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        match &self.shared.tree.lock().inode(ino.0)?.body {
            Body::Symlink(target) => Ok(target.to_vec()),
            Body::Regular | Body::Directory(_) => Err(Error::NotASymlink),
        }
    }

    fn open(&self, ino: Ino) -> Result<Arc<dyn OpenFile>> {
        let mut tree = self.shared.tree.lock();
        let inode = tree.inode_mut(ino.0)?;
        inode.node.check_regular()?;
        inode.opens = inode.opens.checked_add(1).ok_or(Error::Busy)?;
        Ok(Arc::new(Handle { shared: self.shared.clone(), node: inode.node.clone() }))
    }

    fn truncate(&self, ino: Ino, size: u64) -> Result<()> {
        self.change(ino, |content| content.truncate(size))
    }

    fn punch(&self, ino: Ino, pos: u64, len: u64) -> Result<()> {
        self.change(ino, |content| content.punch(pos, len))
    }

    fn preallocate(&self, ino: Ino, pos: u64, len: u64) -> Result<()> {
        self.change(ino, |content| content.preallocate(pos, len))
    }

    fn create(&self, dir: Ino, name: &[u8], node: NewNode<'_>, mode: u16) -> Result<Ino> {
        self.shared.tree.lock().create(dir.0, name, node, mode, self.now()).map(Ino)
    }

    fn link(&self, dir: Ino, name: &[u8], ino: Ino) -> Result<()> {
        self.shared.tree.lock().link(dir.0, name, ino.0, self.now())
    }

    fn unlink(&self, dir: Ino, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let unlinked = self.shared.tree.lock().unlink(dir.0, name, self.now());
        unlinked.map(drop)
    }

    fn rmdir(&self, dir: Ino, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let removed = self.shared.tree.lock().rmdir(dir.0, name, self.now());
        removed.map(drop)
    }

    fn rename(&self, from: Ino, name: &[u8], to: Ino, new: &[u8]) -> Result<()> {
        let replaced = self.shared.tree.lock().rename(from.0, name, to.0, new, self.now());
        replaced.map(drop)
    }

    fn set_attr(&self, ino: Ino, attr: &SetAttr) -> Result<()> {
        let node = self.node(ino)?;
        node.lock().attr.set(attr, self.now());
        Ok(())
    }

    fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        self.shared.tree.lock().xattr(ino.0, name)
    }

    fn xattr_names(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        self.shared.tree.lock().xattr_names(ino.0)
    }

    fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        xattrs::check(name, value)?;
        let value = xattrs::copy(value)?;
        self.shared.tree.lock().set_xattr(ino.0, name, value, how, self.now())
    }

    fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.shared.tree.lock().remove_xattr(ino.0, name, self.now())
    }

    fn stat_fs(&self) -> Result<StatFs> {
        self.shared.tree.lock().check_mounted()?;
        let (blocks, free_blocks) = self.shared.space.frames();
        let (metadata, free_metadata) = self.shared.space.metadata();
        let (inodes, free_inodes) = (metadata / INODE_COST, free_metadata / INODE_COST);
        Ok(StatFs { block_size: FRAME_SIZE as u64, blocks, free_blocks, inodes, free_inodes })
    }

    fn unmount(&self) -> Result<()> {
        let inodes = self.shared.tree.lock().unmount()?;
        for inode in inodes.into_values() {
            // Not dropped while the file is locked: that frees frames.
            let content = inode.node.lock().take_content();
            drop(content);
        }
        Ok(())
    }
}

impl fmt::Debug for Tmpfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tmpfs").field("options", &self.shared.options).finish_non_exhaustive()
    }
}
