//! Writing a handover: items go in one after the other, in one pass, and counts and lengths are filled in behind them.

use crate::chain::{ChainWriter, Sealed};
use crate::error::WriteError;
use crate::layout::{
    EntryHeader, FilesystemHeader, INODE_QUARANTINED, InodeHeader, KIND_DIRECTORY, KIND_REGULAR, KIND_SYMLINK,
    KeptRecord, MAGIC, MAX_BUILD, MAX_NAME, MAX_TARGET, MAX_VALUE, OLDEST_READ, Root, SECTION_FILESYSTEM, SECTION_KEPT,
    SECTION_OPTIONAL, SumsHeader, VERSION, VERSION_2, XattrHeader, min_reader,
};
use crate::types::{Extent, Filesystem, Inode, Kind};
use core::mem::offset_of;
use frames::{Frame, PfnRange, PhysAddr};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// This kernel is the n-th after the first boot, which is number 0.
    pub generation: u32,
    /// The name of its build, at most [`MAX_BUILD`] bytes.
    pub build: &'a [u8],
    /// The version of the format: what whoever reads this understands.
    pub version: u32,
}

/// A handover that is being written.
pub struct Writer<'a> {
    pub(crate) chain: ChainWriter<'a>,
    pub(crate) version: u32,
    generation: u32,
    build: [u8; MAX_BUILD],
}

impl<'a> Writer<'a> {
    /// Begin one. `allocate` gives frames that outlive the kexec: none of the scratch area.
    ///
    /// # Errors
    /// [`WriteError::NoMemory`], [`WriteError::TooLong`], [`WriteError::Version`].
    pub fn new(about: &About<'_>, allocate: &'a mut dyn FnMut() -> Option<Frame>) -> Result<Self, WriteError> {
        let version = about.version;
        if !(OLDEST_READ..=VERSION).contains(&version) {
            return Err(WriteError::Version(version));
        }
        let mut build = [0; MAX_BUILD];
        let length = about.build.len();
        build.get_mut(..length).ok_or(WriteError::TooLong { what: "a build", length })?.copy_from_slice(about.build);
        Ok(Self { chain: ChainWriter::new(allocate)?, version, generation: about.generation, build })
    }

    /// Begin a filesystem, which is to be [finished](FilesystemWriter::finish).
    ///
    /// # Errors
    /// [`WriteError::NoMemory`], [`WriteError::TooLong`].
    pub fn filesystem(&mut self, filesystem: &Filesystem<'_>) -> Result<FilesystemWriter<'_, 'a>, WriteError> {
        let length = filesystem.label.len();
        if length > MAX_NAME {
            return Err(WriteError::TooLong { what: "a label", length });
        }
        let section = self.chain.begin_section(SECTION_FILESYSTEM, 0)?;
        let header = self.chain.length();
        self.chain.put_record(&FilesystemHeader {
            root: filesystem.root.into(),
            next_ino: filesystem.next_ino.into(),
            inodes: 0.into(),
            size_limit: filesystem.size_limit.unwrap_or(0).into(),
            label: (length as u16).into(),
            reserved: [0; 6],
        })?;
        self.chain.put(filesystem.label)?;
        let version = self.version;
        Ok(FilesystemWriter { chain: &mut self.chain, version, section, header, inodes: 0, inode: None })
    }

    /// Frames that the next kernel keeps until it is up: what it takes to come back to this one. Version 1 has no place for them.
    ///
    /// # Errors
    /// [`WriteError::NoMemory`].
    pub fn keep(&mut self, ranges: &[PfnRange]) -> Result<(), WriteError> {
        if self.version < VERSION_2 || ranges.is_empty() {
            return Ok(());
        }
        let section = self.chain.begin_section(SECTION_KEPT, SECTION_OPTIONAL)?;
        for range in ranges {
            self.chain.put_record(&KeptRecord { start: range.start.get().into(), count: range.count.into() })?;
        }
        self.chain.end_section(section);
        Ok(())
    }

    /// Where it can be found, once it is finished.
    pub fn root(&self) -> PhysAddr {
        self.chain.root()
    }

    /// Bytes of metadata so far.
    pub fn bytes(&self) -> u64 {
        self.chain.length()
    }

    /// Everything is written: link and seal the chain.
    pub fn finish(self) -> Sealed {
        let root = Root {
            magic: MAGIC,
            version: self.version.into(),
            min_reader: min_reader(self.version).into(),
            checksum: 0.into(),
            generation: self.generation.into(),
            next: 0.into(),
            next_checksum: 0.into(),
            frames: 0.into(),
            length: 0.into(),
            build: self.build,
            reserved: [0; 16],
        };
        self.chain.seal(root)
    }
}

/// The inode that was begun last.
struct Open {
    kind: Kind,
    /// Where its header is.
    header: u64,
    /// Bytes of extended attributes so far, items of content, bytes of checksums.
    xattrs: u32,
    count: u32,
    sums: u32,
    /// An extent that the next one may still be joined to.
    pending: Option<Extent>,
}

/// One filesystem of a handover that is being written. Each inode is followed by its content.
pub struct FilesystemWriter<'w, 'a> {
    chain: &'w mut ChainWriter<'a>,
    version: u32,
    section: u64,
    header: u64,
    inodes: u64,
    inode: Option<Open>,
}

impl FilesystemWriter<'_, '_> {
    /// Begin an inode.
    ///
    /// # Errors
    /// [`WriteError::NoMemory`].
    pub fn inode(&mut self, inode: &Inode) -> Result<(), WriteError> {
        self.close_inode()?;
        let header = self.chain.length();
        let kind = match inode.kind {
            Kind::Regular => KIND_REGULAR,
            Kind::Directory => KIND_DIRECTORY,
            Kind::Symlink => KIND_SYMLINK,
        };
        self.chain.put_record(&InodeHeader {
            ino: inode.ino.into(),
            size: inode.size.into(),
            atime: inode.atime.seconds.into(),
            mtime: inode.mtime.seconds.into(),
            ctime: inode.ctime.seconds.into(),
            atime_nanos: inode.atime.nanos.into(),
            mtime_nanos: inode.mtime.nanos.into(),
            ctime_nanos: inode.ctime.nanos.into(),
            uid: inode.uid.into(),
            gid: inode.gid.into(),
            links: inode.links.into(),
            mode: inode.mode.into(),
            kind,
            flags: if inode.quarantined { INODE_QUARANTINED } else { 0 },
            count: 0.into(),
            xattrs: 0.into(),
            sums: 0.into(),
        })?;
        self.inodes += 1;
        self.inode = Some(Open { kind: inode.kind, header, xattrs: 0, count: 0, sums: 0, pending: None });
        Ok(())
    }

    /// An extended attribute of the inode that was begun last, before its content.
    ///
    /// # Errors
    /// [`WriteError`]; [`WriteError::NeedsVersion`] in version 1.
    pub fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), WriteError> {
        let what = "an extended attribute";
        if self.version < VERSION_2 {
            return Err(WriteError::NeedsVersion { what, version: VERSION_2 });
        }
        let length = name.len();
        let name_length = u8::try_from(length).map_err(|_| WriteError::TooLong { what, length })?;
        if value.len() > MAX_VALUE {
            return Err(WriteError::TooLong { what, length: value.len() });
        }
        let open = self.inode.as_mut().filter(|open| open.count == 0 && open.pending.is_none() && length > 0);
        let open = open.ok_or(WriteError::Misplaced(what))?;
        let bytes = (size_of::<XattrHeader>() + length + value.len()) as u32;
        open.xattrs = open.xattrs.checked_add(bytes).ok_or(WriteError::TooLong { what, length: value.len() })?;
        self.chain.put_record(&XattrHeader { value: (value.len() as u32).into(), name: name_length })?;
        self.chain.put(name)?;
        self.chain.put(value)
    }

    /// A name in the directory that was begun last.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn entry(&mut self, ino: u64, name: &[u8]) -> Result<(), WriteError> {
        let length = name.len();
        let name_length = u8::try_from(length).map_err(|_| WriteError::TooLong { what: "a name", length })?;
        self.count(Kind::Directory, 1, "an entry")?;
        self.chain.put_record(&EntryHeader { ino: ino.into(), name: name_length })?;
        self.chain.put(name)
    }

    /// Where the symbolic link leads that was begun last, once.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn target(&mut self, target: &[u8]) -> Result<(), WriteError> {
        let length = target.len();
        if length > MAX_TARGET {
            return Err(WriteError::TooLong { what: "a symbolic link", length });
        }
        self.count(Kind::Symlink, length as u32, "a target")?;
        self.chain.put(target)
    }

    /// Content of the file that was begun last, in the order of the index. Neighbours become one extent.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn extent(&mut self, extent: Extent) -> Result<(), WriteError> {
        self.count(Kind::Regular, 0, "an extent")?;
        let Some(open) = &mut self.inode else { return Ok(()) };
        match open.pending.and_then(|pending| pending.join(&extent)) {
            Some(joined) => open.pending = Some(joined),
            None => {
                self.flush()?;
                if let Some(open) = &mut self.inode {
                    open.pending = Some(extent);
                }
            }
        }
        Ok(())
    }

    /// Checksums of consecutive windows of the file that was begun last, from window `first` on: after its extents, in the order of
    /// the windows. Version 1 has no place for them, and its content is not verified.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn sums(&mut self, first: u32, sums: &[u32]) -> Result<(), WriteError> {
        if self.version < VERSION_2 || sums.is_empty() {
            return Ok(());
        }
        self.flush()?;
        let misplaced = WriteError::Misplaced("a checksum");
        let open = self.inode.as_mut().filter(|open| open.kind == Kind::Regular).ok_or(misplaced)?;
        let count = u32::try_from(sums.len()).map_err(|_| misplaced)?;
        let bytes = count.checked_mul(4).and_then(|bytes| bytes.checked_add(size_of::<SumsHeader>() as u32));
        open.sums = bytes.and_then(|bytes| open.sums.checked_add(bytes)).ok_or(misplaced)?;
        self.chain.put_record(&SumsHeader { first: first.into(), count: count.into() })?;
        self.chain.put_words(sums)
    }

    /// The filesystem is complete.
    ///
    /// # Errors
    /// [`WriteError::NoMemory`].
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.close_inode()?;
        let inodes = U64::new(self.inodes);
        self.chain.patch(self.header + offset_of!(FilesystemHeader, inodes) as u64, inodes.as_bytes());
        self.chain.end_section(self.section);
        Ok(())
    }

    fn count(&mut self, kind: Kind, by: u32, what: &'static str) -> Result<(), WriteError> {
        let open = self.inode.as_mut().filter(|open| open.kind == kind).ok_or(WriteError::Misplaced(what))?;
        open.count = open.count.checked_add(by).ok_or(WriteError::Misplaced(what))?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let Some(extent) = self.inode.as_mut().and_then(|open| open.pending.take()) else { return Ok(()) };
        self.count(Kind::Regular, 1, "an extent")?;
        self.chain.put_record(&extent.to_record())
    }

    fn close_inode(&mut self) -> Result<(), WriteError> {
        self.flush()?;
        if let Some(open) = self.inode.take() {
            const COUNT: u64 = offset_of!(InodeHeader, count) as u64;
            const _: () = assert!(offset_of!(InodeHeader, xattrs) as u64 == COUNT + 4);
            const _: () = assert!(offset_of!(InodeHeader, sums) as u64 == COUNT + 8);
            let counts = [open.count, open.xattrs, open.sums].map(U32::new);
            self.chain.patch(open.header + COUNT, counts.as_bytes());
        }
        Ok(())
    }
}
