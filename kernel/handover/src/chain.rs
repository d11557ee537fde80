//! The chain of frames as a stretch of payload: laid out while it is written, joined again while it is read.

use crate::checksum;
use crate::error::{HandoverError, WriteError};
use crate::layout::{LINK_PAYLOAD, Link, ROOT_PAYLOAD, Root, SectionHeader};
use crate::open::PhysRead;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::offset_of;
use frames::{FRAME_SIZE, Frame, Page, Pfn, PhysAddr};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where payload begins in frame number `sequence`.
fn payload_start(sequence: usize) -> usize {
    if sequence == 0 { size_of::<Root>() } else { size_of::<Link>() }
}

/// The frame that byte `at` of the payload lies in, and where.
fn locate(at: u64) -> (u64, usize) {
    match at.checked_sub(ROOT_PAYLOAD as u64) {
        None => (0, size_of::<Root>() + at as usize),
        Some(rest) => (1 + rest / LINK_PAYLOAD as u64, size_of::<Link>() + (rest % LINK_PAYLOAD as u64) as usize),
    }
}

/// Frames that `length` bytes of payload take.
pub(crate) fn frames_for(length: u64) -> u64 {
    match length {
        0 => 1,
        _ => locate(length - 1).0 + 1,
    }
}

/// A chain that is being written.
pub(crate) struct ChainWriter<'a> {
    allocate: &'a mut dyn FnMut() -> Option<Frame>,
    root: PhysAddr,
    frames: Vec<Frame>,
    length: u64,
}

impl<'a> ChainWriter<'a> {
    pub(crate) fn new(allocate: &'a mut dyn FnMut() -> Option<Frame>) -> Result<Self, WriteError> {
        let mut chain = Self { allocate, root: PhysAddr::new(0), frames: Vec::new(), length: 0 };
        chain.root = chain.grow()?;
        Ok(chain)
    }

    /// Take one more frame; its address is returned.
    fn grow(&mut self) -> Result<PhysAddr, WriteError> {
        self.frames.try_reserve(1).map_err(|_| WriteError::NoMemory)?;
        let mut frame = (self.allocate)().ok_or(WriteError::NoMemory)?;
        frame.zero();
        let address = frame.pfn().addr();
        self.frames.push(frame);
        Ok(address)
    }

    /// Where the first frame lies.
    pub(crate) fn root(&self) -> PhysAddr {
        self.root
    }

    /// Bytes written so far, which is where the next one goes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let (sequence, offset) = locate(self.length);
            if sequence == self.frames.len() as u64 {
                self.grow()?;
            }
            let Some(frame) = self.frames.last_mut() else { return Err(WriteError::NoMemory) };
            let (now, later) = bytes.split_at(bytes.len().min(FRAME_SIZE - offset));
            frame.bytes_mut()[offset..][..now.len()].copy_from_slice(now);
            self.length += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    pub(crate) fn put_record(&mut self, record: &(impl IntoBytes + Immutable)) -> Result<(), WriteError> {
        self.put(record.as_bytes())
    }

    /// Many numbers of four bytes, some hundred at a time.
    pub(crate) fn put_words(&mut self, words: &[u32]) -> Result<(), WriteError> {
        let mut piece = [U32::ZERO; 128];
        for words in words.chunks(piece.len()) {
            let piece = &mut piece[..words.len()];
            piece.iter_mut().zip(words).for_each(|(to, from)| to.set(*from));
            self.put(piece.as_bytes())?;
        }
        Ok(())
    }

    /// Begin a section; [`end_section`](Self::end_section) is told where.
    pub(crate) fn begin_section(&mut self, kind: u32, flags: u32) -> Result<u64, WriteError> {
        let start = self.length;
        self.put_record(&SectionHeader { kind: kind.into(), flags: flags.into(), length: 0.into() })?;
        Ok(start)
    }

    /// The section that begins at `start` ends here.
    pub(crate) fn end_section(&mut self, start: u64) {
        let length = U64::new(self.length - start - size_of::<SectionHeader>() as u64);
        self.patch(start + offset_of!(SectionHeader, length) as u64, length.as_bytes());
    }

    /// Write over what is at `at` already. Bytes that would come after the end are left out.
    pub(crate) fn patch(&mut self, mut at: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (sequence, offset) = locate(at);
            let Some(frame) = self.frames.get_mut(sequence as usize) else { return };
            let (now, later) = bytes.split_at(bytes.len().min(FRAME_SIZE - offset));
            frame.bytes_mut()[offset..][..now.len()].copy_from_slice(now);
            at += now.len() as u64;
            bytes = later;
        }
    }

    /// Link the frames from the last to the first, so that each can hold the checksum of the next. `root` is completed by
    /// what only the chain knows.
    pub(crate) fn seal(mut self, mut root: Root) -> Sealed {
        let (mut next, mut next_checksum) = (0_u64, 0_u32);
        for (sequence, frame) in self.frames.iter_mut().enumerate().skip(1).rev() {
            let link =
                Link { next: next.into(), next_checksum: next_checksum.into(), sequence: (sequence as u32).into() };
            frame.bytes_mut()[..size_of::<Link>()].copy_from_slice(link.as_bytes());
            (next, next_checksum) = (frame.pfn().addr().as_u64(), checksum::frame(frame.bytes()));
        }
        root.next = next.into();
        root.next_checksum = next_checksum.into();
        root.frames = (self.frames.len() as u32).into();
        root.length = self.length.into();
        if let Some(first) = self.frames.first_mut() {
            first.bytes_mut()[..size_of::<Root>()].copy_from_slice(root.as_bytes());
            root.checksum = checksum::root(first.bytes()).into();
            first.bytes_mut()[..size_of::<Root>()].copy_from_slice(root.as_bytes());
        }
        Sealed { root: self.root, frames: self.frames, length: self.length }
    }
}

/// A finished handover. It owns the frames of its chain: drop it, and it was never written; keep it until the jump, and the
/// next kernel finds it.
#[derive(Debug)]
pub struct Sealed {
    root: PhysAddr,
    frames: Vec<Frame>,
    length: u64,
}

impl Sealed {
    /// Where the root lies.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// The frames of the chain, in order.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Bytes of metadata, the checksums and links not counted.
    pub fn bytes(&self) -> u64 {
        self.length
    }

    /// The frames of the chain, whose content can then be changed: it is what the next kernel finds as long as they are kept.
    pub fn into_frames(self) -> Vec<Frame> {
        self.frames
    }
}

/// The payload of a chain whose frames are known, from the beginning to the end.
pub(crate) struct ChainReader<'a> {
    memory: &'a dyn PhysRead,
    blob: &'a [Pfn],
    /// A copy of the frame that is being read, so that what was checked is what is used.
    page: Box<Page>,
    /// The frame that is to be read next.
    next: usize,
    offset: usize,
    position: u64,
    /// Nothing is read past this.
    end: u64,
}

impl<'a> ChainReader<'a> {
    pub(crate) fn new(memory: &'a dyn PhysRead, blob: &'a [Pfn]) -> Self {
        Self { memory, blob, page: Box::new([0; FRAME_SIZE]), next: 0, offset: FRAME_SIZE, position: 0, end: 0 }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes up to the fence.
    pub(crate) fn left(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    /// Let nothing be read past `end`.
    pub(crate) fn fence(&mut self, end: u64) {
        self.end = end;
    }

    pub(crate) fn read(&mut self, mut out: &mut [u8]) -> Result<(), HandoverError> {
        self.check(out.len() as u64)?;
        while !out.is_empty() {
            self.turn()?;
            let (now, later) = out.split_at_mut(out.len().min(FRAME_SIZE - self.offset));
            now.copy_from_slice(&self.page[self.offset..][..now.len()]);
            self.offset += now.len();
            self.position += now.len() as u64;
            out = later;
        }
        Ok(())
    }

    pub(crate) fn record<T: FromBytes + IntoBytes>(&mut self) -> Result<T, HandoverError> {
        let mut record = T::new_zeroed();
        self.read(record.as_mut_bytes())?;
        Ok(record)
    }

    pub(crate) fn skip(&mut self, bytes: u64) -> Result<(), HandoverError> {
        self.check(bytes)?;
        let mut left = bytes;
        while left > 0 {
            self.turn()?;
            let now = left.min((FRAME_SIZE - self.offset) as u64);
            self.offset += now as usize;
            self.position += now;
            left -= now;
        }
        Ok(())
    }

    pub(crate) fn check(&self, bytes: u64) -> Result<(), HandoverError> {
        if bytes > self.left() { Err(HandoverError::Truncated { at: self.position }) } else { Ok(()) }
    }

    /// Take the next frame, if this one has been read.
    fn turn(&mut self) -> Result<(), HandoverError> {
        if self.offset < FRAME_SIZE {
            return Ok(());
        }
        let cut_off = HandoverError::Truncated { at: self.position };
        let &frame = self.blob.get(self.next).ok_or(cut_off)?;
        if !self.memory.read(frame, &mut self.page) {
            return Err(HandoverError::Link { sequence: self.next as u32, address: frame.addr() });
        }
        self.offset = payload_start(self.next);
        self.next += 1;
        Ok(())
    }
}
