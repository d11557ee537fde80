//! A handover from bytes, and what has to be true of whatever comes of it. The fuzz target in `kernel/handover/fuzz` runs this too.
//!
//! The machine is small and always the same: scratch, then the frames of the chain, then frames of content, each of which holds
//! bytes that tell where they are. So a handover is a string of bytes, its payload, which this seals with checksums that are
//! right: what is tested is what stands behind them.

#![allow(dead_code, reason = "each user uses its part")]

pub mod mutate;
pub mod oracle;
pub mod seeds;

use cache::PageCache;
use cleancache::{Cleancache, Config};
use frames::arena::{Arena, BASE};
use frames::checksum::crc32c;
use frames::{FRAME_SIZE, Memory, Page, Pfn, PfnRange, PhysAddr};
use fs::filesystem::Time;
use fs::tmpfs::{Environment, Tmpfs};
use handover::{Caches, Handover, HandoverError, Item, PhysMap, PhysRead};
use oracle::{Said, Seen};
use std::sync::Arc;

/// Frames of the machine.
pub const FRAMES: u64 = 192;
/// Those of the scratch area; the chain lies behind them.
pub const SCRATCH: u64 = 8;
/// The first frame of content.
pub const CONTENT: u64 = 40;
/// The most bytes of payload.
pub const MOST: usize = (FRAME_SIZE - 128) + (CONTENT - SCRATCH - 1) as usize * (FRAME_SIZE - 16);

/// Bytes that tell where they are.
pub fn content(pfn: Pfn) -> Page {
    let mut page = [0; FRAME_SIZE];
    for (at, word) in page.chunks_exact_mut(8).enumerate() {
        let mixed = (pfn.get() << 16 | at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word.copy_from_slice(&(mixed ^ mixed >> 29).to_le_bytes());
    }
    page
}

/// What a handover begins with, and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgery {
    pub version: u32,
    pub min_reader: u32,
    pub caches: Caches,
    pub payload: Vec<u8>,
}

impl Forgery {
    /// The three bytes in front of the payload are the version, the oldest reader and whether caches are ignored.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let (head, payload) = bytes.split_at(bytes.len().min(3));
        let at = |at: usize| head.get(at).copied().unwrap_or(1);
        Self {
            version: at(0).into(),
            min_reader: at(1).into(),
            caches: if at(2) & 1 == 0 { Caches::Keep } else { Caches::Ignore },
            payload: payload[..payload.len().min(MOST)].to_vec(),
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let ignore = u8::from(self.caches == Caches::Ignore);
        [&[self.version as u8, self.min_reader as u8, ignore], &self.payload[..]].concat()
    }

    /// The frames of it, sealed.
    pub fn image(&self) -> Image {
        let (first, rest) = self.payload.split_at(self.payload.len().min(FRAME_SIZE - 128));
        let chunks: Vec<&[u8]> = std::iter::once(first).chain(rest.chunks(FRAME_SIZE - 16)).collect();
        let mut chain = Vec::new();
        for (sequence, chunk) in chunks.iter().enumerate() {
            let mut page = Box::new([0; FRAME_SIZE]);
            let start = if sequence == 0 { 128 } else { 16 };
            page[start..][..chunk.len()].copy_from_slice(chunk);
            let next = if sequence + 1 == chunks.len() { 0 } else { frame_of(sequence + 1).addr().as_u64() };
            if sequence == 0 {
                page[..8].copy_from_slice(b"HOLDOVER");
                page[8..12].copy_from_slice(&self.version.to_le_bytes());
                page[12..16].copy_from_slice(&self.min_reader.to_le_bytes());
                page[24..32].copy_from_slice(&next.to_le_bytes());
                page[36..40].copy_from_slice(&(chunks.len() as u32).to_le_bytes());
                page[40..48].copy_from_slice(&(self.payload.len() as u64).to_le_bytes());
            } else {
                page[..8].copy_from_slice(&next.to_le_bytes());
                page[12..16].copy_from_slice(&(sequence as u32).to_le_bytes());
            }
            chain.push(page);
        }
        let mut image = Image { caches: self.caches, chain, damage: Vec::new() };
        image.reseal();
        image
    }
}

/// The frame that is number `sequence` of the chain.
fn frame_of(sequence: usize) -> Pfn {
    BASE.offset(SCRATCH + sequence as u64)
}

/// Memory as the next kernel finds it.
#[derive(Clone, Debug)]
pub struct Image {
    pub caches: Caches,
    pub chain: Vec<Box<Page>>,
    /// Bytes of frames of content that are not what they were, and what they were changed by.
    pub damage: Vec<(Pfn, usize, u8)>,
}

impl PhysRead for Image {
    fn read(&self, frame: Pfn, page: &mut Page) -> bool {
        let sequence = frame.get().checked_sub(frame_of(0).get()).map(|sequence| sequence as usize);
        match sequence.and_then(|sequence| self.chain.get(sequence)) {
            Some(bytes) => page.copy_from_slice(&bytes[..]),
            None => page.copy_from_slice(&content(frame)),
        }
        for &(_, at, change) in self.damage.iter().filter(|(damaged, ..)| *damaged == frame) {
            page[at] ^= change;
        }
        true
    }
}

impl PhysMap for Image {
    fn span(&self) -> PfnRange {
        PfnRange { start: BASE, count: FRAMES }
    }

    fn preservable(&self, range: PfnRange) -> bool {
        range.start >= BASE.offset(SCRATCH) && range.end() <= self.span().end()
    }
}

impl Image {
    /// Make the checksums right, from the last frame to the first.
    pub fn reseal(&mut self) {
        let mut next = 0_u32;
        let Some((root, rest)) = self.chain.split_first_mut() else { return };
        for page in rest.iter_mut().rev() {
            page[8..12].copy_from_slice(&next.to_le_bytes());
            next = crc32c(0, &page[..]);
        }
        root[32..36].copy_from_slice(&next.to_le_bytes());
        root[16..20].fill(0);
        let own = crc32c(0, &root[..]);
        root[16..20].copy_from_slice(&own.to_le_bytes());
    }

    pub fn open(&self) -> Result<Handover, HandoverError> {
        Handover::open(frame_of(0).addr(), self, self.caches)
    }
}

/// What became of a handover.
#[derive(Debug)]
pub enum Verdict {
    /// An ordinary boot, and why.
    Refused(HandoverError),
    /// What it said, and what was there afterwards.
    Restored(Said, Seen),
}

fn environment(memory: &'static Memory) -> Environment {
    let cleancache = Arc::new(Cleancache::new(memory, Config::default()));
    let clock = || Time { seconds: 1_000, nanos: 7 };
    Environment { cache: PageCache::new(memory, cleancache), clock }
}

/// Live through a handover: open it, restore it, look at everything, hand it over once more, remove everything. Panics where something is
/// not as it has to be, whatever the bytes were.
pub fn live_through(image: &Image) -> Verdict {
    let handover = match image.open() {
        Ok(handover) => handover,
        Err(error) => return Verdict::Refused(error),
    };
    let reserved: Vec<PfnRange> = handover.reserved().collect();
    let arena = Arena::found(FRAMES as usize, SCRATCH as usize, &reserved, |pfn, page| {
        image.read(pfn, page);
    });
    let memory = arena.memory();
    let stats = memory.stats();
    assert_eq!(stats.set_aside, reserved.iter().map(|range| range.count).sum::<u64>());

    let said = oracle::listen(&handover, memory, image);
    let mut restored = Tmpfs::restore(&handover, memory, &environment(memory)).expect("memory is as it was");
    assert_eq!(memory.stats().set_aside, stats.set_aside, "frames are freed while the kernel before may be wanted");
    assert_eq!(restored.len(), said.filesystems.len());
    let content: u64 = restored.iter().map(|restored| restored.tmpfs.census().frames).sum();
    assert_eq!(memory.stats().owned(), 0, "nothing is claimed before it is wanted");
    // This kernel is up, so what has no place goes.
    restored.iter_mut().for_each(|restored| drop(std::mem::take(&mut restored.rejected)));
    // The disk that was cached is another one.
    for &range in &said.cached {
        drop(memory.claim(range).expect("what was cached has one use"));
    }
    let summary = handover.summary();
    let own = summary.blob_frames + summary.kept_frames;
    assert_eq!(memory.stats().set_aside, content + own, "frames are lost");
    assert_eq!(handover.release(memory), own);

    let mut seen = Seen::default();
    for (restored, said) in restored.iter().zip(&said.filesystems) {
        seen.add(oracle::look(restored, said));
    }
    let content: u64 = restored.iter().map(|restored| restored.tmpfs.census().frames).sum();
    let stats = memory.stats();
    assert_eq!(stats.owned() + stats.set_aside, content, "frames are lost");
    oracle::hand_over_again(&restored, memory);
    for restored in &restored {
        oracle::remove_everything(&restored.tmpfs);
    }
    let stats = memory.stats();
    assert_eq!((stats.owned(), stats.set_aside), (0, 0), "frames are lost");
    drop(restored);
    Verdict::Restored(said, seen)
}

/// What the fuzzer calls.
pub fn live_through_bytes(bytes: &[u8]) {
    live_through(&Forgery::from_bytes(bytes).image());
}

/// Everything that `handover` says, item by item.
fn each(handover: &Handover, memory: &dyn PhysRead, mut take: impl FnMut(Item<'_>)) {
    let mut items = handover.items(memory).expect("enough memory");
    while let Some(item) = items.next().expect("what opened once reads again") {
        take(item);
    }
}

/// Where the chain begins.
pub fn root() -> PhysAddr {
    frame_of(0).addr()
}
