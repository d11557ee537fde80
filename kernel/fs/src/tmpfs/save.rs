//! Writing a tmpfs into a handover. The work grows with inodes, names and extents; no page is read.
//!
//! The frames stay where they are and this kernel's: it jumps with the tree still in memory, so nothing drops them. Until then
//! everything goes on, and if the jump is called off nothing has to be undone.

use super::Tmpfs;
use super::content::Content;
use super::extent::Store;
use super::node::State;
use super::tree::{Body, Inode, Tree};
use crate::filesystem::{FileType, Time};
use core::iter::Sum;
use handover::{Extent, Filesystem, FilesystemWriter, Kind, WriteError, Writer};

/// What a tmpfs holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Inodes.
    pub inodes: u64,
    /// Extents of all files.
    pub extents: u64,
    /// Frames in them.
    pub frames: u64,
    /// Frames of those that came with a handover and that nobody has wanted yet.
    pub unclaimed: u64,
    /// Files whose content is known to be damaged.
    pub quarantined: u64,
    /// Windows of files that hold data.
    pub windows: u64,
    /// Windows that have a checksum.
    pub summed: u64,
}

impl Census {
    fn add(&mut self, content: &Content) {
        self.inodes += 1;
        self.quarantined += u64::from(content.quarantined().is_some());
        self.windows += content.windows();
        self.summed += content.sums().count();
        for (_, extent) in content.extents() {
            let pages = u64::from(extent.pages());
            self.extents += 1;
            self.frames += pages;
            if let Store::Unclaimed(_) = extent.store {
                self.unclaimed += pages;
            }
        }
    }
}

impl Sum for Census {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            inodes: a.inodes + b.inodes,
            extents: a.extents + b.extents,
            frames: a.frames + b.frames,
            unclaimed: a.unclaimed + b.unclaimed,
            quarantined: a.quarantined + b.quarantined,
            windows: a.windows + b.windows,
            summed: a.summed + b.summed,
        })
    }
}

impl Tmpfs {
    /// What is in it. A file that is open and has no name is not counted: it does not outlive the kernel.
    pub fn census(&self) -> Census {
        let tree = self.shared.tree.lock();
        let mut census = Census::default();
        for inode in tree.inodes.values().filter(|inode| inode.links > 0) {
            if let Some(content) = inode.node.lock().content() {
                census.add(content);
            }
        }
        census
    }

    /// Write everything that has a name to `writer`, as the filesystem `label`.
    ///
    /// # Errors
    /// [`WriteError`]; this filesystem is as it was. [`WriteError::NeedsVersion`] where it has something that an older version of the
    /// format has no place for, rather than that it is lost.
    pub fn save(&self, label: &[u8], writer: &mut Writer<'_>) -> Result<Census, WriteError> {
        let tree = self.shared.tree.lock();
        let size_limit = self.shared.options.size;
        let mut out = writer.filesystem(&Filesystem { label, root: tree.root, next_ino: tree.next_ino, size_limit })?;
        let mut census = Census::default();
        for (&ino, inode) in tree.inodes.iter().filter(|(_, inode)| inode.links > 0) {
            let state = inode.node.lock();
            let Some(content) = state.content() else { continue };
            census.add(content);
            out.inode(&header(ino, inode, &state, content))?;
            for (name, value) in inode.xattrs.iter() {
                out.xattr(name, value)?;
            }
            match &inode.body {
                Body::Regular => save_content(content, &mut out)?,
                Body::Symlink(target) => out.target(target)?,
                Body::Directory(_) => save_names(&tree, ino, &mut out)?,
            }
        }
        out.finish()?;
        Ok(census)
    }
}

fn header(ino: u64, inode: &Inode, state: &State, content: &Content) -> handover::Inode {
    let (kind, size) = match &inode.body {
        Body::Regular => (Kind::Regular, content.size()),
        Body::Symlink(target) => (Kind::Symlink, target.len() as u64),
        Body::Directory(_) => (Kind::Directory, 0),
    };
    debug_assert_eq!(kind == Kind::Directory, inode.node.kind == FileType::Directory);
    let attr = state.attr;
    handover::Inode {
        ino,
        kind,
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        links: inode.links,
        size,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        quarantined: content.quarantined().is_some(),
    }
}

fn time(time: Time) -> handover::Time {
    // The format has no room for a second of more than 10^9 nanoseconds, and utimensat(2) knows none.
    handover::Time { seconds: time.seconds, nanos: time.nanos.min(999_999_999) }
}

fn save_names(tree: &Tree, dir: u64, out: &mut FilesystemWriter<'_, '_>) -> Result<(), WriteError> {
    let Ok(directory) = tree.directory(dir) else { return Ok(()) };
    for (_, name, ino) in directory.after(0) {
        out.entry(ino, name)?;
    }
    Ok(())
}

fn save_content(content: &Content, out: &mut FilesystemWriter<'_, '_>) -> Result<(), WriteError> {
    for (index, extent) in content.extents() {
        out.extent(Extent {
            index,
            count: extent.pages(),
            start: extent.frames().start,
            preallocated: extent.preallocated,
        })?;
    }
    content.sums().runs(|first, sums| out.sums(first, sums))
}
