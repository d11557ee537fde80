//! The page cache: pages of files in memory, behind them the [cleancache], behind that what the previous kernel had [inherited],
//! behind that a filesystem.
//!
//! A filesystem gives the cache one object, its [`Backing`], that fills and writes pages; reading, read-ahead, reclaim and the
//! working set are the cache's business.
//!
//! Invariants, under one lock that is never held while a [`Backing`] works, that is open while cleancache first looks for a page, and that
//! readers of pages that are here do [not need](read):
//! - a page is in the page cache, in cleancache (exclusive, the default), inherited, or a local variable of who brings it in;
//! - every page in the cache is whole: a page being filled is a local variable, and enters only when every byte was filled and
//!   its file was not changed meanwhile (the file's epoch tells);
//! - a page that is on its way to the disk is not dropped: whoever would waits until it has arrived;
//! - no page of a file is here that its file does not know; a file that is forgotten leaves none behind.
//!
//! May touch: `frames`, `cleancache`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod backing;
mod dirty;
mod failures;
mod files;
mod handing;
mod inherited;
mod pace;
mod pages;
mod read;
mod read_ahead;
mod reclaim;
mod touched;
mod trace;
mod write;
mod write_back;

pub use backing::{Backing, FillError};
pub use cleancache::{Cleancache, FileId, FsId, StaleId};
pub use handing::{HandedFile, HandedPage, Heritage, Progress};
pub use inherited::{Identity, InheritedFile, InheritedPages, InheritedStats, Stamp};
pub use pages::Stats;
pub use read_ahead::ReadAhead;
pub use reclaim::{DropWhat, Helper, OutOfMemory, Relief};
pub use trace::Read;

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Release};
use core::time::Duration;
use files::Files;
use frames::{Glance, Lock, Memory, Rank};
use handing::Sums;
use inherited::Inherited;
use pages::Pages;
use spin::Once;
use touched::Touched;
use write_back::Air;

/// The cache.
pub struct PageCache {
    memory: &'static Memory,
    cleancache: Arc<Cleancache>,
    /// The most pages that one miss reads from disk.
    window: u32,
    relief: Once<Relief>,
    helper: Once<Helper>,
    /// Pages that became dirty since a writer looked whether they are too many.
    dirtied: AtomicU32,
    /// To read pages without the lock.
    glance: Glance,
    /// What those who do so have read.
    touched: Touched,
    /// Another one whenever those who do so have to take the lock again: a file is not known any more, or reads are traced.
    era: AtomicU64,
    state: Lock<State>,
}

/// What the lock guards.
pub(crate) struct State {
    pub(crate) pages: Pages,
    pub(crate) files: Files,
    pub(crate) inherited: Inherited,
    pub(crate) sums: Sums,
    pub(crate) air: Air,
    /// When the last round of age began.
    pub(crate) round: Duration,
}

impl State {
    /// Pages `first..=last` of `file` are changed or gone: so are inherited ones.
    #[inline]
    pub(crate) fn drop_inherited(&mut self, file: FileId, first: u32, last: u32, cleancache: &Cleancache) {
        if let Some(heir) = self.files.heir(file) {
            self.inherited.invalidate(heir, first, last, cleancache);
        }
    }
}

impl PageCache {
    /// An empty cache over all of `memory`, with `cleancache` behind it.
    pub fn new(memory: &'static Memory, cleancache: Arc<Cleancache>) -> Arc<Self> {
        Self::for_frames(memory, cleancache, memory.stats().total as usize)
    }

    /// Likewise where it will have about `frames` frames of `memory`, as the others are lent to somebody; more make it slower, not
    /// wrong. It sets aside 4 bytes a frame for its index, as much for remembering evictions, and a 512th of the frames, 64 to
    /// 256 KiB, for pages on their way to disks.
    pub fn for_frames(memory: &'static Memory, cleancache: Arc<Cleancache>, frames: usize) -> Arc<Self> {
        // 128 KiB at a time, and less where that would be much of memory.
        let window = (frames / 64).clamp(4, 32) as u32;
        let inherited = Inherited::new(memory);
        let pages = Pages::new(memory, frames);
        let glance = pages.map.glance();
        let state = State {
            pages,
            files: Files::new(),
            inherited,
            sums: Sums::default(),
            air: Air::new(frames),
            round: Duration::ZERO,
        };
        Arc::new(Self {
            memory,
            cleancache,
            window,
            relief: Once::new(),
            helper: Once::new(),
            dirtied: AtomicU32::new(0),
            glance,
            touched: Touched::new(),
            era: AtomicU64::new(1),
            state: Lock::new(Rank::PageCache, state),
        })
    }

    /// The cleancache behind this cache.
    pub fn cleancache(&self) -> &Arc<Cleancache> {
        &self.cleancache
    }

    /// The memory that pages live in.
    pub fn memory(&self) -> &'static Memory {
        self.memory
    }

    /// A filesystem was mounted; `backing` fills and writes its pages.
    pub fn add_fs(&self, name: &str, backing: Arc<dyn Backing>) -> FsId {
        let fs = self.cleancache.add_fs(name);
        self.state.lock().files.add_fs(fs, name, backing);
        fs
    }

    /// A filesystem is unmounted: every page of it is dropped, here, in cleancache and inherited ones, dirty ones too.
    pub fn remove_fs(&self, fs: FsId) {
        let mut state = self.landed(|run, files| files.is_of(run.file, fs));
        let State { pages, files, inherited, .. } = &mut *state;
        inherited.remove_fs(fs, &self.cleancache);
        for file in files.remove_fs(fs) {
            pages.drop_range(file, 0, u32::MAX);
        }
        self.begin_era();
        // A name that is stale already has nothing to drop.
        let _ = self.cleancache.remove_fs(fs);
    }

    /// The file with this inode number and generation, which stays known until it is [closed](Self::close) as often as it was
    /// opened, and longer while pages of it are cached.
    ///
    /// # Errors
    /// [`FillError::Unmounted`].
    pub fn open(&self, fs: FsId, ino: u64, generation: u32) -> Result<FileId, FillError> {
        self.open_with(fs, ino, generation, None)
    }

    /// As [`PageCache::open`], for a file that can be told again after a kexec by its `stamp`, so that its pages may be handed over.
    ///
    /// # Errors
    /// [`FillError::Unmounted`].
    pub fn open_stamped(&self, fs: FsId, ino: u64, generation: u32, stamp: Stamp) -> Result<FileId, FillError> {
        self.open_with(fs, ino, generation, Some(stamp))
    }

    fn open_with(&self, fs: FsId, ino: u64, generation: u32, stamp: Option<Stamp>) -> Result<FileId, FillError> {
        let mut state = self.state.lock();
        let State { pages, files, inherited, .. } = &mut *state;
        if files.want_sweep() {
            let idle = |file: FileId| pages.file_len(file) == 0 && self.cleancache.file_len(file) == 0;
            for file in files.sweep(idle) {
                let _ = self.cleancache.remove_file(file);
            }
            self.begin_era();
        }
        let make = || self.cleancache.add_file(fs).map_err(|_| FillError::Unmounted);
        let heir = || inherited.heir(fs, ino, generation);
        let file = files.open(fs, ino, generation, stamp, make, heir)?;
        pages.add_file(file);
        Ok(file)
    }

    /// What a file that was opened as a stamped one is told by after a kexec is `stamp` from now on.
    pub fn restamp(&self, file: FileId, stamp: Stamp) {
        self.state.lock().files.restamp(file, stamp);
    }

    /// The opener of `file` does not need it any more. Its pages stay.
    pub fn close(&self, file: FileId) {
        self.state.lock().files.close(file);
    }

    /// The file was deleted: drop its pages everywhere, and its name with them.
    pub fn forget(&self, file: FileId) {
        let mut state = self.landed_from(file, 0);
        if !state.files.knows(file) {
            return;
        }
        state.pages.drop_range(file, 0, u32::MAX);
        state.drop_inherited(file, 0, u32::MAX, &self.cleancache);
        state.files.remove(file);
        self.begin_era();
        let _ = self.cleancache.remove_file(file);
    }

    /// Readers who knew their file take the lock once, to see whether it is still known. Who calls this has the lock.
    fn begin_era(&self) {
        self.era.fetch_add(1, Release);
    }

    /// Pages `first..=last` of `file` are gone or changed below: drop them, here and in cleancache, dirty ones too.
    pub fn invalidate(&self, file: FileId, first: u32, last: u32) {
        let mut state = self.landed_from(file, first);
        if !state.files.knows(file) {
            return;
        }
        state.files.bump(file);
        state.pages.drop_range(file, first, last);
        self.cleancache.invalidate_range(file, first, last);
        state.drop_inherited(file, first, last, &self.cleancache);
    }

    /// Note from now on which pages are read, up to `most` of them, and forget what was noted before.
    pub fn trace(&self, most: usize) {
        let trace = trace::Trace::new(most);
        let mut state = self.state.lock();
        state.pages.trace = Some(trace);
        self.begin_era();
    }

    /// Note no more.
    pub fn stop_trace(&self) {
        if let Some(trace) = &mut self.state.lock().pages.trace {
            trace.stop();
        }
    }

    /// Forget what was noted.
    pub fn drop_trace(&self) {
        let trace = self.state.lock().pages.trace.take();
        drop(trace);
    }

    /// The read number `at` since the trace began.
    pub fn traced(&self, at: usize) -> Option<Read> {
        self.state.lock().pages.trace.as_ref()?.get(at)
    }

    /// What is here, and what happened.
    pub fn stats(&self) -> Stats {
        let stats = self.state.lock().pages.stats();
        Stats { hits: stats.hits + self.touched.hits(), ..stats }
    }
}

impl fmt::Debug for PageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageCache").finish_non_exhaustive()
    }
}
