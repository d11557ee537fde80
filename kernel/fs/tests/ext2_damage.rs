//! Damaged filesystems and failing disks: an error that says what is wrong, at the call that met it, and never a panic, a
//! hang or a wrong answer elsewhere.

mod common;
mod ext2_support;

use common::{Machine, MemoryDisk, Numbers, make_image, scratch};
use ext2_support::{WriteDisk, mount};
use fs::block::BlockError;
use fs::filesystem::{DirEntry, FileType, Stat};
use fs::{Error, Vfs};
use std::collections::BTreeMap;
use std::fs as host;
use std::os::unix::fs::{FileExt, symlink};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const BLOCK: usize = 1024;
const INODE_SIZE: usize = 256;

/// A small filesystem with one of everything.
fn small_image(name: &str) -> Vec<u8> {
    let tree = scratch(name);
    let mut numbers = Numbers(7);
    host::create_dir_all(tree.join("a/b/c")).unwrap();
    host::write(tree.join("a/small"), numbers.bytes(100)).unwrap();
    host::write(tree.join("a/b/indirect"), numbers.bytes(20 * BLOCK)).unwrap();
    let double = host::File::create(tree.join("a/b/c/trees")).unwrap();
    for at in [0, 13 * BLOCK, 300 * BLOCK, 66_000 * BLOCK] {
        double.write_all_at(&numbers.bytes(2 * BLOCK), at as u64).unwrap();
    }
    symlink("a/b", tree.join("fast")).unwrap();
    symlink("/disk/a/b/c/".repeat(10), tree.join("slow")).unwrap();
    for n in 0..60 {
        host::write(tree.join(format!("a/b/c/entry-with-a-name-{n}")), "x").unwrap();
    }
    let image = make_image(&tree, BLOCK, 400, &["-N", "128", "-I", "256"]);
    host::remove_dir_all(tree).unwrap();
    image
}

fn u32_at(image: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(image[at..at + 4].try_into().unwrap())
}

/// Where things lie in an image of one group that is sound.
struct Map {
    inodes: Vec<usize>,
    directories: Vec<usize>,
    indirect: Vec<usize>,
}

impl Map {
    fn of(image: &[u8]) -> Self {
        let table = u32_at(image, 2 * BLOCK + 8) as usize * BLOCK;
        let all = (0..128).map(|n| table + n * INODE_SIZE);
        let mut map = Self { inodes: Vec::new(), directories: Vec::new(), indirect: Vec::new() };
        for inode in all.filter(|&inode| image[inode + 26] != 0) {
            map.inodes.push(inode);
            let pointers: Vec<_> = (0..15).map(|n| u32_at(image, inode + 40 + 4 * n) as usize * BLOCK).collect();
            let kind = image[inode + 1] >> 4;
            if kind == 4 {
                map.directories.extend(pointers[..12].iter().filter(|at| **at != 0));
            }
            if kind == 4 || kind == 8 {
                let top = pointers[12..].iter().copied().filter(|at| *at != 0 && *at < image.len());
                for (block, depth) in top.zip(0..) {
                    map.indirect.push(block);
                    let next = (0..BLOCK / 4).map(|n| u32_at(image, block + 4 * n) as usize * BLOCK);
                    map.indirect.extend(next.filter(|at| depth > 0 && *at != 0));
                }
            }
        }
        map
    }
}

/// Everything that a walk over a mounted tree met: each answer, in order of asking.
#[derive(Default)]
struct Survey {
    stats: BTreeMap<Vec<u8>, Result<Stat, Error>>,
    lists: BTreeMap<Vec<u8>, Result<Vec<DirEntry>, Error>>,
    links: BTreeMap<Vec<u8>, Result<Vec<u8>, Error>>,
    reads: BTreeMap<(Vec<u8>, u64), Result<Vec<u8>, Error>>,
}

/// More than a walk over the sound image takes, and little enough to show that damage does not make it endless.
const MOST_STEPS: usize = 2_000;

impl Survey {
    fn take(vfs: &Vfs) -> Self {
        let mut survey = Self::default();
        let mut paths = vec![b"/disk".to_vec()];
        let mut steps = 0;
        while let Some(path) = paths.pop() {
            steps += 1;
            assert!(steps < MOST_STEPS, "no end of it");
            let stat = vfs.lstat(&path);
            survey.stats.insert(path.clone(), stat);
            let Ok(stat) = stat else { continue };
            match stat.kind {
                FileType::Directory => {
                    let list = vfs.read_dir(&path);
                    for entry in list.iter().flatten() {
                        paths.push([&path[..], b"/", &entry.name].concat());
                    }
                    let _ = vfs.stat(&[&path[..], b"/.."].concat());
                    survey.lists.insert(path, list);
                }
                FileType::Regular => survey.read(vfs, &path, stat.size),
                FileType::Symlink => {
                    survey.links.insert(path.clone(), vfs.read_link(&path));
                    let _ = vfs.stat(&path);
                }
                FileType::Special => {}
            }
        }
        survey
    }

    fn read(&mut self, vfs: &Vfs, path: &[u8], size: u64) {
        let Ok(mut file) = vfs.open(path) else { return };
        let mut out = vec![0; 8 * BLOCK];
        let places = [0, 12, 250, 290, 65_990, 66_001].map(|block| block * BLOCK as u64);
        for at in places.into_iter().chain([size / 2, size.saturating_sub(5)]).filter(|at| *at < size) {
            let read = file.read_at(at, &mut out).map(|len| out[..len].to_vec());
            self.reads.insert((path.to_vec(), at), read);
        }
    }

    /// The answers that are errors.
    fn errors(&self) -> Vec<Error> {
        let stats = self.stats.values().filter_map(|answer| answer.as_ref().err());
        let lists = self.lists.values().filter_map(|answer| answer.as_ref().err());
        let links = self.links.values().filter_map(|answer| answer.as_ref().err());
        let reads = self.reads.values().filter_map(|answer| answer.as_ref().err());
        stats.chain(lists).chain(links).chain(reads).copied().collect()
    }

    /// Every answer here that is no error is the one of `sound`.
    fn agrees_with(&self, sound: &Self) {
        fn check<K: Ord + std::fmt::Debug, V: PartialEq>(
            these: &BTreeMap<K, Result<V, Error>>,
            those: &BTreeMap<K, Result<V, Error>>,
        ) {
            for (key, answer) in these.iter().filter(|(_, answer)| answer.is_ok()) {
                assert!(those.get(key) == Some(answer), "a wrong answer for {key:?}");
            }
        }
        check(&self.stats, &sound.stats);
        check(&self.lists, &sound.lists);
        check(&self.links, &sound.links);
        check(&self.reads, &sound.reads);
    }
}

fn mounted(machine: &Machine, disk: &Arc<MemoryDisk>) -> Result<Vfs, Error> {
    let vfs = Vfs::new(&[b"disk"]);
    vfs.mount(b"/disk", machine.mount(disk)?)?;
    Ok(vfs)
}

#[test]
fn damage_is_survived() {
    let sound = small_image("mutants");
    let map = Map::of(&sound);
    assert!(map.directories.len() >= 6 && map.indirect.len() >= 6 && map.inodes.len() > 60);
    let machine = Machine::new(512);
    let mut numbers = Numbers(2026);
    let (mut refused, mut noticed) = (0, 0);
    for round in 0..1_500 {
        let mut image = sound.clone();
        for _ in 0..=numbers.below(3) {
            let at = match round % 5 {
                0 => 1024 + numbers.below(104) as usize,
                1 => 2 * BLOCK + numbers.below(32) as usize,
                2 => numbers.pick(&map.inodes) + numbers.below(128) as usize,
                3 => numbers.pick(&map.directories) + numbers.below(64) as usize,
                _ => numbers.pick(&map.indirect) + numbers.below(BLOCK as u64) as usize,
            };
            let blocks = (sound.len() / BLOCK) as u32;
            let random = numbers.next() as u32;
            let value =
                numbers.pick(&[0, 1, 2, 7, 12, blocks - 1, blocks, 0x7fff_ffff, 0xffff_ffff, random, random >> 16]);
            let (at, len) = match numbers.below(3) {
                0 => (at, 1),
                1 => (at & !1, 2),
                _ => (at & !3, 4),
            };
            image[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        }
        let disk = MemoryDisk::new(image);
        match mounted(&machine, &disk) {
            Err(Error::Corrupt { .. } | Error::Feature { .. } | Error::WrongFormat { .. }) => refused += 1,
            Err(other) => panic!("refused for an odd reason: {other}"),
            Ok(vfs) => {
                let errors = Survey::take(&vfs).errors();
                noticed += usize::from(!errors.is_empty());
                let odd = errors.iter().find(|error| matches!(error, Error::Device(_) | Error::NoMemory));
                assert_eq!(odd, None, "round {round}");
            }
        }
        let batches = disk.batches.load(Relaxed);
        assert!(batches < 5_000, "round {round}: {batches} reads");
    }
    // Else nothing was hit that matters.
    assert!(refused > 50 && noticed > 150, "{refused} refused, {noticed} noticed");
}

#[test]
fn an_io_error_is_met_where_it_happens_and_nowhere_else() {
    let disk = MemoryDisk::new(small_image("sectors"));
    let machine = Machine::new(512);
    let sound = {
        let vfs = mounted(&machine, &disk).unwrap();
        Survey::take(&vfs)
    };
    assert_eq!(sound.errors(), []);
    let mut sectors: Vec<u64> = disk.reads_of.lock().unwrap().keys().copied().collect();
    sectors.sort_unstable();
    assert!(sectors.len() > 150);
    let mut met = 0;
    for sector in sectors {
        disk.fail(Some(sector));
        let vfs = match mounted(&machine, &disk) {
            Err(error) => {
                assert!(matches!(error, Error::Device(BlockError::Io { .. })), "sector {sector}: {error}");
                met += 1;
                disk.fail(None);
                mounted(&machine, &disk).unwrap()
            }
            Ok(vfs) => {
                let survey = Survey::take(&vfs);
                let errors = survey.errors();
                met += usize::from(!errors.is_empty());
                for error in errors {
                    assert!(matches!(error, Error::Device(BlockError::Io { .. })), "sector {sector}: {error}");
                }
                survey.agrees_with(&sound);
                disk.fail(None);
                vfs
            }
        };
        let healed = Survey::take(&vfs);
        assert_eq!(healed.errors(), [], "sector {sector} is sound again");
        healed.agrees_with(&sound);
    }
    assert!(met > 100, "{met} errors met");
}

/// Mount an image changed by `change`; the error that comes of it.
fn refusal(change: impl FnOnce(&mut Vec<u8>)) -> Error {
    let mut image = small_image(std::thread::current().name().unwrap());
    change(&mut image);
    Machine::new(64).mount(&MemoryDisk::new(image)).expect_err("refused")
}

fn set(at: usize, value: u32) -> impl Fn(&mut Vec<u8>) {
    move |image| image[at..at + 4].copy_from_slice(&value.to_le_bytes())
}

#[test]
fn what_cannot_be_mounted_is_refused_with_the_reason() {
    const SUPER: usize = 1024;
    assert_eq!(refusal(|image| image.fill(0)), Error::WrongFormat { wanted: "ext2", magic: 0 });
    assert_eq!(refusal(set(SUPER + 96, 0x42 | 0x8000_0000)), Error::Feature { name: "extent", bits: 0x8000_0040 });
    assert_eq!(refusal(set(SUPER + 96, 0x4000_0000)), Error::Feature { name: "unknown", bits: 0x4000_0000 });
    assert!(refusal(|image| image.truncate(SUPER)).to_string().contains("sector 2 is past the end"));
    let cases: [(usize, u32, &str); 6] = [
        (24, 3, "the logarithm of the block size, beyond 2 (4 KiB) (3)"),
        (4, 401, "more blocks than the disk has room for (401)"),
        (32, 0, "blocks in a group (0)"),
        (40, 8193, "inodes in a group (8193)"),
        (0, 129, "more inodes than its groups hold (129)"),
        (20, 0, "the first data block (0)"),
    ];
    for (field, value, reason) in cases {
        assert_eq!(refusal(set(SUPER + field, value)).to_string(), format!("filesystem is damaged: {reason}"));
    }
    let table = refusal(set(2 * BLOCK + 8, 400));
    assert_eq!(table, Error::Corrupt { what: "an inode table out of range", value: 400 });
}

/// Where the record of `name` begins in the image.
fn record(image: &[u8], name: &[u8]) -> usize {
    let at = Map::of(image)
        .directories
        .iter()
        .find_map(|&block| {
            let names = &image[block..block + BLOCK];
            names.windows(name.len()).position(|window| window == name).map(|found| block + found)
        })
        .expect("a name in some directory");
    at - 8
}

/// The number of the directory that holds `name`: the first record of its block is `.`.
fn directory_of(image: &[u8], name: &[u8]) -> u32 {
    u32_at(image, record(image, name) / BLOCK * BLOCK)
}

#[test]
fn a_directory_inside_itself_is_an_error_and_no_loop() {
    let mut image = small_image("loop");
    let (file, a) = (record(&image, b"small"), directory_of(&image, b"small"));
    // `/a/small` becomes another name of its own directory, of the root, and of the directory `/a/b`, which is in `/a` twice
    // then. Only that is harmless, since no walk goes round in circles.
    let b = u32_at(&image, record(&image, b"b\0\0\0"));
    for (ino, loops) in [(a, true), (2, true), (b, false)] {
        set(file, ino)(&mut image);
        image[file + 7] = 2;
        let machine = Machine::new(64);
        let vfs = mounted(&machine, &MemoryDisk::new(image.clone())).unwrap();
        let stat = vfs.stat(b"/disk/a/small");
        assert_eq!(matches!(stat, Err(Error::Corrupt { value, .. }) if value == u64::from(ino)), loops, "{stat:?}");
        assert!(vfs.stat(b"/disk/a/b/indirect").is_ok());
    }
    // `/a/b/c` becomes a name of `/a`: a circle of three.
    set(record(&image, b"c\0\0\0"), a)(&mut image);
    let machine = Machine::new(64);
    let vfs = mounted(&machine, &MemoryDisk::new(image)).unwrap();
    assert!(matches!(vfs.stat(b"/disk/a/b/c/b"), Err(Error::Corrupt { .. })));
    assert!(vfs.stat(b"/disk/a/b").is_ok());
}

#[test]
fn a_broken_record_spoils_its_own_directory_only() {
    for (offset, value, what) in [
        (4, 0, "the length of a directory record"),
        (4, 6, "the length of a directory record"),
        (4, 0xfffc, "a directory record that reaches past its block"),
    ] {
        let mut image = small_image("record");
        let at = record(&image, b"small") + offset;
        image[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
        let machine = Machine::new(64);
        let vfs = mounted(&machine, &MemoryDisk::new(image)).unwrap();
        assert_eq!(vfs.read_dir(b"/disk/a"), Err(Error::Corrupt { what, value }));
        assert!(vfs.read_dir(b"/disk").is_ok());
    }
}

#[test]
fn a_wild_block_number_is_named() {
    let mut image = small_image("wild");
    let ino = u32_at(&image, record(&image, b"indirect")) as usize;
    let inode = u32_at(&image, 2 * BLOCK + 8) as usize * BLOCK + (ino - 1) * INODE_SIZE;
    set(inode + 40 + 4 * 8, 0xdead)(&mut image);
    let machine = Machine::new(64);
    let vfs = mounted(&machine, &MemoryDisk::new(image)).unwrap();
    let mut file = vfs.open(b"/disk/a/b/indirect").unwrap();
    let mut out = vec![0; 4096];
    assert_eq!(file.read_at(0, &mut out), Ok(4096));
    let wild = Error::Corrupt { what: "a block number out of range", value: 0xdead };
    assert_eq!(file.read_at(8 * BLOCK as u64, &mut out), Err(wild));
    assert_eq!(file.read_at(12 * BLOCK as u64, &mut out), Ok(4096));
}

#[test]
fn a_block_past_the_end_of_the_filesystem_is_nobodys_even_where_the_disk_goes_on() {
    let sound = small_image("past");
    let end = sound.len() / BLOCK;
    let ino = u32_at(&sound, record(&sound, b"indirect")) as usize;
    let inode = u32_at(&sound, 2 * BLOCK + 8) as usize * BLOCK + (ino - 1) * INODE_SIZE;
    let indirect = u32_at(&sound, inode + 40 + 4 * 12) as usize * BLOCK;
    // A pointer in the inode, one to an indirect block, one in an indirect block; and the block of the file that they are for.
    for (pointer, index) in [(inode + 40 + 4 * 8, 8), (inode + 40 + 4 * 12, 12), (indirect + 4 * 4, 16)] {
        for beyond in [end, end + 3] {
            let mut image = sound.clone();
            image.resize(sound.len() + 8 * BLOCK, 0x66);
            set(pointer, beyond as u32)(&mut image);
            let wild = Error::Corrupt { what: "a block number out of range", value: beyond as u64 };
            let machine = Machine::new(512);
            let disk = MemoryDisk::new(image.clone());
            let vfs = mounted(&machine, &disk).unwrap();
            let mut out = vec![0; BLOCK];
            let at = (index * BLOCK) as u64;
            assert_eq!(vfs.open(b"/disk/a/b/indirect").unwrap().read_at(at, &mut out), Err(wild), "{index}");
            assert!(disk.reads_of.lock().unwrap().keys().all(|&sector| (sector as usize) < 2 * end), "{index}");
            vfs.unmount(b"/disk").unwrap();
            for deed in 0..2 {
                let disk = WriteDisk::new(image.clone());
                vfs.mount(b"/disk", mount(&machine, &disk).unwrap()).unwrap();
                let refused = match deed {
                    0 => vfs.open(b"/disk/a/b/indirect").unwrap().write_at(at, &[1; BLOCK]).map(drop),
                    _ => vfs.truncate(b"/disk/a/b/indirect", 100),
                };
                assert_eq!(refused, Err(wild), "{index}");
                let _ = vfs.unmount(b"/disk");
                assert!(disk.image()[sound.len()..].iter().all(|&byte| byte == 0x66), "{index}");
            }
        }
    }
}
