//! Building a tmpfs from a handover. No page is read or claimed.
//!
//! The handover's checksums are proved by then, but what it says may still be nonsense. The tree is built from the root down, name by
//! name, so it comes out as a tree whatever was written: a name that cannot be true is left out, an inode that no name leads to
//! goes, with its frames, and a file with a bad extent stays under its name and answers
//! [`Error::Quarantined`](crate::Error::Quarantined). Each of these is named in a list; all else is as it was.

use super::casualty::{Casualty, Fault};
use super::content::Content;
use super::directory::{Directory, check_name, name_cost};
use super::node::{Attr, Node};
use super::space::Space;
use super::tree::{Body, Inode, Tree};
use super::xattrs::Xattrs;
use super::{Environment, Options, Tmpfs};
use crate::filesystem::{FileType, Time};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::{fmt, mem};
use handover::{Filesystem, Handover, HandoverError, Item, Kind, PhysRead};
use zerocopy::little_endian::U32;

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
    /// Where the content of what did not survive still is.
    pub rejected: Rejected,
}

/// Content that has no place in the filesystem. Dropping it frees its frames, and that should wait until this kernel is up: if it
/// never is, the one before finds them as it left them.
#[derive(Default)]
pub struct Rejected {
    contents: Vec<Content>,
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rejected({} inodes)", self.contents.len())
    }
}

/// Builds every filesystem of a handover, from its items as they come. It passes over items that are for others, so that one loop
/// can feed several.
pub struct Restorer {
    environment: Environment,
    restored: Vec<Restored>,
    loader: Option<Loader>,
}

impl Restorer {
    /// Nothing is restored so far. Frames are set aside in the environment's memory.
    pub fn new(environment: &Environment) -> Self {
        Self { environment: environment.clone(), restored: Vec::new(), loader: None }
    }

    /// The next item. No page is looked at, and a checksum only put where it is found again.
    pub fn take(&mut self, item: Item<'_>) {
        if let Item::Filesystem(filesystem) = item {
            let next = Loader::new(&filesystem, &self.environment);
            self.restored.extend(self.loader.replace(next).map(Loader::finish));
        } else if let Some(loader) = &mut self.loader {
            loader.take(item);
        }
    }

    /// That was all of them. (One that is dropped before, because reading ended in an error, frees the frames that it has been
    /// told of; others are still set aside: see [`Handover::abandon`].)
    pub fn finish(mut self) -> Vec<Restored> {
        self.restored.extend(self.loader.map(Loader::finish));
        self.restored
    }
}

impl fmt::Debug for Restorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restorer").field("restored", &self.restored).finish_non_exhaustive()
    }
}

impl Tmpfs {
    /// Every filesystem in `handover` and nothing else of it: a [`Restorer`] that is fed all items. The handover's frames are set aside in the
    /// environment's memory; it is read by way of `blob`, that memory as a rule. Its own frames are still to be
    /// [released](Handover::release).
    ///
    /// # Errors
    /// [`HandoverError`], when memory has changed since the handover was opened, or is full. The frames of what was restored up to
    /// then are free again, others are still set aside: see [`Handover::abandon`].
    pub fn restore(
        handover: &Handover,
        blob: &dyn PhysRead,
        environment: &Environment,
    ) -> Result<Vec<Restored>, HandoverError> {
        let mut items = handover.items(blob)?;
        let mut restorer = Restorer::new(environment);
        while let Some(item) = items.next()? {
            restorer.take(item);
        }
        Ok(restorer.finish())
    }
}

/// An inode as it was read, without a place in the tree.
struct Loose {
    kind: FileType,
    attr: Attr,
    content: Content,
    target: Box<[u8]>,
    entries: Vec<(Box<[u8]>, u64)>,
    xattrs: Xattrs,
    /// Checksums that came with it.
    sums: u64,
    fault: Option<Fault>,
}

impl Loose {
    /// More checksums than there are pages can only be of holes: they would be memory for nothing.
    fn adopt_sums(&mut self, first: u32, sums: &[U32]) {
        self.sums = self.sums.saturating_add(sums.len() as u64);
        if self.sums <= self.content.pages() {
            self.content.adopt_sums(first, sums);
        }
    }

    fn adopt_xattr(&mut self, name: &[u8], value: &[u8]) {
        if self.xattrs.adopt(name, value).is_err() {
            self.fault.get_or_insert(Fault::Attribute);
        }
    }
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
    rejected: Rejected,
}

impl Loader {
    fn new(filesystem: &Filesystem<'_>, environment: &Environment) -> Self {
        let options = Options { size: filesystem.size_limit, handover: true };
        Self {
            options,
            space: Arc::new(Space::new(environment.cache.clone(), &options)),
            environment: environment.clone(),
            label: filesystem.label.into(),
            root: filesystem.root,
            next_ino: filesystem.next_ino,
            loose: BTreeMap::new(),
            current: None,
            casualties: Vec::new(),
            rejected: Rejected::default(),
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
            (Item::Xattr { name, value }, Some((_, loose))) => loose.adopt_xattr(name, value),
            (Item::Sums { first, sums }, Some((_, loose))) => loose.adopt_sums(first, sums),
            (Item::Rejected(_, fault), Some((_, loose))) => {
                loose.content.quarantine(Fault::Extent(fault));
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
        let fault = inode.quarantined.then_some(Fault::Earlier);
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
            content: Content::restored(self.space.clone(), inode.ino, size, fault),
            target: Box::default(),
            entries: Vec::new(),
            xattrs: Xattrs::default(),
            sums: 0,
            fault,
        }
    }

    /// The inode that was being read is complete.
    fn settle(&mut self) {
        let Some((ino, mut loose)) = self.current.take() else { return };
        loose.content.arrived();
        if (1..MAX_INO).contains(&ino) && !self.loose.contains_key(&ino) {
            self.loose.insert(ino, loose);
        } else {
            self.rejected.contents.push(loose.content);
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
        let has_root = self.loose.get(&self.root).is_some_and(|root| root.kind == FileType::Directory);
        let tree = match if has_root { self.loose.remove(&self.root) } else { None } {
            Some(root) => {
                let inodes = self.place(root);
                Tree::restored(self.space.clone(), inodes, self.root, next_ino)
            }
            None => {
                self.lose(Vec::new(), self.root, Fault::NoRoot);
                Tree::new(self.space.clone(), (self.environment.clock)())
            }
        };
        for (ino, loose) in mem::take(&mut self.loose) {
            self.rejected.contents.push(loose.content);
            self.lose(Vec::new(), ino, Fault::Unreachable);
        }
        let tmpfs = Tmpfs::from_tree(tree, self.space, self.environment.clock, self.options);
        Restored { label: self.label, tmpfs, casualties: self.casualties, rejected: self.rejected }
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
        let body = match loose.kind {
            FileType::Directory => Body::Directory(Directory::new(parent)),
            FileType::Symlink => Body::Symlink(loose.target),
            FileType::Regular | FileType::Special => Body::Regular,
        };
        let node = Arc::new(Node::new(ino, loose.kind, loose.attr, loose.content));
        let inode = Inode { xattrs: loose.xattrs, ..Inode::new(node, body) };
        self.space.adopt_metadata(inode.cost());
        placed.insert(ino, inode);
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
