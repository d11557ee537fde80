//! What there is to one inode apart from its names: attributes and content, behind a lock of its own.

use super::content::Content;
use crate::error::{Error, Result};
use crate::filesystem::{FileType, SetAttr, Time};
use frames::lock::LockGuard;
use frames::{Lock, Rank};

/// An inode. Its names and links are the tree's.
pub(super) struct Node {
    pub(super) ino: u64,
    pub(super) kind: FileType,
    state: Lock<State>,
}

/// What changes without the tree.
pub(super) struct State {
    pub(super) attr: Attr,
    /// The content of a regular file, empty for all others; `None` once the filesystem is gone.
    content: Option<Content>,
}

/// Attributes that stat(2) tells and chmod(2), chown(2) and utimensat(2) change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attr {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) atime: Time,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
}

impl Attr {
    /// Those of an inode that is made now.
    pub(super) fn new(mode: u16, now: Time) -> Self {
        Self { mode: mode & 0o7777, uid: 0, gid: 0, atime: now, mtime: now, ctime: now }
    }

    /// Make the changes that `attr` asks for.
    pub(super) fn set(&mut self, attr: &SetAttr, now: Time) {
        self.mode = attr.mode.map_or(self.mode, |mode| mode & 0o7777);
        self.uid = attr.uid.unwrap_or(self.uid);
        self.gid = attr.gid.unwrap_or(self.gid);
        self.atime = attr.atime.unwrap_or(self.atime);
        self.mtime = attr.mtime.unwrap_or(self.mtime);
        self.ctime = now;
    }

    /// The content was changed.
    pub(super) fn touch(&mut self, now: Time) {
        self.mtime = now;
        self.ctime = now;
    }

    /// The content was read. Only the first time after a change counts, as with Linux's `relatime`.
    pub(super) fn accessed(&mut self, clock: fn() -> Time) {
        if self.atime <= self.mtime {
            self.atime = clock();
        }
    }
}

impl Node {
    pub(super) fn new(ino: u64, kind: FileType, attr: Attr, content: Content) -> Self {
        Self { ino, kind, state: Lock::new(Rank::TmpfsFile, State { attr, content: Some(content) }) }
    }

    pub(super) fn lock(&self) -> LockGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn try_lock(&self) -> Option<LockGuard<'_, State>> {
        self.state.try_lock()
    }

    /// Whether a regular file's content can be had here.
    pub(super) fn check_regular(&self) -> Result<()> {
        match self.kind {
            FileType::Regular => Ok(()),
            FileType::Directory => Err(Error::IsADirectory),
            FileType::Symlink | FileType::Special => Err(Error::NotAFile),
        }
    }
}

impl State {
    /// The content, and the attributes that change with it.
    pub(super) fn parts(&mut self) -> Result<(&mut Content, &mut Attr)> {
        Ok((self.content.as_mut().ok_or(Error::Unmounted)?, &mut self.attr))
    }

    pub(super) fn content(&self) -> Option<&Content> {
        self.content.as_ref()
    }

    /// The filesystem is gone; whoever holds the file open finds nothing.
    pub(super) fn take_content(&mut self) -> Option<Content> {
        self.content.take()
    }
}
