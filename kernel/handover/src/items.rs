//! Reading what a proved chain says, item by item.
//!
//! The checksums say that these are the bytes that were written; they do not say that whoever wrote them was sane. A structure
//! that contradicts itself ends the reading. An extent that cannot be true is handed out as rejected and the reading goes on, for
//! it spoils one file only; cached pages that cannot be where they should are left out, since they can be done without.

use crate::chain::ChainReader;
use crate::error::HandoverError;
use crate::items_cache::CacheState;
use crate::layout::{
    EntryHeader, ExtentRecord, FilesystemHeader, INODE_QUARANTINED, InodeHeader, KIND_DIRECTORY, KIND_REGULAR,
    KIND_SYMLINK, KeptRecord, MAX_NAME, MAX_TARGET, MAX_VALUE, SECTION_CACHE, SECTION_FILESYSTEM, SECTION_KEPT,
    SECTION_OPTIONAL, SUM_PAGES, SUMS_AT_ONCE, SectionHeader, SumsHeader, VERSION_2, XattrHeader,
};
use crate::open::{Caches, PhysMap, PhysRead};
use crate::set::FrameSet;
use crate::types::{CacheOf, CachedFile, CachedPages, Extent, ExtentFault, Filesystem, Inode, Item, Kind, Time};
use alloc::vec::Vec;
use frames::{FRAME_SIZE, Pfn, PfnRange};
use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

/// Who says where content may lie.
pub(crate) enum Allowed<'a> {
    /// The map of memory, the first time.
    Map(&'a dyn PhysMap),
    /// The frames that were reserved then, from then on.
    Set(&'a FrameSet),
}

impl Allowed<'_> {
    pub(crate) fn covers(&self, range: PfnRange) -> bool {
        match self {
            Self::Map(map) => map.preservable(range),
            Self::Set(set) => set.covers(range),
        }
    }
}

/// The inode whose content is being read.
struct Content {
    kind: Kind,
    size: u64,
    /// Bytes of extended attributes that are still to come.
    xattrs: u32,
    /// Items that are still to come.
    left: u32,
    /// The first page after the extents so far.
    page: u64,
    /// Bytes of checksums that are still to come, how many checksums of them in this run, and the window that is next.
    sums: u32,
    run: u32,
    window: u64,
}

/// What has been read and not yet handed out; names and targets are in the buffer.
pub(crate) enum Step {
    Filesystem {
        root: u64,
        next_ino: u64,
        size_limit: Option<u64>,
    },
    Inode(Inode),
    /// The name is so many bytes of the buffer, the value the rest.
    Xattr(usize),
    Entry(u64),
    Target,
    Extent(Extent),
    Rejected(Extent, ExtentFault),
    Sums(u32),
    /// But for its label.
    Cache(CacheOf<'static>),
    CachedFile(CachedFile),
    CachedPages(CachedPages),
    Kept(PfnRange),
}

/// The items of a handover, in the order in which they were written.
pub struct Items<'a> {
    pub(crate) chain: ChainReader<'a>,
    pub(crate) allowed: Allowed<'a>,
    /// Frames that have their use: the blob's, and those of the extents so far.
    pub(crate) used: FrameSet,
    /// The version that it was written in.
    version: u32,
    caches: Caches,
    /// Bytes of payload.
    length: u64,
    /// Inodes of this filesystem that are still to come.
    inodes: u64,
    content: Option<Content>,
    pub(crate) cache: CacheState,
    /// Bytes of the sections that hold caches.
    pub(crate) cache_bytes: u64,
    /// Records of kept frames that are still to come.
    kept: u64,
    pub(crate) buffer: Vec<u8>,
}

/// What is to be read, and how.
pub(crate) struct Source<'a> {
    pub(crate) memory: &'a dyn PhysRead,
    pub(crate) blob: &'a [Pfn],
    pub(crate) version: u32,
    pub(crate) length: u64,
    pub(crate) caches: Caches,
}

impl<'a> Items<'a> {
    pub(crate) fn new(source: &Source<'a>, allowed: Allowed<'a>, used: FrameSet) -> Result<Self, HandoverError> {
        let Source { memory, blob, version, length, caches } = *source;
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(MAX_TARGET).map_err(|_| HandoverError::NoMemory)?;
        Ok(Self {
            chain: ChainReader::new(memory, blob),
            allowed,
            used,
            version,
            caches,
            length,
            inodes: 0,
            content: None,
            cache: CacheState::default(),
            cache_bytes: 0,
            kept: 0,
            buffer,
        })
    }

    /// The frames that had their use when reading ended.
    pub(crate) fn into_used(self) -> FrameSet {
        self.used
    }

    /// The next item, `None` at the end. After an error there is no next item.
    #[expect(clippy::should_implement_trait, reason = "an item borrows the name that it holds from the reader")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, HandoverError> {
        let Some(step) = self.step()? else { return Ok(None) };
        let bytes = &self.buffer[..];
        Ok(Some(match step {
            Step::Filesystem { root, next_ino, size_limit } => {
                Item::Filesystem(Filesystem { label: bytes, root, next_ino, size_limit })
            }
            Step::Inode(inode) => Item::Inode(inode),
            Step::Entry(ino) => Item::Entry { ino, name: bytes },
            Step::Target => Item::Target(bytes),
            Step::Extent(extent) => Item::Extent(extent),
            Step::Rejected(extent, fault) => Item::Rejected(extent, fault),
            Step::Xattr(name) => {
                let (name, value) = bytes.split_at(name);
                Item::Xattr { name, value }
            }
            Step::Sums(first) => Item::Sums { first, sums: words(bytes) },
            Step::Cache(of) => Item::Cache(CacheOf { label: bytes, ..of }),
            Step::CachedFile(file) => Item::CachedFile(file),
            Step::CachedPages(pages) => Item::CachedPages { pages, sums: words(bytes) },
            Step::Kept(range) => Item::Kept(range),
        }))
    }

    fn step(&mut self) -> Result<Option<Step>, HandoverError> {
        if let Some(content) = &mut self.content {
            if content.xattrs > 0 {
                return self.xattr().map(Some);
            }
            if content.left > 0 {
                content.left -= 1;
                return match content.kind {
                    Kind::Directory => self.entry().map(Some),
                    Kind::Symlink => self.target().map(Some),
                    Kind::Regular => self.extent().map(Some),
                };
            }
            if content.run > 0 || content.sums > 0 {
                return self.sums().map(Some);
            }
        }
        if self.inodes > 0 {
            self.inodes -= 1;
            return self.inode().map(Some);
        }
        if let Some(step) = self.cached()? {
            return Ok(Some(step));
        }
        if self.kept > 0 {
            self.kept -= 1;
            return self.kept_range().map(Some);
        }
        if self.chain.left() > 0 {
            return Err(self.bad("the number of bytes after the end of a section's content", self.chain.left()));
        }
        while self.chain.position() < self.length {
            if let Some(step) = self.section()? {
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    pub(crate) fn bad(&self, what: &'static str, value: u64) -> HandoverError {
        HandoverError::Field { what, value, at: self.chain.position() }
    }

    /// Read into the buffer. What is there in the chain bounds what is asked for.
    pub(crate) fn fill(&mut self, bytes: usize) -> Result<(), HandoverError> {
        self.chain.check(bytes as u64)?;
        self.buffer.clear();
        self.buffer.try_reserve(bytes).map_err(|_| HandoverError::NoMemory)?;
        self.buffer.resize(bytes, 0);
        self.chain.read(&mut self.buffer)
    }

    /// The next section; `None` for one that was passed over.
    fn section(&mut self) -> Result<Option<Step>, HandoverError> {
        let start = self.chain.position();
        self.chain.fence(self.length);
        let header: SectionHeader = self.chain.record()?;
        let length = header.length.get();
        if length > self.chain.left() {
            return Err(HandoverError::Truncated { at: start });
        }
        self.chain.fence(self.chain.position() + length);
        let is_new = self.version >= VERSION_2;
        match header.kind.get() {
            SECTION_FILESYSTEM => return self.filesystem().map(Some),
            SECTION_CACHE if is_new && self.caches == Caches::Keep => {
                self.cache_bytes += size_of::<SectionHeader>() as u64 + length;
                return self.cache_of().map(Some);
            }
            SECTION_KEPT if is_new => {
                self.kept = length / size_of::<KeptRecord>() as u64;
                // A section without records is passed over like one that nobody knows.
                if self.kept > 0 {
                    self.kept -= 1;
                    return self.kept_range().map(Some);
                }
            }
            _ => {}
        }
        if header.flags.get() & SECTION_OPTIONAL == 0 {
            return Err(HandoverError::Section { kind: header.kind.get() });
        }
        self.chain.skip(length)?;
        Ok(None)
    }

    fn filesystem(&mut self) -> Result<Step, HandoverError> {
        let header: FilesystemHeader = self.chain.record()?;
        let label = usize::from(header.label.get());
        if label > MAX_NAME || header.reserved != [0; 6] {
            return Err(self.bad("the length of a filesystem's label", label as u64));
        }
        self.fill(label)?;
        self.inodes = header.inodes.get();
        self.content = None;
        Ok(Step::Filesystem {
            root: header.root.get(),
            next_ino: header.next_ino.get(),
            size_limit: Some(header.size_limit.get()).filter(|&limit| limit != 0),
        })
    }

    fn inode(&mut self) -> Result<Step, HandoverError> {
        let header: InodeHeader = self.chain.record()?;
        let kind = match header.kind {
            KIND_REGULAR => Kind::Regular,
            KIND_DIRECTORY => Kind::Directory,
            KIND_SYMLINK => Kind::Symlink,
            other => return Err(self.bad("the kind of an inode", u64::from(other))),
        };
        let (size, count) = (header.size.get(), header.count.get());
        let fits = match kind {
            Kind::Regular => size <= FRAME_SIZE as u64 * (1 << 32),
            Kind::Directory => size == 0,
            Kind::Symlink => size == u64::from(count) && size <= MAX_TARGET as u64,
        };
        if !fits {
            return Err(self.bad("the size of an inode", size));
        }
        let (xattrs, sums) = (header.xattrs.get(), header.sums.get());
        if self.version < VERSION_2 && xattrs != 0 {
            return Err(self.bad("the length of extended attributes", u64::from(xattrs)));
        }
        if (self.version < VERSION_2 || kind != Kind::Regular) && sums != 0 {
            return Err(self.bad("the length of checksums", u64::from(sums)));
        }
        if header.mode.get() & !0o7777 != 0 {
            return Err(self.bad("the mode of an inode", u64::from(header.mode.get())));
        }
        // Only a file has content that could be damaged.
        let known = if kind == Kind::Regular { INODE_QUARANTINED } else { 0 };
        if header.flags & !known != 0 {
            return Err(self.bad("the flags of an inode", u64::from(header.flags)));
        }
        let inode = Inode {
            ino: header.ino.get(),
            kind,
            mode: header.mode.get(),
            uid: header.uid.get(),
            gid: header.gid.get(),
            links: header.links.get(),
            size,
            atime: self.time(header.atime.get(), header.atime_nanos.get())?,
            mtime: self.time(header.mtime.get(), header.mtime_nanos.get())?,
            ctime: self.time(header.ctime.get(), header.ctime_nanos.get())?,
            quarantined: header.flags & INODE_QUARANTINED != 0,
        };
        // A target comes as one item, however long.
        let left = if kind == Kind::Symlink { 1 } else { count };
        self.content = Some(Content { kind, size, xattrs, left, page: 0, sums, run: 0, window: 0 });
        Ok(Step::Inode(inode))
    }

    pub(crate) fn time(&self, seconds: i64, nanos: u32) -> Result<Time, HandoverError> {
        if nanos < 1_000_000_000 {
            Ok(Time { seconds, nanos })
        } else {
            Err(self.bad("the nanoseconds of a time", u64::from(nanos)))
        }
    }

    fn xattr(&mut self) -> Result<Step, HandoverError> {
        let header: XattrHeader = self.chain.record()?;
        let (name, value) = (usize::from(header.name), header.value.get() as usize);
        let bytes = (size_of::<XattrHeader>() + name) as u64 + value as u64;
        let left = self.content.as_ref().map_or(0, |content| content.xattrs);
        if name == 0 || value > MAX_VALUE || bytes > u64::from(left) {
            return Err(self.bad("the length of an extended attribute", value as u64));
        }
        if let Some(content) = &mut self.content {
            content.xattrs -= bytes as u32;
        }
        self.fill(name + value)?;
        Ok(Step::Xattr(name))
    }

    /// Some checksums of a run; where none is left of it, of the next.
    fn sums(&mut self) -> Result<Step, HandoverError> {
        const HEADER: u32 = size_of::<SumsHeader>() as u32;

        let Some(Content { size, mut sums, mut run, mut window, .. }) = self.content else {
            return Err(self.bad("checksums of no file", 0));
        };
        if run == 0 {
            let header: SumsHeader = self.chain.record()?;
            let (first, count) = (u64::from(header.first.get()), header.count.get());
            let windows = size.div_ceil(FRAME_SIZE as u64 * u64::from(SUM_PAGES));
            let bytes = u64::from(HEADER) + u64::from(count) * 4;
            if count == 0 || bytes > u64::from(sums) || first < window || first + u64::from(count) > windows {
                return Err(self.bad("the first window of checksums", first));
            }
            (run, window) = (count, first);
            sums -= bytes as u32;
        }
        let count = run.min(SUMS_AT_ONCE as u32);
        let first = window as u32;
        if let Some(content) = &mut self.content {
            (content.sums, content.run, content.window) = (sums, run - count, window + u64::from(count));
        }
        self.fill(count as usize * 4)?;
        Ok(Step::Sums(first))
    }

    fn kept_range(&mut self) -> Result<Step, HandoverError> {
        let record: KeptRecord = self.chain.record()?;
        let range = PfnRange { start: Pfn::new(record.start.get()), count: record.count.get() };
        let end = record.start.get().checked_add(record.count.get());
        if range.is_empty() || end.is_none() || !self.allowed.covers(range) || !self.used.insert(range) {
            return Err(self.bad("the first of the frames to keep", record.start.get()));
        }
        Ok(Step::Kept(range))
    }

    fn entry(&mut self) -> Result<Step, HandoverError> {
        let header: EntryHeader = self.chain.record()?;
        self.fill(usize::from(header.name))?;
        Ok(Step::Entry(header.ino.get()))
    }

    fn target(&mut self) -> Result<Step, HandoverError> {
        let size = self.content.as_ref().map_or(0, |content| content.size);
        self.fill(size as usize)?;
        Ok(Step::Target)
    }

    fn extent(&mut self) -> Result<Step, HandoverError> {
        let record: ExtentRecord = self.chain.record()?;
        let (extent, unknown) = Extent::from_record(&record);
        let (from, end) = self.content.as_ref().map_or((0, 0), |content| {
            let pages = content.size.div_ceil(FRAME_SIZE as u64);
            (content.page, pages)
        });
        let fault = if extent.count == 0 {
            Some(ExtentFault::Empty)
        } else if unknown != 0 {
            Some(ExtentFault::UnknownFlags)
        } else if u64::from(extent.index) < from {
            Some(ExtentFault::OutOfOrder)
        } else if extent.end() > end {
            Some(ExtentFault::BeyondEnd)
        } else if self.allowed.covers(extent.frames()) && self.used.insert(extent.frames()) {
            None
        } else if self.used.overlaps(extent.frames()) {
            Some(ExtentFault::InUse)
        } else {
            Some(ExtentFault::NotPreservable)
        };
        if let Some(fault) = fault {
            return Ok(Step::Rejected(extent, fault));
        }
        if let Some(content) = &mut self.content {
            content.page = extent.end();
        }
        Ok(Step::Extent(extent))
    }
}

/// The buffer as checksums.
fn words(bytes: &[u8]) -> &[U32] {
    // It holds a whole number of them.
    <[U32]>::ref_from_bytes(bytes).unwrap_or_default()
}
