//! An open file.

use super::mounts::Node;
use crate::error::Result;
use crate::filesystem::{Ino, OpenFile, SetAttr, Stat};
use alloc::sync::Arc;
use cache::ReadAhead;
use core::fmt;

/// A regular file held open; dropping it closes it. While it lives its filesystem cannot be unmounted, and its content stays
/// even when its last name is removed.
pub struct File {
    // The order matters: the file is closed before the mount is let go.
    open: Arc<dyn OpenFile>,
    ahead: ReadAhead,
    node: Node,
}

impl File {
    pub(super) fn open(node: Node) -> Result<Self> {
        Ok(Self { open: node.fs().open(node.ino)?, ahead: ReadAhead::default(), node })
    }

    /// From now on nothing is read ahead.
    pub fn read_no_further(&mut self) {
        self.ahead = ReadAhead::off();
    }

    /// Read at `pos` into `out`; returns the number of bytes, short only at the end of the file.
    #[inline]
    pub fn read_at(&mut self, pos: u64, out: &mut [u8]) -> Result<usize> {
        self.open.read(pos, out, &mut self.ahead)
    }

    /// Write `data` at `pos`, growing the file where needed; returns how much was written, less than all only when an error
    /// stopped it half way.
    pub fn write_at(&mut self, pos: u64, data: &[u8]) -> Result<usize> {
        self.open.write(pos, data)
    }

    /// Bring content and attributes to the disk.
    pub fn fsync(&self) -> Result<()> {
        self.open.fsync()
    }

    /// The inode's number.
    pub fn ino(&self) -> Ino {
        self.node.ino
    }

    /// Attributes, as they are now.
    pub fn stat(&self) -> Result<Stat> {
        self.node.fs().stat(self.node.ino)
    }

    /// Make the file `size` bytes long: cut off, or grown by a hole.
    pub fn truncate(&self, size: u64) -> Result<()> {
        self.node.fs().truncate(self.node.ino, size)
    }

    /// Make a hole of `len` bytes at `pos`.
    pub fn punch(&self, pos: u64, len: u64) -> Result<()> {
        self.node.fs().punch(self.node.ino, pos, len)
    }

    /// Reserve room for `len` bytes at `pos`; grows the file if it ends before.
    pub fn preallocate(&self, pos: u64, len: u64) -> Result<()> {
        self.node.fs().preallocate(self.node.ino, pos, len)
    }

    /// Change attributes.
    pub fn set_attr(&self, attr: &SetAttr) -> Result<()> {
        self.node.fs().set_attr(self.node.ino, attr)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({} inode {})", self.node.fs().kind(), self.node.ino.0)
    }
}
