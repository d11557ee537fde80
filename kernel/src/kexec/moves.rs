//! The list of page moves that the jump carries out when there is no kernel any more.
//!
//! The list lies in frames, so it can be as long as it has to be without room in one piece, and it is read by a few
//! instructions of assembly. Each record is two little-endian words, a destination address and a source address; both
//! are pages, and the source's low bits say what to do.

use alloc::sync::Arc;
use core::fmt;

use cache::PageCache;
use frames::{FRAME_SIZE, Frame, FrameList, PhysAddr, Zones};

/// Copy the source page to the destination.
pub const COPY: u64 = 1;
/// Fill the destination with zeros.
pub const CLEAR: u64 = 2;
/// Go on with the list's page at the source.
pub const CHAIN: u64 = 4;
/// The list ends.
pub const DONE: u64 = 8;

const RECORD: usize = 16;
/// The last record of a page leads to the next.
const RECORDS: usize = FRAME_SIZE / RECORD - 1;

/// There are no frames outside the scratch area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames;

impl fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

/// One frame that is no destination of any move.
pub fn allocate(cache: &PageCache) -> Result<Frame, OutOfFrames> {
    cache.allocate(Zones::Preservable).map_err(|_| OutOfFrames)
}

/// The same, cleared.
pub fn allocate_zeroed(cache: &PageCache) -> Result<Frame, OutOfFrames> {
    let mut frame = allocate(cache)?;
    frame.zero();
    Ok(frame)
}

/// Writes the `index`th word of a frame; there are 512, and a word beyond is ignored.
pub fn put_word(frame: &mut Frame, index: usize, value: u64) {
    let start = index.saturating_mul(8);
    if let Some(word) = frame.bytes_mut().get_mut(start..start.saturating_add(8)) {
        word.copy_from_slice(&value.to_le_bytes());
    }
}

/// A list that is complete, with all frames that it lies in and moves. The frames have to stay until it is carried out.
#[derive(Debug)]
pub struct List {
    first: PhysAddr,
    frames: FrameList,
}

impl List {
    /// Where it starts.
    pub fn start(&self) -> PhysAddr {
        self.first
    }

    /// Its frames.
    pub fn frames(&self) -> &FrameList {
        &self.frames
    }
}

/// Moves to be made, with the frames that they move.
#[derive(Debug)]
pub struct Moves {
    cache: Arc<PageCache>,
    /// Frames that are sources.
    sources: FrameList,
    /// The list's full pages.
    full: FrameList,
    first: PhysAddr,
    /// The page that is being filled, and how many records it has.
    last: Frame,
    records: usize,
}

impl Moves {
    /// An empty list.
    pub fn new(cache: &Arc<PageCache>) -> Result<Moves, OutOfFrames> {
        let last = allocate_zeroed(cache)?;
        let memory = cache.memory();
        Ok(Moves {
            cache: cache.clone(),
            sources: FrameList::new(memory),
            full: FrameList::new(memory),
            first: last.pfn().addr(),
            last,
            records: 0,
        })
    }

    /// Adds a copy of `page` to the destination address.
    pub fn copy(&mut self, destination: u64, page: Frame) -> Result<(), OutOfFrames> {
        self.push(destination, page.pfn().addr().as_u64() | COPY)?;
        self.sources.push_back(page);
        Ok(())
    }

    /// Adds the clearing of the page at the destination address.
    pub fn clear(&mut self, destination: u64) -> Result<(), OutOfFrames> {
        self.push(destination, CLEAR)
    }

    /// Completes the list. Once its moves are made, those of `then` are.
    pub fn finish(mut self, then: Option<&List>) -> Result<List, OutOfFrames> {
        self.push(0, then.map_or(DONE, |list| list.first.as_u64() | CHAIN))?;
        let Moves { mut sources, mut full, first, last, .. } = self;
        while let Some(page) = full.pop_front() {
            sources.push_back(page);
        }
        sources.push_back(last);
        Ok(List { first, frames: sources })
    }

    fn push(&mut self, destination: u64, source: u64) -> Result<(), OutOfFrames> {
        if self.records == RECORDS {
            let next = allocate_zeroed(&self.cache)?;
            self.write(0, next.pfn().addr().as_u64() | CHAIN);
            self.full.push_back(core::mem::replace(&mut self.last, next));
            self.records = 0;
        }
        self.write(destination, source);
        self.records += 1;
        Ok(())
    }

    fn write(&mut self, destination: u64, source: u64) {
        put_word(&mut self.last, self.records * 2, destination);
        put_word(&mut self.last, self.records * 2 + 1, source);
    }
}
