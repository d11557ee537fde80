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
    #[inline]
    pub(super) fn read(&self, size: u64, pos: u64, out: &mut [u8], ahead: &mut ReadAhead) -> Result<usize, FillError> {
        self.cache.read(self.id, size, pos, out, ahead)
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
