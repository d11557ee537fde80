//! Writing down what was cached of a disk: its files, and where their pages are.

use crate::chain::ChainWriter;
use crate::error::WriteError;
use crate::layout::{
    CacheHeader, CachedFileHeader, ExtentRecord, MAX_NAME, SECTION_CACHE, SECTION_OPTIONAL, VERSION_2,
};
use crate::types::{CacheOf, CachedFile, CachedPages};
use crate::writer::Writer;
use core::mem::offset_of;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// What was cached of one disk, while it is being written. Each file is followed by its pages.
pub struct CacheWriter<'w, 'a> {
    chain: &'w mut ChainWriter<'a>,
    section: u64,
    header: u64,
    files: u64,
    /// The header of the file that was begun last, and how many runs it has.
    file: Option<(u64, u32)>,
}

impl<'a> Writer<'a> {
    /// Begin what was cached of a disk, to be [finished](CacheWriter::finish). `None` in version 1, which has no place for it: a
    /// cache can be done without.
    ///
    /// # Errors
    /// [`WriteError::NoMemory`], [`WriteError::TooLong`].
    pub fn cache(&mut self, of: &CacheOf<'_>) -> Result<Option<CacheWriter<'_, 'a>>, WriteError> {
        if self.version < VERSION_2 {
            return Ok(None);
        }
        let length = of.label.len();
        if length > MAX_NAME {
            return Err(WriteError::TooLong { what: "a label", length });
        }
        let chain = &mut self.chain;
        let section = chain.begin_section(SECTION_CACHE, SECTION_OPTIONAL)?;
        let header = chain.length();
        chain.put_record(&CacheHeader {
            uuid: of.uuid,
            sectors: of.sectors.into(),
            files: 0.into(),
            superblock: of.superblock.into(),
            mounted: of.mounted.into(),
            written: of.written.into(),
            mounts: of.mounts.into(),
            state: of.state.into(),
            label: (length as u16).into(),
            reserved: [0; 6],
        })?;
        chain.put(of.label)?;
        Ok(Some(CacheWriter { chain, section, header, files: 0, file: None }))
    }
}

impl CacheWriter<'_, '_> {
    /// Begin a file.
    ///
    /// # Errors
    /// [`WriteError::NoMemory`].
    pub fn file(&mut self, file: &CachedFile) -> Result<(), WriteError> {
        self.close_file();
        let header = self.chain.length();
        self.chain.put_record(&CachedFileHeader {
            ino: file.ino.into(),
            ctime: file.ctime.seconds.into(),
            ctime_nanos: file.ctime.nanos.min(999_999_999).into(),
            generation: file.generation.into(),
            inode: file.inode.into(),
            runs: 0.into(),
        })?;
        self.files += 1;
        self.file = Some((header, 0));
        Ok(())
    }

    /// Pages of the file that was begun last, as many as there are checksums, in the order of their index.
    ///
    /// # Errors
    /// [`WriteError::NoMemory`], [`WriteError::Misplaced`].
    pub fn pages(&mut self, pages: &CachedPages, sums: &[u32]) -> Result<(), WriteError> {
        let misplaced = WriteError::Misplaced("a cached page");
        let count = u32::try_from(sums.len()).ok().filter(|&count| count > 0).ok_or(misplaced)?;
        let (_, runs) = self.file.as_mut().ok_or(misplaced)?;
        *runs = runs.checked_add(1).ok_or(misplaced)?;
        let record: ExtentRecord = pages.to_record(count);
        self.chain.put_record(&record)?;
        self.chain.put_words(sums)
    }

    /// The cache is complete.
    pub fn finish(mut self) {
        self.close_file();
        let files = U64::new(self.files);
        self.chain.patch(self.header + offset_of!(CacheHeader, files) as u64, files.as_bytes());
        self.chain.end_section(self.section);
    }

    fn close_file(&mut self) {
        if let Some((header, runs)) = self.file.take() {
            let runs = U32::new(runs);
            self.chain.patch(header + offset_of!(CachedFileHeader, runs) as u64, runs.as_bytes());
        }
    }
}
