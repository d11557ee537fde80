//! From a batch of requests to the parts that the device is given.
//!
//! Buffers are kept as bare addresses from here on, because they belong to the device while they are in flight. The
//! caller of the disk stays blocked for as long as that lasts, so its borrows are the proof that the addresses hold.

use core::ptr::NonNull;

use fs::block::{ReadRequest, WriteRequest};

/// The most segments that one request to the device has here: 128 KiB in single pages.
pub const MAX_SEGMENTS: usize = 32;

/// Request types (virtio 1.2, 5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// The device fills the segments.
    Read = 0,
    /// The device reads the segments.
    Write = 1,
    /// No segments: what was written becomes stable.
    Flush = 4,
}

impl Kind {
    /// Whether the device writes to the segments.
    pub fn fills(self) -> bool {
        self == Self::Read
    }
}

/// A buffer: not empty, and somebody's for as long as it is in flight.
#[derive(Clone, Copy, Debug)]
pub struct Segment(pub NonNull<[u8]>);

impl Segment {
    const NONE: Self = Self(NonNull::slice_from_raw_parts(NonNull::dangling(), 0));

    /// How many bytes.
    pub fn len(self) -> usize {
        self.0.len()
    }
}

/// Requests of one kind, as far as the disk has to see them.
pub trait Batch {
    /// What is to be done.
    fn kind(&self) -> Kind;
    /// First sector and number of segments of request `index`.
    fn request(&self, index: usize) -> Option<(u64, usize)>;
    /// A segment of request `index`.
    fn segment(&mut self, index: usize, segment: usize) -> Option<Segment>;
}

impl Batch for &mut [ReadRequest<'_, '_>] {
    fn kind(&self) -> Kind {
        Kind::Read
    }

    fn request(&self, index: usize) -> Option<(u64, usize)> {
        self.get(index).map(|request| (request.sector, request.segments.len()))
    }

    fn segment(&mut self, index: usize, segment: usize) -> Option<Segment> {
        let bytes: &mut [u8] = self.get_mut(index)?.segments.get_mut(segment)?;
        Some(Segment(NonNull::from(bytes)))
    }
}

impl Batch for &[WriteRequest<'_>] {
    fn kind(&self) -> Kind {
        Kind::Write
    }

    fn request(&self, index: usize) -> Option<(u64, usize)> {
        self.get(index).map(|request| (request.sector, request.segments.len()))
    }

    fn segment(&mut self, index: usize, segment: usize) -> Option<Segment> {
        let bytes: &[u8] = self.get(index)?.segments.get(segment)?;
        Some(Segment(NonNull::from(bytes)))
    }
}

/// One request to make everything written stable. It has no segments.
pub struct FlushOnly;

impl Batch for FlushOnly {
    fn kind(&self) -> Kind {
        Kind::Flush
    }

    fn request(&self, index: usize) -> Option<(u64, usize)> {
        (index == 0).then_some((0, 0))
    }

    fn segment(&mut self, _index: usize, _segment: usize) -> Option<Segment> {
        None
    }
}

/// What goes to the device as one request.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// What is to be done.
    pub kind: Kind,
    /// From which sector on.
    pub sector: u64,
    segments: [Segment; MAX_SEGMENTS],
    len: usize,
}

// SAFETY: the addresses are used only while the borrow that they were made from is held up by a blocked caller; which
// processor uses them does not matter.
unsafe impl Send for Part {}

impl Part {
    /// A part without segments.
    pub const fn empty(kind: Kind, sector: u64) -> Self {
        Self { kind, sector, segments: [Segment::NONE; MAX_SEGMENTS], len: 0 }
    }

    /// The buffers, in order; none is empty.
    pub fn segments(&self) -> &[Segment] {
        self.segments.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, segment: Segment) {
        if let Some(slot) = self.segments.get_mut(self.len) {
            *slot = segment;
            self.len += 1;
        }
    }
}

/// Cuts a batch into parts, from its beginning to its end.
pub struct Parts<'a> {
    batch: &'a mut dyn Batch,
    max_segments: usize,
    request: usize,
    segment: usize,
    /// Sectors of the current request that earlier parts cover.
    done: u64,
}

impl<'a> Parts<'a> {
    /// Parts of at most `max_segments` segments each.
    pub fn new(batch: &'a mut dyn Batch, max_segments: usize) -> Self {
        Self { batch, max_segments: max_segments.clamp(1, MAX_SEGMENTS), request: 0, segment: 0, done: 0 }
    }
}

impl Iterator for Parts<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        loop {
            let kind = self.batch.kind();
            let (sector, count) = self.batch.request(self.request)?;
            let mut part = Part::empty(kind, sector.saturating_add(self.done));
            let mut bytes = 0;
            while self.segment < count && part.len < self.max_segments {
                if let Some(segment) = self.batch.segment(self.request, self.segment).filter(|s| s.len() > 0) {
                    bytes += segment.len() as u64;
                    part.push(segment);
                }
                self.segment += 1;
            }
            self.done += bytes / fs::block::SECTOR_SIZE as u64;
            if self.segment >= count {
                (self.request, self.segment, self.done) = (self.request + 1, 0, 0);
            }
            if part.len > 0 || kind == Kind::Flush {
                return Some(part);
            }
        }
    }
}
