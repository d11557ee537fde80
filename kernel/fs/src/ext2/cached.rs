//! A file in the page cache, held by its name there.

use alloc::sync::Arc;
use cache::{FileId, FillError, FsId, PageCache, ReadAhead, Stamp};
use core::fmt;

/// Keeps a file known to the page cache; dropping it lets the page cache forget the file when it likes.
pub(super) struct CachedFile {
    cache: Arc<PageCache>,
    id: FileId,
}

impl CachedFile {
    /// The file `ino` of `fs`. Generations tell apart the files that had one number; `stamp` tells this one after a kexec.
    pub(super) fn open(
        cache: &Arc<PageCache>,
        fs: FsId,
        ino: u64,
        generation: u32,
        stamp: Stamp,
    ) -> Result<Self, FillError> {
        Ok(Self { cache: Arc::clone(cache), id: cache.open_stamped(fs, ino, generation, stamp)? })
    }

    /// Read at `pos` into `out`, of a file of `size` bytes; short only at its end.
    pub(super) fn read(&self, size: u64, pos: u64, out: &mut [u8], ahead: &mut ReadAhead) -> Result<usize, FillError> {
        self.cache.read(self.id, size, pos, out, ahead)
    }

    /// As [`CachedFile::read`], if it is of one page that is in the page cache; whether it was.
    #[inline(always)]
    pub(super) fn read_within_page(&self, size: u64, pos: u64, out: &mut [u8], ahead: &mut ReadAhead) -> bool {
        self.cache.read_within_page(self.id, size, pos, out, ahead)
    }

    /// Copy what is at `pos` into `out`, if it is in the page cache.
    pub(super) fn peek(&self, pos: u64, out: &mut [u8]) -> bool {
        self.cache.peek(self.id, pos, out)
    }

    /// Write `data`, which lies within one page, at `pos` of a file of `size` bytes. Its blocks have been allocated.
    #[inline]
    pub(super) fn write(&self, size: u64, pos: u64, data: &[u8]) -> Result<usize, FillError> {
        self.cache.write(self.id, size, pos, data)
    }

    /// Pages `first..=last` are changed below.
    pub(super) fn invalidate(&self, first: u32, last: u32) {
        self.cache.invalidate(self.id, first, last);
    }

    /// The file was deleted.
    pub(super) fn forget(&self) {
        self.cache.forget(self.id);
    }

    /// The file is `size` bytes long from now on.
    pub(super) fn truncate(&self, size: u64) {
        self.cache.truncate(self.id, size);
    }

    /// Bring what was written to the disk, and hear of what could not be.
    pub(super) fn sync(&self) -> Result<(), FillError> {
        self.cache.sync(Some(self.id))
    }

    /// Bring what was written to the disk; what could not be is told to whoever asks by [`CachedFile::sync`].
    pub(super) fn write_out(&self) -> Result<(), FillError> {
        self.cache.write_out(Some(self.id))
    }

    /// The inode was written; this is what the file is told by from now on.
    pub(super) fn restamp(&self, stamp: Stamp) {
        self.cache.restamp(self.id, stamp);
    }
}

impl Drop for CachedFile {
    fn drop(&mut self) {
        self.cache.close(self.id);
    }
}

impl fmt::Debug for CachedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CachedFile").field(&self.id).finish()
    }
}
