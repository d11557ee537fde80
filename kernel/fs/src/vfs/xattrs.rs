//! Extended attributes, by path.

use super::Vfs;
use super::walk::{AtEnd, Found};
use crate::error::Result;
use crate::filesystem::SetXattr;
use alloc::vec::Vec;

impl Vfs {
    /// The value of the extended attribute `name` of what is at `path`.
    pub fn xattr(&self, path: &[u8], at_end: AtEnd, name: &[u8]) -> Result<Vec<u8>> {
        let Found { node, .. } = self.find(path, at_end)?;
        node.fs().xattr(node.ino, name)
    }

    /// The names of the extended attributes of what is at `path`.
    pub fn xattr_names(&self, path: &[u8], at_end: AtEnd) -> Result<Vec<Vec<u8>>> {
        let Found { node, .. } = self.find(path, at_end)?;
        node.fs().xattr_names(node.ino)
    }

    /// Give what is at `path` the extended attribute `name`.
    pub fn set_xattr(&self, path: &[u8], at_end: AtEnd, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        let Found { node, .. } = self.find(path, at_end)?;
        node.fs().set_xattr(node.ino, name, value, how)
    }

    /// Take the extended attribute `name` from what is at `path`.
    pub fn remove_xattr(&self, path: &[u8], at_end: AtEnd, name: &[u8]) -> Result<()> {
        let Found { node, .. } = self.find(path, at_end)?;
        node.fs().remove_xattr(node.ino, name)
    }
}
