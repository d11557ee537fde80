//! Mounting for writing, as the host's tools see it: what is said in the log, what the superblock counts, and whether `df` is right.

mod common;
mod ext2_support;

use common::{Machine, Numbers, scratch};
use ext2_support::{WriteDisk, check, empty_image, get, mount, put, repair, tool, with_disk};
use fs::filesystem::{FileSystem, NewNode};
use fs::{Error, Vfs};
use log::{LevelFilter, Log, Metadata, Record};
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what each thread says.
struct Listener;

impl Log for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        SAID.with_borrow_mut(|said| said.push(format!("{} {}", record.level(), record.args())));
    }

    fn flush(&self) {}
}

/// What is said while it is done.
fn said<T>(deed: impl FnOnce() -> T) -> (T, Vec<String>) {
    // All tests of this program use the same.
    let _ = log::set_logger(&Listener);
    log::set_max_level(LevelFilter::Info);
    SAID.take();
    (deed(), SAID.take())
}

/// What `dumpe2fs -h` says of an image, by the words before the colon.
struct Dump(String);

impl Dump {
    fn of(name: &str, image: &[u8]) -> Self {
        let path = scratch(name).join("image");
        std::fs::write(&path, image).unwrap();
        let dumped = tool("dumpe2fs").arg("-h").arg(&path).output().expect("dumpe2fs (package e2fsprogs)");
        assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
        std::fs::remove_file(path).unwrap();
        Self(String::from_utf8(dumped.stdout).unwrap())
    }

    fn get(&self, key: &str) -> &str {
        let line = self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {key} in\n{}", self.0)).trim()
    }

    fn number(&self, key: &str) -> u64 {
        self.get(key).parse().unwrap()
    }
}

#[test]
fn df_is_what_dumpe2fs_says() {
    for (seed, block_size, options) in
        [(1, 1024, &["-N", "300", "-g", "512"][..]), (2, 2048, &["-N", "200"]), (3, 4096, &["-N", "200"])]
    {
        let name = format!("df, blocks of {block_size}");
        let disk = WriteDisk::new(empty_image(&name, block_size, 3 << 10, options));
        let machine = Machine::new(1024);
        let vfs = with_disk(&machine, &disk);
        let mut numbers = Numbers(seed);
        let mut open = None;
        for round in 0..25 {
            for _ in 0..40 {
                let path = format!("/disk/{}", numbers.below(60));
                let path = path.as_bytes();
                // Some of these fail: there is no such file, or it is a directory, or the disk is full.
                let _ = match numbers.below(10) {
                    0 => vfs.mkdir(path, 0o755),
                    1 => vfs.rmdir(path),
                    2 | 3 => vfs.unlink(path),
                    4 => vfs.truncate(path, numbers.below(200_000)),
                    5 => vfs.punch(path, numbers.below(50_000), numbers.below(50_000)),
                    6 => vfs.symlink(&vec![b'l'; 1 + numbers.below(200) as usize], path),
                    7 => vfs.open(path).map(|file| open = Some(file)),
                    _ => vfs.create(path, 0o644, fs::vfs::IfExists::Keep).and_then(|mut file| {
                        let len = numbers.below(60_000) as usize;
                        file.write_at(numbers.below(100_000), &vec![1; len]).map(drop)
                    }),
                };
            }
            if round % 3 == 0 {
                // Files that are open without a name are not free yet.
                open = None;
            }
            let told = vfs.stat_fs(b"/disk").unwrap();
            vfs.sync().unwrap();
            assert_eq!(vfs.stat_fs(b"/disk").unwrap(), told, "a sync changes nothing that anybody sees");
            let dump = Dump::of(&name, &disk.image());
            let keys = ["Block size", "Block count", "Free blocks", "Inode count", "Free inodes"];
            let dumped = keys.map(|key| dump.number(key));
            let ours = [told.block_size, told.blocks, told.free_blocks, told.inodes, told.free_inodes];
            assert_eq!(ours, dumped, "{name}, round {round}: {keys:?}");
        }
        drop(open);
        vfs.unmount(b"/disk").unwrap();
        // Which compares these counts with the bitmaps, and those with the tree.
        check(&name, &disk.image());
    }
}

#[test]
fn a_feature_that_is_not_known_makes_it_read_only_and_is_named() {
    let machine = Machine::new(512);
    let by_mke2fs = |options: &[&str]| empty_image("feature", 1024, 1 << 10, options);
    let mut unheard_of = by_mke2fs(&[]);
    unheard_of[1024 + 100 + 3] |= 0x20;
    for (image, words) in [
        (by_mke2fs(&["-O", "huge_file"]), "huge_file (bits 0x8)"),
        (by_mke2fs(&["-O", "extra_isize,dir_nlink"]), "dir_nlink (bits 0x60)"),
        (by_mke2fs(&["-O", "quota"]), "quota (bits 0x100)"),
        (unheard_of, "unknown (bits 0x20000000)"),
    ] {
        let disk = WriteDisk::new(image.clone());
        let (fs, said) = said(|| mount(&machine, &disk).unwrap());
        assert_eq!(said, [format!("WARN memory: read-only: filesystem feature not supported: {words}")]);
        assert!(fs.read_only());
        let vfs = Vfs::new(&[b"disk"]);
        vfs.mount(b"/disk", fs.clone()).unwrap();
        assert!(vfs.mounts().iter().any(|mount| mount.path == b"/disk" && mount.read_only));
        assert!(vfs.read_dir(b"/disk").unwrap().iter().any(|entry| entry.name == b"lost+found"));
        assert_eq!(fs.create(fs.root(), b"x", NewNode::Regular, 0), Err(Error::ReadOnly));
        assert_eq!(vfs.rmdir(b"/disk/lost+found"), Err(Error::ReadOnly));
        vfs.sync().unwrap();
        vfs.unmount(b"/disk").unwrap();
        assert!(disk.image() == image, "{words}: and nothing is written");
    }
    // Those that are known change nothing.
    let disk = WriteDisk::new(by_mke2fs(&["-O", "large_file,sparse_super"]));
    let (fs, said) = said(|| mount(&machine, &disk).unwrap());
    assert!(said.is_empty() && !fs.read_only(), "{said:?}");
}

/// State, mounts so far and whether there is something to see in the log, of a disk as it is mounted.
fn mounted(machine: &Machine, disk: &Arc<WriteDisk>) -> (Arc<fs::ext2::Ext2>, Vec<String>) {
    let (fs, said) = said(|| mount(machine, disk).unwrap());
    assert!(!fs.read_only());
    (fs, said)
}

#[test]
fn mounts_are_counted_and_an_unclean_one_is_warned_of_until_e2fsck_was_there() {
    let look = |disk: &WriteDisk| {
        let dump = Dump::of("count", &disk.image());
        (dump.get("Filesystem state").to_string(), dump.number("Mount count"))
    };
    let state = |state: &str, mounts: u64| (state.to_string(), mounts);
    let machine = Machine::new(512);
    let disk = WriteDisk::new(empty_image("count", 1024, 1 << 10, &[]));
    for mounts in 1..4 {
        let (fs, said) = mounted(&machine, &disk);
        assert!(said.is_empty(), "{said:?}");
        assert_eq!(look(&disk), state("not clean", mounts));
        fs.unmount().unwrap();
        assert_eq!(look(&disk), state("clean", mounts));
    }
    // The kernel dies in the midst of it.
    let vfs = with_disk(&machine, &disk);
    put(&vfs, "/disk/file", 0, &[1; 5000]);
    vfs.sync().unwrap();
    assert_eq!(look(&disk), state("clean", 4), "at rest");
    put(&vfs, "/disk/other", 0, &[2; 5000]);
    let disk = WriteDisk::new(disk.image());
    drop(vfs);
    for mounts in 5..7 {
        let (fs, said) = mounted(&machine, &disk);
        assert_eq!(said, ["WARN memory: was not unmounted as it should be; e2fsck is advised"]);
        fs.unmount().unwrap();
        assert_eq!(look(&disk), state("not clean", mounts), "that it was unmounted makes it no better");
    }
    let disk = WriteDisk::new(repair("count", &disk.image()));
    assert_eq!(look(&disk).0, "clean");
    let (fs, said) = mounted(&machine, &disk);
    assert!(said.is_empty(), "{said:?}");
    fs.unmount().unwrap();
    // Something was found to be wrong, here or by another kernel.
    let mut image = disk.image();
    image[1024 + 58] |= 2;
    let disk = WriteDisk::new(image);
    let (fs, said) = mounted(&machine, &disk);
    assert_eq!(said, ["WARN memory: something was found to be wrong on it earlier; e2fsck is advised"]);
    fs.unmount().unwrap();
    assert!(look(&disk).0.contains("with errors"), "{}", look(&disk).0);
    // Whoever only reads leaves it all as it is.
    let before = disk.image();
    let vfs = Vfs::new(&[b"disk"]);
    vfs.mount(b"/disk", fs::ext2::Ext2::mount(disk.clone(), machine.cache.clone()).unwrap()).unwrap();
    assert!(get(&vfs, "/disk/file") == [1; 5000]);
    vfs.unmount(b"/disk").unwrap();
    assert!(disk.image() == before);
}
