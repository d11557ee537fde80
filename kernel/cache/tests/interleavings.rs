//! Threads over one page cache and one cleancache, in random interleavings: the locks are a scheduler's that goes on with any thread
//! wherever one could have waited (the feature `shuttle`; `frames/src/sync.rs`). Whatever reclaim, truncation, deletion,
//! unmounting and the donors do meanwhile, every byte that a reader gets is one that its file held at some moment of the
//! reading; a frame has one owner at every moment; in the end all frames are there.
//!
//!     cargo test -p cache --features shuttle --test interleavings
//!
//! A failure prints a seed; with `SHUTTLE_RANDOM_SEED=…` before the command the same happens again. That the races of
//! the patch set that this cache descends from are found is shown by `cargo xtask test --faults`, which puts them back
//! (`kernel/cleancache/faults`).

mod worlds;

use cache::{Backing, Cleancache, DropWhat, FillError, PageCache};
use cleancache::{Arrival, Config, FileId, Kind, Offer, PoolConfig, PoolId, TakeError};
use frames::arena::Arena;
use frames::{FRAME_SIZE, Frame, FrameList, Memory, Page, Pfn, PfnRange, Zones};
use shuttle::Runner;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::PctScheduler;
use shuttle::thread::{self, JoinHandle};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use worlds::{FILES, PAGES, World, turn};

/// Schedules that each test tries at random; as many again with few, well-chosen switches (probabilistic concurrency testing).
const SCHEDULES: usize = 3000;
/// Switches of the latter.
const SWITCHES: usize = 4;

/// Says, when a test fails, how to see it fail again. For schedules at random shuttle does that itself.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing seed of the schedules with few switches: SHUTTLE_RANDOM_SEED={}", self.0);
        }
    }
}

fn interleave(test: impl Fn() + Clone + Send + Sync + 'static) {
    shuttle::check_random(test.clone(), SCHEDULES);
    let given = std::env::var("SHUTTLE_RANDOM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = Seed(given.unwrap_or_else(|| RandomState::new().hash_one(SCHEDULES)));
    let few = PctScheduler::new_from_seed(seed.0, SWITCHES, SCHEDULES);
    Runner::new(few, shuttle::Config::default()).run(test);
}

/// One lock, or one for each half of what cleancache has.
fn some_shards() -> usize {
    thread_rng().gen_range(1..=2)
}

/// What a thread of the big test does, a few times.
type Deed = fn(&World);

fn read(world: &World) {
    let (ino, first) = (thread_rng().gen_range(0..FILES), thread_rng().gen_range(0..PAGES));
    world.read(ino, first, thread_rng().gen_range(first..PAGES));
}

fn reclaim(world: &World) {
    match thread_rng().gen_range(0..5) {
        0 => drop(world.cache.drop_caches(DropWhat::Pages)),
        1 => drop(world.cache.try_reclaim(8)),
        2 => world.cache.cleancache().clear(),
        _ => drop(world.cache.reclaim(thread_rng().gen_range(1..12))),
    }
}

fn change(world: &World) {
    let ino = thread_rng().gen_range(0..FILES);
    let index = thread_rng().gen_range(0..PAGES);
    match thread_rng().gen_range(0..8) {
        0 => world.remount(),
        1 | 2 => world.delete(ino),
        3 | 4 => world.write_past_the_cache(ino, index, thread_rng().gen_range(index..PAGES)),
        5 => world.truncate(ino, index, 1024),
        _ => world.truncate(ino, index, 0),
    }
}

/// The donor of exchangeable frames: any will do.
fn lend_any(world: &World) {
    let most = thread_rng().gen_range(0..4);
    let taken = world.cache.cleancache().take_any(world.any, most).expect("a pool");
    assert_eq!(taken.len(), most.min(world.any_frames), "fewer than the pool has");
    keep(world, taken)
}

/// Hold frames for a while: nobody else may write to them. Then lend them again.
fn keep(world: &World, mut frames: FrameList) {
    let mut held: Vec<Frame> = std::iter::from_fn(|| frames.pop_front()).collect();
    for frame in &mut held {
        frame.bytes_mut().fill(0xdd);
    }
    turn();
    for frame in held {
        assert!(frame.bytes().iter().all(|&byte| byte == 0xdd), "a frame with two owners");
        assert!(world.cache.cleancache().donate(world.any, frame).is_ok());
    }
}

/// The donor of a range: it gets just these frames, at once, whatever is in them.
fn lend_range(world: &World) {
    let cleancache = world.cache.cleancache();
    let PfnRange { start, count } = world.range;
    let mut frames = FrameList::new(world.memory());
    let first = thread_rng().gen_range(0..count);
    if thread_rng().gen_bool(0.5) {
        let len = thread_rng().gen_range(1..=count - first);
        let wanted = PfnRange { start: start.offset(first), count: len };
        let run = cleancache.take_range(world.fixed, wanted).expect("frames that were lent");
        assert_eq!(run.range(), wanted);
        run.into_iter().for_each(|frame| frames.push_back(frame));
    } else {
        let pfn = start.offset(first);
        let frame = cleancache.take_back(world.fixed, pfn).expect("a frame that was lent");
        assert_eq!(frame.pfn(), pfn);
        assert_eq!(cleancache.take_back(world.fixed, pfn).err(), Some(TakeError::NotHere(pfn)), "taken twice");
        frames.push_back(frame);
    }
    let mut kept: Vec<Frame> = std::iter::from_fn(|| frames.pop_front()).collect();
    for frame in &mut kept {
        frame.bytes_mut().fill(0xee);
    }
    turn();
    for frame in kept {
        assert!(frame.bytes().iter().all(|&byte| byte == 0xee), "a frame with two owners");
        assert!(cleancache.donate(world.fixed, frame).is_ok());
    }
}

/// A donor that comes and goes.
fn come_and_go(world: &World) {
    let cleancache = world.cache.cleancache();
    let kind = if thread_rng().gen_bool(0.5) { Kind::Fixed } else { Kind::Exchangeable };
    let pool = PoolConfig { name: "guest".into(), kind, scrub: thread_rng().gen_bool(0.5) };
    let pool = cleancache.register_pool(pool).expect("a pool");
    for _ in 0..3 {
        let frame = world.memory().allocate(Zones::Preservable).expect("memory");
        assert!(cleancache.donate(pool, frame).is_ok());
    }
    turn();
    let taken = cleancache.take_any(pool, 1).expect("still here");
    assert_eq!(taken.len(), 1);
    drop(taken);
    assert_eq!(cleancache.unregister_pool(pool).expect("still here").len(), 2);
    assert_eq!(cleancache.take_any(pool, 1).err(), Some(TakeError::NoPool));
}

/// Nothing is in two places, nor in none.
fn count(world: &World) {
    for pool in world.cache.cleancache().pool_stats() {
        assert_eq!(pool.donated, pool.free + pool.cached, "{pool:?}");
        assert_eq!(pool.in_transit, 0);
    }
}

fn threads(world: &Arc<World>, deeds: &[(Deed, usize)]) {
    let start = |&(deed, times): &(Deed, usize)| -> JoinHandle<()> {
        let world = world.clone();
        thread::spawn(move || (0..times).for_each(|_| deed(&world)))
    };
    let threads: Vec<JoinHandle<()>> = deeds.iter().map(start).collect();
    for thread in threads {
        thread.join().expect("a thread that did not panic");
    }
}

#[test]
fn property_03_every_byte_read_is_one_that_the_file_held_meanwhile() {
    interleave(|| {
        let world =
            World::new(Config { exclusive: thread_rng().gen_bool(0.7), shards: some_shards(), ..Config::default() });
        threads(&world, &[(read, 3), (read, 3), (change, 3), (reclaim, 4)]);
        world.close();
    });
}

#[test]
fn property_03_with_donors_that_want_their_frames() {
    interleave(|| {
        let world =
            World::new(Config { exclusive: thread_rng().gen_bool(0.7), shards: some_shards(), ..Config::default() });
        threads(&world, &[(read, 3), (reclaim, 4), (lend_any, 3), (lend_range, 3), (come_and_go, 1)]);
        world.close();
    });
}

#[test]
fn property_14_a_page_that_several_bring_in_is_in_one_cache() {
    fn read(world: &World) {
        world.read(0, 0, 1);
    }
    fn evict(world: &World) {
        world.cache.drop_caches(DropWhat::Pages);
    }
    interleave(|| {
        let world = World::new(Config { shards: some_shards(), ..Config::default() });
        // So that it is in cleancache when they begin.
        read(&world);
        evict(&world);
        threads(&world, &[(read, 2), (read, 2), (evict, 2)]);
        world.close();
    });
}

#[test]
fn property_14_a_page_that_is_written_while_it_comes_back() {
    fn read(world: &World) {
        world.read(0, 0, 0);
    }
    fn write(world: &World) {
        world.write(0, 0);
        world.cache.sync(None).expect("a good disk");
        world.cache.drop_caches(DropWhat::Pages);
    }
    interleave(|| {
        let world = World::new(Config { exclusive: thread_rng().gen_bool(0.5), shards: 1, ..Config::default() });
        read(&world);
        world.cache.drop_caches(DropWhat::Pages);
        threads(&world, &[(read, 2), (write, 2), (read, 1)]);
        world.close();
    });
}

#[test]
fn property_06_pages_that_are_changed_on_their_way_out() {
    fn write(world: &World) {
        world.write(0, thread_rng().gen_range(0..2));
    }
    fn write_back(world: &World) {
        world.cache.sync(None).expect("a good disk");
    }
    fn read(world: &World) {
        world.read(0, 0, 1);
    }
    interleave(|| {
        let world =
            World::new(Config { exclusive: thread_rng().gen_bool(0.5), shards: some_shards(), ..Config::default() });
        threads(&world, &[(write, 3), (write_back, 2), (write_back, 2), (read, 2), (reclaim, 2)]);
        world.close();
    });
}

#[test]
fn property_06_two_that_write_back_do_not_overtake_each_other() {
    fn write(world: &World) {
        world.write(0, 0);
    }
    fn write_back(world: &World) {
        world.cache.sync(None).expect("a good disk");
    }
    interleave(|| {
        let world = World::new(Config { shards: some_shards(), ..Config::default() });
        threads(&world, &[(write, 3), (write_back, 2), (write_back, 2)]);
        world.close();
    });
}

#[test]
fn what_is_on_its_way_to_the_disk_is_waited_for_by_all_who_have_to() {
    fn write(world: &World) {
        let ino = thread_rng().gen_range(0..FILES);
        let first = thread_rng().gen_range(0..PAGES - 1);
        (first..=first + 1).for_each(|index| world.write(ino, index));
    }
    fn sync(world: &World) {
        world.sync(thread_rng().gen_range(0..FILES));
    }
    fn write_back(world: &World) {
        match thread_rng().gen_range(0..4) {
            0 => drop(world.cache.reclaim(12)),
            1 => drop(world.cache.drop_caches(DropWhat::Pages)),
            2 => world.cache.write_out(None).expect("a good disk"),
            // All that is dirty is old.
            _ => {
                world.cache.write_back_some(Duration::from_secs(later()));
                world.cache.write_back_some(Duration::from_secs(later()));
            }
        }
    }
    fn drop_some(world: &World) {
        let ino = thread_rng().gen_range(0..FILES);
        match thread_rng().gen_range(0..4) {
            0 => world.delete(ino),
            1 => world.remount(),
            _ => world.cut(ino, thread_rng().gen_range(0..PAGES)),
        }
    }
    interleave(|| {
        let world =
            World::new(Config { exclusive: thread_rng().gen_bool(0.5), shards: some_shards(), ..Config::default() });
        threads(&world, &[(write, 3), (sync, 2), (write_back, 3), (drop_some, 2), (read, 2)]);
        world.close();
    });
}

/// A time that is more than a round of age after the last.
fn later() -> u64 {
    static NOW: AtomicU64 = AtomicU64::new(0);
    NOW.fetch_add(20, Ordering::Relaxed) + 20
}

#[test]
fn property_07_08_truncation_with_pages_anywhere() {
    fn cut(world: &World) {
        let index = thread_rng().gen_range(0..PAGES);
        match thread_rng().gen_range(0..3) {
            // So that there is something to cut off again.
            0 => world.write_past_the_cache(0, index, PAGES - 1),
            1 => world.truncate(0, index, 1024),
            _ => world.truncate(0, index, 0),
        }
    }
    fn read_all(world: &World) {
        world.read(0, 0, PAGES - 1);
    }
    interleave(|| {
        let world = World::new(Config { shards: some_shards(), ..Config::default() });
        threads(&world, &[(read_all, 2), (cut, 2), (reclaim, 2)]);
        world.close();
    });
}

#[test]
fn property_09_writes_past_the_cache_with_pages_anywhere() {
    fn write(world: &World) {
        world.write_past_the_cache(0, 0, thread_rng().gen_range(0..PAGES));
    }
    fn read_all(world: &World) {
        world.read(0, 0, PAGES - 1);
    }
    interleave(|| {
        let world = World::new(Config { exclusive: false, ..Config::default() });
        threads(&world, &[(read_all, 2), (write, 2), (reclaim, 3)]);
        world.close();
    });
}

#[test]
fn property_10_inode_numbers_that_come_back() {
    fn delete(world: &World) {
        world.delete(0);
    }
    fn read(world: &World) {
        world.read(0, 0, 1);
    }
    interleave(|| {
        let world = World::new(Config { shards: some_shards(), ..Config::default() });
        threads(&world, &[(read, 3), (read, 3), (delete, 3)]);
        world.close();
    });
}

#[test]
fn property_10_and_11_names_that_come_back_with_pages_anywhere() {
    fn come_back(world: &World) {
        match thread_rng().gen_bool(0.5) {
            true => world.delete(0),
            false => world.remount(),
        }
    }
    fn read_all(world: &World) {
        world.read(0, 0, PAGES - 1);
    }
    interleave(|| {
        let world = World::new(Config { shards: some_shards(), ..Config::default() });
        threads(&world, &[(read_all, 3), (come_back, 3), (reclaim, 3)]);
        world.close();
    });
}

#[test]
fn a_schedule_can_be_repeated() {
    // Each schedule twice: wherever the second time takes another way, something here depends on more than the seed.
    let test = || {
        let world =
            World::new(Config { exclusive: thread_rng().gen_bool(0.7), shards: some_shards(), ..Config::default() });
        threads(&world, &[(read, 2), (change, 2), (reclaim, 3), (lend_any, 2), (lend_range, 2), (come_and_go, 1)]);
        world.close();
    };
    shuttle::check_uncontrolled_nondeterminism(test, 200);
}

/// A disk whose filesystem wants memory in the midst of a write, as it may.
#[derive(Default)]
struct Thirsty(std::sync::Mutex<Weak<PageCache>>);

impl Backing for Thirsty {
    fn fill(&self, _: u64, _: u32, pages: &mut [Frame]) -> Result<(), FillError> {
        pages.iter_mut().for_each(Frame::zero);
        Ok(())
    }

    fn write(&self, _: u64, _: u32, _: &[&Page]) -> Result<(), FillError> {
        turn();
        let cache = self.0.lock().expect("no panic").upgrade();
        cache.expect("a cache that writes").reclaim(1);
        turn();
        Ok(())
    }
}

/// While one thread writes back the `PAGES_DIRTY` pages, which are all there are, another does `deed`.
fn beside_a_write_back(deed: fn(&PageCache, FileId)) {
    interleave(move || {
        let arena = Arena::new(110);
        let cleancache = Arc::new(Cleancache::new(arena.memory(), Config::default()));
        let cache = PageCache::new(arena.memory(), cleancache);
        let disk = Arc::new(Thirsty::default());
        *disk.0.lock().expect("no panic") = Arc::downgrade(&cache);
        let fs = cache.add_fs("disk", disk);
        let file = cache.open(fs, 1, 0).expect("mounted");
        (0..PAGES_DIRTY).for_each(|index| write_page(&cache, file, index));
        assert_eq!(cache.stats().dirty, PAGES_DIRTY);
        let others = cache.clone();
        let other = thread::spawn(move || others.sync(None));
        deed(&cache, file);
        assert_eq!(other.join().expect("no panic"), Ok(()));
    });
}

/// Three looks' worth: only the third finds more than a fifth. A run that lands leaves fewer.
const PAGES_DIRTY: u64 = 24;

fn write_page(cache: &PageCache, file: FileId, index: u64) {
    let pos = index * FRAME_SIZE as u64;
    assert_eq!(cache.write(file, pos, pos, &[7; FRAME_SIZE]), Ok(FRAME_SIZE));
}

#[test]
fn a_writer_waits_for_another_who_writes_back_when_too_much_is_dirty() {
    beside_a_write_back(|cache, file| {
        write_page(cache, file, PAGES_DIRTY);
        let dirty = cache.stats().dirty;
        assert!(dirty < PAGES_DIRTY, "{dirty} pages are dirty, and the writer was not slowed down");
    });
}

#[test]
fn reclaim_waits_for_another_who_writes_back_when_nothing_is_clean() {
    beside_a_write_back(|cache, _| assert_eq!(cache.reclaim(4), 4, "frames that would have become free"));
}

/// A cleancache alone, and what its users know of it.
struct Alone {
    cleancache: Cleancache,
    file: FileId,
    pool: PoolId,
    memory: &'static Memory,
    lent: Vec<Pfn>,
    _arena: Arena,
}

impl Alone {
    fn new(frames: usize) -> Arc<Self> {
        let arena = Arena::new(64);
        let memory = arena.memory();
        let cleancache = Cleancache::new(memory, Config { shards: some_shards(), ..Config::default() });
        let pool = PoolConfig { name: "carve-out".into(), kind: Kind::Fixed, scrub: false };
        let pool = cleancache.register_pool(pool).expect("a pool");
        let fs = cleancache.add_fs("fs");
        let file = cleancache.add_file(fs).expect("mounted");
        let lent = (0..frames).map(|_| {
            let frame = memory.allocate(Zones::Ephemeral).expect("memory");
            let pfn = frame.pfn();
            assert!(cleancache.donate(pool, frame).is_ok());
            pfn
        });
        let lent = lent.collect();
        Arc::new(Self { cleancache, file, pool, memory, lent, _arena: arena })
    }

    fn offer(&self, index: u32) -> Offer {
        let mut frame = self.memory.allocate(Zones::Ephemeral).expect("memory");
        frame.bytes_mut().fill(index as u8);
        Offer { file: self.file, index, frame, arrival: Arrival::default() }
    }
}

#[test]
fn property_15_a_frame_comes_back_whatever_is_going_on() {
    interleave(|| {
        let alone = Alone::new(2);
        let user = {
            let alone = alone.clone();
            thread::spawn(move || {
                for round in 0..4u32 {
                    let index = round % 3;
                    alone.cleancache.store_all([alone.offer(index), alone.offer(index + 1)], |_, frame| drop(frame));
                    let mut frame = alone.memory.allocate(Zones::Ephemeral).expect("memory");
                    if alone.cleancache.restore(alone.file, index, &mut frame) {
                        assert!(frame.bytes().iter().all(|&byte| byte == index as u8), "another page, or none");
                    }
                }
            })
        };
        let donor = {
            let alone = alone.clone();
            thread::spawn(move || {
                for &pfn in &alone.lent {
                    let mut frame = alone.cleancache.take_back(alone.pool, pfn).expect("a frame that was lent");
                    frame.bytes_mut().fill(0xee);
                    turn();
                    assert!(frame.bytes().iter().all(|&byte| byte == 0xee), "a frame with two owners");
                }
            })
        };
        user.join().expect("no panic");
        donor.join().expect("no panic");
        let stats = &alone.cleancache.pool_stats()[0];
        assert_eq!((stats.donated, stats.free, stats.cached), (0, 0, 0));
        let mut frame = alone.memory.allocate(Zones::Ephemeral).expect("memory");
        assert!((0..4).all(|index| !alone.cleancache.restore(alone.file, index, &mut frame)));
    });
}

#[test]
fn property_16_a_frame_that_its_donor_has_on_a_list_is_not_taken_again() {
    interleave(|| {
        let alone = Alone::new(1);
        let pfn = alone.lent[0];
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let alone = alone.clone();
                thread::spawn(move || {
                    let mut list = FrameList::new(alone.memory);
                    if let Ok(frame) = alone.cleancache.take_back(alone.pool, pfn) {
                        list.push_back(frame);
                    }
                    list.len()
                })
            })
            .collect();
        let taken: usize = takers.into_iter().map(|taker| taker.join().expect("no panic")).sum();
        assert_eq!(taken, 1, "one frame, taken by so many");
    });
}

#[test]
fn property_16_frames_that_are_taken_while_their_pool_is_closed_are_not_lost() {
    interleave(|| {
        // More than are handed out in one hold of the lock.
        const FRAMES: usize = 70;
        let alone = {
            let arena = Arena::new(160);
            let memory = arena.memory();
            let cleancache = Cleancache::new(memory, Config { shards: some_shards(), ..Config::default() });
            let pool = PoolConfig { name: "balloon".into(), kind: Kind::Exchangeable, scrub: false };
            let pool = cleancache.register_pool(pool).expect("a pool");
            let fs = cleancache.add_fs("fs");
            let file = cleancache.add_file(fs).expect("mounted");
            for _ in 0..FRAMES {
                assert!(cleancache.donate(pool, memory.allocate(Zones::Preservable).expect("memory")).is_ok());
            }
            Arc::new(Alone { cleancache, file, pool, memory, lent: Vec::new(), _arena: arena })
        };
        let taker = {
            let alone = alone.clone();
            thread::spawn(move || alone.cleancache.take_any(alone.pool, FRAMES))
        };
        let closed = alone.cleancache.unregister_pool(alone.pool).expect("open");
        let taken = taker.join().expect("no panic").map_or(0, |taken| taken.len());
        assert_eq!(taken + closed.len(), FRAMES, "frames that neither got");
    });
}

#[test]
fn property_15_a_donor_of_several_shards_gets_as_many_as_it_wants() {
    interleave(|| {
        let arena = Arena::new(96);
        let memory = arena.memory();
        let cleancache = Cleancache::new(memory, Config { shards: 2, ..Config::default() });
        let pool = PoolConfig { name: "balloon".into(), kind: Kind::Exchangeable, scrub: false };
        let pool = cleancache.register_pool(pool).expect("a pool");
        let fs = cleancache.add_fs("fs");
        let file = cleancache.add_file(fs).expect("mounted");
        // Neighbours are of one shard, so some lie between.
        let mut frames: Vec<Frame> = (0..16).filter_map(|_| memory.allocate(Zones::Ephemeral)).collect();
        for at in [8, 0] {
            assert!(cleancache.donate(pool, frames.swap_remove(at)).is_ok());
        }
        drop(frames);
        let alone = Arc::new(Alone { cleancache, file, pool, memory, lent: Vec::new(), _arena: arena });
        let user = {
            let alone = alone.clone();
            thread::spawn(move || {
                for index in [0, 64, 1, 65] {
                    alone.cleancache.store_all([alone.offer(index)], |_, frame| drop(frame));
                    let mut frame = alone.memory.allocate(Zones::Ephemeral).expect("memory");
                    alone.cleancache.restore(alone.file, index, &mut frame);
                }
            })
        };
        for _ in 0..2 {
            let taken = alone.cleancache.take_any(alone.pool, 2).expect("a pool");
            assert_eq!(taken.len(), 2, "of two frames");
            assert_eq!(alone.cleancache.donated(), 0);
            assert!(alone.cleancache.donate_list(alone.pool, taken).is_ok());
        }
        user.join().expect("no panic");
        let stats = &alone.cleancache.pool_stats()[0];
        assert_eq!((stats.donated, stats.free + stats.cached), (2, 2));
    });
}

#[test]
fn property_17_every_frame_is_counted_at_every_step() {
    interleave(|| {
        let world = World::new(Config { shards: some_shards(), ..Config::default() });
        threads(&world, &[(read, 2), (reclaim, 3), (lend_any, 2), (come_and_go, 1), (count, 5)]);
        world.close();
    });
}

#[test]
fn property_19_a_fill_that_fails_half_way_is_seen_by_nobody() {
    fn fail(world: &World) {
        world.disk.fail_fills(thread_rng().gen_range(1..3), thread_rng().gen_range(0..3));
    }
    fn read_or_fail(world: &World) {
        let first = thread_rng().gen_range(0..PAGES);
        match world.try_read(0, first, thread_rng().gen_range(first..PAGES)) {
            Ok(()) | Err(FillError::DeadDevice) => {}
            Err(error) => panic!("{error}"),
        }
    }
    interleave(|| {
        let world = World::new(Config { shards: some_shards(), ..Config::default() });
        threads(&world, &[(read_or_fail, 3), (read_or_fail, 2), (fail, 3), (reclaim, 2)]);
        world.disk.fail_fills(0, 0);
        world.close();
    });
}
