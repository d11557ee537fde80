//! A small machine with a disk that remembers what each file has ever held, for tests of interleavings.
//!
//! Time is a counter of changes. What a page held counts from the moment when the disk changed until the call that told
//! the cache of the next change has returned: a reader may see the one or the other between.

use cache::{Backing, DropWhat, FillError, PageCache, ReadAhead};
use cleancache::{Cleancache, Config, FileId, FsId, Kind, PoolConfig, PoolId};
use frames::arena::Arena;
use frames::{FRAME_SIZE, Frame, Memory, Page, PfnRange, Zones};
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Files, by inode number.
pub const FILES: u64 = 2;
/// Pages of a file.
pub const PAGES: u32 = 5;

/// Here another thread may come in. Not a `yield`, with which a thread says that it can do nothing at the moment.
pub fn turn() {
    AtomicBool::new(false).load(Ordering::SeqCst);
}

/// What a page holds: a stamp that says which, and zeros from a place on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    stamp: u64,
    /// Bytes before the zeros: a multiple of 8.
    len: usize,
}

impl Content {
    fn write_to(self, page: &mut Page) {
        for (at, word) in page.chunks_exact_mut(8).enumerate() {
            let stamp = if at * 8 < self.len { self.stamp } else { 0 };
            word.copy_from_slice(&stamp.to_le_bytes());
        }
    }

    fn is(self, bytes: &[u8]) -> bool {
        let stamp = self.stamp.to_le_bytes();
        let (stamped, zeros) = bytes.split_at(self.len);
        stamped.chunks_exact(8).all(|word| word == stamp) && zeros.iter().all(|&byte| byte == 0)
    }
}

/// A content, and when it was seen.
#[derive(Clone, Copy, Debug)]
struct Held {
    content: Content,
    from: u64,
    until: Option<u64>,
}

/// A page of one life of an inode.
type Place = (u64, u32, u32);

#[derive(Default)]
struct Past {
    clock: u64,
    /// Which life of each inode the disk has.
    generation: BTreeMap<u64, u32>,
    /// What files held, by the word of those who change them.
    pages: BTreeMap<Place, Vec<Held>>,
    /// What the disk has: the same, but for what is still to be written back.
    disk: BTreeMap<(u64, u32), Content>,
    /// Pages whose place on the disk may be another file's by now.
    freed: BTreeSet<(u64, u32)>,
    /// Pages that are being cut off: the cache has dropped them, the disk has not heard of it.
    cutting: BTreeSet<(u64, u32)>,
    /// Pages that are being written.
    under_way: BTreeSet<(u64, u32)>,
}

impl Past {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn generation(&self, ino: u64) -> u32 {
        self.generation.get(&ino).copied().unwrap_or(0)
    }

    /// A page has something new, on the disk too.
    fn change(&mut self, ino: u64, index: u32, len: Option<usize>) {
        let content = self.renew(ino, index, len);
        self.disk.insert((ino, index), content);
    }

    /// A page has something new.
    fn renew(&mut self, ino: u64, index: u32, len: Option<usize>) -> Content {
        let from = self.tick();
        let generation = self.generation(ino);
        let stamp = ino << 56 | u64::from(generation) << 48 | u64::from(index) << 40 | from;
        let held = self.pages.entry((ino, generation, index)).or_default();
        let content = match (len, held.last()) {
            // Cut what is there.
            (Some(len), Some(last)) => Content { len: last.content.len.min(len), ..last.content },
            _ => Content { stamp, len: FRAME_SIZE },
        };
        held.push(Held { content, from, until: None });
        content
    }

    /// Pages from `index` on are cut off. Until that is over readers may see what the disk still has of them, as those here do not
    /// know that the file has become shorter.
    fn begin_cut(&mut self, ino: u64, index: u32) {
        self.cutting = (index..PAGES).map(|behind| (ino, behind)).collect();
        let generation = self.generation(ino);
        for behind in index..PAGES {
            let on_disk = self.disk[&(ino, behind)];
            let held = self.pages.entry((ino, generation, behind)).or_default();
            held.iter_mut().filter(|held| held.content == on_disk).for_each(|held| held.until = None);
        }
    }

    /// Nobody may see any more what was there before.
    fn settle(&mut self, ino: u64) {
        let now = self.tick();
        for (_, held) in self.pages.range_mut((ino, 0, 0)..(ino + 1, 0, 0)) {
            if let Some((_, older)) = held.split_last_mut() {
                older.iter_mut().for_each(|held| held.until = held.until.or(Some(now)));
            }
        }
    }
}

/// Fills that will fail.
#[derive(Default)]
struct Broken {
    fills: usize,
    pages: usize,
}

/// The disk. Its own lock is never held where a thread may be switched.
#[derive(Default)]
pub struct Disk {
    past: std::sync::Mutex<Past>,
    broken: std::sync::Mutex<Broken>,
}

impl Disk {
    fn past(&self) -> std::sync::MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The next `fills` fills fail, when they have filled `pages` pages or all that they were asked for.
    pub fn fail_fills(&self, fills: usize, pages: usize) {
        *self.broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Broken { fills, pages };
    }

    /// Whether this fill, which has filled `done` pages, ends here.
    fn fails(&self, done: usize, last: bool) -> bool {
        let mut broken = self.broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fails = broken.fills > 0 && (done >= broken.pages || last);
        broken.fills -= usize::from(fails);
        fails
    }
}

impl Backing for Disk {
    fn fill(&self, ino: u64, first: u32, pages: &mut [Frame]) -> Result<(), FillError> {
        let count = pages.len();
        for ((index, page), done) in (first..).zip(pages).zip(0..) {
            turn();
            if self.fails(done, done + 1 == count) {
                page.bytes_mut().fill(0x99);
                return Err(FillError::DeadDevice);
            }
            let content = self.past().disk[&(ino, index)];
            content.write_to(page.bytes_mut());
        }
        turn();
        Ok(())
    }

    fn write(&self, ino: u64, first: u32, pages: &[&Page]) -> Result<(), FillError> {
        let run = || (first..).take(pages.len()).map(|index| (ino, index));
        assert!(run().all(|place| self.past().under_way.insert(place)), "two writes of a page at once");
        for (index, page) in (first..).zip(pages) {
            turn();
            let mut past = self.past();
            assert!(!past.freed.contains(&(ino, index)), "a write to what was freed");
            let held = &past.pages[&(ino, past.generation(ino), index)];
            let content = held.iter().map(|held| held.content).find(|content| content.is(&page[..]));
            past.disk.insert((ino, index), content.expect("something that the file has held"));
        }
        turn();
        run().for_each(|place| assert!(self.past().under_way.remove(&place)));
        Ok(())
    }
}

/// A file that is, or was, open.
#[derive(Clone, Copy)]
struct Open {
    file: FileId,
    generation: u32,
}

/// What is open under each inode number.
struct Names {
    fs: FsId,
    open: BTreeMap<u64, Open>,
}

/// The machine.
pub struct World {
    pub cache: Arc<PageCache>,
    pub disk: Arc<Disk>,
    /// Whether cleancache keeps no copy of what it gives.
    exclusive: bool,
    /// Exchangeable frames, and how many.
    pub any: PoolId,
    pub any_frames: usize,
    /// Consecutive frames, which are copied to and from.
    pub fixed: PoolId,
    pub range: PfnRange,
    /// What a reader looks up.
    names: Mutex<Names>,
    /// What the last reader of each file knew. Never locked where a thread may be switched.
    readers: std::sync::Mutex<BTreeMap<FileId, ReadAhead>>,
    /// One change at a time, as a filesystem sees to.
    changes: Mutex<()>,
    /// Last, so that everything has come back when it is dropped.
    arena: Arena,
}

impl World {
    pub fn new(config: Config) -> Arc<Self> {
        const ANNEX: usize = 2;
        // So few that reading some pages makes reclaim begin.
        let (arena, annex) = Arena::with_annex(78, ANNEX);
        let exclusive = config.exclusive;
        let memory = arena.memory();
        let cleancache = Arc::new(Cleancache::new(memory, config));
        let pool = |name: &str, kind| {
            let config = PoolConfig { name: name.into(), kind, scrub: false };
            cleancache.register_pool(config).expect("a pool")
        };
        let any = pool("balloon", Kind::Exchangeable);
        let any_frames = 2;
        for _ in 0..any_frames {
            assert!(cleancache.donate(any, memory.allocate(Zones::Preservable).expect("memory")).is_ok());
        }
        let fixed = pool("carve-out", Kind::Fixed);
        let run = memory.allocate_run(Zones::Preservable, 2).expect("memory");
        let range = run.range();
        assert!(cleancache.donate_run(fixed, run).is_ok());
        let shared = pool("ivshmem", Kind::Untrusted(annex.range()));
        assert!(cleancache.donate_run(shared, annex).is_ok());

        let cache = PageCache::new(memory, cleancache);
        let disk = Arc::new(Disk::default());
        for (ino, index) in (0..FILES).flat_map(|ino| (0..PAGES).map(move |index| (ino, index))) {
            disk.past().change(ino, index, None);
        }
        let fs = cache.add_fs("disk", disk.clone());
        let names = Mutex::new(Names { fs, open: BTreeMap::new() });
        let world = Self {
            cache,
            disk,
            exclusive,
            any,
            any_frames,
            fixed,
            range,
            names,
            readers: std::sync::Mutex::default(),
            changes: Mutex::new(()),
            arena,
        };
        world.open_all();
        Arc::new(world)
    }

    pub fn memory(&self) -> &'static Memory {
        self.arena.memory()
    }

    fn open_all(&self) {
        let mut names = self.names.lock().expect("no panic");
        for ino in 0..FILES {
            let generation = self.disk.past().generation(ino);
            let file = self.cache.open(names.fs, ino, generation).expect("mounted");
            names.open.insert(ino, Open { file, generation });
        }
    }

    /// Read pages `first..=last`, each of which is what the file held between now and then.
    pub fn read(&self, ino: u64, first: u32, last: u32) {
        if let Err(error) = self.try_read(ino, first, last) {
            panic!("{error}");
        }
    }

    pub fn try_read(&self, ino: u64, first: u32, last: u32) -> Result<(), FillError> {
        let Some(open) = self.names.lock().expect("no panic").open.get(&ino).copied() else { return Ok(()) };
        let begun = self.disk.past().clock;
        let mut out = vec![0xaa; (last - first + 1) as usize * FRAME_SIZE];
        let size = u64::from(PAGES) * FRAME_SIZE as u64;
        let pos = u64::from(first) * FRAME_SIZE as u64;
        // Whoever reads knows the file from before, so he needs no lock.
        let known = self.readers.lock().expect("no panic").get(&open.file).map(ReadAhead::anew);
        let mut ahead = known.unwrap_or_default();
        let read = self.cache.read(open.file, size, pos, &mut out, &mut ahead);
        self.readers.lock().expect("no panic").insert(open.file, ahead);
        match read {
            Ok(read) => assert_eq!(read, out.len()),
            Err(FillError::Unmounted) => {
                let names = self.names.lock().expect("no panic");
                let gone = names.open.get(&ino).is_none_or(|now| now.file != open.file);
                assert!(gone, "a file that is open is not known");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let past = self.disk.past();
        for (index, page) in (first..).zip(out.chunks_exact(FRAME_SIZE)) {
            let held = &past.pages[&(ino, open.generation, index)];
            let seen = held.iter().rev().find(|held| held.content.is(page));
            let seen = seen.unwrap_or_else(|| panic!("page {index} was never that: {:x?}", &page[..16]));
            // A cut page looks like itself before it is cut again further behind: whichever was seen meanwhile will do.
            let mut same = held.iter().filter(|held| held.content.is(page));
            assert!(
                same.any(|held| held.until.is_none_or(|until| until >= begun)),
                "page {index} is as it was at {}..{:?}, read from {begun} on",
                seen.from,
                seen.until
            );
        }
        Ok(())
    }

    /// Write through the page cache.
    pub fn write(&self, ino: u64, index: u32) {
        let _changing = self.changes.lock().expect("no panic");
        let Some(file) = self.file(ino) else { return };
        let content = self.disk.past().renew(ino, index, None);
        self.disk.past().freed.remove(&(ino, index));
        let mut page = [0; FRAME_SIZE];
        content.write_to(&mut page);
        let (size, pos) = (u64::from(PAGES) * FRAME_SIZE as u64, u64::from(index) * FRAME_SIZE as u64);
        assert_eq!(self.cache.write(file, size, pos, &page), Ok(FRAME_SIZE));
        self.disk.past().settle(ino);
    }

    /// The filesystem writes to the disk, then tells the cache.
    pub fn write_past_the_cache(&self, ino: u64, first: u32, last: u32) {
        let _changing = self.changes.lock().expect("no panic");
        let Some(file) = self.file(ino) else { return };
        for index in first..=last {
            self.disk.past().change(ino, index, None);
            turn();
        }
        self.cache.invalidate(file, first, last);
        self.disk.past().settle(ino);
    }

    /// The file ends in page `index`, after `within` bytes of it, and is then as long as before, by a hole.
    pub fn truncate(&self, ino: u64, index: u32, within: usize) {
        let _changing = self.changes.lock().expect("no panic");
        let Some(file) = self.file(ino) else { return };
        for behind in index..PAGES {
            self.disk.past().change(ino, behind, Some(if behind == index { within } else { 0 }));
            turn();
        }
        self.cache.truncate(file, u64::from(index) * FRAME_SIZE as u64 + within as u64);
        self.disk.past().settle(ino);
    }

    /// As a filesystem that gives away what it cut off: the cache is told first, then the disk is another's.
    pub fn cut(&self, ino: u64, index: u32) {
        let _changing = self.changes.lock().expect("no panic");
        let Some(file) = self.file(ino) else { return };
        let size = u64::from(index) * FRAME_SIZE as u64;
        self.disk.past().begin_cut(ino, index);
        self.cache.truncate(file, size);
        for behind in index..PAGES {
            let mut past = self.disk.past();
            past.freed.insert((ino, behind));
            past.change(ino, behind, Some(0));
            drop(past);
            turn();
        }
        self.disk.past().cutting.clear();
        // Again, for what was read meanwhile.
        self.cache.truncate(file, size);
        self.disk.past().settle(ino);
    }

    /// Sync a file, after which the disk has what was there before or something newer.
    pub fn sync(&self, ino: u64) {
        let changing = self.changes.lock().expect("no panic");
        let Some(Open { file, generation }) = self.names.lock().expect("no panic").open.get(&ino).copied() else {
            return;
        };
        let before: Vec<usize> = {
            let past = self.disk.past();
            (0..PAGES).map(|index| past.pages[&(ino, generation, index)].len()).collect()
        };
        drop(changing);
        assert_eq!(self.cache.sync(Some(file)), Ok(()));
        // Of a file that goes, or has gone, the cache drops what it has not written.
        if self.file(ino) != Some(file) {
            return;
        }
        let past = self.disk.past();
        for (index, before) in (0..PAGES).zip(before).filter(|&(index, _)| !past.cutting.contains(&(ino, index))) {
            let (held, now) = (&past.pages[&(ino, generation, index)], past.disk[&(ino, index)]);
            let at = held.iter().rposition(|held| held.content == now).expect("something that the file has held");
            assert!(at + 1 >= before, "page {index} is {at} on the disk, and {before} were written before the sync");
        }
    }

    /// The file is deleted, and another one gets its inode number.
    pub fn delete(&self, ino: u64) {
        let _changing = self.changes.lock().expect("no panic");
        let mut names = self.names.lock().expect("no panic");
        let Some(open) = names.open.remove(&ino) else { return };
        drop(names);
        self.cache.forget(open.file);
        let mut past = self.disk.past();
        let generation = open.generation + 1;
        past.generation.insert(ino, generation);
        past.freed.extend((0..PAGES).map(|index| (ino, index)));
        (0..PAGES).for_each(|index| past.change(ino, index, None));
        drop(past);
        names = self.names.lock().expect("no panic");
        let file = self.cache.open(names.fs, ino, generation).expect("mounted");
        names.open.insert(ino, Open { file, generation });
    }

    /// Unmounted, changed by somebody else, and mounted again.
    pub fn remount(&self) {
        let _changing = self.changes.lock().expect("no panic");
        let mut names = self.names.lock().expect("no panic");
        names.open.clear();
        let fs = names.fs;
        drop(names);
        self.cache.remove_fs(fs);
        for (ino, index) in (0..FILES).flat_map(|ino| (0..PAGES).map(move |index| (ino, index))) {
            let mut past = self.disk.past();
            past.change(ino, index, None);
            past.settle(ino);
        }
        let fs = self.cache.add_fs("disk", self.disk.clone());
        self.names.lock().expect("no panic").fs = fs;
        self.open_all();
    }

    fn file(&self, ino: u64) -> Option<FileId> {
        self.names.lock().expect("no panic").open.get(&ino).map(|open| open.file)
    }

    /// No page is in both caches.
    fn check_places(&self) {
        let mut frame = self.memory().allocate(Zones::Ephemeral).expect("memory");
        for (ino, index) in (0..FILES).flat_map(|ino| (0..PAGES).map(move |index| (ino, index))) {
            let Some(file) = self.file(ino) else { continue };
            let here = self.cache.peek(file, u64::from(index) * FRAME_SIZE as u64, &mut [0]);
            let there = here && self.cache.cleancache().restore(file, index, &mut frame);
            assert!(!there, "page {index} of file {ino} is in both caches");
        }
    }

    /// The end: what is read is what the disk has, now that nothing happens any more; every frame is where it belongs.
    pub fn close(&self) {
        if self.exclusive {
            self.check_places();
        }
        self.cache.sync(None).expect("a good disk");
        assert_eq!(self.cache.stats().dirty, 0);
        for what in [DropWhat::Pages, DropWhat::All, DropWhat::Pages] {
            (0..FILES).for_each(|ino| self.read(ino, 0, PAGES - 1));
            self.cache.drop_caches(what);
        }
        let cleancache = self.cache.cleancache();
        let stats = cleancache.pool_stats();
        assert_eq!(stats.iter().map(|pool| pool.donated).collect::<Vec<_>>(), [2, 4, 2]);
        assert!(stats.iter().all(|pool| pool.donated == pool.free + pool.cached && pool.damaged == 0));
        let lent: u64 = stats[..2].iter().map(|pool| pool.donated).sum();
        assert_eq!(self.memory().stats().owned(), self.cache.stats().pages() + lent, "frames that nobody has");
        let names = self.names.lock().expect("no panic");
        self.cache.remove_fs(names.fs);
        assert_eq!(self.memory().stats().owned(), lent);
        assert!(cleancache.pool_stats().iter().all(|pool| pool.cached == 0));
        let back = cleancache.take_range(self.fixed, self.range).expect("all of it");
        assert_eq!(back.range(), self.range);
        assert_eq!(cleancache.unregister_pool(self.any).expect("a pool").len(), self.any_frames);
    }
}
