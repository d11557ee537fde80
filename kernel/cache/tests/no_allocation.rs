//! Reclaim asks for no memory: from the choice of a page to its place in cleancache nothing allocates, nor on the way of a dirty page
//! to the disk, nor where a page that is here is written to; and what is set aside at the start. Counted by an allocator that
//! counts.

mod machine;

use allocation_counter::measure;
use cache::{Backing, DropWhat, FillError, PageCache};
use cleancache::policy::BUILT_IN;
use cleancache::{Config, Kind};
use frames::{FRAME_SIZE, Frame, Page, Zones};
use machine::{Machine, machine, machine_with, shared_machine};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn reclaim_does_not_allocate() {
    let evict = |what: &str, machine: Machine| {
        let file = machine.open(1);
        for _ in 0..3 {
            machine.read_all(file, 100);
            let seen = measure(|| {
                assert_eq!(machine.cache.reclaim(20), 20);
                assert_eq!(machine.cache.try_reclaim(20), 20);
                let frames = [(); 30].map(|()| machine.cache.allocate(Zones::Ephemeral).expect("memory"));
                drop(frames);
                let taken = machine.cache.cleancache().take_any(machine.pool, 7).expect("a pool");
                assert!(machine.cache.cleancache().donate_list(machine.pool, taken).is_ok());
                assert!(machine.cache.drop_caches(DropWhat::Pages) > 0);
            });
            assert_eq!(seen.count_total, 0, "{what}: {} bytes", seen.bytes_total);
        }
        assert!(machine.pool().stores > 200 && machine.pool().evictions > 100, "{what}: {:?}", machine.pool());
        machine.check_frames();
    };
    for &(name, policy) in BUILT_IN {
        for exclusive in [true, false] {
            let config = || Config { policy, exclusive, ..Config::default() };
            evict(name, machine_with(220, 40, config(), Kind::Fixed).0);
            evict(name, machine_with(220, 40, config(), Kind::Exchangeable).0);
            evict(name, shared_machine(220, 40, config()).0);
        }
    }
}

/// A disk that counts what it is given, and takes the first page of a file only when that is alone.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Backing for Counting {
    fn fill(&self, _ino: u64, _first: u32, pages: &mut [Frame]) -> Result<(), FillError> {
        pages.iter_mut().for_each(Frame::zero);
        Ok(())
    }

    fn write(&self, _ino: u64, first: u32, pages: &[&Page]) -> Result<(), FillError> {
        if first == 0 && pages.len() > 1 {
            return Err(FillError::Device { sector: 0 });
        }
        self.0.fetch_add(pages.len(), Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn writing_and_write_back_do_not_allocate() {
    const PAGES: u32 = 200;
    let (machine, _) = machine(1200, 40, Config::default());
    let disk = Arc::new(Counting::default());
    let fs = machine.cache.add_fs("counting", disk.clone());
    let file = machine.cache.open(fs, 1, 0).expect("mounted");
    let write = |pages: u32| {
        for index in 0..pages {
            let pos = u64::from(index) * FRAME_SIZE as u64;
            assert_eq!(machine.cache.write(file, 0, pos, &[1; FRAME_SIZE]), Ok(FRAME_SIZE));
        }
    };
    for round in 0..3u64 {
        let seen = measure(|| {
            // New pages, then the same again, which are dirty already, and then clean ones.
            write(PAGES);
            write(PAGES);
            assert_eq!(machine.cache.write_out(Some(file)), Ok(()), "each of a run that fails is tried alone");
            write(PAGES / 2);
            machine.cache.sync(None).expect("a good disk");
            write(PAGES / 2);
            machine.cache.write_back_some(Duration::from_secs(40 * round + 20));
            machine.cache.write_back_some(Duration::from_secs(40 * round + 40));
            write(PAGES / 2);
            // Past all that is clean, so that some is written.
            assert!(machine.cache.reclaim(PAGES as usize) >= PAGES as usize);
        });
        assert_eq!(seen.count_total, 0, "{} bytes", seen.bytes_total);
    }
    assert!(disk.0.load(Ordering::Relaxed) > 3 * 2 * PAGES as usize);
    assert_eq!(machine.cache.stats().failed, 0);
}

/// Eight bytes for each frame and a page for 512 of them, but for those that are lent; and when those come back, more pages than that.
#[test]
fn tables_are_for_the_frames_that_are_not_lent() {
    const FRAMES: usize = 1 << 14;
    const OURS: usize = FRAMES / 2;
    let (mut machine, _) = machine(FRAMES, 0, Config::default());
    let mut make = |frames: usize| {
        let cleancache = machine.cache.cleancache().clone();
        measure(|| machine.cache = PageCache::for_frames(machine.memory, cleancache, frames)).bytes_total
    };
    assert_eq!(make(FRAMES) - make(OURS), ((FRAMES - OURS) * 8 + (FRAMES - OURS) / 512 * FRAME_SIZE) as u64);

    machine.fs = machine.cache.add_fs("disk", machine.disk.clone());
    let file = machine.open(1);
    let first = machine.read_all(file, OURS as u32 * 3 / 2);
    assert!(first == machine.read_all(file, OURS as u32 * 3 / 2));
    assert_eq!(machine.disk.pages_read(), OURS as u64 * 3 / 2, "all of it stays");
    machine.check_frames();
}
