//! From a path to an inode: one name after the other, through symbolic links and across mounts.

use super::mounts::Node;
use super::path::{self, NAME_MAX};
use super::root::RootDirectory;
use super::{Mount, MountTable};
use crate::error::{Error, Result};
use crate::filesystem::{FileType, Ino};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Symbolic links that one walk may pass (Linux: `MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

/// What a walk does with a symbolic link at the end of the path. One that a slash follows is always followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// Goes on to where it leads.
    Follow,
    /// Has arrived: the link itself is meant.
    Keep,
}

/// Where a walk came to.
pub(super) enum Place {
    /// Something is there.
    Found(Found),
    /// All but the last name is there.
    Missing(Missing),
}

/// An inode that a path leads to.
pub(super) struct Found {
    pub(super) node: Node,
    pub(super) kind: FileType,
    /// The path without links, `.` and `..`.
    pub(super) real: Vec<u8>,
}

/// A name that is free.
pub(super) struct Missing {
    pub(super) dir: Node,
    pub(super) name: Vec<u8>,
    /// A slash follows: only a directory may be made here.
    pub(super) slash: bool,
}

/// A walk on its way.
pub(super) struct Walk<'a> {
    root: &'a Arc<Mount>,
    mounts: &'a MountTable,
    at: Node,
    kind: FileType,
    real: Vec<u8>,
    links: u32,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Arc<Mount>, mounts: &'a MountTable) -> Self {
        Self { root, mounts, at: Node::root_of(root), kind: FileType::Directory, real: Vec::new(), links: 0 }
    }

    /// Follow `path` from the root to its end.
    pub(super) fn run(mut self, path: &[u8], at_end: AtEnd) -> Result<Place> {
        path::check(path)?;
        let mut rest = path.to_vec();
        // Each turn takes a name off `rest`; only a link adds to it, and links are counted.
        while let Some((name, after)) = path::first(&rest) {
            if self.kind != FileType::Directory {
                return Err(Error::NotADirectory);
            }
            let (last, slash) = (path::first(after).is_none(), !after.is_empty());
            let child = match name {
                b"." => self.at.clone(),
                b".." => self.up()?,
                _ if name.len() > NAME_MAX => return Err(Error::NameTooLong),
                _ => match self.at.fs().lookup(self.at.ino, name) {
                    Ok(ino) => self.down(ino),
                    Err(Error::NotFound) if last => {
                        return Ok(Place::Missing(Missing { dir: self.at, name: name.to_vec(), slash }));
                    }
                    Err(error) => return Err(error),
                },
            };
            let kind = child.kind()?;
            if kind == FileType::Symlink && (!last || slash || at_end == AtEnd::Follow) {
                rest = self.link(&child, after)?;
                continue;
            }
            self.note(name);
            (self.at, self.kind) = (child, kind);
            if last && slash && kind != FileType::Directory {
                return Err(Error::NotADirectory);
            }
            rest = after.to_vec();
        }
        if self.real.is_empty() {
            self.real.push(b'/');
        }
        Ok(Place::Found(Found { node: self.at, kind: self.kind, real: self.real }))
    }

    /// The directory above this one. Above the root of a mount is the root of all, where every mount point lies.
    fn up(&self) -> Result<Node> {
        if self.at.ino == self.at.mount.root {
            return Ok(Node::root_of(self.root));
        }
        Ok(Node { mount: Arc::clone(&self.at.mount), ino: self.at.fs().parent(self.at.ino)? })
    }

    /// The inode `ino` of this filesystem, or the root of what is mounted on it.
    fn down(&self, ino: Ino) -> Node {
        let mounted = if Arc::ptr_eq(&self.at.mount, self.root) {
            RootDirectory::place(ino).and_then(|place| self.mounts.at(place))
        } else {
            None
        };
        match mounted {
            Some(mount) => Node::root_of(&mount),
            None => Node { mount: Arc::clone(&self.at.mount), ino },
        }
    }

    /// What is to be walked in place of the link `link` and what comes `after` it.
    fn link(&mut self, link: &Node, after: &[u8]) -> Result<Vec<u8>> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Error::Loop);
        }
        let mut rest = link.fs().read_link(link.ino)?;
        path::check(&rest)?;
        if rest.starts_with(b"/") {
            (self.at, self.kind) = (Node::root_of(self.root), FileType::Directory);
            self.real.clear();
        }
        rest.extend_from_slice(after);
        Ok(rest)
    }

    /// Keep `real` in step.
    fn note(&mut self, name: &[u8]) {
        match name {
            b"." => {}
            b".." => {
                let parent = self.real.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                self.real.truncate(parent);
            }
            _ => {
                self.real.push(b'/');
                self.real.extend_from_slice(name);
            }
        }
    }
}
