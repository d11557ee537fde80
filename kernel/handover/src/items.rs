//! Reading what a proved chain says, item by item.
//!
//! The checksums say that these are the bytes that were written; they do not say that whoever wrote them was sane. A structure
//! that contradicts itself ends the reading. An extent that cannot be true is handed out as rejected and the reading goes on, for
//! it spoils one file only.

use crate::chain::ChainReader;
use crate::error::HandoverError;
use crate::layout::{
    EntryHeader, ExtentRecord, FilesystemHeader, INODE_QUARANTINED, InodeHeader, KIND_DIRECTORY, KIND_REGULAR,
    KIND_SYMLINK, MAX_NAME, MAX_TARGET, SECTION_FILESYSTEM, SECTION_OPTIONAL, SectionHeader,
};
use crate::open::{PhysMap, PhysRead};
use crate::set::FrameSet;
use crate::types::{Extent, ExtentFault, Filesystem, Inode, Item, Kind, Time};
use alloc::vec::Vec;
use frames::{FRAME_SIZE, Pfn, PfnRange};

/// Who says where content may lie.
pub(crate) enum Allowed<'a> {
    /// The map of memory, the first time.
    Map(&'a dyn PhysMap),
    /// The frames that were reserved then, from then on.
    Set(&'a FrameSet),
}

impl Allowed<'_> {
    fn covers(&self, range: PfnRange) -> bool {
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
    /// Items that are still to come.
    left: u32,
    /// The first page after the extents so far.
    page: u64,
}

/// What has been read and not yet handed out; names and targets are in the buffer.
enum Step {
    Filesystem { root: u64, next_ino: u64, size_limit: Option<u64> },
    Inode(Inode),
    Entry(u64),
    Target,
    Extent(Extent),
    Rejected(Extent, ExtentFault),
}

/// The items of a handover, in the order in which they were written.
pub struct Items<'a> {
    chain: ChainReader<'a>,
    allowed: Allowed<'a>,
    /// Frames that have their use: the blob's, and those of the extents so far.
    used: FrameSet,
    /// Bytes of payload.
    length: u64,
    /// Inodes of this filesystem that are still to come.
    inodes: u64,
    content: Option<Content>,
    buffer: Vec<u8>,
}

impl<'a> Items<'a> {
    pub(crate) fn new(
        memory: &'a dyn PhysRead,
        blob: &'a [Pfn],
        length: u64,
        allowed: Allowed<'a>,
        used: FrameSet,
    ) -> Result<Self, HandoverError> {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(MAX_TARGET).map_err(|_| HandoverError::NoMemory)?;
        let chain = ChainReader::new(memory, blob);
        Ok(Self { chain, allowed, used, length, inodes: 0, content: None, buffer })
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
        }))
    }

    fn step(&mut self) -> Result<Option<Step>, HandoverError> {
        if let Some(content) = self.content.as_mut().filter(|content| content.left > 0) {
            content.left -= 1;
            return match content.kind {
                Kind::Directory => self.entry().map(Some),
                Kind::Symlink => self.target().map(Some),
                Kind::Regular => self.extent().map(Some),
            };
        }
        if self.inodes > 0 {
            self.inodes -= 1;
            return self.inode().map(Some);
        }
        if self.chain.left() > 0 {
            return Err(self.bad("the number of bytes after the last inode", self.chain.left()));
        }
        while self.chain.position() < self.length {
            if let Some(filesystem) = self.section()? {
                return Ok(Some(filesystem));
            }
        }
        Ok(None)
    }

    fn bad(&self, what: &'static str, value: u64) -> HandoverError {
        HandoverError::Field { what, value, at: self.chain.position() }
    }

    /// Read into the buffer.
    fn fill(&mut self, bytes: usize) -> Result<(), HandoverError> {
        self.buffer.clear();
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
        if header.kind.get() == SECTION_FILESYSTEM {
            return self.filesystem().map(Some);
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
        if header.xattrs.get() != 0 {
            return Err(self.bad("the length of extended attributes", u64::from(header.xattrs.get())));
        }
        if header.mode.get() & !0o7777 != 0 {
            return Err(self.bad("the mode of an inode", u64::from(header.mode.get())));
        }
        // Only a file has content that could be damaged.
        let known = if kind == Kind::Regular { INODE_QUARANTINED } else { 0 };
        if header.flags & !known != 0 || header.reserved != [0; 4] {
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
        self.content = Some(Content { kind, size, left, page: 0 });
        Ok(Step::Inode(inode))
    }

    fn time(&self, seconds: i64, nanos: u32) -> Result<Time, HandoverError> {
        if nanos < 1_000_000_000 {
            Ok(Time { seconds, nanos })
        } else {
            Err(self.bad("the nanoseconds of a time", u64::from(nanos)))
        }
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
        } else if self.used.overlaps(extent.frames()) {
            Some(ExtentFault::InUse)
        } else if !self.allowed.covers(extent.frames()) || !self.used.insert(extent.frames()) {
            Some(ExtentFault::NotPreservable)
        } else {
            None
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
