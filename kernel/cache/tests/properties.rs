//! What a correct cleancache keeps, as far as it takes a page cache in front of it to show: one test or more a property. The numbers are
//! those of the list in the project's notes on cleancache; the others are in `kernel/cleancache/tests/properties.rs`.

mod machine;

use cache::{DropWhat, FileId, FillError, ReadAhead};
use cleancache::{Config, Kind};
use frames::{FRAME_SIZE, Zones};
use machine::{Machine, machine, machine_with, pattern, shared_machine};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

const PAGE: u64 = FRAME_SIZE as u64;
/// Pages of the files here.
const PAGES: u32 = 8;

/// For each kind of pool, exclusive and inclusive.
fn everywhere(test: impl Fn(Machine)) {
    for exclusive in [true, false] {
        let config = || Config { exclusive, ..Config::default() };
        test(machine_with(220, 40, config(), Kind::Fixed).0);
        test(machine_with(220, 40, config(), Kind::Exchangeable).0);
        test(shared_machine(220, 40, config()).0);
    }
}

/// Where pages of a file may be when something happens to it.
const PLACES: [fn(&Machine, FileId); 4] = [
    |machine, file| drop(machine.read_all(file, PAGES)),
    |machine, file| {
        machine.read_all(file, PAGES);
        machine.cache.drop_caches(DropWhat::Pages);
        assert_eq!(machine.pool().cached, u64::from(PAGES));
    },
    |machine, file| {
        machine.read_all(file, PAGES);
        machine.cache.drop_caches(DropWhat::Pages);
        machine.read(file, PAGE * u64::from(PAGES), 3 * PAGE, 2 * FRAME_SIZE).expect("a good disk");
    },
    |_, _| (),
];

/// As the disk has it, whether it comes from memory, from cleancache or from the disk.
fn assert_pages(machine: &Machine, file: FileId, page: impl Fn(u32) -> [u8; FRAME_SIZE], what: &str) {
    let expected: Vec<u8> = (0..PAGES).flat_map(page).collect();
    for from in ["what is here", "cleancache", "disk"] {
        assert!(machine.read_all(file, PAGES) == expected, "{what}, from {from}");
        machine.cache.drop_caches(if from == "what is here" { DropWhat::Pages } else { DropWhat::All });
    }
}

/// A generator that gives the same numbers each time (Marsaglia's xorshift).
fn numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    }
}

#[test]
fn property_03_reads_are_those_of_a_machine_without_a_cleancache() {
    let run = |machine: Machine| {
        let mut number = numbers(0x5eed);
        let mut seen = Vec::new();
        let files = [1, 2, 3].map(|ino| machine.open(ino));
        let size = 90 * PAGE;
        for _ in 0..3000 {
            let file = files[number(3) as usize];
            let pos = number(size);
            match number(12) {
                0 => drop(machine.cache.write(file, size, pos.min(size - 5000), &[pos as u8; 5000]).expect("memory")),
                1 => machine.cache.sync(Some(file)).expect("a good disk"),
                2 => drop(machine.cache.reclaim(number(90) as usize)),
                _ => {
                    let bytes = machine.read(file, size, pos, number(20_000) as usize).expect("a good disk");
                    seen.push(bytes.iter().fold(pos, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into())));
                }
            }
            // Any entry may go at any time.
            let vanish = number(20);
            let donated = machine.pool().donated;
            if vanish == 0 && donated > 0 {
                let frames = machine.cache.cleancache().take_any(machine.pool, 7).expect("a pool");
                assert!(machine.cache.cleancache().donate_list(machine.pool, frames).is_ok());
            } else if vanish == 1 {
                machine.cache.cleancache().clear();
            }
        }
        seen
    };
    let without = run(machine(220, 0, Config::default()).0);
    assert!(without.len() > 2000);
    everywhere(|machine| assert!(run(machine) == without));
}

#[test]
fn property_04_a_dirty_page_is_not_stored() {
    everywhere(|machine| {
        let file = machine.open(1);
        machine.cache.write(file, 0, 0, &[7; 3 * FRAME_SIZE]).expect("memory");
        machine.disk.bad().extend((0..3).map(|index| (1, index)));
        machine.cache.reclaim(1000);
        machine.cache.drop_caches(DropWhat::Pages);
        assert_eq!((machine.cache.stats().dirty, machine.pool().stores), (3, 0), "the disk cannot take them");
        machine.disk.bad().clear();
        assert!(machine.cache.sync(None).is_err(), "told once, though now they are there");
        machine.cache.sync(None).expect("a good disk");
        machine.cache.drop_caches(DropWhat::Pages);
        assert_eq!((machine.cache.stats().dirty, machine.pool().cached), (0, 3));
        assert!(machine.read_all(file, 3).iter().all(|&byte| byte == 7));
    });
}

#[test]
fn property_04_a_page_being_written_back_is_not_stored() {
    everywhere(|machine| {
        let file = machine.open(1);
        machine.cache.write(file, 0, 0, &[7; FRAME_SIZE]).expect("memory");
        let stores = Arc::new(AtomicU64::new(99));
        let (cache, seen) = (machine.cache.clone(), stores.clone());
        machine.disk.during_write(move || {
            cache.reclaim(1000);
            cache.drop_caches(DropWhat::Pages);
            seen.store(cache.cleancache().pool_stats()[0].stores, Ordering::Relaxed);
        });
        machine.cache.sync(None).expect("a good disk");
        assert_eq!(stores.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn property_04_a_page_that_is_not_whole_is_not_stored() {
    everywhere(|machine| {
        let file = machine.open(1);
        let cache = machine.cache.clone();
        machine.disk.during_fill(move || {
            cache.drop_caches(DropWhat::Pages);
            assert_eq!(cache.cleancache().pool_stats()[0].stores, 0, "still being filled");
        });
        machine.read_all(file, 1);
        machine.disk.bad().insert((1, 1));
        assert!(machine.read(file, 2 * PAGE, PAGE, 1).is_err());
        machine.cache.drop_caches(DropWhat::Pages);
        assert_eq!(machine.pool().cached, 1, "the one that was filled");
    });
}

#[test]
fn property_06_a_page_that_is_changed_on_its_way_out_is_never_served_old() {
    everywhere(|machine| {
        let file = machine.open(1);
        let size = u64::from(PAGES) * PAGE;
        // On its way out and back again, in an inclusive cache with a copy left behind.
        machine.read_all(file, PAGES);
        machine.cache.drop_caches(DropWhat::Pages);
        machine.read_all(file, PAGES);
        machine.cache.write(file, size, 2 * PAGE + 5, &[9; 10]).expect("memory");
        let mut frame = machine.cache.allocate(Zones::Ephemeral).expect("memory");
        assert!(!machine.cache.cleancache().restore(file, 2, &mut frame), "no copy is left as soon as it is changed");
        drop(frame);
        let mut expected = pattern(1, 2);
        expected[5..15].fill(9);
        let found = || machine.read(file, size, 2 * PAGE, FRAME_SIZE).expect("a good disk");
        // Reclaim comes to it, and it may not go: not as long as the disk does not have it.
        machine.disk.bad().insert((1, 2));
        machine.cache.reclaim(1000);
        machine.cache.drop_caches(DropWhat::Pages);
        assert!(found() == expected);
        machine.disk.bad().clear();
        // Changed again just while it is written back, and reclaimed then.
        let cache = machine.cache.clone();
        machine.disk.during_write(move || {
            cache.write(file, size, 2 * PAGE + 5, &[11; 10]).expect("memory");
            cache.drop_caches(DropWhat::Pages);
        });
        machine.cache.write_back_some(Duration::from_secs(15));
        machine.cache.reclaim(1000);
        machine.cache.drop_caches(DropWhat::Pages);
        expected[5..15].fill(11);
        assert!(found() == expected);
        assert_eq!(machine.cache.sync(None), Err(FillError::Device { sector: 2 }), "told once");
        machine.cache.sync(None).expect("a good disk");
        machine.cache.drop_caches(DropWhat::Pages);
        assert!(found() == expected);
        machine.cache.drop_caches(DropWhat::All);
        assert!(found() == expected);
    });
}

#[test]
fn property_06_an_older_state_of_a_page_is_never_written_over_a_newer_one() {
    everywhere(|machine| {
        let file = machine.open(1);
        machine.cache.write(file, 0, 0, &[1; FRAME_SIZE]).expect("memory");
        // While it is on its way to the disk it is changed, and somebody else writes back what is dirty.
        let cache = machine.cache.clone();
        let (say, other) = mpsc::channel();
        machine.disk.during_write(move || {
            cache.write(file, PAGE, 0, &[2; FRAME_SIZE]).expect("memory");
            let somebody = cache.clone();
            say.send(thread::spawn(move || somebody.sync(None))).expect("a listener");
            thread::sleep(Duration::from_millis(1));
            cache.drop_caches(DropWhat::Pages);
        });
        machine.cache.sync(None).expect("a good disk");
        assert_eq!(other.recv().expect("a thread").join().expect("no panic"), Ok(()));
        assert!(machine.read_all(file, 1).iter().all(|&byte| byte == 2));
        machine.cache.sync(None).expect("a good disk");
        assert_eq!(machine.cache.stats().dirty, 0);
        assert!(machine.disk.written()[&(1, 0)].iter().all(|&byte| byte == 2), "on the disk, too");
    });
}

#[test]
fn property_07_truncation_removes_what_is_not_resident_and_the_file_grows_by_zeros() {
    everywhere(|machine| {
        for (ino, place) in (1..).zip(PLACES) {
            let file = machine.open(ino);
            place(&machine, file);
            machine.disk.cut(ino, 2 * PAGE, PAGES);
            machine.cache.truncate(file, 2 * PAGE);
            let page = |index: u32| if index < 2 { pattern(ino, index) } else { [0; FRAME_SIZE] };
            assert_pages(&machine, file, page, "truncated");
            machine.cache.drop_caches(DropWhat::All);
        }
    });
}

#[test]
fn property_07_a_hole_is_punched_in_what_is_not_resident() {
    everywhere(|machine| {
        for (ino, place) in (1..).zip(PLACES) {
            let file = machine.open(ino);
            place(&machine, file);
            (2..5).for_each(|index| machine.disk.put(ino, index, 0));
            machine.cache.invalidate(file, 2, 4);
            let page = |index: u32| if (2..5).contains(&index) { [0; FRAME_SIZE] } else { pattern(ino, index) };
            assert_pages(&machine, file, page, "with a hole");
        }
    });
}

#[test]
fn property_08_a_partial_truncation_does_not_bring_the_tail_back() {
    everywhere(|machine| {
        for (ino, place) in (1..).zip(PLACES) {
            let file = machine.open(ino);
            place(&machine, file);
            let size = 3 * PAGE + 1000;
            machine.disk.cut(ino, size, PAGES);
            machine.cache.truncate(file, size);
            let page = |index: u32| {
                let mut page = pattern(ino, index);
                page[size.saturating_sub(u64::from(index) * PAGE).min(PAGE) as usize..].fill(0);
                page
            };
            assert_pages(&machine, file, page, "cut within a page");
        }
    });
}

#[test]
fn property_09_a_write_past_the_cache_removes_what_is_not_resident() {
    everywhere(|machine| {
        for (ino, place) in (1..).zip(PLACES) {
            let file = machine.open(ino);
            place(&machine, file);
            machine.disk.put(ino, 3, 7);
            machine.disk.put(ino, 6, 8);
            machine.cache.invalidate(file, 3, 6);
            let page = |index: u32| match index {
                3 => [7; FRAME_SIZE],
                6 => [8; FRAME_SIZE],
                _ => pattern(ino, index),
            };
            assert_pages(&machine, file, page, "written past the cache");
        }
    });
}

#[test]
fn property_09_what_was_being_read_while_the_disk_was_written_to_is_not_kept() {
    everywhere(|machine| {
        let file = machine.open(1);
        let (cache, disk) = (machine.cache.clone(), machine.disk.clone());
        machine.disk.during_fill(move || {
            disk.put(1, 0, 7);
            cache.invalidate(file, 0, 0);
        });
        machine.read_all(file, 1);
        assert!(machine.read_all(file, 1).iter().all(|&byte| byte == 7));
    });
}

#[test]
fn property_10_a_reused_inode_number_has_no_old_data() {
    everywhere(|machine| {
        for told in [true, false] {
            let ino = 1 + u64::from(told);
            let file = machine.open(ino);
            machine.read_all(file, PAGES);
            machine.cache.drop_caches(DropWhat::Pages);
            machine.cache.close(file);
            // Deleted: a filesystem that tells the cache, and one that leaves it to the generation.
            if told {
                machine.cache.forget(file);
            }
            (0..PAGES).for_each(|index| machine.disk.put(ino, index, 0x66));
            let next = machine.cache.open(machine.fs, ino, 1).expect("mounted");
            assert_pages(&machine, next, |_| [0x66; FRAME_SIZE], "the next life of the inode");
            assert_eq!(machine.read(file, PAGE, 0, 1).is_err(), told);
        }
    });
}

#[test]
fn property_10_a_reused_place_has_pages_of_another_file() {
    everywhere(|machine| {
        let file = machine.open(1);
        let (mut out, mut ahead) = ([0; FRAME_SIZE], ReadAhead::default());
        assert_eq!(machine.cache.read(file, PAGE, 0, &mut out, &mut ahead), Ok(FRAME_SIZE));
        assert!(machine.cache.read_within_page(file, PAGE, 0, &mut out, &mut ahead), "known, and here");
        machine.cache.forget(file);
        let next = machine.open(2);
        assert_eq!(next.slot(), file.slot(), "the same place");
        machine.read_all(next, 1);
        // Who has the old file open knew it, and its page would be found without the lock.
        assert!(!machine.cache.read_within_page(file, PAGE, 0, &mut out, &mut ahead), "a page of another file");
        assert_eq!(machine.cache.read(file, PAGE, 0, &mut out, &mut ahead), Err(FillError::Unmounted));
    });
}

#[test]
fn property_10_what_was_being_read_for_a_deleted_file_does_not_reach_the_next() {
    everywhere(|machine| {
        let file = machine.open(1);
        let (cache, disk, fs) = (machine.cache.clone(), machine.disk.clone(), machine.fs);
        machine.disk.during_fill(move || {
            cache.forget(file);
            disk.put(1, 0, 7);
            let next = cache.open(fs, 1, 1).expect("mounted");
            assert_eq!(next.slot(), file.slot(), "the same place");
        });
        assert_eq!(machine.read(file, PAGE, 0, FRAME_SIZE), Err(FillError::Unmounted));
        let next = machine.cache.open(machine.fs, 1, 1).expect("mounted");
        assert!(machine.read_all(next, 1).iter().all(|&byte| byte == 7));
    });
}

#[test]
fn property_11_unmount_drops_everything_and_a_remount_misses() {
    everywhere(|machine| {
        let file = machine.open(1);
        machine.read_all(file, PAGES);
        machine.cache.drop_caches(DropWhat::Pages);
        machine.read(file, PAGE, 0, 1).expect("a good disk");
        assert!(machine.pool().cached > 0);
        machine.cache.remove_fs(machine.fs);
        assert_eq!((machine.pool().cached, machine.cache.stats().pages()), (0, 0));
        assert_eq!(machine.read(file, PAGE, 0, 1), Err(FillError::Unmounted));
        assert_eq!(machine.cache.open(machine.fs, 1, 0), Err(FillError::Unmounted));
        // Changed by somebody else, and mounted again.
        (0..PAGES).for_each(|index| machine.disk.put(1, index, 5));
        let fs = machine.cache.add_fs("disk", machine.disk.clone());
        let file = machine.cache.open(fs, 1, 0).expect("mounted");
        let before = machine.disk.pages_read();
        assert_pages(&machine, file, |_| [5; FRAME_SIZE], "mounted again");
        assert!(machine.disk.pages_read() >= before + u64::from(PAGES));
    });
}

#[test]
fn property_11_what_was_being_read_during_the_unmount_is_not_kept() {
    everywhere(|machine| {
        let file = machine.open(1);
        let (cache, fs) = (machine.cache.clone(), machine.fs);
        machine.disk.during_fill(move || cache.remove_fs(fs));
        assert_eq!(machine.read(file, PAGE, 0, 1), Err(FillError::Unmounted));
        assert_eq!((machine.cache.stats().pages(), machine.pool().cached), (0, 0));
        machine.check_frames();
    });
}

#[test]
fn property_12_invalidating_a_block_device_drops_its_entries() {
    everywhere(|machine| {
        // The blocks themselves are pages of a file that stands for the device.
        let device = machine.open(u64::MAX >> 24);
        let files: Vec<FileId> = (1..4).map(|ino| machine.open(ino)).collect();
        let elsewhere = machine.cache.add_fs("other", machine.disk.clone());
        let other = machine.cache.open(elsewhere, 9, 0).expect("mounted");
        for &file in files.iter().chain([&device, &other]) {
            machine.read_all(file, PAGES);
        }
        machine.cache.drop_caches(DropWhat::Pages);
        machine.read_all(files[1], 2);
        (0..PAGES).for_each(|index| machine.disk.put(u64::MAX >> 24, index, 4));
        machine.cache.invalidate(device, 0, u32::MAX);
        assert_eq!(machine.cache.cleancache().file_len(device), 0);
        assert_pages(&machine, device, |_| [4; FRAME_SIZE], "another disk in the drive");
    });
    everywhere(|machine| {
        // And with everything that lies on it.
        let other = machine.cache.add_fs("other", machine.disk.clone());
        let other = machine.cache.open(other, 9, 0).expect("mounted");
        let files: Vec<FileId> = (1..4).map(|ino| machine.open(ino)).collect();
        files.iter().chain([&other]).for_each(|&file| drop(machine.read_all(file, PAGES)));
        machine.cache.drop_caches(DropWhat::Pages);
        files.iter().for_each(|&file| machine.cache.invalidate(file, 0, u32::MAX));
        let cached: Vec<u64> = machine.cache.cleancache().fs_stats().iter().map(|fs| fs.cached).collect();
        assert_eq!(cached, [0, u64::from(PAGES)], "the other filesystem keeps its own");
    });
}

#[test]
fn property_14_hit_dirtied_written_back_evicted_and_wanted_again() {
    everywhere(|machine| {
        let file = machine.open(1);
        machine.read_all(file, PAGES);
        machine.cache.drop_caches(DropWhat::Pages);
        machine.read_all(file, PAGES);
        assert_eq!(machine.pool().hits, u64::from(PAGES));
        machine.cache.write(file, u64::from(PAGES) * PAGE, 0, &[3; FRAME_SIZE]).expect("memory");
        machine.cache.sync(Some(file)).expect("a good disk");
        machine.cache.drop_caches(DropWhat::Pages);
        let page = |index: u32| if index == 0 { [3; FRAME_SIZE] } else { pattern(1, index) };
        assert_pages(&machine, file, page, "written back");
    });
}

#[test]
fn property_14_an_exclusive_page_is_in_one_of_the_two_caches() {
    for kind in [Kind::Fixed, Kind::Exchangeable] {
        let (machine, _) = machine_with(220, 40, Config::default(), kind);
        let file = machine.open(1);
        let cache = machine.cache.clone();
        // While one reader waits for the disk, another reads the same pages, and they are evicted again.
        machine.disk.during_fill(move || {
            let mut out = [0; 3 * FRAME_SIZE];
            cache.read(file, 3 * PAGE, 0, &mut out, &mut ReadAhead::default()).expect("a good disk");
            assert_eq!(cache.drop_caches(DropWhat::Pages), 3);
        });
        machine.read_all(file, 3);
        let here = (machine.cache.stats().pages(), machine.cache.cleancache().file_len(file));
        assert_eq!(here, (3, 0));
        assert_pages(&machine, file, |index| pattern(1, index), "read by two");
    }
}

#[test]
fn property_15_a_pool_is_taken_back_while_its_pages_are_wanted() {
    everywhere(|machine| {
        let file = machine.open(1);
        machine.read_all(file, PAGES);
        machine.cache.drop_caches(DropWhat::Pages);
        let taken = machine.cache.cleancache().take_any(machine.pool, usize::MAX).expect("a pool");
        assert_eq!((taken.len(), machine.pool().taken_used), (40, u64::from(PAGES)));
        assert_pages(&machine, file, |index| pattern(1, index), "without a donor");
        drop(taken);
        machine.check_frames();
    });
}

#[test]
fn property_19_a_fill_that_failed_half_way_leaves_nothing() {
    everywhere(|machine| {
        let file = machine.open(1);
        machine.disk.bad().insert((1, 2));
        // Read-ahead meets the bad page; the reader, who wants page 0, does not notice.
        assert!(machine.read(file, 90 * PAGE, 0, 100).is_ok());
        assert_eq!(machine.read(file, 90 * PAGE, 2 * PAGE, 1), Err(FillError::Device { sector: 2 }));
        assert_eq!(machine.read(file, 90 * PAGE, 0, 90 * FRAME_SIZE), Err(FillError::Device { sector: 2 }));
        machine.cache.drop_caches(DropWhat::Pages);
        machine.disk.bad().clear();
        assert_pages(&machine, file, |index| pattern(1, index), "after the failure");
        // And where it is not the gap that the reader waits for: page 1 is here already.
        machine.read(file, 90 * PAGE, PAGE, 1).expect("a good disk");
        machine.disk.bad().insert((1, 3));
        machine.read(file, 90 * PAGE, 0, 3 * FRAME_SIZE + 1).expect_err("page 3 cannot be read");
        machine.disk.bad().clear();
        assert_pages(&machine, file, |index| pattern(1, index), "after a failure behind a gap");
        machine.check_frames();
    });
}

#[test]
fn what_a_host_scribbles_over_never_reaches_a_reader() {
    for exclusive in [true, false] {
        let (machine, lent) = shared_machine(220, 40, Config { exclusive, ..Config::default() });
        let file = machine.open(1);
        machine.read_all(file, PAGES);
        machine.cache.drop_caches(DropWhat::Pages);
        let mut number = numbers(77);
        for &pfn in &lent {
            let flip = 1 + number(255) as u8;
            machine.arena.scribble(pfn, number(PAGE) as usize, |byte| byte ^ flip);
        }
        let before = machine.disk.pages_read();
        let expected: Vec<u8> = (0..PAGES).flat_map(|index| pattern(1, index)).collect();
        assert!(machine.read_all(file, PAGES) == expected);
        assert_eq!(machine.pool().damaged, u64::from(PAGES));
        assert_eq!(machine.disk.pages_read(), before + u64::from(PAGES), "each of them from the disk");
        machine.check_frames();
    }
}
