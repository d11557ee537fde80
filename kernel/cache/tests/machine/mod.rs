//! A machine with a disk in memory, for tests of the page cache in front of a cleancache.

#![allow(dead_code, reason = "each test program uses a part of it")]

use cache::{Backing, Cleancache, FileId, FillError, FsId, Identity, PageCache, ReadAhead};
use cleancache::{Config, Kind, PoolConfig, PoolId, PoolStats};
use frames::arena::Arena;
use frames::{FRAME_SIZE, Frame, Memory, Page, Pfn, Zones};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What happens while the disk is at work: no lock of the cache is held then, so it may be anything.
type Meanwhile = Box<dyn FnOnce() + Send>;
/// A page of a file.
type Place = (u64, u32);

/// A disk with some files. What was never written reads as a pattern that tells file and place.
#[derive(Default)]
pub struct Disk {
    written: Mutex<HashMap<Place, Box<Page>>>,
    bad: Mutex<BTreeSet<Place>>,
    /// A page of a write that fails, counted from its beginning, and those before it arrive. Once.
    stops: Mutex<Option<usize>>,
    dead: AtomicBool,
    /// First page and length of each write.
    runs: Mutex<Vec<(u64, u32, usize)>>,
    failures: AtomicU64,
    pages_read: AtomicU64,
    /// How often somebody else wrote to it.
    pub written_elsewhere: AtomicU64,
    /// When the bytes of a fill have been read, and before they reach the cache.
    during_fill: Mutex<Option<Meanwhile>>,
    /// While a page is on its way to the disk.
    during_write: Mutex<Option<Meanwhile>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(meanwhile: &Mutex<Option<Meanwhile>>) {
    let deed = lock(meanwhile).take();
    if let Some(deed) = deed {
        deed();
    }
}

/// What the disk has at first.
pub fn pattern(ino: u64, index: u32) -> Page {
    let mut page = [0; FRAME_SIZE];
    for (at, word) in page.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(ino << 40 | u64::from(index) << 12 | at as u64).to_le_bytes());
    }
    page
}

impl Disk {
    pub fn written(&self) -> MutexGuard<'_, HashMap<Place, Box<Page>>> {
        lock(&self.written)
    }

    /// Pages that can be neither read nor written.
    pub fn bad(&self) -> MutexGuard<'_, BTreeSet<Place>> {
        lock(&self.bad)
    }

    /// The next write that is longer has no memory after `pages` pages, which arrive.
    pub fn stop_next(&self, pages: usize) {
        *lock(&self.stops) = Some(pages);
    }

    /// Nothing is written any more.
    pub fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// The writes so far: inode, first page and length.
    pub fn runs(&self) -> Vec<(u64, u32, usize)> {
        lock(&self.runs).clone()
    }

    /// Writes that failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub fn pages_read(&self) -> u64 {
        self.pages_read.load(Ordering::Relaxed)
    }

    /// Write past the page cache.
    pub fn put(&self, ino: u64, index: u32, value: u8) {
        self.written().insert((ino, index), Box::new([value; FRAME_SIZE]));
    }

    pub fn during_fill(&self, deed: impl FnOnce() + Send + 'static) {
        *lock(&self.during_fill) = Some(Box::new(deed));
    }

    pub fn during_write(&self, deed: impl FnOnce() + Send + 'static) {
        *lock(&self.during_write) = Some(Box::new(deed));
    }

    /// The file ends at `size`: what the filesystem does to the disk. Everything behind reads as zeros from now on.
    pub fn cut(&self, ino: u64, size: u64, pages: u32) {
        let mut written = self.written();
        for index in 0..pages {
            let start = u64::from(index) * FRAME_SIZE as u64;
            let keep = size.saturating_sub(start).min(FRAME_SIZE as u64) as usize;
            if keep < FRAME_SIZE {
                let page = written.entry((ino, index)).or_insert_with(|| Box::new(pattern(ino, index)));
                page[keep..].fill(0);
            }
        }
    }
}

impl Backing for Disk {
    fn fill(&self, ino: u64, first: u32, pages: &mut [Frame]) -> Result<(), FillError> {
        for (index, page) in (first..).zip(pages) {
            self.pages_read.fetch_add(1, Ordering::Relaxed);
            if self.bad().contains(&(ino, index)) {
                return Err(FillError::Device { sector: u64::from(index) });
            }
            let bytes = self.written().get(&(ino, index)).map_or_else(|| pattern(ino, index), |page| **page);
            page.copy_from(&bytes);
        }
        run(&self.during_fill);
        Ok(())
    }

    fn identity(&self) -> Option<Identity> {
        let written = self.written_elsewhere.load(Ordering::Relaxed) as u32;
        Some(Identity { uuid: [7; 16], sectors: 8 << 10, written, ..Identity::default() })
    }

    fn write(&self, ino: u64, first: u32, pages: &[&Page]) -> Result<(), FillError> {
        lock(&self.runs).push((ino, first, pages.len()));
        let outcome = self.put_all(ino, first, pages);
        self.failures.fetch_add(outcome.is_err().into(), Ordering::Relaxed);
        outcome
    }
}

impl Disk {
    fn put_all(&self, ino: u64, first: u32, pages: &[&Page]) -> Result<(), FillError> {
        if self.dead.load(Ordering::Relaxed) {
            return Err(FillError::DeadDevice);
        }
        for (done, (index, page)) in (first..).zip(pages).enumerate() {
            if lock(&self.stops).take_if(|stop| *stop == done).is_some() {
                return Err(FillError::NoMemory);
            }
            if self.bad().contains(&(ino, index)) {
                return Err(FillError::Device { sector: u64::from(index) });
            }
            run(&self.during_write);
            self.written().insert((ino, index), Box::new(**page));
        }
        Ok(())
    }
}

pub struct Machine {
    pub cache: Arc<PageCache>,
    pub disk: Arc<Disk>,
    pub pool: PoolId,
    pub fs: FsId,
    pub memory: &'static Memory,
    /// What the last reader of each file knew.
    readers: Mutex<HashMap<FileId, ReadAhead>>,
    /// Last, so that everything has come back when it is dropped.
    pub arena: Arena,
}

/// A machine with `frames` frames, and `donated` more that go to cleancache.
pub fn machine(frames: usize, donated: usize, config: Config) -> (Machine, Vec<Pfn>) {
    machine_with(frames, donated, config, Kind::Fixed)
}

pub fn machine_with(frames: usize, donated: usize, config: Config, kind: Kind) -> (Machine, Vec<Pfn>) {
    let arena = Arena::with_scratch(frames + donated, frames / 4);
    let own = |_| arena.memory().allocate(Zones::Preservable).expect("memory");
    let lent: Vec<Frame> = (0..donated).map(own).collect();
    build(arena, config, kind, lent)
}

/// A machine that a host lends frames which it can write to itself.
pub fn shared_machine(frames: usize, donated: usize, config: Config) -> (Machine, Vec<Pfn>) {
    let (arena, annex) = Arena::with_annex(frames, donated);
    let kind = Kind::Untrusted(annex.range());
    build(arena, config, kind, annex.into_iter().collect())
}

fn build(arena: Arena, config: Config, kind: Kind, frames: Vec<Frame>) -> (Machine, Vec<Pfn>) {
    let memory = arena.memory();
    let cleancache = Arc::new(Cleancache::new(memory, config));
    let pool = PoolConfig { name: "pool".into(), kind, scrub: false };
    let pool = cleancache.register_pool(pool).expect("a pool");
    let lent = frames.iter().map(Frame::pfn).collect();
    for frame in frames {
        assert!(cleancache.donate(pool, frame).is_ok());
    }
    let cache = PageCache::new(memory, cleancache);
    let disk = Arc::new(Disk::default());
    let fs = cache.add_fs("disk", disk.clone());
    (Machine { cache, disk, pool, fs, memory, readers: Mutex::default(), arena }, lent)
}

impl Machine {
    pub fn open(&self, ino: u64) -> FileId {
        self.cache.open(self.fs, ino, 0).expect("mounted")
    }

    pub fn read(&self, file: FileId, size: u64, pos: u64, len: usize) -> Result<Vec<u8>, FillError> {
        let mut out = vec![0xaa; len];
        let mut ahead = self.readers.lock().expect("no panic").get(&file).map(ReadAhead::anew).unwrap_or_default();
        let got = self.cache.read(file, size, pos, &mut out, &mut ahead);
        self.readers.lock().expect("no panic").insert(file, ahead);
        let got = got?;
        out.truncate(got);
        Ok(out)
    }

    /// The first `pages` pages of a file.
    pub fn read_all(&self, file: FileId, pages: u32) -> Vec<u8> {
        let len = pages as usize * FRAME_SIZE;
        self.read(file, len as u64, 0, len).expect("a good disk")
    }

    /// The one pool.
    pub fn pool(&self) -> PoolStats {
        self.cache.cleancache().pool_stats().swap_remove(0)
    }

    /// Every frame is free, in the page cache, or donated.
    pub fn check_frames(&self) {
        let pools = self.cache.cleancache().pool_stats();
        let own = |pool: &&PoolStats| !matches!(pool.kind, Kind::Untrusted(_));
        let donated: u64 = pools.iter().filter(own).map(|pool| pool.donated).sum();
        assert_eq!(self.memory.stats().owned(), self.cache.stats().pages() + donated);
        for pool in pools {
            assert_eq!(pool.donated, pool.free + pool.cached + pool.in_transit);
        }
    }
}
