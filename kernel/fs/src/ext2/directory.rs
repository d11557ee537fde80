//! Directories: a list of records in each block, none of which crosses into the next. Indexed directories hold the same
//! records: their index hides in records without an inode, which a linear reader passes over.

use super::geometry::{Geometry, InodeNumber};
use super::layout::RawEntry;
use crate::error::{Error, Result};
use crate::filesystem::FileType;
use zerocopy::FromBytes;

/// Bytes that records are aligned to.
const ALIGN: usize = 4;

/// A record that names something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) name: &'a [u8],
    pub(super) ino: InodeNumber,
    /// What that is, if the record says so.
    pub(super) kind: Option<FileType>,
    /// Where in its block it lies.
    pub(super) at: usize,
}

/// The records of one block, `.` and `..` included. After an error it ends.
pub(super) struct Records<'a> {
    geometry: &'a Geometry,
    rest: &'a [u8],
    /// Bytes of the block.
    len: usize,
}

impl<'a> Records<'a> {
    pub(super) fn new(geometry: &'a Geometry, block: &'a [u8]) -> Self {
        Self { geometry, rest: block, len: block.len() }
    }

    /// Take one record off the block; `None` in place of the record when it names nothing.
    fn take(&mut self) -> Result<Option<Record<'a>>> {
        let corrupt = |what, value| Err(Error::Corrupt { what, value });
        let Ok((entry, _)) = RawEntry::read_from_prefix(self.rest) else {
            return corrupt("the end of a directory block", self.rest.len() as u64);
        };
        let (len, name_len) = (usize::from(entry.record_len.get()), usize::from(entry.name_len));
        let names = entry.inode.get() != 0;
        let needed = size_of::<RawEntry>() + if names { name_len } else { 0 };
        if len < needed || !len.is_multiple_of(ALIGN) {
            return corrupt("the length of a directory record", len as u64);
        }
        let Some((record, rest)) = self.rest.split_at_checked(len) else {
            return corrupt("a directory record that reaches past its block", len as u64);
        };
        let at = self.len - self.rest.len();
        self.rest = rest;
        if !names {
            return Ok(None);
        }
        let name = record.get(size_of::<RawEntry>()..needed).unwrap_or_default();
        if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return corrupt("a name in a directory, of the inode", entry.inode.get().into());
        }
        let ino = self.geometry.inode(entry.inode.get().into())?;
        let kind = if self.geometry.file_types { file_type(entry.file_type) } else { None };
        Ok(Some(Record { name, ino, kind, at }))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        // Each turn takes at least a record's fixed part off the block.
        while !self.rest.is_empty() {
            match self.take() {
                Ok(None) => {}
                Ok(Some(record)) => return Some(Ok(record)),
                Err(error) => {
                    self.rest = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// `file_type` of a record; `None` where it does not say.
fn file_type(byte: u8) -> Option<FileType> {
    match byte {
        1 => Some(FileType::Regular),
        2 => Some(FileType::Directory),
        3..=6 => Some(FileType::Special),
        7 => Some(FileType::Symlink),
        _ => None,
    }
}
