//! What the tests of filesystems on disk share: a disk in memory that can fail, images made by mke2fs, a machine.

#![allow(dead_code, reason = "each test program uses a part of it")]

use cache::PageCache;
use cleancache::{Cleancache, Kind, PoolConfig};
use frames::Zones;
use frames::arena::Arena;
use fs::block::{BlockDevice, BlockError, BlockStats, ReadRequest, SECTOR_SIZE, WriteRequest};
use fs::ext2::Ext2;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// A disk in memory.
#[derive(Default)]
pub struct MemoryDisk {
    image: Mutex<Vec<u8>>,
    /// Requests that touch this sector fail.
    bad_sector: Mutex<Option<u64>>,
    /// How often each sector was read.
    pub reads_of: Mutex<HashMap<u64, u32>>,
    pub batches: AtomicU64,
    pub requests: AtomicU64,
}

impl MemoryDisk {
    pub fn new(image: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { image: Mutex::new(image), ..Self::default() })
    }

    /// Somebody else changes the disk.
    pub fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.image.lock().unwrap());
    }

    /// Let requests that touch `sector` fail, or none.
    pub fn fail(&self, sector: Option<u64>) {
        *self.bad_sector.lock().unwrap() = sector;
    }
}

impl BlockDevice for MemoryDisk {
    fn name(&self) -> &str {
        "memory"
    }

    fn sectors(&self) -> u64 {
        (self.image.lock().unwrap().len() / SECTOR_SIZE) as u64
    }

    fn read_only(&self) -> bool {
        true
    }

    fn read(&self, requests: &mut [ReadRequest<'_, '_>]) -> Result<(), BlockError> {
        self.batches.fetch_add(1, Relaxed);
        let sectors = self.sectors();
        let image = self.image.lock().unwrap();
        let mut outcome = Ok(());
        for request in requests {
            self.requests.fetch_add(1, Relaxed);
            let mut sector = request.sector;
            assert!(request.segments.iter().all(|segment| !segment.is_empty() && segment.len() % SECTOR_SIZE == 0));
            for part in request.segments.iter_mut().flat_map(|segment| segment.chunks_mut(SECTOR_SIZE)) {
                let at = sector as usize * SECTOR_SIZE;
                let error = match image.get(at..at + SECTOR_SIZE) {
                    _ if *self.bad_sector.lock().unwrap() == Some(sector) => BlockError::Io { sector: request.sector },
                    None => BlockError::OutOfRange { sector: request.sector, sectors },
                    Some(bytes) => {
                        part.copy_from_slice(bytes);
                        *self.reads_of.lock().unwrap().entry(sector).or_default() += 1;
                        sector += 1;
                        continue;
                    }
                };
                outcome = outcome.and(Err(error));
                break;
            }
        }
        outcome
    }

    fn write(&self, _: &[WriteRequest<'_>]) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn stats(&self) -> BlockStats {
        BlockStats { reads: self.requests.load(Relaxed), ..BlockStats::default() }
    }
}

/// A machine with a page cache and nothing in it.
pub struct Machine {
    // Dropped in this order: the arena asserts that every frame came back.
    pub cache: Arc<PageCache>,
    pub arena: Arena,
}

impl Machine {
    pub fn new(frames: usize) -> Self {
        let arena = Arena::new(frames);
        let cleancache = Arc::new(Cleancache::new(arena.memory(), cleancache::Config::default()));
        Self { cache: PageCache::new(arena.memory(), cleancache), arena }
    }

    /// One that has `donated` frames more, which are cleancache's.
    pub fn with_cleancache(frames: usize, donated: usize, exclusive: bool) -> Self {
        let arena = Arena::new(frames + donated);
        let config = cleancache::Config { exclusive, ..cleancache::Config::default() };
        let cleancache = Arc::new(Cleancache::new(arena.memory(), config));
        let pool = PoolConfig { name: "pool".into(), kind: Kind::Fixed, scrub: false };
        let pool = cleancache.register_pool(pool).expect("a pool");
        for _ in 0..donated {
            let frame = arena.memory().allocate(Zones::Preservable).expect("memory");
            assert!(cleancache.donate(pool, frame).is_ok());
        }
        Self { cache: PageCache::new(arena.memory(), cleancache), arena }
    }

    pub fn mount(&self, disk: &Arc<MemoryDisk>) -> Result<Arc<Ext2>, fs::Error> {
        Ext2::mount(disk.clone(), self.cache.clone())
    }
}

/// A directory of this test run's own, empty.
pub fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// An ext2 image of `size` KiB with the content of `tree`.
pub fn make_image(tree: &Path, block_size: usize, kib: usize, options: &[&str]) -> Vec<u8> {
    let image = tree.with_extension(format!("{block_size}.img"));
    let _ = std::fs::remove_file(&image);
    // A user's PATH often lacks the directories of such tools.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let made = Command::new("mke2fs")
        .env("PATH", path)
        .args(["-q", "-F", "-t", "ext2", "-m", "0", "-b", &block_size.to_string()])
        .args(options)
        .arg("-d")
        .args([tree, &image])
        .arg(format!("{kib}k"))
        .output()
        .expect("mke2fs (package e2fsprogs)");
    assert!(made.status.success(), "mke2fs: {}", String::from_utf8_lossy(&made.stderr));
    let bytes = std::fs::read(&image).unwrap();
    std::fs::remove_file(&image).unwrap();
    bytes
}

/// Numbers that look random and are the same in each run (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(len).collect()
    }
}
