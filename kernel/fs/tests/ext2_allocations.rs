//! What asks for no memory: writing over what is cached, appending, and the way of changes to the disk, which is how memory is made
//! free. Counted by an allocator that counts, and with no frame left.

mod common;
mod ext2_support;

use allocation_counter::measure;
use cache::DropWhat;
use common::{Machine, Numbers};
use ext2_support::{WriteDisk, check, empty_image, mount};
use frames::{Frame, Zones};
use fs::ext2::Ext2;
use fs::filesystem::{FileSystem, SetAttr};
use fs::vfs::{File, IfExists};
use fs::{Error, Vfs};
use std::sync::Arc;

const PAGE: u64 = 4096;
/// Memory in which the buffer of a filesystem can be half as large again as it is at first.
const FRAMES: usize = 9216;

/// Nothing was asked for by `deed`.
fn quiet(what: &str, deed: impl FnOnce()) {
    let seen = measure(deed);
    assert_eq!(seen.count_total, 0, "{what}: {} times, {} bytes", seen.count_total, seen.bytes_total);
}

/// A machine with a disk at `/disk`.
struct World {
    name: String,
    disk: Arc<WriteDisk>,
    vfs: Vfs,
    fs: Arc<Ext2>,
    machine: Machine,
}

impl World {
    /// One for each size of blocks.
    fn all(name: &'static str) -> impl Iterator<Item = Self> {
        [1024, 2048, 4096].into_iter().map(move |block_size| {
            let name = format!("{name}, blocks of {block_size}");
            let disk = WriteDisk::new(empty_image(&name, block_size, 48 << 10, &["-N", "1024"]));
            let machine = Machine::new(FRAMES);
            let vfs = Vfs::new(&[b"disk"]);
            let fs = mount(&machine, &disk).unwrap();
            vfs.mount(b"/disk", fs.clone()).unwrap();
            Self { name, disk, vfs, fs, machine }
        })
    }

    fn create(&self, name: usize) -> File {
        self.vfs.create(format!("/disk/{name}").as_bytes(), 0o644, IfExists::Refuse).unwrap()
    }

    /// The frames that are left.
    fn all_memory(&self) -> Vec<Frame> {
        std::iter::from_fn(|| self.machine.arena.memory().allocate(Zones::Ephemeral)).collect()
    }

    fn end(self) {
        self.vfs.unmount(b"/disk").unwrap();
        check(&self.name, &self.disk.image());
    }
}

#[test]
fn writing_over_what_is_cached() {
    for world in World::all("over") {
        let mut file = world.create(0);
        file.write_at(0, &[1; 1 << 20]).unwrap();
        let mut numbers = Numbers(1);
        for round in 0..20 {
            if round % 4 == 0 {
                // The next are the first of pages that are clean, and the first is one on a disk at rest.
                world.vfs.sync().unwrap();
            }
            quiet(&world.name, || {
                for _ in 0..500 {
                    assert_eq!(file.write_at(numbers.below(256) * PAGE, &[round; 4096]), Ok(4096));
                }
            });
        }
        drop(file);
        world.end();
    }
}

#[test]
fn appending() {
    for world in World::all("append") {
        let mut file = world.create(0);
        // Through three levels of the map with small blocks, and most groups; writers write back, and the buffer is committed.
        quiet(&world.name, || {
            for page in 0..40 * 256 {
                assert_eq!(file.write_at(page * PAGE, &[7; 4096]), Ok(4096));
            }
        });
        assert!(world.machine.cache.stats().written > 0);
        drop(file);
        world.end();
    }
}

#[test]
fn changes_on_their_way_to_the_disk() {
    for world in World::all("out") {
        let mut files: Vec<File> = (0..20).map(|n| world.create(n)).collect();
        let mut numbers = Numbers(2);
        for round in 0..12 {
            for _ in 0..60 {
                let file = numbers.below(20) as usize;
                let data = numbers.bytes(10_000);
                files[file].write_at(numbers.below(1_000_000), &data).unwrap();
            }
            world.vfs.truncate(format!("/disk/{round}").as_bytes(), 100_000).unwrap();
            world.vfs.mkdir(format!("/disk/d{round}").as_bytes(), 0o755).unwrap();
            world.vfs.rename(format!("/disk/d{round}").as_bytes(), b"/disk/d").unwrap();
            if round == 5 {
                world.vfs.unlink(b"/disk/19").unwrap();
                drop(files.pop());
            }
            let attr = SetAttr { mode: Some(0o600), ..SetAttr::default() };
            world.vfs.set_attr(b"/disk/0", &attr).unwrap();
            if round % 2 == 0 {
                // What leads to the blocks of a file is not cached either.
                world.machine.cache.drop_caches(DropWhat::All);
            }
            let held = world.all_memory();
            let mut written = Err(Error::Unmounted);
            if round % 3 == 0 {
                quiet(&format!("write-back, {}", world.name), || {
                    assert_eq!(world.machine.cache.write_out(None), Ok(()));
                });
            }
            quiet(&format!("commit, {}", world.name), || written = world.fs.commit());
            assert_eq!(written, Ok(()));
            drop(held);
            if files.len() == 19 {
                files.push(world.vfs.create(b"/disk/19", 0o644, IfExists::Keep).unwrap());
            }
        }
        drop(files);
        world.end();
    }
}

/// Changes `count` directories' worth of metadata, each with the memory that `keep` leaves; how much the buffer has then.
fn grown(world: &World, from: usize, count: usize, keep: impl Fn(&mut Vec<Frame>)) -> u64 {
    let mut held = Vec::new();
    for n in from..from + count {
        keep(&mut held);
        assert_eq!(world.vfs.mkdir(format!("/disk/{n}").as_bytes(), 0o755), Ok(()), "{}", world.name);
    }
    world.fs.own_frames()
}

/// The buffer begins with the least and grows up to its bound when it is full of changes, by free memory or what is cached in plenty,
/// and does without.
#[test]
fn metadata_in_a_buffer_that_may_grow_or_not() {
    for world in World::all("growth by cached pages") {
        let least = world.fs.own_frames();
        let memory = world.machine.arena.memory();
        let take = |held: &mut Vec<Frame>| {
            while memory.has_more(Zones::Ephemeral, memory.watermarks().low) {
                held.extend(memory.allocate(Zones::Ephemeral));
            }
        };
        // What little is read meanwhile is cached, and stays.
        assert_eq!(grown(&world, 0, 200, take), least, "{}", world.name);
        let mut file = world.create(1000);
        assert_eq!(file.write_at(0, &vec![1; 4 << 20]), Ok(4 << 20));
        world.vfs.sync().unwrap();
        assert_eq!(grown(&world, 200, 400, take), least + 24, "{}", world.name);
        drop(file);
        world.end();
    }
    for world in World::all("growth by free memory") {
        let least = world.fs.own_frames();
        assert_eq!(grown(&world, 0, 400, |_| ()), least + 24, "{}", world.name);
        world.end();
    }
}
