//! Directory blocks, changed: names added, removed, and led elsewhere.
//!
//! A record is added in what another one has to spare, or in a block of its own at the end; one that is removed leaves its bytes to
//! the one before. So other records stay where they are, and a place that was found stays good until its block is changed
//! there. The directory's inode is marked first, so that no name changes whose directory cannot be written.

use super::buffer::Phase;
use super::change::Change;
use super::directory::Records;
use super::geometry::InodeNumber;
use super::inode::Inode;
use super::layout::{FLAG_INDEX, RawEntry};
use super::map::{BlockMap, ReadDisk};
use super::{Ext2, zeroed};
use crate::error::{Error, Result};
use alloc::sync::Arc;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes that records are aligned to.
const ALIGN: usize = 4;
/// The fixed part of a record.
const FIXED: usize = size_of::<RawEntry>();

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: u32,
    pub(super) at: usize,
}

/// What a look through a directory for a name found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// The record with the name, and the inode that it leads to.
    pub(super) record: Option<(Place, InodeNumber)>,
    /// A record that has room for the name behind its own.
    pub(super) room: Option<Place>,
}

/// Bytes that a record with a name of `len` bytes takes.
fn needed(len: usize) -> usize {
    (FIXED + len).next_multiple_of(ALIGN)
}

/// One record of a block, whether it names something or not: where it lies, how long it is, and how much of that it needs.
#[derive(Clone, Copy)]
struct Span {
    at: usize,
    len: usize,
    used: usize,
}

/// The records of a block that a reader found to be sound.
fn spans(bytes: &[u8]) -> impl Iterator<Item = Span> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let (raw, _) = RawEntry::read_from_prefix(bytes.get(at..)?).ok()?;
        let len = usize::from(raw.record_len.get());
        let used = if raw.inode.get() == 0 { 0 } else { needed(raw.name_len.into()) };
        let span = Span { at, len, used };
        // A reader would have refused it.
        if len < FIXED || used > len || at + len > bytes.len() {
            return None;
        }
        at += len;
        Some(span)
    })
}

impl Ext2 {
    /// Look through `dir` for `name`, and for a place where it could be.
    pub(super) fn search(&self, dir: &Inode, name: &[u8]) -> Result<Found> {
        dir.directory()?;
        let (size, roots) = {
            let state = dir.lock();
            (state.size, state.blocks)
        };
        let mut map = BlockMap::new(&self.geometry, &roots, self);
        let mut bytes = zeroed(self.geometry.block_size())?;
        let mut found = Found::default();
        for index in 0..size / bytes.len() as u64 {
            let hole = Error::Corrupt { what: "a hole in a directory, inode", value: dir.number.get().into() };
            let block = map.find(index)?.ok_or(hole)?;
            self.read_disk(self.geometry.block_at(block), &mut bytes)?;
            for record in Records::new(&self.geometry, &bytes) {
                let record = record?;
                if record.name == name && found.record.is_none() {
                    found.record = Some((Place { block: block.number(), at: record.at }, record.ino));
                }
            }
            if found.room.is_none() {
                let fits = |span: &Span| span.len - span.used >= needed(name.len());
                found.room = spans(&bytes).find(fits).map(|span| Place { block: block.number(), at: span.at });
            }
            if found.record.is_some() {
                break;
            }
        }
        Ok(found)
    }
}

impl Change<'_> {
    /// The place that `found` has for a name; a new block where it has none.
    pub(super) fn room(&self, dir: &Arc<Inode>, found: &Found) -> Result<Place> {
        if let Some(place) = found.room {
            return Ok(place);
        }
        let block_size = self.fs.geometry.block_size();
        let size = dir.size();
        self.mark(dir)?;
        let mapped = self.block_for(dir, size / block_size as u64)?;
        self.fresh(mapped.block)?;
        let len = block_size as u16;
        let empty = RawEntry { inode: U32::new(0), record_len: U16::new(len), name_len: 0, file_type: 0 };
        self.edit(mapped.block, Phase::New, |bytes| empty.write_to_prefix(bytes).map_err(drop)).map(drop)?;
        dir.lock().size = size + block_size as u64;
        Ok(Place { block: mapped.block, at: 0 })
    }

    /// Add a record at a place that has room for it.
    pub(super) fn add(&self, dir: &Arc<Inode>, place: Place, name: &[u8], to: &Inode) -> Result<()> {
        self.mark(dir)?;
        let kind = self.type_of(to);
        self.edit(place.block, Phase::Names, |bytes| {
            let span =
                spans(bytes).find(|span| span.at == place.at).filter(|span| span.len - span.used >= needed(name.len()));
            let Some(span) = span else { return no_record(place) };
            if span.used > 0 {
                set_len(bytes, span.at, span.used);
            }
            put(bytes, span.at + span.used, span.len - span.used, name, to.number, kind);
            Ok(())
        })??;
        self.touch_names(dir);
        Ok(())
    }

    /// Let a record lead to another inode.
    pub(super) fn redirect(&self, dir: &Arc<Inode>, place: Place, to: &Inode) -> Result<()> {
        self.mark(dir)?;
        let kind = self.type_of(to);
        self.edit(place.block, Phase::Names, |bytes| {
            let Some(mut raw) = raw_at(bytes, place.at) else { return no_record(place) };
            (raw.inode, raw.file_type) = (U32::new(to.number.get()), kind);
            let _ = raw.write_to_prefix(bytes.get_mut(place.at..).unwrap_or_default());
            Ok(())
        })??;
        self.touch_names(dir);
        Ok(())
    }

    /// Remove a record; its bytes are the one's before it from then on.
    pub(super) fn remove(&self, dir: &Arc<Inode>, place: Place, phase: Phase) -> Result<()> {
        self.mark(dir)?;
        self.edit(place.block, phase, |bytes| {
            let before = spans(bytes).take_while(|span| span.at < place.at).last();
            let Some(mut raw) = raw_at(bytes, place.at) else { return no_record(place) };
            match before {
                Some(before) => set_len(bytes, before.at, before.len + usize::from(raw.record_len.get())),
                None => {
                    raw.inode = U32::new(0);
                    let _ = raw.write_to_prefix(bytes.get_mut(place.at..).unwrap_or_default());
                }
            }
            Ok(())
        })??;
        self.touch_names(dir);
        Ok(())
    }

    /// The first block of a new directory.
    pub(super) fn first_block(&self, dir: &Arc<Inode>, parent: &Inode) -> Result<()> {
        let block_size = self.fs.geometry.block_size();
        let mapped = self.block_for(dir, 0)?;
        self.fresh(mapped.block)?;
        let kind = self.type_of(dir);
        self.edit(mapped.block, Phase::New, |bytes| {
            put(bytes, 0, needed(1), b".", dir.number, kind);
            put(bytes, needed(1), block_size - needed(1), b"..", parent.number, kind);
        })?;
        dir.lock().size = block_size as u64;
        Ok(())
    }

    /// The names in `dir` changed, and an index of them, if there was one, is out of date.
    fn touch_names(&self, dir: &Inode) {
        let mut state = dir.lock();
        state.flags &= !FLAG_INDEX;
        state.touch(dir.storable(self.now()));
    }

    /// What a record says of the inode that it leads to.
    fn type_of(&self, inode: &Inode) -> u8 {
        match inode.format >> 12 {
            _ if !self.fs.geometry.file_types => 0,
            0x8 => 1,
            0x4 => 2,
            0x2 => 3,
            0x6 => 4,
            0x1 => 5,
            0xc => 6,
            0xa => 7,
            _ => 0,
        }
    }
}

fn no_record<T>(place: Place) -> Result<T> {
    Err(Error::Corrupt { what: "a directory record is not where it was, block", value: place.block.into() })
}

fn raw_at(bytes: &[u8], at: usize) -> Option<RawEntry> {
    RawEntry::read_from_prefix(bytes.get(at..)?).ok().map(|(raw, _)| raw)
}

fn set_len(bytes: &mut [u8], at: usize, len: usize) {
    if let Some(mut raw) = raw_at(bytes, at) {
        raw.record_len = U16::new(len as u16);
        let _ = raw.write_to_prefix(bytes.get_mut(at..).unwrap_or_default());
    }
}

/// Write a record. It fits.
fn put(bytes: &mut [u8], at: usize, len: usize, name: &[u8], ino: InodeNumber, kind: u8) {
    let (inode, record_len) = (U32::new(ino.get()), U16::new(len as u16));
    let raw = RawEntry { inode, record_len, name_len: name.len() as u8, file_type: kind };
    let _ = raw.write_to_prefix(bytes.get_mut(at..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(at + FIXED..at + FIXED + name.len()) {
        place.copy_from_slice(name);
    }
}
