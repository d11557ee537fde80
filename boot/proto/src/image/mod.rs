//! What makes a file bootable.
//!
//! A bootable file is a static x86-64 ELF file with a PVH entry note, all of whose segments are loaded below 4 GiB.
//! [`BootImage::parse`] decides that from the headers alone, before a running kernel gives anything up for the file.
//! The headers do not vouch for the bytes behind them; the *seal* does, a CRC-32C in a note of our own over
//! everything that gets loaded. The build seals the finished file with [`seal`], and whoever loads it feeds the bytes
//! to a [`SealCheck`] as they pass by. Every bootable file has the note; one whose seal is still blank, as the linker
//! leaves it, is accepted unchecked.
//!
//! Two more notes say of the kernel in the file what has to be known before it is given the machine: [`About`].

mod about;
mod error;
mod headers;
mod notes;
mod seal;

pub use about::{About, BUILD_MAX, BUILD_TYPE, BuildName, KernelNotes, VERSIONS_TYPE, Versions, describe};
pub use error::{ImageError, ParseError};
pub use headers::Segment;
pub use seal::{SEAL_OWNER, SEAL_TYPE, SealCheck, seal};

use crate::{PAGE_SIZE, Span};
use core::fmt;
use headers::Headers;
use notes::Notes;
use seal::Seal;

/// The most loaded segments that a bootable file may have.
pub const MAX_SEGMENTS: usize = 8;

/// A file that can be booted, as far as its headers say.
#[derive(Clone)]
pub struct BootImage {
    entry: u32,
    segments: [Segment; MAX_SEGMENTS],
    count: usize,
    seal: Option<Seal>,
    about: About,
}

impl BootImage {
    /// Checks the headers of a file of `file_len` bytes.
    ///
    /// `read` fills a buffer from an offset; it is never asked for bytes beyond `file_len`.
    pub fn parse<E>(
        file_len: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<BootImage, ParseError<E>> {
        let mut read = |offset: u64, out: &mut [u8]| {
            let end = offset.saturating_add(out.len() as u64);
            if end > file_len {
                return Err(ParseError::Image(ImageError::Truncated(end)));
            }
            read(offset, out).map_err(ParseError::Read)
        };
        let headers = Headers::read(&mut read)?;
        let notes = Notes::read(&headers, &mut read)?;

        let (segments, count) = headers.segments(file_len)?;
        let (seal, about) = (Seal::find(&notes, &headers)?, About::find(&notes)?);
        let mut image = BootImage { entry: 0, segments, count, seal, about };
        let entry = notes.entry.ok_or(ImageError::NoPvhNote)?;
        image.entry =
            u32::try_from(entry).ok().filter(|_| image.has_code_at(entry)).ok_or(ImageError::BadEntry(entry))?;
        Ok(image)
    }

    /// The physical address of its 32-bit PVH entry.
    pub fn entry(&self) -> u32 {
        self.entry
    }

    /// What is loaded, by ascending address and without overlap; at least one segment.
    pub fn segments(&self) -> &[Segment] {
        self.segments.get(..self.count).unwrap_or_default()
    }

    /// Whole pages from its first byte to its last.
    pub fn extent(&self) -> Span {
        let first = self.segments().first().map_or(0, |first| first.memory.start);
        let end = self.segments().last().and_then(|last| last.memory.end());
        Span::between(first - first % PAGE_SIZE, end.unwrap_or(first).next_multiple_of(PAGE_SIZE))
    }

    /// Checks that all of it goes into `room`.
    pub fn check_fits(&self, room: Span) -> Result<(), ImageError> {
        let wanted = self.extent();
        if room.contains(wanted) { Ok(()) } else { Err(ImageError::NoRoom { wanted, room }) }
    }

    /// What it says of its kernel: the build, and the handover versions.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The handover versions that its kernel reads and writes.
    pub fn handover_versions(&self) -> Versions {
        self.about.versions
    }

    /// Whether the file was sealed, without which its bytes cannot be checked.
    pub fn is_sealed(&self) -> bool {
        self.seal.is_some()
    }

    /// Starts the check of the loaded bytes against the seal.
    pub fn seal_check(&self) -> SealCheck {
        Seal::check(self.seal.clone())
    }

    fn has_code_at(&self, address: u64) -> bool {
        let byte = Span { start: address, len: 1 };
        self.segments().iter().any(|segment| segment.executable && segment.filled().contains(byte))
    }
}

impl fmt::Debug for BootImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootImage")
            .field("entry", &self.entry)
            .field("segments", &self.segments())
            .field("sealed", &self.is_sealed())
            .field("about", &self.about)
            .finish()
    }
}

/// [`BootImage::parse`] for a file that is in memory as a whole.
pub fn parse_slice(file: &[u8]) -> Result<BootImage, ImageError> {
    BootImage::parse(file.len() as u64, reader(file)).map_err(only_image_error)
}

fn only_image_error(error: ParseError<ImageError>) -> ImageError {
    match error {
        ParseError::Image(error) | ParseError::Read(error) => error,
    }
}

fn reader(file: &[u8]) -> impl FnMut(u64, &mut [u8]) -> Result<(), ImageError> + '_ {
    |offset, out| {
        let end = offset.saturating_add(out.len() as u64);
        let bytes = file.get(offset as usize..end as usize).ok_or(ImageError::Truncated(end))?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}
