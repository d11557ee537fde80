//! A page cache over an arena, with a file that is read from nowhere.
#![allow(dead_code, reason = "each test file uses its part")]

use cache::{Backing, FileId, FillError, Identity, InheritedFile, InheritedPages, PageCache, ReadAhead, Stamp};
use cleancache::{Cleancache, Config};
use frames::arena::Arena;
use frames::{FRAME_SIZE, Frame, Memory, Page, PfnRange};
use std::sync::Arc;

/// Pages of the file.
pub const FILE_PAGES: u32 = 512;

struct Numbers;

impl Backing for Numbers {
    fn fill(&self, _ino: u64, first: u32, pages: &mut [Frame]) -> Result<(), FillError> {
        for (index, page) in (first..).zip(pages) {
            *page.bytes_mut() = [index as u8 ^ 0x5a; FRAME_SIZE];
        }
        Ok(())
    }

    fn write(&self, _ino: u64, _first: u32, _pages: &[&Page]) -> Result<(), FillError> {
        Err(FillError::ReadOnly)
    }
}

/// The caches of a small machine, and a file.
pub struct Guest {
    pub cache: Arc<PageCache>,
    file: FileId,
}

impl Guest {
    pub fn new(arena: &Arena) -> Self {
        Self::over(arena.memory())
    }

    pub fn over(memory: &'static Memory) -> Self {
        let config = Config { capacity: 1024, ..Config::default() };
        let cache = PageCache::new(memory, Arc::new(Cleancache::new(memory, config)));
        let fs = cache.add_fs("numbers", Arc::new(Numbers));
        let file = cache.open(fs, 1, 0).unwrap();
        Self { cache, file }
    }

    pub fn cleancache(&self) -> &Arc<Cleancache> {
        self.cache.cleancache()
    }

    /// Reads a page of the file, and finds what is in it.
    pub fn read(&self, page: u32) {
        let mut bytes = [0; FRAME_SIZE];
        let at = u64::from(page) * FRAME_SIZE as u64;
        let size = u64::from(FILE_PAGES) * FRAME_SIZE as u64;
        match self.cache.read(self.file, size, at, &mut bytes, &mut ReadAhead::default()) {
            Ok(read) => {
                assert_eq!(read, FRAME_SIZE);
                assert!(bytes.iter().all(|&byte| byte == page as u8 ^ 0x5a), "page {page} is not what was in the file");
            }
            // All memory may be in use for something else.
            Err(error) => assert_eq!(error, FillError::NoMemory),
        }
    }

    /// Pages of the kernel before lie in these frames; they were in cleancache.
    pub fn inherit(&self, frames: PfnRange) {
        self.cache.inherit("disk", Identity::default());
        assert!(self.cache.inherit_file(InheritedFile { ino: 1, generation: 0, stamp: Stamp::default() }));
        let pages = InheritedPages { index: 0, start: frames.start, cold: true };
        assert!(self.cache.inherit_pages(pages, &vec![0; frames.count as usize]));
    }

    /// Frames of a pool.
    pub fn donated(&self, name: &str) -> u64 {
        self.cleancache().pool_stats().iter().filter(|pool| pool.name == name).map(|pool| pool.donated).sum()
    }
}
