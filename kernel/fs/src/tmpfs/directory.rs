//! One directory: its names in the order in which they were made, and by name.
//!
//! The order of making is what [`read_dir`](crate::FileSystem::read_dir) goes by: a cursor is the number of the entry after which
//! to go on, so entries that come and go between two calls make it neither skip nor repeat any other.

use crate::error::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Bound::{Excluded, Unbounded};

/// The longest name.
const MAX_NAME: usize = 255;

/// What a name costs of the heap, apart from its bytes: two entries of trees and the count of references to the bytes.
const ENTRY_COST: u64 = 96;

/// A directory's entries.
pub(super) struct Directory {
    /// The directory that this one is in; the root is in itself.
    pub(super) parent: u64,
    names: BTreeMap<Arc<[u8]>, Entry>,
    order: BTreeMap<u64, Arc<[u8]>>,
    last: u64,
}

struct Entry {
    ino: u64,
    number: u64,
}

impl Directory {
    pub(super) fn new(parent: u64) -> Self {
        Self { parent, names: BTreeMap::new(), order: BTreeMap::new(), last: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<u64> {
        self.names.get(name).map(|entry| entry.ino)
    }

    /// Add a name, or let it lead elsewhere.
    pub(super) fn insert(&mut self, name: &[u8], ino: u64) {
        self.remove(name);
        let name: Arc<[u8]> = name.into();
        self.last += 1;
        self.order.insert(self.last, name.clone());
        self.names.insert(name, Entry { ino, number: self.last });
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<u64> {
        let entry = self.names.remove(name)?;
        self.order.remove(&entry.number);
        Some(entry.ino)
    }

    /// The entries after number `cursor`: number, name, inode.
    pub(super) fn after(&self, cursor: u64) -> impl Iterator<Item = (u64, &[u8], u64)> {
        let named = |(&number, name): (&u64, &'_ Arc<[u8]>)| self.names.get(name).map(|entry| (number, entry.ino));
        let order = self.order.range((Excluded(cursor), Unbounded));
        order.filter_map(move |(number, name)| named((number, name)).map(|(number, ino)| (number, &name[..], ino)))
    }
}

/// What a name costs of the heap.
pub(super) fn name_cost(name: &[u8]) -> u64 {
    ENTRY_COST + name.len() as u64
}

/// Whether `name` can be given to something.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > MAX_NAME {
        return Err(Error::NameTooLong);
    }
    let reserved = matches!(name, b"" | b"." | b"..");
    if reserved || name.iter().any(|&byte| byte == b'/' || byte == 0) { Err(Error::InvalidName) } else { Ok(()) }
}
