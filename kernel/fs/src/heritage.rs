//! Clean pages of files on disk, on their way across a kexec: from the caches into a handover, and from there to where the page
//! cache keeps what it inherited.
//!
//! They can be done without: whatever is wrong with them, or too much for memory, is left out. Which may be used at all is settled
//! when their filesystem is mounted.

use alloc::string::String;
use alloc::vec::Vec;
use cache::{Identity, InheritedFile, InheritedPages, PageCache, Stamp};
use handover::{CacheOf, CachedFile, CachedPages, Item, Time, WriteError, Writer};
use log::info;

/// What was written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Files of which pages were.
    pub files: u64,
    /// The pages.
    pub pages: u64,
    /// Pages that were left out: there was no time to hash them, or they lie where nothing outlives a kexec.
    pub left_out: u64,
}

/// Writes down which pages of files are cached, hashing at most `hashes` of them. The frames stay this kernel's until it ends; it
/// may go on using and changing them, as a page that is not what was written down is not used.
///
/// # Errors
/// [`WriteError`].
pub fn save(cache: &PageCache, writer: &mut Writer<'_>, mut hashes: usize) -> Result<Saved, WriteError> {
    let mut saved = Saved::default();
    let (mut pages, mut sums) = (Vec::new(), Vec::new());
    for heritage in cache.heritages() {
        let Identity { uuid, sectors, superblock, mounts, state, mounted, written } = heritage.identity;
        let label = heritage.label.as_bytes();
        let of = CacheOf { label, uuid, sectors, superblock, mounts, state, mounted, written };
        let Some(mut out) = writer.cache(&of)? else { return Ok(saved) };
        for handed in cache.handed_files(heritage.fs) {
            saved.left_out += cache.handed_pages(&handed, &mut hashes, &mut pages);
            if pages.is_empty() {
                continue;
            }
            let InheritedFile { ino, generation, stamp } = handed.file;
            let ctime = Time { seconds: stamp.seconds, nanos: stamp.nanos };
            out.file(&CachedFile { ino, generation, ctime, inode: stamp.inode })?;
            saved.files += 1;
            saved.pages += pages.len() as u64;
            let follows = |one: &cache::HandedPage, next: &cache::HandedPage| {
                one.cold == next.cold
                    && one.index.checked_add(1) == Some(next.index)
                    && one.frame.offset(1) == next.frame
            };
            for run in pages.chunk_by(follows) {
                let Some(first) = run.first() else { continue };
                sums.clear();
                sums.try_reserve(run.len()).map_err(|_| WriteError::NoMemory)?;
                sums.extend(run.iter().map(|page| page.sum));
                out.pages(&CachedPages { index: first.index, start: first.frame, cold: first.cold }, &sums)?;
            }
        }
        out.finish();
    }
    Ok(saved)
}

/// Takes cached pages out of a handover, whose frames are set aside.
#[derive(Debug)]
pub struct Heirs<'a> {
    cache: &'a PageCache,
    sums: Vec<u32>,
}

impl<'a> Heirs<'a> {
    /// They go to `cache`.
    pub fn new(cache: &'a PageCache) -> Self {
        Self { cache, sums: Vec::new() }
    }

    /// The next item of the handover. Those that are not about cached pages are passed over.
    pub fn take(&mut self, item: &Item<'_>) {
        match *item {
            Item::Cache(CacheOf { label, uuid, sectors, superblock, mounts, state, mounted, written }) => {
                let identity = Identity { uuid, sectors, superblock, mounts, state, mounted, written };
                self.cache.inherit(&String::from_utf8_lossy(label), identity);
            }
            Item::CachedFile(CachedFile { ino, generation, ctime, inode }) => {
                let stamp = Stamp { seconds: ctime.seconds, nanos: ctime.nanos, inode };
                self.cache.inherit_file(InheritedFile { ino, generation, stamp });
            }
            Item::CachedPages { pages: CachedPages { index, start, cold }, sums } => {
                self.sums.clear();
                self.sums.extend(sums.iter().map(|sum| sum.get()));
                self.cache.inherit_pages(InheritedPages { index, start, cold }, &self.sums);
            }
            _ => {}
        }
    }

    /// There are no more items.
    pub fn finish(self) {
        let inherited = self.cache.inherited();
        if inherited.handed_over > 0 {
            let (all, left, cold) = (inherited.handed_over, inherited.left, inherited.cold);
            info!(target: "cache", "{left} of {all} inherited pages, {cold} of them cold, wait for their filesystems");
        }
    }
}
