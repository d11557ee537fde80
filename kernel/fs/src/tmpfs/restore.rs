//! Building a tmpfs from a handover. No page is read or claimed.
//!
//! The handover's checksums are proved by then, but what it says may still be nonsense. The tree is built from the root down, name by
//! name, so it comes out as a tree whatever was written: a name that cannot be true is left out, an inode that no name leads to
//! goes, with its frames, and a file with a bad extent stays under its name and answers
//! [`Error::Quarantined`](crate::Error::Quarantined). Each of these is named in a list; all else is as it was.

use super::content::Content;
use super::directory::{Directory, check_name, name_cost};
use super::node::{Attr, Node};
use super::space::Space;
use super::tree::{Body, Inode, Tree};
use super::{Environment, Options, Tmpfs};
use crate::filesystem::{FileType, Time};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use handover::{ExtentFault, Filesystem, Handover, HandoverError, Item, Kind, PhysRead};

/// Inode numbers end here, so that there is always a next one.
const MAX_INO: u64 = 1 << 62;

/// A filesystem that crossed a kexec.
#[derive(Debug)]
pub struct Restored {
    /// Where it was mounted.
    pub label: Vec<u8>,
    /// The filesystem.
    pub tmpfs: Tmpfs,
    /// What of it did not survive.
    pub casualties: Vec<Casualty>,
}

/// Something that did not survive the handover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Casualty {
    /// Its path from the root of the filesystem; empty where no name leads to it.
    pub path: Vec<u8>,
    /// The inode that it is about.
    pub ino: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a [`Casualty`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file is quarantined: content of it cannot be where the handover says.
    Extent(ExtentFault),
    /// The file was quarantined before.
    Earlier,
    /// The name leads to an inode that is not there; it was left out.
    Dangling,
    /// The name cannot be one, or is there twice; it was left out.
    Name,
    /// The name would give a directory a second parent; it was left out.
    SecondParent,
    /// No name leads to the inode; it was left out.
    Unreachable,
    /// The inode's number is there twice or out of range; it was left out.
    Number,
    /// There is no root directory; the filesystem is empty.
    NoRoot,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Extent(fault) => return write!(f, "quarantined: {fault}"),
            Self::Earlier => "quarantined by an earlier kernel",
            Self::Dangling => "left out: the inode is not there",
            Self::Name => "left out: not a name, or there twice",
            Self::SecondParent => "left out: the directory has another name",
            Self::Unreachable => "left out: no name leads to it",
            Self::Number => "left out: the inode's number is taken or out of range",
            Self::NoRoot => "there is no root directory",
        })
    }
}

impl fmt::Display for Casualty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path[..] {
            b"" => write!(f, "inode {}: {}", self.ino, self.fault),
            path => write!(f, "{} (inode {}): {}", path.escape_ascii(), self.ino, self.fault),
        }
    }
}

impl Tmpfs {
    /// Every filesystem in `handover`, whose frames are set aside in the environment's memory, and which is read by way of `blob`
    /// (that memory, as a rule). The handover's own frames are still to be [released](Handover::release).
    ///
    /// # Errors
    /// [`HandoverError`], when memory has changed since the handover was opened, or is full. The frames of what was restored up to
    /// then are free again, others are still set aside: see [`Handover::abandon`].
    pub fn restore(
        handover: &Handover,
        blob: &dyn PhysRead,
        environment: &Environment,
    ) -> Result<Vec<Restored>, HandoverError> {
        Self::restore_beside(handover, blob, environment, |_| ())
    }

    /// As [`Tmpfs::restore`], and lets `others` see every item of the handover, which is read once.
    ///
    /// # Errors
    /// Those of [`Tmpfs::restore`].
    pub fn restore_beside(
        handover: &Handover,
        blob: &dyn PhysRead,
        environment: &Environment,
        mut others: impl FnMut(&Item<'_>),
    ) -> Result<Vec<Restored>, HandoverError> {
        let mut items = handover.items(blob)?;
        let mut restored = Vec::new();
        let mut loader: Option<Loader> = None;
        while let Some(item) = items.next()? {
            others(&item);
            if let Item::Filesystem(filesystem) = item {
                restored.extend(loader.replace(Loader::new(&filesystem, environment)).map(Loader::finish));
            } else if let Some(loader) = &mut loader {
                loader.take(item);
            }
        }
        restored.extend(loader.map(Loader::finish));
        Ok(restored)
    }
}

/// An inode as it was read, without a place in the tree.
struct Loose {
    kind: FileType,
    attr: Attr,
    content: Content,
    target: Box<[u8]>,
    entries: Vec<(Box<[u8]>, u64)>,
    fault: Option<Fault>,
}

/// One filesystem while it is read.
struct Loader {
    environment: Environment,
    options: Options,
    space: Arc<Space>,
    label: Vec<u8>,
    root: u64,
    next_ino: u64,
    loose: BTreeMap<u64, Loose>,
    /// The inode whose content comes next.
    current: Option<(u64, Loose)>,
    casualties: Vec<Casualty>,
}

impl Loader {
    fn new(filesystem: &Filesystem<'_>, environment: &Environment) -> Self {
        let options = Options { size: filesystem.size_limit };
        Self {
            options,
            space: Arc::new(Space::new(environment.cache.clone(), options.size)),
            environment: environment.clone(),
            label: filesystem.label.into(),
            root: filesystem.root,
            next_ino: filesystem.next_ino,
            loose: BTreeMap::new(),
            current: None,
            casualties: Vec::new(),
        }
    }

    fn take(&mut self, item: Item<'_>) {
        match (item, &mut self.current) {
            (Item::Inode(inode), _) => {
                self.settle();
                self.current = Some((inode.ino, self.begin(&inode)));
            }
            (Item::Entry { ino, name }, Some((_, loose))) => loose.entries.push((name.into(), ino)),
            (Item::Target(target), Some((_, loose))) => loose.target = target.into(),
            (Item::Extent(extent), Some((_, loose))) => {
                loose.content.adopt(extent.index, extent.frames(), extent.preallocated);
            }
            (Item::Rejected(_, fault), Some((_, loose))) => {
                loose.content.quarantine();
                loose.fault = Some(Fault::Extent(fault));
            }
            // Content without an inode does not come out of a handover; what else does is not for a tmpfs.
            _ => {}
        }
    }

    fn begin(&self, inode: &handover::Inode) -> Loose {
        let time = |time: handover::Time| Time { seconds: time.seconds, nanos: time.nanos };
        let kind = match inode.kind {
            Kind::Regular => FileType::Regular,
            Kind::Directory => FileType::Directory,
            Kind::Symlink => FileType::Symlink,
        };
        let size = if kind == FileType::Regular { inode.size } else { 0 };
        Loose {
            kind,
            attr: Attr {
                mode: inode.mode,
                uid: inode.uid,
                gid: inode.gid,
                atime: time(inode.atime),
                mtime: time(inode.mtime),
                ctime: time(inode.ctime),
            },
            content: Content::restored(self.space.clone(), size, inode.quarantined),
            target: Box::default(),
            entries: Vec::new(),
            fault: inode.quarantined.then_some(Fault::Earlier),
        }
    }

    /// The inode that was being read is complete.
    fn settle(&mut self) {
        let Some((ino, loose)) = self.current.take() else { return };
        if (1..MAX_INO).contains(&ino) && !self.loose.contains_key(&ino) {
            self.loose.insert(ino, loose);
        } else {
            self.lose(Vec::new(), ino, Fault::Number);
        }
    }

    fn lose(&mut self, path: Vec<u8>, ino: u64, fault: Fault) {
        self.casualties.push(Casualty { path, ino, fault });
    }

    /// Build the tree from the root down.
    fn finish(mut self) -> Restored {
        self.settle();
        let highest = self.loose.keys().copied().max().unwrap_or(0);
        let next_ino = Some(self.next_ino).filter(|next| (highest + 1..MAX_INO).contains(next)).unwrap_or(highest + 1);
        let root = self.loose.remove(&self.root).filter(|root| root.kind == FileType::Directory);
        let tree = match root {
            Some(root) => {
                let inodes = self.place(root);
                Tree::restored(self.space.clone(), inodes, self.root, next_ino)
            }
            None => {
                self.lose(Vec::new(), self.root, Fault::NoRoot);
                Tree::new(self.space.clone(), (self.environment.clock)())
            }
        };
        let mut unreachable: Vec<u64> = self.loose.keys().copied().collect();
        unreachable.sort_unstable();
        for ino in unreachable {
            self.lose(Vec::new(), ino, Fault::Unreachable);
        }
        let tmpfs = Tmpfs::from_tree(tree, self.space, self.environment.clock, self.options);
        Restored { label: self.label, tmpfs, casualties: self.casualties }
    }

    /// Give every inode that a name leads to its place. Each directory is looked at once, when its first name is found.
    fn place(&mut self, root: Loose) -> BTreeMap<u64, Inode> {
        let mut placed = BTreeMap::new();
        let root_ino = self.root;
        let mut waiting = Vec::from([(root_ino, Vec::new(), self.put(&mut placed, root_ino, root_ino, root))]);
        while let Some((dir, path, entries)) = waiting.pop() {
            for (name, ino) in entries {
                let full = || [&path[..], b"/", &name].concat();
                let known =
                    matches!(placed.get(&dir), Some(Inode { body: Body::Directory(d), .. }) if d.get(&name).is_some());
                if known || check_name(&name).is_err() {
                    self.lose(full(), ino, Fault::Name);
                    continue;
                }
                if let Some(loose) = self.loose.remove(&ino) {
                    if let Some(fault) = loose.fault {
                        self.lose(full(), ino, fault);
                    }
                    let is_directory = loose.kind == FileType::Directory;
                    let below = self.put(&mut placed, dir, ino, loose);
                    if is_directory {
                        waiting.push((ino, full(), below));
                    }
                } else {
                    let fault = match placed.get_mut(&ino) {
                        Some(Inode { body: Body::Directory(_), .. }) => Some(Fault::SecondParent),
                        Some(Inode { links, .. }) => links.checked_add(1).map_or(Some(Fault::Name), |more| {
                            *links = more;
                            None
                        }),
                        None => Some(Fault::Dangling),
                    };
                    if let Some(fault) = fault {
                        self.lose(full(), ino, fault);
                        continue;
                    }
                }
                self.name(&mut placed, dir, &name, ino);
            }
        }
        placed
    }

    /// Make an inode of what was read, with no name yet. Returns the entries of a directory, which are still to be looked at.
    fn put(&self, placed: &mut BTreeMap<u64, Inode>, parent: u64, ino: u64, loose: Loose) -> Vec<(Box<[u8]>, u64)> {
        let (body, links) = match loose.kind {
            FileType::Directory => (Body::Directory(Directory::new(parent)), 2),
            FileType::Symlink => (Body::Symlink(loose.target), 1),
            FileType::Regular | FileType::Special => (Body::Regular, 1),
        };
        self.space.adopt_metadata(body.cost());
        let node = Arc::new(Node::new(ino, loose.kind, loose.attr, loose.content));
        placed.insert(ino, Inode { node, links, opens: 0, body });
        loose.entries
    }

    fn name(&self, placed: &mut BTreeMap<u64, Inode>, dir: u64, name: &[u8], ino: u64) {
        let below = matches!(placed.get(&ino), Some(Inode { body: Body::Directory(_), .. }));
        if let Some(Inode { body: Body::Directory(directory), links, .. }) = placed.get_mut(&dir) {
            directory.insert(name, ino);
            *links = links.saturating_add(u32::from(below));
            self.space.adopt_metadata(name_cost(name));
        }
    }
}
