//! Extended attributes: names and values that an inode has beside its content.
//!
//! They live in the heap and are charged to the metadata account, so that they end in 'no space' and not in a full heap. A value
//! is copied before the tree is locked, since memory for a large one may not be there.

use super::tree::Tree;
use crate::error::{Error, Result};
use crate::filesystem::{SetXattr, Time};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;

/// The longest name.
const MAX_NAME: usize = 255;

/// The longest value.
const MAX_VALUE: usize = 64 << 10;

/// The most bytes of names that one inode has, each with a byte to end it: what listxattr(2) can return.
const MAX_LIST: usize = 64 << 10;

/// What an attribute costs of the heap, apart from its bytes: its entry in a tree.
const XATTR_COST: u64 = 64;

/// The attributes of one inode, by name.
#[derive(Default)]
pub(super) struct Xattrs {
    map: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Bytes of all names, as a list of them counts.
    list: usize,
}

impl Xattrs {
    /// What they cost of the heap.
    pub(super) fn cost(&self) -> u64 {
        self.iter().map(|(name, value)| cost(name, value)).sum()
    }

    /// Name and value, in the order of the names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.map.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.map.get(name).map(|value| &value[..])
    }

    /// Give `name` the value, unless the list of names becomes too long.
    fn set(&mut self, name: &[u8], value: Box<[u8]>) -> Result<()> {
        match self.map.entry(name.into()) {
            Entry::Occupied(mut entry) => {
                entry.insert(value);
            }
            Entry::Vacant(entry) => {
                self.list = Some(self.list + name.len() + 1).filter(|&list| list <= MAX_LIST).ok_or(Error::NoSpace)?;
                entry.insert(value);
            }
        }
        Ok(())
    }

    /// An attribute that came with a handover; one that cannot be, is there twice or finds no memory is not taken.
    pub(super) fn adopt(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        check(name, value)?;
        if self.map.contains_key(name) {
            return Err(Error::Exists);
        }
        self.set(name, copy(value)?)
    }
}

impl Tree {
    /// The value of an attribute.
    pub(super) fn xattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>> {
        let value = self.inode(ino)?.xattrs.get(name).ok_or(Error::NoSuchAttribute)?;
        copy(value).map(Vec::from)
    }

    /// The names of all attributes.
    pub(super) fn xattr_names(&self, ino: u64) -> Result<Vec<Vec<u8>>> {
        Ok(self.inode(ino)?.xattrs.iter().map(|(name, _)| name.to_vec()).collect())
    }

    pub(super) fn set_xattr(
        &mut self,
        ino: u64,
        name: &[u8],
        value: Box<[u8]>,
        how: SetXattr,
        now: Time,
    ) -> Result<()> {
        let old = self.inode(ino)?.xattrs.get(name).map(|old| cost(name, old));
        match (how, old) {
            (SetXattr::Create, Some(_)) => return Err(Error::Exists),
            (SetXattr::Replace, None) => return Err(Error::NoSuchAttribute),
            _ => {}
        }
        let new = cost(name, &value);
        self.space.charge_metadata(new)?;
        if let Err(error) = self.inode_mut(ino)?.xattrs.set(name, value) {
            self.space.release_metadata(new);
            return Err(error);
        }
        self.space.release_metadata(old.unwrap_or(0));
        self.changed(ino, now);
        Ok(())
    }

    pub(super) fn remove_xattr(&mut self, ino: u64, name: &[u8], now: Time) -> Result<()> {
        let xattrs = &mut self.inode_mut(ino)?.xattrs;
        let value = xattrs.map.remove(name).ok_or(Error::NoSuchAttribute)?;
        xattrs.list -= name.len() + 1;
        self.space.release_metadata(cost(name, &value));
        self.changed(ino, now);
        Ok(())
    }
}

fn cost(name: &[u8], value: &[u8]) -> u64 {
    XATTR_COST + name.len() as u64 + value.len() as u64
}

/// Whether an attribute can have this name and this value. Any prefix will do: there are no users here to keep apart.
pub(super) fn check(name: &[u8], value: &[u8]) -> Result<()> {
    match name {
        b"" => Err(Error::InvalidName),
        _ if name.len() > MAX_NAME => Err(Error::NameTooLong),
        _ if name.contains(&0) => Err(Error::InvalidName),
        _ if value.len() > MAX_VALUE => Err(Error::ValueTooLong { limit: MAX_VALUE }),
        _ => Ok(()),
    }
}

/// The same bytes, if there is memory for them.
pub(super) fn copy(bytes: &[u8]) -> Result<Box<[u8]>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Error::NoMemory)?;
    copy.extend_from_slice(bytes);
    Ok(copy.into_boxed_slice())
}
