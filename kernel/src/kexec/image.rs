//! A bootable file, read into memory and ready to be moved to where it wants to be.

use super::moves::{List, Moves, OutOfFrames, allocate, allocate_zeroed};
use super::prepare::room_for_image;
use crate::arch::paging;
use alloc::sync::Arc;
use bootproto::image::{About, BootImage, ImageError, ParseError, Segment, Versions};
use bootproto::{PAGE_SIZE, Span};
use cache::PageCache;
use core::fmt;
use frames::{Frame, Page, PhysAddr};

/// A file that was read, checked and staged.
#[derive(Debug)]
pub struct Image {
    pub(super) entry: u32,
    pub(super) extent: Span,
    pub(super) moves: List,
}

/// What was found out about a file while it was loaded.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// What it says of its kernel.
    pub about: About,
    /// The newest handover version that it reads and this kernel writes.
    pub version: u32,
    /// Whether it carried a seal, so that its bytes were checked.
    pub sealed: bool,
}

/// Why a file was not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError<E> {
    /// The file cannot be booted.
    Image(ImageError),
    /// The file cannot be read.
    Read(E),
    /// It reads no handover that this kernel writes.
    Versions {
        /// What it reads.
        reads: Versions,
        /// What this kernel writes.
        writes: Versions,
    },
    /// There is no memory to hold it.
    OutOfMemory,
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Image(error) => error.fmt(f),
            LoadError::Read(error) => error.fmt(f),
            LoadError::Versions { reads, writes } => {
                write!(f, "reads handover versions {reads}, this kernel writes {writes}")
            }
            LoadError::OutOfMemory => OutOfFrames.fmt(f),
        }
    }
}

impl<E> From<ParseError<LoadError<E>>> for LoadError<E> {
    fn from(error: ParseError<LoadError<E>>) -> Self {
        match error {
            ParseError::Image(error) => LoadError::Image(error),
            ParseError::Read(error) => error,
        }
    }
}

impl<E> From<OutOfFrames> for LoadError<E> {
    fn from(_: OutOfFrames) -> Self {
        LoadError::OutOfMemory
    }
}

impl Image {
    /// Reads a file of `size` bytes, checks that it can be booted in `scratch` and reads a handover that we can write (`writes`), and
    /// stages it in frames outside.
    ///
    /// `read` fills a buffer from an offset and says how much it could fill. It is asked for the headers first, then for
    /// what is to be loaded, in order. If the file carries a seal, its bytes have to match.
    pub fn load<E>(
        cache: &Arc<PageCache>,
        scratch: Span,
        writes: Versions,
        size: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
    ) -> Result<(Image, Found), LoadError<E>> {
        let mut read = |offset: u64, out: &mut [u8]| read_exact(&mut read, offset, out);
        let boot_image = BootImage::parse(size, &mut read)?;
        boot_image.check_fits(room_for_image(scratch)).map_err(LoadError::Image)?;
        let reads = boot_image.handover_versions();
        let version = reads.newest_common(writes).ok_or(LoadError::Versions { reads, writes })?;

        let mut check = boot_image.seal_check();
        let mut staging = Staging { cache, moves: Moves::new(cache)?, open: None };
        for segment in boot_image.segments() {
            staging.stage(segment, |offset, out| {
                read(offset, out)?;
                check.update(offset, out);
                Ok(())
            })?;
        }
        check.finish().map_err(LoadError::Image)?;
        let image = Image { entry: boot_image.entry(), extent: boot_image.extent(), moves: staging.finish()? };
        Ok((image, Found { about: *boot_image.about(), version, sealed: boot_image.is_sealed() }))
    }

    /// A copy of the image that is running, for when another has been moved to its place. It lies at `extent` as it was loaded,
    /// with its entry at `entry`.
    pub fn of_running(cache: &Arc<PageCache>, extent: Span, entry: u32) -> Result<Image, OutOfFrames> {
        let mut moves = Moves::new(cache)?;
        for index in 0..extent.len / PAGE_SIZE {
            let address = extent.start.saturating_add(index * PAGE_SIZE);
            let window = paging::window(PhysAddr::new(address)).ok_or(OutOfFrames)?;
            // SAFETY: these pages are the boot stage's, which never runs again, so nobody writes to them; the window shows all
            // memory.
            let page = unsafe { &*(window as *const Page) };
            let mut copy = allocate(cache)?;
            copy.copy_from(page);
            moves.copy(address, copy)?;
        }
        Ok(Image { entry, extent, moves: moves.finish(None)? })
    }

    /// How many frames it takes up until it is started.
    pub fn frames(&self) -> usize {
        self.moves.frames().len()
    }
}

/// Reads until `out` is full. The file's end before that is a truncated file.
fn read_exact<E>(
    read: &mut impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
    offset: u64,
    out: &mut [u8],
) -> Result<(), LoadError<E>> {
    let needed = offset.saturating_add(out.len() as u64);
    let (mut at, mut rest) = (offset, out);
    while !rest.is_empty() {
        let filled = read(at, rest).map_err(LoadError::Read)?.min(rest.len());
        if filled == 0 {
            return Err(LoadError::Image(ImageError::Truncated(needed)));
        }
        at = at.saturating_add(filled as u64);
        rest = rest.get_mut(filled..).unwrap_or_default();
    }
    Ok(())
}

/// Makes page moves of segments. Two segments may share a page, so the latest page stays open until the next begins.
struct Staging<'a> {
    cache: &'a PageCache,
    moves: Moves,
    open: Option<(u64, Frame)>,
}

impl Staging<'_> {
    fn stage<E>(
        &mut self,
        segment: &Segment,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), LoadError<E>>,
    ) -> Result<(), LoadError<E>> {
        // The parse has checked that these ends exist.
        let start = segment.memory.start;
        let end = segment.memory.end().unwrap_or(start);
        let file_end = start.saturating_add(segment.file_len);

        let mut page = start - start % PAGE_SIZE;
        while page < end {
            let page_end = page.saturating_add(PAGE_SIZE);
            let from = start.max(page);
            let to = file_end.min(page_end);
            let is_open = self.open.as_ref().is_some_and(|(open, _)| *open == page);
            if from >= to && page_end <= end && !is_open {
                self.close()?;
                self.moves.clear(page)?;
            } else {
                let frame = self.frame_at(page)?;
                let range = (from - page) as usize..(to.max(from) - page) as usize;
                let bytes = frame.bytes_mut().get_mut(range).unwrap_or_default();
                read(segment.file_offset.saturating_add(from - start), bytes)?;
            }
            page = page_end;
        }
        Ok(())
    }

    /// The frame that will be moved to `page`; a new one is zero.
    fn frame_at(&mut self, page: u64) -> Result<&mut Frame, OutOfFrames> {
        let frame = match self.open.take() {
            Some((open, frame)) if open == page => frame,
            other => {
                self.open = other;
                self.close()?;
                allocate_zeroed(self.cache)?
            }
        };
        Ok(&mut self.open.insert((page, frame)).1)
    }

    fn close(&mut self) -> Result<(), OutOfFrames> {
        match self.open.take() {
            Some((page, frame)) => self.moves.copy(page, frame),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<List, OutOfFrames> {
        self.close()?;
        self.moves.finish(None)
    }
}
