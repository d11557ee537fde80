//! The seal: a checksum over everything that is loaded, in a note of the file itself.

use super::headers::Headers;
use super::notes::Notes;
use super::{ImageError, parse_slice};
use crc::{CRC_32_ISCSI, Crc, Digest, Table};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Owner of the seal's note.
pub const SEAL_OWNER: &[u8] = b"Holdover";
/// Type of the seal's note.
pub const SEAL_TYPE: u32 = 1;
/// [`SealNote::state`] of a file that was sealed.
const SEALED: u32 = u32::from_le_bytes(*b"SEAL");

pub(super) type SealDigest = Digest<'static, u32, Table<16>>;

pub(super) static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// The content of the seal's note. A linked file has zeros here.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SealNote {
    /// CRC-32C of file header, program headers and loaded bytes in file order, with this field as zero.
    checksum: U32,
    /// 0, or [`SEALED`].
    state: U32,
}

/// A seal that was found whole.
#[derive(Clone)]
pub(super) struct Seal {
    checksum: u32,
    /// Where the checksum stands in the file.
    offset: u64,
    /// The checksum under way: the headers are in it.
    digest: SealDigest,
}

impl Seal {
    /// The seal that `notes` have, or `None` if it is blank.
    pub(super) fn find(notes: &Notes, headers: &Headers) -> Result<Option<Seal>, ImageError> {
        let (offset, note) = notes.seal.ok_or(ImageError::NoSeal)?;
        match (note.state.get(), note.checksum.get()) {
            (0, 0) => Ok(None),
            (SEALED, checksum) => Ok(Some(Seal { checksum, offset, digest: headers.digest() })),
            _ => Err(ImageError::BadSeal),
        }
    }

    /// Starts to compare loaded bytes with the seal.
    pub(super) fn check(seal: Option<Seal>) -> SealCheck {
        SealCheck { seal }
    }
}

/// Compares loaded bytes with the seal as they are read.
///
/// It wants the file part of every segment, in the order of [`BootImage::segments`], in pieces of any size.
pub struct SealCheck {
    seal: Option<Seal>,
}

impl SealCheck {
    /// Takes the bytes that stand at `offset` in the file.
    pub fn update(&mut self, offset: u64, bytes: &[u8]) {
        let Some(seal) = &mut self.seal else { return };
        // The checksum itself counts as zero, also where the edge of a piece cuts it in two.
        let place = |at: u64| at.saturating_sub(offset).min(bytes.len() as u64) as usize;
        let (before, rest) = bytes.split_at(place(seal.offset));
        let checksum_end = place(seal.offset.saturating_add(size_of::<U32>() as u64));
        let (checksum, after) = rest.split_at(checksum_end - before.len());
        seal.digest.update(before);
        for _ in checksum {
            seal.digest.update(&[0]);
        }
        seal.digest.update(after);
    }

    /// The verdict. A file with a blank seal passes.
    pub fn finish(self) -> Result<(), ImageError> {
        let Some(Seal { checksum: stored, digest, .. }) = self.seal else { return Ok(()) };
        let computed = digest.finalize();
        if computed == stored { Ok(()) } else { Err(ImageError::BadChecksum { stored, computed }) }
    }
}

/// Seals a linked file: writes into its seal note the checksum that [`SealCheck`] looks for.
///
/// Sealing twice changes nothing. A file without the note is an error.
pub fn seal(file: &mut [u8]) -> Result<(), ImageError> {
    let note = find_seal_note(file)?;
    let mut write = |checksum: u32| {
        let seal = SealNote { checksum: checksum.into(), state: SEALED.into() };
        let start = note as usize;
        file.get_mut(start..start.saturating_add(size_of::<SealNote>()))
            .ok_or(ImageError::BadSeal)?
            .copy_from_slice(seal.as_bytes());
        checked_bytes(file)
    };
    match write(0) {
        Err(ImageError::BadChecksum { computed, .. }) => write(computed),
        other => other,
    }
}

/// Parses a file that is in memory as a whole, and compares all of it with its seal.
fn checked_bytes(file: &[u8]) -> Result<(), ImageError> {
    let image = parse_slice(file)?;
    let mut check = image.seal_check();
    for segment in image.segments() {
        let start = segment.file_offset as usize;
        let end = start.saturating_add(segment.file_len as usize);
        let bytes = file.get(start..end).ok_or(ImageError::Truncated(end as u64))?;
        check.update(segment.file_offset, bytes);
    }
    check.finish()
}

fn find_seal_note(file: &[u8]) -> Result<u64, ImageError> {
    Notes::of_slice(file)?.seal.map(|(offset, _)| offset).ok_or(ImageError::NoSeal)
}
