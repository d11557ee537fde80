//! Pages that cross a kexec: whatever is handed over, read, written, dropped, taken back or damaged, every byte read is the
//! disk's, and every frame is somewhere.

mod machine;

use cache::{Backing, Cleancache, DropWhat, FileId, FsId, InheritedFile, InheritedPages, PageCache, ReadAhead, Stamp};
use cleancache::{Config, Kind, PoolConfig, PoolId};
use frames::arena::{Arena, BASE};
use frames::{FRAME_SIZE, Frame, FrameRun, PfnRange, Zone, Zones};
use machine::{Disk, pattern};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const FRAMES: usize = 560;
const SCRATCH: usize = 100;
/// The range that a pool lends, at the top.
const LENT: PfnRange = PfnRange { start: BASE.offset(500), count: 60 };
const LABEL: &str = "disk";
const PAGES: u32 = 60;
const SIZE: u64 = PAGES as u64 * FRAME_SIZE as u64;

/// One kernel.
struct Kernel {
    cache: Arc<PageCache>,
    fs: FsId,
    disk: Arc<Disk>,
    /// The pool that lends [`LENT`], and one whose frames are all alike.
    lender: PoolId,
    balloon: PoolId,
    arena: Arena,
}

/// How a kexec goes wrong.
#[derive(Clone, Copy, Debug, Default)]
struct Mishap {
    /// One page in so many is damaged on the way.
    damaged: Option<usize>,
    /// Somebody writes to the disk meanwhile.
    written: bool,
}

/// Frames that the balloon lends.
const BALLOON: u64 = 30;

impl Kernel {
    fn first() -> Self {
        let arena = Arena::with_scratch(FRAMES, SCRATCH).kexec(&[LENT]);
        let mut kernel = Self::boot(arena, Arc::new(Disk::default()), &[LENT]);
        kernel.fs = kernel.cache.add_fs(LABEL, kernel.disk.clone());
        kernel.fill_balloon();
        kernel
    }

    /// A kernel before anything was inherited, with `lent` in the pool; nothing is mounted.
    fn boot(arena: Arena, disk: Arc<Disk>, lent: &[PfnRange]) -> Self {
        let memory = arena.memory();
        let cleancache = Arc::new(Cleancache::new(memory, Config { capacity: 100, ..Config::default() }));
        let pool = |name: &str, kind| {
            cleancache.register_pool(PoolConfig { name: name.into(), kind, scrub: false }).expect("a pool")
        };
        let (lender, balloon) = (pool("lender", Kind::Fixed), pool("balloon", Kind::Exchangeable));
        let cache = PageCache::new(memory, cleancache);
        cache.lodge(LENT, lender);
        for &range in lent {
            let run: FrameRun = memory.claim(range).expect("set aside");
            assert!(cache.cleancache().donate_run(lender, run).is_ok());
        }
        let fs = FsId::from((0, 0));
        Self { cache, fs, disk, lender, balloon, arena }
    }

    fn fill_balloon(&self) {
        let owed = self.cache.owe(self.balloon, BALLOON);
        for _ in owed..BALLOON {
            let frame = self.cache.allocate(Zones::Preservable).expect("memory");
            assert!(self.cache.cleancache().donate(self.balloon, frame).is_ok());
        }
    }

    fn open(&self, ino: u64) -> FileId {
        self.cache.open_stamped(self.fs, ino, 0, stamp(ino)).expect("mounted")
    }

    fn read(&self, ino: u64, index: u32) -> Vec<u8> {
        let file = self.open(ino);
        let mut page = vec![0xaa; FRAME_SIZE];
        let pos = u64::from(index) * FRAME_SIZE as u64;
        let read = self.cache.read(file, SIZE, pos, &mut page, &mut ReadAhead::default());
        assert_eq!(read, Ok(FRAME_SIZE));
        self.cache.close(file);
        page
    }

    /// What the disk has.
    fn on_disk(&self, ino: u64, index: u32) -> Vec<u8> {
        self.disk.written().get(&(ino, index)).map_or_else(|| pattern(ino, index), |page| **page).to_vec()
    }

    fn expect(&self, ino: u64, index: u32) {
        assert!(self.read(ino, index) == self.on_disk(ino, index), "page {index} of file {ino}");
    }

    /// Every frame is free, in the page cache, in a pool, or set aside with an inherited page in it; and pools get what is theirs.
    fn check(&self) {
        let (stats, inherited) = (self.arena.memory().stats(), self.cache.inherited());
        let pools = self.cache.cleancache().pool_stats();
        let donated: u64 = pools.iter().map(|pool| pool.donated).sum();
        assert_eq!(stats.owned(), self.cache.stats().pages() + donated);
        assert_eq!(stats.set_aside, inherited.left, "{inherited:?}");
        let gone = inherited.taken + inherited.failed + inherited.dropped;
        assert_eq!(inherited.handed_over, gone + inherited.left, "{inherited:?}");
    }

    /// The next kernel, which has not mounted anything yet.
    fn hand_over(self, mishap: Mishap) -> Self {
        assert_eq!(self.cache.sync(None), Ok(()));
        assert!(self.cache.prepare_handover(usize::MAX).done);
        let memory = self.arena.memory();
        let mut handed = Vec::new();
        let mut hashes = 0;
        for heritage in self.cache.heritages() {
            for of in self.cache.handed_files(heritage.fs) {
                let mut pages = Vec::new();
                self.cache.handed_pages(&of, &mut hashes, &mut pages);
                assert!(pages.is_sorted_by(|one, next| one.index < next.index));
                assert!(pages.iter().all(|page| memory.zone_of(page.frame) == Zone::Normal));
                handed.push((of.file, pages, heritage.identity));
            }
        }
        let mut frames: Vec<_> = handed.iter().flat_map(|(_, pages, _)| pages).map(|page| page.frame).collect();
        frames.sort_unstable();
        let count = frames.len();
        frames.dedup();
        assert_eq!(frames.len(), count, "two pages in one frame");
        let single = |start| PfnRange { start, count: 1 };
        let spare: Vec<PfnRange> = (0..LENT.count)
            .map(|at| LENT.start.offset(at))
            .filter(|pfn| frames.binary_search(pfn).is_err())
            .map(single)
            .collect();
        let mut set_aside: Vec<PfnRange> = frames.into_iter().map(single).chain(spare.iter().copied()).collect();
        set_aside.sort_unstable();
        let next = Self::boot(self.arena.kexec(&set_aside), self.disk.clone(), &spare);
        drop(self);
        if mishap.written {
            next.disk.written_elsewhere.fetch_add(1, Ordering::Relaxed);
            next.disk.put(1, 3, 0x77);
        }
        let Some(&(_, _, identity)) = handed.first() else {
            next.fill_balloon();
            return next;
        };
        next.cache.inherit(LABEL, identity);
        let mut number = 0;
        for (file, pages, _) in handed {
            assert!(next.cache.inherit_file(file));
            let follows = |one: &cache::HandedPage, next: &cache::HandedPage| {
                one.cold == next.cold && one.index + 1 == next.index && one.frame.offset(1) == next.frame
            };
            for run in pages.chunk_by(follows) {
                let sum = |page: &cache::HandedPage| {
                    number += 1;
                    page.sum ^ u32::from(mishap.damaged.is_some_and(|one_in| number % one_in == 0))
                };
                let sums: Vec<u32> = run.iter().map(sum).collect();
                let pages = InheritedPages { index: run[0].index, start: run[0].frame, cold: run[0].cold };
                assert!(next.cache.inherit_pages(pages, &sums));
            }
        }
        next.check();
        next.fill_balloon();
        next
    }

    /// What a filesystem does.
    fn mount(&mut self) -> u64 {
        self.fs = self.cache.add_fs(LABEL, self.disk.clone());
        match self.cache.inheritance(LABEL) {
            Some(identity) if Some(identity) == self.disk.identity() => self.cache.accept(LABEL, self.fs),
            Some(_) => {
                assert!(self.cache.disinherit(LABEL, "it was written") > 0);
                0
            }
            None => 0,
        }
    }

    fn kexec(self, mishap: Mishap) -> Self {
        let mut next = self.hand_over(mishap);
        next.mount();
        next.check();
        next
    }
}

fn stamp(ino: u64) -> Stamp {
    Stamp { seconds: ino as i64, nanos: 1, inode: 2 }
}

#[test]
fn what_was_cached_is_not_read_from_disk_again() {
    let kernel = Kernel::first();
    (0..PAGES).for_each(|index| kernel.expect(1, index));
    // Some of it is cold.
    kernel.cache.drop_caches(DropWhat::Pages);
    (0..20).for_each(|index| kernel.expect(1, index));
    let read = kernel.disk.pages_read();
    let kernel = kernel.kexec(Mishap::default());
    let stats = kernel.cache.inherited();
    assert_eq!((stats.handed_over, stats.left), (PAGES.into(), PAGES.into()));
    assert!(stats.cold > 0 && stats.cold <= 40, "{stats:?}");
    // Another kexec hands on what nobody has looked at.
    let kernel = kernel.kexec(Mishap::default());
    (0..10).for_each(|index| kernel.expect(1, index));
    let kernel = kernel.kexec(Mishap::default());
    (0..PAGES).for_each(|index| kernel.expect(1, index));
    assert_eq!(kernel.disk.pages_read(), read);
    let stats = kernel.cache.inherited();
    assert_eq!((stats.taken, stats.left, stats.failed, stats.dropped), (PAGES.into(), 0, 0, 0));
    kernel.check();
}

#[test]
fn nothing_is_used_before_the_filesystem_is_proved() {
    let kernel = Kernel::first();
    (0..10).for_each(|index| kernel.expect(1, index));
    let mut kernel = kernel.hand_over(Mishap::default());
    let read = kernel.disk.pages_read();
    kernel.fs = kernel.cache.add_fs(LABEL, kernel.disk.clone());
    (0..5).for_each(|index| kernel.expect(1, index));
    assert_eq!(kernel.disk.pages_read(), read + 5);
    assert_eq!(kernel.cache.inherited().taken, 0);
    // Another filesystem than the one that was accepted has no share either.
    let other = kernel.cache.add_fs("other", kernel.disk.clone());
    assert_eq!(kernel.cache.accept(LABEL, other), 10);
    (5..10).for_each(|index| kernel.expect(1, index));
    assert_eq!((kernel.disk.pages_read(), kernel.cache.inherited().taken), (read + 10, 0));
}

#[test]
fn a_disk_that_was_written_loses_all_of_it_and_is_read() {
    let kernel = Kernel::first();
    (0..10).for_each(|index| kernel.expect(1, index));
    let kernel = kernel.kexec(Mishap { written: true, ..Mishap::default() });
    let stats = kernel.cache.inherited();
    assert_eq!((stats.dropped, stats.left, stats.why.as_deref()), (10, 0, Some("it was written")));
    assert_eq!(kernel.read(1, 3), [0x77; FRAME_SIZE]);
    kernel.check();
}

#[test]
fn a_damaged_page_is_a_miss() {
    let kernel = Kernel::first();
    (0..20).for_each(|index| kernel.expect(1, index));
    let read = kernel.disk.pages_read();
    let kernel = kernel.kexec(Mishap { damaged: Some(4), ..Mishap::default() });
    (0..20).for_each(|index| kernel.expect(1, index));
    let stats = kernel.cache.inherited();
    assert_eq!((stats.taken, stats.failed, kernel.disk.pages_read()), (15, 5, read + 5));
    kernel.check();
}

#[test]
fn a_file_of_another_generation_is_another_file() {
    let kernel = Kernel::first();
    kernel.expect(1, 0);
    let kernel = kernel.kexec(Mishap::default());
    let file = kernel.cache.open_stamped(kernel.fs, 1, 1, stamp(1)).expect("mounted");
    let mut byte = [0];
    let (read, left) = (kernel.disk.pages_read(), kernel.cache.inherited().left);
    assert_eq!(kernel.cache.read(file, SIZE, 0, &mut byte, &mut ReadAhead::off()), Ok(1));
    assert_eq!((kernel.disk.pages_read(), kernel.cache.inherited().left), (read + 1, left));
}

#[test]
fn a_page_that_is_written_over_unread_is_not_inherited_any_more() {
    let kernel = Kernel::first();
    (0..10).for_each(|index| kernel.expect(1, index));
    let kernel = kernel.kexec(Mishap::default());
    let file = kernel.open(1);
    let left = || kernel.cache.inherited().left;
    assert_eq!(kernel.cache.write(file, SIZE, 3 * 4096, &[7; FRAME_SIZE]), Ok(FRAME_SIZE));
    assert_eq!(left(), 9);
    kernel.cache.invalidate(file, 5, 6);
    assert_eq!(left(), 7);
    kernel.cache.truncate(file, 8 * 4096 + 10);
    assert_eq!(left(), 5, "the page that is cut is read again");
    kernel.cache.forget(file);
    assert_eq!(left(), 0);
    kernel.check();
}

#[test]
fn pools_get_their_frames_as_inherited_pages_go() {
    let kernel = Kernel::first();
    for ino in 1..11 {
        (0..PAGES).for_each(|index| kernel.expect(ino, index));
    }
    let frames = |kernel: &Kernel, at: usize| kernel.cache.cleancache().pool_stats()[at].donated;
    assert_eq!((frames(&kernel, 0), frames(&kernel, 1)), (LENT.count, BALLOON));
    let kernel = kernel.kexec(Mishap::default());
    let (lent, balloon) = (frames(&kernel, 0), frames(&kernel, 1));
    assert!(lent < LENT.count / 4 && balloon < BALLOON / 4, "the pools had no pages: {lent} {balloon}");
    // A range that somebody wants is vacated, whatever lies there.
    let range = PfnRange { start: LENT.start, count: LENT.count / 2 };
    assert!(kernel.cache.vacate(range) > 0);
    assert!(kernel.cache.cleancache().take_range(kernel.lender, range).is_ok_and(|run| run.range() == range));
    // Frames that are wanted of the other pool are found.
    assert!(kernel.cache.settle(kernel.balloon, 10) == 10);
    kernel.check();
    // New pages displace those that are colder.
    for ino in 11..24 {
        (0..PAGES).for_each(|index| kernel.expect(ino, index));
    }
    assert_eq!((frames(&kernel, 0), frames(&kernel, 1)), (LENT.count / 2, BALLOON));
    kernel.check();
}

#[test]
fn memory_that_is_short_is_taken_from_inherited_pages_first() {
    let kernel = Kernel::first();
    for ino in 1..6 {
        (0..PAGES).for_each(|index| kernel.expect(ino, index));
    }
    let kernel = kernel.kexec(Mishap::default());
    (0..20).for_each(|index| kernel.expect(9, index));
    let (pages, left) = (kernel.cache.stats().pages(), kernel.cache.inherited().left);
    assert!(left > 100);
    assert_eq!(kernel.cache.reclaim(50), 50);
    assert_eq!((kernel.cache.stats().pages(), kernel.cache.inherited().left), (pages, left - 50));
    assert_eq!(kernel.cache.try_reclaim(50), 50);
    assert_eq!(kernel.cache.stats().pages(), pages);
    let held: Vec<Frame> = std::iter::from_fn(|| kernel.cache.allocate(Zones::Preservable).ok()).collect();
    let inherited = kernel.cache.inherited();
    // What is left is what pools have a claim to.
    assert!(inherited.left <= LENT.count + BALLOON && held.len() > 150, "{} held, {inherited:?}", held.len());
    drop(held);
    kernel.cache.drop_caches(DropWhat::All);
    assert_eq!(kernel.cache.inherited().left, 0);
    kernel.check();
}

#[test]
fn a_page_that_changed_after_it_was_hashed_is_hashed_again() {
    let kernel = Kernel::first();
    let file = kernel.open(1);
    (0..4).for_each(|index| kernel.expect(1, index));
    assert!(kernel.cache.prepare_handover(usize::MAX).done);
    assert_eq!(kernel.cache.prepare_handover(usize::MAX).hashed, 0, "nothing is hashed twice");
    assert_eq!(kernel.cache.write(file, SIZE, 0, &[1; 10]), Ok(10));
    assert_eq!(kernel.cache.sync(None), Ok(()));
    let [of] = kernel.cache.handed_files(kernel.fs)[..] else { panic!("one file") };
    let (mut hashes, mut pages) = (3, Vec::new());
    // The file has changed, so none of its sums is believed.
    assert_eq!(kernel.cache.handed_pages(&of, &mut hashes, &mut pages), 1);
    assert_eq!((pages.len(), hashes), (3, 0));
    kernel.cache.close(file);
    let kernel = kernel.kexec(Mishap::default());
    (0..4).for_each(|index| kernel.expect(1, index));
    assert_eq!(kernel.cache.inherited().failed, 0);
}

#[test]
fn what_cannot_be_is_not_inherited() {
    let arena = Arena::with_scratch(FRAMES, SCRATCH);
    let range = PfnRange { start: BASE.offset(200), count: 40 };
    let kernel = Kernel::boot(arena.kexec(&[range]), Arc::new(Disk::default()), &[]);
    let cache = &kernel.cache;
    let pages = |index, at| InheritedPages { index, start: range.start.offset(at), cold: false };
    let file = |ino| InheritedFile { ino, generation: 0, stamp: Stamp::default() };
    assert!(!cache.inherit_file(file(1)), "there is no filesystem yet");
    assert!(!cache.inherit_pages(pages(0, 0), &[1; 4]));
    cache.inherit(LABEL, kernel.disk.identity().expect("a disk"));
    assert!(!cache.inherit_pages(pages(0, 4), &[1; 4]), "there is no file yet");
    assert!(cache.inherit_file(file(5)));
    assert!(cache.inherit_pages(pages(6, 8), &[1; 4]));
    assert!(!cache.inherit_pages(pages(9, 12), &[1; 4]), "pages that are there twice");
    assert!(!cache.inherit_file(file(5)), "a file that is there twice");
    assert!(!cache.inherit_pages(pages(20, 20), &[1; 2]), "pages of a file that was refused");
    assert!(cache.inherit_file(file(6)));
    assert!(cache.inherit_pages(pages(u32::MAX - 1, 16), &[1; 2]));
    assert_eq!(cache.inherited().left, 6);
    assert_eq!(arena.memory().stats().set_aside, 0);
    assert_eq!(cache.accept(LABEL, cache.add_fs(LABEL, kernel.disk.clone())), 6);
    assert_eq!(cache.drop_caches(DropWhat::All), 6);
}

#[derive(Clone, Debug)]
enum Op {
    Read(u64, u32, u32),
    Write(u64, u32, u8),
    Truncate(u64, u32),
    Direct(u64, u32, u8),
    Reclaim(usize),
    Drop(bool),
    TakeBack(usize),
    TakeRange(u64, u64),
    Prepare(usize),
    Unmount,
    Kexec(Option<usize>, bool),
}

fn op() -> impl Strategy<Value = Op> {
    let (file, page) = (|| 1..4u64, || 0..PAGES);
    prop_oneof![
        10 => (file(), page(), 1..30u32).prop_map(|(file, first, count)| Op::Read(file, first, count)),
        3 => (file(), page(), any::<u8>()).prop_map(|(file, index, value)| Op::Write(file, index, value)),
        1 => (file(), page()).prop_map(|(file, pages)| Op::Truncate(file, pages)),
        1 => (file(), page(), any::<u8>()).prop_map(|(file, index, value)| Op::Direct(file, index, value)),
        2 => (0..80usize).prop_map(Op::Reclaim),
        1 => any::<bool>().prop_map(Op::Drop),
        1 => (0..20usize).prop_map(Op::TakeBack),
        1 => (0..50u64, 1..10u64).prop_map(|(at, count)| Op::TakeRange(at, count)),
        1 => (0..60usize).prop_map(Op::Prepare),
        1 => Just(Op::Unmount),
        3 => (proptest::option::weighted(0.3, 2..9usize), proptest::bool::weighted(0.2))
            .prop_map(|(damaged, written)| Op::Kexec(damaged, written)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_read_is_the_disks_whatever_crosses_a_kexec(ops in proptest::collection::vec(op(), 1..60)) {
        let mut kernel = Kernel::first();
        // What was written and is not on the disk yet is known here alone.
        for op in ops {
            match op {
                Op::Read(ino, first, count) => (first..PAGES.min(first + count)).for_each(|index| kernel.expect(ino, index)),
                Op::Write(ino, index, value) => {
                    let file = kernel.open(ino);
                    let data = [value; FRAME_SIZE];
                    let pos = u64::from(index) * FRAME_SIZE as u64;
                    // The whole page, or a part of it.
                    let len = if value % 2 == 0 { FRAME_SIZE } else { 100 };
                    prop_assert_eq!(kernel.cache.write(file, SIZE, pos, &data[..len]), Ok(len));
                    prop_assert_eq!(kernel.cache.sync(None), Ok(()));
                    prop_assert!(kernel.on_disk(ino, index)[..len] == data[..len]);
                    kernel.cache.close(file);
                }
                Op::Truncate(ino, pages) => {
                    let file = kernel.open(ino);
                    let size = u64::from(pages) * FRAME_SIZE as u64 + 50;
                    kernel.cache.truncate(file, size);
                    kernel.disk.cut(ino, size, PAGES);
                    kernel.cache.close(file);
                }
                Op::Direct(ino, index, value) => {
                    let file = kernel.open(ino);
                    kernel.cache.invalidate(file, index, index);
                    kernel.disk.put(ino, index, value);
                    kernel.cache.close(file);
                }
                Op::Reclaim(pages) => {
                    kernel.cache.reclaim(pages);
                }
                Op::Drop(all) => {
                    kernel.cache.drop_caches(if all { DropWhat::All } else { DropWhat::Pages });
                }
                Op::TakeBack(frames) => {
                    kernel.cache.settle(kernel.balloon, frames);
                    let list = kernel.cache.cleancache().take_any(kernel.balloon, frames).expect("a pool");
                    prop_assert!(kernel.cache.cleancache().donate_list(kernel.balloon, list).is_ok());
                }
                Op::TakeRange(at, count) => {
                    let range = PfnRange { start: LENT.start.offset(at), count };
                    kernel.cache.vacate(range);
                    let run = kernel.cache.cleancache().take_range(kernel.lender, range);
                    prop_assert!(run.is_ok(), "{run:?}");
                    let run = run.expect("just looked");
                    prop_assert!(kernel.cache.cleancache().donate_run(kernel.lender, run).is_ok());
                }
                Op::Prepare(most) => {
                    let progress = kernel.cache.prepare_handover(most);
                    prop_assert!(progress.hashed <= most && progress.moved <= most);
                }
                Op::Unmount => {
                    kernel.cache.remove_fs(kernel.fs);
                    prop_assert_eq!(kernel.cache.stats().pages(), 0);
                    prop_assert_eq!(kernel.cache.inherited().left, 0);
                    kernel.fs = kernel.cache.add_fs(LABEL, kernel.disk.clone());
                }
                Op::Kexec(damaged, written) => kernel = kernel.kexec(Mishap { damaged, written }),
            }
            kernel.check();
            let pools = kernel.cache.cleancache().pool_stats();
            let inherited = kernel.cache.inherited();
            let claims = [kernel.lender, kernel.balloon].map(|pool| kernel.cache.claim_of(pool));
            prop_assert_eq!((pools[0].donated + claims[0], pools[1].donated + claims[1]), (LENT.count, BALLOON));
            prop_assert!(claims[0] + claims[1] <= inherited.left);
        }
    }
}
