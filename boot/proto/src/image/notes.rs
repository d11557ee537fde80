//! The file's notes: where it is entered, its seal, and what it says of its kernel.

use super::about::{BUILD_MAX, BUILD_TYPE, VERSIONS_TYPE, VersionsNote};
use super::headers::Headers;
use super::seal::{SEAL_OWNER, SEAL_TYPE, SealNote};
use super::{ImageError, ParseError, only_image_error, reader};
use crate::pvh::{NOTE_OWNER, NOTE_PHYS32_ENTRY};
use elf::abi;
use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

/// The most bytes of notes that are looked at.
const NOTES_MAX: usize = 512;

/// What the file's notes say.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) entry: Option<u64>,
    /// The seal and where it stands in the file; likewise the others.
    pub(super) seal: Option<(u64, SealNote)>,
    pub(super) versions: Option<(u64, VersionsNote)>,
    pub(super) build: Option<(u64, [u8; BUILD_MAX])>,
}

impl Notes {
    pub(super) fn read<E>(
        headers: &Headers,
        read: &mut impl FnMut(u64, &mut [u8]) -> Result<(), ParseError<E>>,
    ) -> Result<Notes, ParseError<E>> {
        let mut found = Notes::default();
        for header in headers.iter().filter(|header| header.p_type == abi::PT_NOTE) {
            let mut buffer = [0; NOTES_MAX];
            let len = header.p_filesz.min(NOTES_MAX as u64) as usize;
            let notes = buffer.get_mut(..len).unwrap_or_default();
            read(header.p_offset, notes)?;
            found.take(header.p_offset, notes);
        }
        Ok(found)
    }

    /// Those of a file that is in memory as a whole.
    pub(super) fn of_slice(file: &[u8]) -> Result<Notes, ImageError> {
        let mut read = |offset: u64, out: &mut [u8]| reader(file)(offset, out).map_err(ParseError::Image);
        let headers = Headers::read(&mut read).map_err(only_image_error)?;
        Notes::read(&headers, &mut read).map_err(only_image_error)
    }

    /// Walks notes that stand at `offset` in the file: name length, content length, type, name, content, the last two
    /// padded to four bytes. Bytes that make no note end the walk.
    fn take(&mut self, mut offset: u64, mut notes: &[u8]) {
        while let Some((note, rest)) = split_note(notes) {
            let content_offset = offset.saturating_add(note.content_at as u64);
            if note.owner == NOTE_OWNER && u64::from(note.kind) == NOTE_PHYS32_ENTRY {
                self.entry = entry_address(note.content);
            }
            if note.owner == SEAL_OWNER {
                let content = (content_offset, note.content);
                match note.kind {
                    SEAL_TYPE => self.seal = prefix(content).or(self.seal),
                    VERSIONS_TYPE => self.versions = prefix(content).or(self.versions),
                    BUILD_TYPE => self.build = prefix(content).or(self.build),
                    _ => {}
                }
            }
            offset = offset.saturating_add((notes.len() - rest.len()) as u64);
            notes = rest;
        }
    }
}

/// What a note's content begins with, if it is long enough.
fn prefix<T: FromBytes>((offset, content): (u64, &[u8])) -> Option<(u64, T)> {
    T::read_from_prefix(content).ok().map(|(value, _)| (offset, value))
}

const NOTE_HEADER_LEN: usize = 12;

struct Note<'a> {
    owner: &'a [u8],
    kind: u32,
    /// Where the content stands in the note.
    content_at: usize,
    content: &'a [u8],
}

/// The first note, its owner without the NUL, and the bytes behind it.
fn split_note(bytes: &[u8]) -> Option<(Note<'_>, &[u8])> {
    let ([name_len, content_len, kind], rest) = <[U32; 3]>::read_from_prefix(bytes).ok()?;
    let (name_len, content_len) = (name_len.get() as usize, content_len.get() as usize);
    let (name, rest) = rest.split_at_checked(padded(name_len))?;
    let content = rest.get(..content_len)?;
    let rest = rest.get(padded(content_len)..).unwrap_or_default();
    let note = Note {
        owner: name.get(..name_len.checked_sub(1)?)?,
        kind: kind.get(),
        content_at: NOTE_HEADER_LEN + name.len(),
        content,
    };
    Some((note, rest))
}

fn padded(len: usize) -> usize {
    len.checked_next_multiple_of(4).unwrap_or(usize::MAX)
}

/// The entry address, which is written with four bytes or with eight.
fn entry_address(content: &[u8]) -> Option<u64> {
    match *content {
        [a, b, c, d] => Some(u32::from_le_bytes([a, b, c, d]).into()),
        [a, b, c, d, e, f, g, h] => Some(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    }
}
