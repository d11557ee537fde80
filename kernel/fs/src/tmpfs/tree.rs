//! The inodes of a tmpfs and the names that lead to them.
//!
//! Invariants: every inode here has a name, is held open, or is the root; `links` is the number of its names (for a directory 2
//! and one for each directory in it); every directory but the root has one name, in its parent. Nothing here waits: what an
//! operation leaves without a name is handed back to the caller, who drops it, and its frames, with the lock open again.

use super::content::Content;
use super::directory::{Directory, check_name, name_cost};
use super::node::{Attr, Node};
use super::space::Space;
use super::xattrs::Xattrs;
use crate::error::{Error, Result};
use crate::filesystem::{FileType, NewNode, Time};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::mem;

/// The number of the root directory.
pub(super) const ROOT: u64 = 1;

/// What an inode costs of the heap.
pub(super) const INODE_COST: u64 = 320;

/// The longest target of a symbolic link.
const MAX_TARGET: usize = 4095;

/// One inode.
pub(super) struct Inode {
    pub(super) node: Arc<Node>,
    pub(super) links: u32,
    /// Handles that hold it open.
    pub(super) opens: u32,
    pub(super) xattrs: Xattrs,
    pub(super) body: Body,
}

impl Inode {
    /// An inode with one name, of which for a directory its own `.` is another.
    pub(super) fn new(node: Arc<Node>, body: Body) -> Self {
        let links = if matches!(body, Body::Directory(_)) { 2 } else { 1 };
        Self { node, links, opens: 0, xattrs: Xattrs::default(), body }
    }

    /// What it costs of the heap, names not counted.
    pub(super) fn cost(&self) -> u64 {
        self.body.cost() + self.xattrs.cost()
    }
}

/// What an inode has that is not content.
pub(super) enum Body {
    Regular,
    Symlink(Box<[u8]>),
    Directory(Directory),
}

impl Body {
    /// What it costs of the heap.
    pub(super) fn cost(&self) -> u64 {
        match self {
            Self::Symlink(target) => INODE_COST + target.len() as u64,
            Self::Regular | Self::Directory(_) => INODE_COST,
        }
    }
}

/// All inodes, and the names among them.
pub(super) struct Tree {
    pub(super) space: Arc<Space>,
    /// Inodes by number. A map that grows node by node, since memory in one large piece may not be there.
    pub(super) inodes: BTreeMap<u64, Inode>,
    /// Numbers are given out once, so that a number never means another file than it did.
    pub(super) next_ino: u64,
    pub(super) root: u64,
    mounted: bool,
}

impl Tree {
    /// A root directory.
    pub(super) fn new(space: Arc<Space>, now: Time) -> Self {
        let attr = Attr::new(0o1777, now);
        let node = Arc::new(Node::new(ROOT, FileType::Directory, attr, Content::new(space.clone(), ROOT)));
        let root = Inode::new(node, Body::Directory(Directory::new(ROOT)));
        let mut inodes = BTreeMap::new();
        space.adopt_metadata(root.cost());
        inodes.insert(ROOT, root);
        Self { space, inodes, next_ino: ROOT + 1, root: ROOT, mounted: true }
    }

    /// A tree that was put together elsewhere and keeps the invariants.
    pub(super) fn restored(space: Arc<Space>, inodes: BTreeMap<u64, Inode>, root: u64, next_ino: u64) -> Self {
        Self { space, inodes, next_ino, root, mounted: true }
    }

    pub(super) fn inode(&self, ino: u64) -> Result<&Inode> {
        self.check_mounted()?;
        self.inodes.get(&ino).ok_or(Error::NotFound)
    }

    pub(super) fn inode_mut(&mut self, ino: u64) -> Result<&mut Inode> {
        self.check_mounted()?;
        self.inodes.get_mut(&ino).ok_or(Error::NotFound)
    }

    pub(super) fn check_mounted(&self) -> Result<()> {
        if self.mounted { Ok(()) } else { Err(Error::Unmounted) }
    }

    pub(super) fn directory(&self, ino: u64) -> Result<&Directory> {
        match &self.inode(ino)?.body {
            Body::Directory(directory) => Ok(directory),
            Body::Regular | Body::Symlink(_) => Err(Error::NotADirectory),
        }
    }

    fn directory_mut(&mut self, ino: u64) -> Result<&mut Directory> {
        match &mut self.inode_mut(ino)?.body {
            Body::Directory(directory) => Ok(directory),
            Body::Regular | Body::Symlink(_) => Err(Error::NotADirectory),
        }
    }

    pub(super) fn is_directory(&self, ino: u64) -> bool {
        self.directory(ino).is_ok()
    }

    /// The names in `dir` changed.
    fn touch(&self, dir: u64, now: Time) {
        if let Ok(inode) = self.inode(dir) {
            inode.node.lock().attr.touch(now);
        }
    }

    /// The inode `ino` changed, but not its content.
    pub(super) fn changed(&self, ino: u64, now: Time) {
        if let Ok(inode) = self.inode(ino) {
            inode.node.lock().attr.ctime = now;
        }
    }

    fn add_link(&mut self, ino: u64) -> Result<()> {
        let links = &mut self.inode_mut(ino)?.links;
        *links = links.checked_add(1).ok_or(Error::TooManyLinks)?;
        Ok(())
    }

    fn drop_link(&mut self, ino: u64) {
        if let Ok(inode) = self.inode_mut(ino) {
            inode.links = inode.links.saturating_sub(1);
        }
    }

    /// Take the inode out if nothing leads to it any more.
    pub(super) fn reap(&mut self, ino: u64) -> Option<Inode> {
        let inode = self.inodes.get(&ino)?;
        if inode.links > 0 || inode.opens > 0 {
            return None;
        }
        self.space.release_metadata(inode.cost());
        self.inodes.remove(&ino)
    }

    pub(super) fn create(&mut self, dir: u64, name: &[u8], new: NewNode<'_>, mode: u16, now: Time) -> Result<u64> {
        check_name(name)?;
        if self.directory(dir)?.get(name).is_some() {
            return Err(Error::Exists);
        }
        let (kind, body, mode) = match new {
            NewNode::Regular => (FileType::Regular, Body::Regular, mode),
            NewNode::Directory => (FileType::Directory, Body::Directory(Directory::new(dir)), mode),
            NewNode::Symlink(b"") => return Err(Error::InvalidName),
            NewNode::Symlink(target) if target.len() > MAX_TARGET => return Err(Error::NameTooLong),
            NewNode::Symlink(target) => (FileType::Symlink, Body::Symlink(target.into()), 0o777),
        };
        self.space.charge_metadata(body.cost() + name_cost(name))?;
        if kind == FileType::Directory
            && let Err(error) = self.add_link(dir)
        {
            self.space.release_metadata(body.cost() + name_cost(name));
            return Err(error);
        }
        let ino = self.next_ino;
        self.next_ino += 1;
        let node = Arc::new(Node::new(ino, kind, Attr::new(mode, now), Content::new(self.space.clone(), ino)));
        self.inodes.insert(ino, Inode::new(node, body));
        self.directory_mut(dir)?.insert(name, ino);
        self.touch(dir, now);
        Ok(ino)
    }

    pub(super) fn link(&mut self, dir: u64, name: &[u8], ino: u64, now: Time) -> Result<()> {
        check_name(name)?;
        if self.directory(dir)?.get(name).is_some() {
            return Err(Error::Exists);
        }
        match self.inode(ino)? {
            inode if matches!(inode.body, Body::Directory(_)) => return Err(Error::IsADirectory),
            // Its last name is gone, and it shall not come back.
            inode if inode.links == 0 => return Err(Error::NotFound),
            _ => self.space.charge_metadata(name_cost(name))?,
        }
        if let Err(error) = self.add_link(ino) {
            self.space.release_metadata(name_cost(name));
            return Err(error);
        }
        self.directory_mut(dir)?.insert(name, ino);
        self.touch(dir, now);
        self.changed(ino, now);
        Ok(())
    }

    pub(super) fn unlink(&mut self, dir: u64, name: &[u8], now: Time) -> Result<Option<Inode>> {
        let ino = self.directory(dir)?.get(name).ok_or(Error::NotFound)?;
        if self.is_directory(ino) {
            return Err(Error::IsADirectory);
        }
        self.remove_name(dir, name, now)?;
        Ok(self.lose_name(ino, now))
    }

    pub(super) fn rmdir(&mut self, dir: u64, name: &[u8], now: Time) -> Result<Option<Inode>> {
        let ino = self.directory(dir)?.get(name).ok_or(Error::NotFound)?;
        if !self.directory(ino)?.is_empty() {
            return Err(Error::NotEmpty);
        }
        self.remove_name(dir, name, now)?;
        self.drop_link(dir);
        Ok(self.lose_name(ino, now))
    }

    fn remove_name(&mut self, dir: u64, name: &[u8], now: Time) -> Result<()> {
        self.directory_mut(dir)?.remove(name);
        self.space.release_metadata(name_cost(name));
        self.touch(dir, now);
        Ok(())
    }

    /// A name of `ino`, or for an empty directory the only one, is gone.
    fn lose_name(&mut self, ino: u64, now: Time) -> Option<Inode> {
        self.changed(ino, now);
        match self.inodes.get_mut(&ino)? {
            Inode { body: Body::Directory(_), links, .. } => *links = 0,
            Inode { links, .. } => *links = links.saturating_sub(1),
        }
        self.reap(ino)
    }

    /// rename(2): `name` in `from` becomes `new` in `to`, and takes the place of what was there.
    pub(super) fn rename(&mut self, from: u64, name: &[u8], to: u64, new: &[u8], now: Time) -> Result<Option<Inode>> {
        check_name(name)?;
        check_name(new)?;
        let ino = self.directory(from)?.get(name).ok_or(Error::NotFound)?;
        let old = self.directory(to)?.get(new);
        let moves_directory = self.is_directory(ino);
        if moves_directory && self.is_within(to, ino) {
            return Err(Error::Loop);
        }
        match old {
            // Two names of one file: rename(2) leaves both.
            Some(old) if old == ino => return Ok(None),
            Some(old) => match (moves_directory, self.directory(old)) {
                (true, Err(_)) => return Err(Error::NotADirectory),
                (false, Ok(_)) => return Err(Error::IsADirectory),
                (true, Ok(directory)) if !directory.is_empty() => return Err(Error::NotEmpty),
                (true, Ok(_)) | (false, Err(_)) => {}
            },
            None => self.space.charge_metadata(name_cost(new))?,
        }
        // A directory that takes another one's place in `to` brings one link and ends one.
        let replaces_directory = moves_directory && old.is_some();
        if moves_directory
            && from != to
            && !replaces_directory
            && let Err(error) = self.add_link(to)
        {
            self.space.release_metadata(name_cost(new));
            return Err(error);
        }
        self.remove_name(from, name, now)?;
        self.directory_mut(to)?.insert(new, ino);
        self.touch(to, now);
        self.changed(ino, now);
        if moves_directory {
            self.directory_mut(ino)?.parent = to;
            if from != to || replaces_directory {
                self.drop_link(from);
            }
        }
        Ok(old.and_then(|old| self.lose_name(old, now)))
    }

    /// Whether the directory `dir` is `ancestor` or below it. There is one way up, and it ends at the root.
    fn is_within(&self, dir: u64, ancestor: u64) -> bool {
        let mut at = dir;
        loop {
            if at == ancestor {
                return true;
            }
            match self.directory(at) {
                Ok(directory) if directory.parent != at => at = directory.parent,
                _ => return false,
            }
        }
    }

    /// The filesystem is gone. The inodes are handed back, to be dropped with the lock open.
    pub(super) fn unmount(&mut self) -> Result<BTreeMap<u64, Inode>> {
        self.check_mounted()?;
        self.mounted = false;
        Ok(mem::take(&mut self.inodes))
    }
}
