//! Opening a handover: the chain is followed and proved, then all of it is read once, for the frames that it reserves.
//!
//! This happens before there is an allocator, so it keeps little: a bit for each frame of memory and a word for each frame
//! of the chain.

use crate::chain::frames_for;
use crate::checksum;
use crate::error::HandoverError;
use crate::items::{Allowed, Items, Source};
use crate::layout::{Link, MAGIC, OLDEST_READ, Root, VERSION};
use crate::set::{FrameSet, single};
use crate::types::Item;
use alloc::boxed::Box;
use alloc::vec::Vec;
use frames::{FRAME_SIZE, Memory, Page, Pfn, PfnRange, PhysAddr};
use zerocopy::FromBytes;

/// Whoever can lend the bytes of preserved frames.
pub trait PhysRead {
    /// Copy frame `frame` to `page`; `false`, and `page` unspecified, where there is no memory to read or where it may hold
    /// nothing preserved.
    fn read(&self, frame: Pfn, page: &mut Page) -> bool;
}

/// What a kernel knows of its memory before it has an allocator.
pub trait PhysMap: PhysRead {
    /// All memory lies in here. One bit is kept for each frame of it.
    fn span(&self) -> PfnRange;
    /// Whether all of `range` is memory that may have been preserved: no hole, and nothing of the scratch area.
    fn preservable(&self, range: PfnRange) -> bool;
}

/// Frames that are set aside can be read, which is what preserved frames are once there is an allocator.
impl PhysRead for Memory {
    fn read(&self, frame: Pfn, page: &mut Page) -> bool {
        self.peek(frame, |bytes| page.copy_from_slice(bytes)).is_some()
    }
}

/// More are not believed: a few bytes of each would become some KiB of heap.
const MOST_FILESYSTEMS: u64 = 64;
const MOST_CACHES: u64 = 16;

/// Whether what was cached of disks is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caches {
    /// It is.
    Keep,
    /// It can be done without: its frames are not reserved, and it is passed over.
    Ignore,
}

/// How much a handover holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Filesystems.
    pub filesystems: u64,
    /// Inodes.
    pub inodes: u64,
    /// Extents, those rejected not counted.
    pub extents: u64,
    /// Extents that are not to be used.
    pub rejected: u64,
    /// Extended attributes.
    pub xattrs: u64,
    /// Windows of content that have a checksum.
    pub sums: u64,
    /// Frames that hold content of filesystems.
    pub content_frames: u64,
    /// Frames that hold what was cached of disks.
    pub cached_frames: u64,
    /// Frames that were cached and cannot be where they should: left out.
    pub cached_rejected: u64,
    /// Frames that are to be kept until this kernel is up.
    pub kept_frames: u64,
    /// Frames of the handover itself.
    pub blob_frames: u64,
    /// Bytes of metadata, the checksums and links not counted.
    pub bytes: u64,
    /// Those of them that are about caches.
    pub cache_bytes: u64,
}

/// A handover that was proved and found readable to the end.
#[derive(Debug)]
pub struct Handover {
    generation: u32,
    version: u32,
    build: [u8; crate::MAX_BUILD],
    length: u64,
    caches: Caches,
    /// The frames of the chain, in order.
    blob: Vec<Pfn>,
    /// Frames that are to be kept until this kernel is up.
    kept: Vec<PfnRange>,
    /// The frames of the chain, those to be kept, and those of all extents and caches that were not rejected.
    reserved: FrameSet,
    /// Those of the caches among them.
    cached: FrameSet,
    summary: Summary,
}

impl Handover {
    /// Read the handover whose root lies at `root`. Time and memory grow with the handover and with the frames of the machine,
    /// never with a number found in the handover.
    ///
    /// # Errors
    /// [`HandoverError`]: nothing of it is to be used, and nothing of memory has to be kept.
    pub fn open(root: PhysAddr, map: &dyn PhysMap, caches: Caches) -> Result<Self, HandoverError> {
        let mut reserved = FrameSet::new(map.span())?;
        let (root, blob) = follow(root, map, &mut reserved)?;
        let (length, version) = (root.length.get(), root.version.get());
        let mut summary = Summary { blob_frames: blob.len() as u64, bytes: length, ..Summary::default() };
        let mut kept = Vec::new();
        let mut caches_of = 0;
        let mut cached = FrameSet::new(map.span())?;
        let source = Source { memory: map, blob: &blob, version, length, caches };
        let mut items = Items::new(&source, Allowed::Map(map), reserved)?;
        while let Some(item) = items.next()? {
            match item {
                Item::Filesystem(_) if summary.filesystems == MOST_FILESYSTEMS => {
                    return Err(HandoverError::TooMany { what: "filesystems", limit: MOST_FILESYSTEMS });
                }
                Item::Cache(_) if caches_of == MOST_CACHES => {
                    return Err(HandoverError::TooMany { what: "caches", limit: MOST_CACHES });
                }
                Item::Filesystem(_) => summary.filesystems += 1,
                Item::Cache(_) => caches_of += 1,
                Item::Inode(_) => summary.inodes += 1,
                Item::Extent(extent) => {
                    summary.extents += 1;
                    summary.content_frames += u64::from(extent.count);
                }
                Item::Rejected(..) => summary.rejected += 1,
                Item::Xattr { .. } => summary.xattrs += 1,
                Item::Sums { sums, .. } => summary.sums += sums.len() as u64,
                Item::CachedPages { pages, sums } => {
                    let frames = PfnRange { start: pages.start, count: sums.len() as u64 };
                    // Each frame of it was in no use before, so it is not in here either.
                    let _ = cached.insert(frames);
                    summary.cached_frames += frames.count;
                }
                Item::Kept(range) => {
                    summary.kept_frames += range.count;
                    kept.try_reserve(1).map_err(|_| HandoverError::NoMemory)?;
                    kept.push(range);
                }
                Item::Entry { .. } | Item::Target(_) | Item::CachedFile(_) => {}
            }
        }
        (summary.cached_rejected, summary.cache_bytes) = (items.cache.rejected, items.cache_bytes);
        let reserved = items.into_used();
        let (generation, build) = (root.generation.get(), root.build);
        Ok(Self { generation, version, build, length, caches, blob, kept, reserved, cached, summary })
    }

    /// The kernel that wrote this was the n-th after the first boot, which was number 0.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The version of the format that it was written in.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The build that wrote it, in whatever bytes it called itself.
    pub fn build(&self) -> &[u8] {
        let end = self.build.iter().position(|&byte| byte == 0).unwrap_or(self.build.len());
        &self.build[..end]
    }

    /// How much it holds.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The frames that must not be handed out: content, and the handover itself. Sorted, disjoint, neighbours joined. They are
    /// to be [set aside](frames::Layout::set_aside).
    pub fn reserved(&self) -> impl Iterator<Item = PfnRange> + '_ {
        self.reserved.ranges()
    }

    /// Those of them that hold what was cached of disks, and could be done without.
    pub fn cached(&self) -> impl Iterator<Item = PfnRange> + '_ {
        self.cached.ranges()
    }

    /// The others.
    pub fn needed(&self) -> impl Iterator<Item = PfnRange> + '_ {
        self.reserved.ranges_without(&self.cached)
    }

    /// What the handover says, from the beginning, once its frames are set aside in `memory`. The same extents are rejected as
    /// when it was opened.
    ///
    /// # Errors
    /// [`HandoverError::NoMemory`].
    pub fn items<'a>(&'a self, memory: &'a dyn PhysRead) -> Result<Items<'a>, HandoverError> {
        let mut used = FrameSet::new(self.reserved.span())?;
        for &frame in &self.blob {
            if !used.insert(single(frame)) {
                return Err(HandoverError::Cycle { frame });
            }
        }
        let Self { version, length, caches, .. } = *self;
        let source = Source { memory, blob: &self.blob, version, length, caches };
        Items::new(&source, Allowed::Set(&self.reserved), used)
    }

    /// Everything has been read, and the kernel that wrote this will not be wanted again: give the frames of the handover itself back
    /// to `memory`, and those that were only kept. Returns how many there were.
    pub fn release(self, memory: &'static Memory) -> u64 {
        let blob: u64 = self.blob.iter().map(|&frame| free(memory, single(frame))).sum();
        blob + self.kept.iter().map(|&range| free(memory, range)).sum::<u64>()
    }

    /// Nothing of it is wanted any more: give back every frame of it, content too, that nobody has claimed. Returns how many
    /// there were.
    pub fn abandon(self, memory: &'static Memory) -> u64 {
        self.reserved.ranges().map(|range| free(memory, range)).sum()
    }
}

/// Free what is still set aside of `range`.
fn free(memory: &'static Memory, range: PfnRange) -> u64 {
    if memory.claim(range).is_ok() {
        return range.count;
    }
    let frames = (0..range.count).map(|at| single(range.start.offset(at)));
    frames.filter(|&frame| memory.claim(frame).is_ok()).count() as u64
}

/// Follow the chain from `root` on, prove each frame, and put it into `used`.
fn follow(root: PhysAddr, map: &dyn PhysMap, used: &mut FrameSet) -> Result<(Root, Vec<Pfn>), HandoverError> {
    let mut page: Box<Page> = Box::new([0; FRAME_SIZE]);
    let first = chain_frame(root, map).ok_or(HandoverError::Root(root))?;
    if !map.read(first, &mut page) {
        return Err(HandoverError::Root(root));
    }
    let header = check_root(&page)?;
    let mut blob = Vec::new();
    keep(first, used, &mut blob)?;

    let (mut next, mut expected) = (header.next.get(), header.next_checksum.get());
    for sequence in 1..header.frames.get() {
        let address = PhysAddr::new(next);
        let lost = HandoverError::Link { sequence, address };
        let frame = chain_frame(address, map).ok_or(lost)?;
        if !map.read(frame, &mut page) {
            return Err(lost);
        }
        if checksum::frame(&page) != expected {
            return Err(HandoverError::Checksum { sequence });
        }
        let (link, _) = Link::read_from_prefix(&page[..]).map_err(|_| lost)?;
        if link.sequence.get() != sequence {
            return Err(HandoverError::Sequence { expected: sequence, found: link.sequence.get() });
        }
        keep(frame, used, &mut blob)?;
        (next, expected) = (link.next.get(), link.next_checksum.get());
    }
    if (next, expected) != (0, 0) {
        return Err(HandoverError::Link { sequence: header.frames.get(), address: PhysAddr::new(next) });
    }
    Ok((header, blob))
}

/// The frame at `address`, if a chain may lead there.
fn chain_frame(address: PhysAddr, map: &dyn PhysMap) -> Option<Pfn> {
    let frame = address.pfn();
    let usable = address.as_u64() != 0 && frame.addr() == address && map.preservable(single(frame));
    usable.then_some(frame)
}

fn keep(frame: Pfn, used: &mut FrameSet, blob: &mut Vec<Pfn>) -> Result<(), HandoverError> {
    if !used.insert(single(frame)) {
        return Err(HandoverError::Cycle { frame });
    }
    blob.try_reserve(1).map_err(|_| HandoverError::NoMemory)?;
    blob.push(frame);
    Ok(())
}

/// The magic says whether the checksum means anything, and the checksum whether the version does.
fn check_root(page: &Page) -> Result<Root, HandoverError> {
    let (root, _) = Root::read_from_prefix(&page[..]).map_err(|_| HandoverError::Magic)?;
    if root.magic != MAGIC {
        return Err(HandoverError::Magic);
    }
    if checksum::root(page) != root.checksum.get() {
        return Err(HandoverError::Checksum { sequence: 0 });
    }
    let (version, min_reader) = (root.version.get(), root.min_reader.get());
    if version < OLDEST_READ {
        return Err(HandoverError::TooOld { version });
    }
    if min_reader > VERSION {
        return Err(HandoverError::TooNew { version, min_reader });
    }
    let (length, frames) = (root.length.get(), root.frames.get());
    if frames_for(length) != u64::from(frames) {
        return Err(HandoverError::Length { length, frames });
    }
    if root.reserved != [0; 16] {
        return Err(HandoverError::Field { what: "a reserved field of the root", value: 1, at: 0 });
    }
    Ok(root)
}
