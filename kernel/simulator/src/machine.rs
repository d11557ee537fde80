//! The real page cache and the real cleancache, over a disk that counts.

use crate::trace::{Access, Page, Size, Trace};
use cache::{Backing, Cleancache, FileId, FillError, FsId, PageCache, ReadAhead};
use cleancache::{Config, Kind, PoolConfig};
use frames::arena::Arena;
use frames::{FRAME_SIZE, Frame, Memory, Zones};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Written pages after which all are written back, so that reclaim finds clean ones.
const DIRTY: usize = 64;
/// Where in a page a read looks. Not at its start: page 0 would be taken for the first of a sequential reader.
const WITHIN: u64 = 8;

/// Why a trace came to its end early: the simulator's own fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A read or a write failed.
    Failed(FillError),
    /// A reader saw another page than the one it asked for.
    WrongPage(Page),
    /// The machine could not be set up.
    NoFrames,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "{error}"),
            Self::WrongPage(page) => write!(f, "a reader of {page:?} saw another page"),
            Self::NoFrames => f.write_str("no frames to donate"),
        }
    }
}

impl std::error::Error for Broken {}

/// A disk on which every page begins with its own name.
#[derive(Default)]
struct Disk {
    reads: AtomicU64,
}

fn name(page: Page) -> [u8; 8] {
    (u64::from(page.file) << 32 | u64::from(page.index)).to_le_bytes()
}

impl Backing for Disk {
    fn fill(&self, ino: u64, first: u32, pages: &mut [Frame]) -> Result<(), FillError> {
        self.reads.fetch_add(pages.len() as u64, Ordering::Relaxed);
        for (index, page) in (first..=u32::MAX).zip(pages) {
            let at = WITHIN as usize;
            page.bytes_mut()[at..at + 8].copy_from_slice(&name(Page { file: ino as u32, index }));
        }
        Ok(())
    }

    fn write(&self, _: u64, _: u32, _: &[&frames::Page]) -> Result<(), FillError> {
        Ok(())
    }
}

/// A machine, and what it has open.
struct Machine {
    cache: Arc<PageCache>,
    disk: Arc<Disk>,
    fs: FsId,
    files: HashMap<u32, FileId>,
    dirty: usize,
    content: Box<[u8; FRAME_SIZE]>,
}

/// Frames of a machine in which reclaim leaves room for `pages`: there are so many above its low watermark.
fn frames_for(pages: usize) -> usize {
    // The watermark is two parts in 800 of all frames, within bounds (`Memory`), so this comes to rest soon.
    let mut frames = pages;
    loop {
        let all = pages + 2 * (frames / 800).clamp(32, 2048);
        if all == frames {
            return frames;
        }
        frames = all;
    }
}

/// Pages that `trace` reads from disk, with a cleancache that behaves as `config` says, or with no frame donated. The frames
/// that are donated come on top of those of the page cache.
///
/// # Errors
/// [`Broken`], when the caches did not do their work.
pub fn run(trace: &Trace, config: Option<Config>) -> Result<u64, Broken> {
    let Size { memory: own, donated } = trace.size;
    let donated = if config.is_some() { donated } else { 0 };
    let arena = Arena::new(frames_for(own + donated));
    let config = Config { capacity: donated, ..config.unwrap_or_default() };
    let mut machine = Machine::new(arena.memory(), donated, config)?;
    let mut before = 0;
    for (at, &access) in trace.accesses.iter().enumerate() {
        if at == trace.warm_up {
            before = machine.disk.reads.load(Ordering::Relaxed);
        }
        machine.access(access)?;
    }
    Ok(machine.disk.reads.load(Ordering::Relaxed) - before)
}

impl Machine {
    fn new(memory: &'static Memory, donated: usize, config: Config) -> Result<Self, Broken> {
        let cleancache = Arc::new(Cleancache::new(memory, config));
        let pool = cleancache
            .register_pool(PoolConfig { name: "donated".into(), kind: Kind::Exchangeable, scrub: false })
            .ok_or(Broken::NoFrames)?;
        for _ in 0..donated {
            let frame = memory.allocate(Zones::Ephemeral).ok_or(Broken::NoFrames)?;
            cleancache.donate(pool, frame).map_err(|_| Broken::NoFrames)?;
        }
        let cache = PageCache::new(memory, cleancache);
        let disk = Arc::new(Disk::default());
        let fs = cache.add_fs("disk", disk.clone());
        let content = Box::new([0; FRAME_SIZE]);
        Ok(Self { cache, disk, fs, files: HashMap::new(), dirty: 0, content })
    }

    fn access(&mut self, access: Access) -> Result<(), Broken> {
        let page = access.page();
        let file = self.file(page.file)?;
        let pos = u64::from(page.index) * FRAME_SIZE as u64;
        let size = pos + FRAME_SIZE as u64;
        match access {
            Access::Read(_) => {
                let mut seen = [0; 8];
                let read = self.cache.read(file, size, pos + WITHIN, &mut seen, &mut ReadAhead::default());
                read.map_err(Broken::Failed)?;
                if seen != name(page) {
                    return Err(Broken::WrongPage(page));
                }
            }
            Access::Write(_) => {
                let at = WITHIN as usize;
                self.content[at..at + 8].copy_from_slice(&name(page));
                self.cache.write(file, size, pos, &self.content[..]).map_err(Broken::Failed)?;
                self.dirty += 1;
                if self.dirty == DIRTY {
                    self.dirty = 0;
                    self.cache.sync(None).map_err(Broken::Failed)?;
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, number: u32) -> Result<FileId, Broken> {
        if let Some(&file) = self.files.get(&number) {
            return Ok(file);
        }
        let file = self.cache.open(self.fs, u64::from(number), 0).map_err(Broken::Failed)?;
        self.files.insert(number, file);
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn trace(memory: usize, donated: usize, indices: impl Iterator<Item = u32>) -> Trace {
        let accesses = indices.map(|index| Access::Read(Page { file: index % 3, index })).collect();
        Trace { name: String::new(), accesses, warm_up: 0, size: Size { memory, donated } }
    }

    #[test]
    fn a_machine_has_room_for_the_pages_that_it_is_asked_for() {
        for pages in [100, 4096, 25_599, 25_600, 100_000] {
            let arena = Arena::new(frames_for(pages));
            let memory = arena.memory();
            assert_eq!(u64::from(memory.watermarks().low) + pages as u64, memory.stats().total);
        }
    }

    #[test]
    fn what_memory_holds_is_read_once_and_what_is_larger_by_one_reclaim_is_not() {
        let loops = |length: u32| trace(300, 100, (0..2000).map(move |at| at % length));
        // Reclaim frees up to its high watermark, 32 pages at a time.
        let fits = loops(300 + 100 - 32);
        assert_eq!(run(&fits, Some(Config::default())), Ok(368));
        assert!(run(&fits, None).expect("whole caches") > 1500, "without donated frames");
        assert!(run(&loops(440), Some(Config::default())).expect("whole caches") > 440);
    }

    #[test]
    fn pages_that_are_written_are_read_back_from_where_they_are() {
        let mut trace = trace(200, 50, (0..1000).map(|at| at * 7 % 400));
        for access in trace.accesses.iter_mut().step_by(3) {
            *access = Access::Write(access.page());
        }
        let misses = run(&trace, Some(Config::default())).expect("right pages");
        assert!(misses >= reference::belady(&trace, 250));
    }

    #[test]
    fn pages_that_were_active_once_give_way_to_a_loop_that_all_memory_holds() {
        // Hot pages between others, until nearly half of the page cache is active; then none of them any more.
        let past = (0..20).flat_map(|round| (0..140).chain(1000 + round * 80..1080 + round * 80));
        let looping = (0..12).flat_map(|_| 10_000..10_520);
        let mut trace = trace(300, 300, past.chain(looping));
        trace.warm_up = 20 * 220;
        // In the order of LRU, so that it is the page cache that is looked at.
        let config = Config { policy: |_| Box::new(cleancache::policy::Lru), ..Config::default() };
        let misses = run(&trace, Some(config)).expect("whole caches");
        assert_eq!(reference::lru(&trace, 600), 520);
        assert!(misses < 3 * 520, "{misses} of {}", trace.counted());
    }
}
