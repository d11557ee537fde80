//! Reading what was cached: files, and runs of their pages.

use crate::error::HandoverError;
use crate::items::{Items, Step};
use crate::layout::{
    CacheHeader, CachedFileHeader, EXTENT_COLD, EXTENT_PFN_BITS, ExtentRecord, MAX_NAME, SUMS_AT_ONCE,
};
use crate::types::{CacheOf, CachedFile, CachedPages};
use frames::{Pfn, PfnRange};

/// Where the reading of a cache stands.
#[derive(Default)]
pub(crate) struct CacheState {
    /// Files that are still to come, and runs of this file.
    files: u64,
    runs: u32,
    /// The first page after the runs so far.
    page: u64,
    /// The run that is being handed out, and how many pages are left of it.
    run: Option<(CachedPages, u32)>,
    /// Pages that were left out, because they cannot be where they should.
    pub(crate) rejected: u64,
}

impl Items<'_> {
    pub(crate) fn cache_of(&mut self) -> Result<Step, HandoverError> {
        let header: CacheHeader = self.chain.record()?;
        let label = usize::from(header.label.get());
        if label > MAX_NAME || header.reserved != [0; 6] {
            return Err(self.bad("the length of a disk's label", label as u64));
        }
        self.fill(label)?;
        self.cache = CacheState { files: header.files.get(), rejected: self.cache.rejected, ..CacheState::default() };
        Ok(Step::Cache(CacheOf {
            label: b"",
            uuid: header.uuid,
            sectors: header.sectors.get(),
            superblock: header.superblock.get(),
            mounts: header.mounts.get(),
            state: header.state.get(),
            mounted: header.mounted.get(),
            written: header.written.get(),
        }))
    }

    /// The next of a cache, if one is being read. Each turn takes bytes of the chain.
    pub(crate) fn cached(&mut self) -> Result<Option<Step>, HandoverError> {
        loop {
            if let Some((pages, left)) = self.cache.run.take() {
                return self.pages(pages, left).map(Some);
            }
            if self.cache.runs > 0 {
                self.cache.runs -= 1;
                self.run()?;
                continue;
            }
            if self.cache.files == 0 {
                return Ok(None);
            }
            self.cache.files -= 1;
            return self.file().map(Some);
        }
    }

    fn file(&mut self) -> Result<Step, HandoverError> {
        let header: CachedFileHeader = self.chain.record()?;
        (self.cache.runs, self.cache.page) = (header.runs.get(), 0);
        Ok(Step::CachedFile(CachedFile {
            ino: header.ino.get(),
            generation: header.generation.get(),
            ctime: self.time(header.ctime.get(), header.ctime_nanos.get())?,
            inode: header.inode.get(),
        }))
    }

    /// Begin a run, or pass over one that cannot be used.
    fn run(&mut self) -> Result<(), HandoverError> {
        const PFN: u64 = (1 << EXTENT_PFN_BITS) - 1;

        let record: ExtentRecord = self.chain.record()?;
        let (location, index, count) = (record.location.get(), record.index.get(), record.count.get());
        let frames = PfnRange { start: Pfn::new(location & PFN), count: u64::from(count) };
        let in_order = u64::from(index) >= self.cache.page && u64::from(index) + u64::from(count) <= 1 << 32;
        let known = location & !PFN & !EXTENT_COLD == 0;
        // Whether the frames can be used comes last, as it makes them used.
        if count > 0 && in_order && known && self.allowed.covers(frames) && self.used.insert(frames) {
            self.cache.page = u64::from(index) + u64::from(count);
            let pages = CachedPages { index, start: frames.start, cold: location & EXTENT_COLD != 0 };
            self.cache.run = Some((pages, count));
            Ok(())
        } else {
            self.cache.rejected += u64::from(count);
            self.chain.skip(u64::from(count) * 4)
        }
    }

    fn pages(&mut self, pages: CachedPages, left: u32) -> Result<Step, HandoverError> {
        let count = left.min(SUMS_AT_ONCE as u32);
        if count < left {
            let index = pages.index.saturating_add(count);
            let rest = CachedPages { index, start: pages.start.offset(u64::from(count)), ..pages };
            self.cache.run = Some((rest, left - count));
        }
        self.fill(count as usize * 4)?;
        Ok(Step::CachedPages(pages))
    }
}
