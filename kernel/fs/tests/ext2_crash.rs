//! Crashes: the writes of a random run of operations reach the disk up to some moment, those since the last flush in part and in
//! any order. Then e2fsck repairs the disk, and
//! - what was synced, and not touched since, is there, byte for byte; a file that was only renamed has the one name or the other;
//! - no file has a byte that was never its own, nor one that nobody wrote.
//!
//! Every file that is made has an identity, of which all its bytes are, so that it tells whose a byte is.

mod common;
mod ext2_support;

use common::{Machine, Numbers};
use ext2_support::{Event, Node, WriteDisk, empty_image, node, repair, with_disk};
use fs::Vfs;
use fs::block::SECTOR_SIZE;
use fs::ext2::Ext2;
use fs::vfs::IfExists;
use std::collections::{BTreeMap, HashMap};

/// Operations in a run, and crashes of it.
const OPERATIONS: usize = 250;
const CRASHES: usize = 25;

/// What the test knows of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    identity: u32,
    bytes: Vec<u8>,
}

/// What is where, and since when: a path counts as touched from the event on at which an operation on it began.
#[derive(Default)]
struct World {
    files: BTreeMap<String, usize>,
    contents: HashMap<usize, Content>,
    made: u32,
    touched: BTreeMap<String, Vec<usize>>,
    /// When a file was changed, or lost a name for good.
    changed: HashMap<usize, Vec<usize>>,
    /// What has to be there from an event on.
    synced: Vec<Synced>,
}

struct Synced {
    since: usize,
    path: String,
    file: usize,
    content: Content,
}

impl World {
    fn touch(&mut self, path: &str, now: usize) {
        self.touched.entry(path.into()).or_default().push(now);
    }

    /// An operation on a file touches all its names.
    fn touch_file(&mut self, file: usize, now: usize) {
        let names: Vec<_> = self.files.iter().filter(|(_, of)| **of == file).map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.touch(name, now));
        self.changed.entry(file).or_default().push(now);
    }

    fn note_synced(&mut self, path: &str, now: usize) {
        if let Some(&file) = self.files.get(path) {
            let content = self.contents[&file].clone();
            self.synced.push(Synced { since: now, path: path.into(), file, content });
        }
    }
}

/// Byte `pos` of a file; never zero.
fn byte(identity: u32, pos: usize) -> u8 {
    (identity >> (pos % 4 * 7) & 0x7f) as u8 | 0x80
}

fn path(numbers: &mut Numbers) -> String {
    format!("/disk/d{}/{}f{}", numbers.below(3), "n".repeat(numbers.pick(&[0, 0, 100])), numbers.below(8))
}

/// One operation, on the disk and in the world.
fn act(vfs: &Vfs, world: &mut World, numbers: &mut Numbers, disk: &WriteDisk) {
    let now = disk.now();
    let (one, other) = (path(numbers), path(numbers));
    let known = world.files.get(&one).copied();
    match numbers.below(20) {
        0..4 => {
            world.touch(&one, now);
            if vfs.create(one.as_bytes(), 0o644, IfExists::Refuse).is_ok() {
                world.made += 1;
                let identity = world.made.wrapping_mul(0x9e37_79b9);
                world.files.insert(one, world.made as usize);
                world.contents.insert(world.made as usize, Content { identity, bytes: Vec::new() });
            }
        }
        4..10 => {
            let Some(file) = known else { return };
            world.touch_file(file, now);
            let content = world.contents.get_mut(&file).unwrap();
            let pos = numbers.below(content.bytes.len() as u64 + 3000) as usize;
            let len = numbers.pick(&[100, 3000, 20_000, 60_000]);
            let len = 1 + numbers.below(len) as usize;
            let data: Vec<u8> = (pos..pos + len).map(|pos| byte(content.identity, pos)).collect();
            let Ok(written) = vfs.open(one.as_bytes()).unwrap().write_at(pos as u64, &data) else { return };
            let end = content.bytes.len().max(pos + written);
            content.bytes.resize(end, 0);
            content.bytes[pos..pos + written].copy_from_slice(&data[..written]);
        }
        10..12 => {
            let Some(file) = known else { return };
            world.touch_file(file, now);
            let content = world.contents.get_mut(&file).unwrap();
            let size = numbers.below(content.bytes.len() as u64 + 1) as usize;
            vfs.truncate(one.as_bytes(), size as u64).unwrap();
            content.bytes.resize(size, 0);
        }
        12..14 => {
            let Some(file) = known else { return };
            // Its other names are what they were.
            world.touch(&one, now);
            world.changed.entry(file).or_default().push(now);
            vfs.unlink(one.as_bytes()).unwrap();
            world.files.remove(&one);
        }
        14..16 => {
            world.touch(&one, now);
            world.touch(&other, now);
            if let Some(replaced) = world.files.get(&other).copied() {
                world.changed.entry(replaced).or_default().push(now);
            }
            if vfs.rename(one.as_bytes(), other.as_bytes()).is_ok()
                && let Some(file) = known
                && world.files.get(&other) != Some(&file)
            {
                world.files.remove(&one);
                world.files.insert(other, file);
            }
        }
        16 => {
            world.touch(&other, now);
            if let Some(file) = known
                && vfs.link(one.as_bytes(), other.as_bytes()).is_ok()
            {
                world.files.insert(other, file);
            }
        }
        17 => {
            let dir = format!("/disk/e{}", numbers.below(3));
            if vfs.mkdir(dir.as_bytes(), 0o755).is_err() {
                vfs.rmdir(dir.as_bytes()).unwrap();
            }
        }
        18 if known.is_some() => {
            vfs.fsync(one.as_bytes()).unwrap();
            world.note_synced(&one, disk.now());
        }
        19 if numbers.below(4) == 0 => {
            vfs.sync().unwrap();
            let names: Vec<_> = world.files.keys().cloned().collect();
            names.iter().for_each(|name| world.note_synced(name, disk.now()));
        }
        _ => {}
    }
}

/// The disk after a crash at event `at`: what came before the last flush, and of the rest each block perhaps.
fn crashed(base: &[u8], events: &[Event], at: usize, block_size: usize, numbers: &mut Numbers) -> Vec<u8> {
    let mut image = base.to_vec();
    let flushed = events[..at].iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
    let chance = numbers.below(5);
    for (n, event) in events[..at].iter().enumerate() {
        let Event::Write { sector, bytes } = event else { continue };
        for (part, bytes) in bytes.chunks(block_size).enumerate() {
            if n < flushed || numbers.below(4) < chance {
                let at = *sector as usize * SECTOR_SIZE + part * block_size;
                image[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
    image
}

fn verify(name: &str, image: Vec<u8>, world: &World, at: usize) {
    let image = repair(name, &image);
    let machine = Machine::new(512);
    let vfs = Vfs::new(&[b"disk"]);
    vfs.mount(b"/disk", Ext2::mount(WriteDisk::new(image), machine.cache.clone()).unwrap()).unwrap();
    // Whose bytes are in which inode.
    let mut owners: HashMap<u32, u64> = HashMap::new();
    let mut named: Vec<Vec<u8>> = Vec::new();
    let mut paths = vec![b"/disk".to_vec()];
    while let Some(path) = paths.pop() {
        match node(&vfs, &path).unwrap() {
            Node::Directory(_) => {
                let entries = vfs.read_dir(&path).unwrap();
                paths.extend(entries.iter().map(|entry| [&path[..], b"/", &entry.name].concat()));
            }
            Node::File(bytes) => {
                let ino = vfs.lstat(&path).unwrap().ino.0;
                let fits = |identity: u32| {
                    bytes.iter().enumerate().all(|(pos, &found)| found == 0 || found == byte(identity, pos))
                };
                let Some(content) = world.contents.values().find(|content| fits(content.identity)) else {
                    panic!("{name}, event {at}: {} has bytes that are not its own", path.escape_ascii());
                };
                if bytes.iter().any(|byte| *byte != 0) {
                    let owner = *owners.entry(content.identity).or_insert(ino);
                    assert_eq!(owner, ino, "{name}, event {at}: two files have one's bytes");
                }
                if !path.starts_with(b"/disk/lost+found") {
                    named.push(bytes);
                }
            }
            Node::Link(_) => {}
        }
    }
    for Synced { since, path, file, content } in &world.synced {
        let meanwhile =
            |list: Option<&Vec<usize>>| list.is_some_and(|list| list.iter().any(|n| (*since..=at).contains(n)));
        if *since > at || meanwhile(world.changed.get(file)) {
            continue;
        }
        assert!(named.contains(&content.bytes), "{name}, event {at}: {path}, synced at {since}, is nowhere");
        if meanwhile(world.touched.get(path)) {
            continue;
        }
        match node(&vfs, path.as_bytes()) {
            Ok(Node::File(bytes)) => {
                assert!(bytes == content.bytes, "{name}, event {at}: {path}, synced at {since}, is not what it was");
            }
            other => panic!("{name}, event {at}: {path}, synced at {since}: {:?}", other.map(|_| "something else")),
        }
    }
}

fn run(seed: u64, block_size: usize, kib: usize) {
    let name = format!("crash{seed}");
    let mut numbers = Numbers(seed);
    let mut image = empty_image(&name, block_size, kib, &["-N", "64"]);
    // What is on the disk from before is nobody's.
    let zero = vec![0; block_size];
    let used = 256 * 1024 / block_size;
    image.chunks_mut(block_size).skip(used).filter(|block| **block == zero).for_each(|block| block.fill(0x55));
    let disk = WriteDisk::new(image.clone());
    disk.record();
    let machine = Machine::new(300);
    let vfs = with_disk(&machine, &disk);
    let mut world = World::default();
    for n in 0..3 {
        vfs.mkdir(format!("/disk/d{n}").as_bytes(), 0o755).unwrap();
    }
    vfs.sync().unwrap();
    let first = disk.now();
    for _ in 0..OPERATIONS {
        act(&vfs, &mut world, &mut numbers, &disk);
    }
    vfs.sync().unwrap();
    let events = disk.events.lock().unwrap().take().unwrap();
    assert!(events.len() - first > 50 && !world.synced.is_empty());
    for _ in 0..CRASHES {
        let at = first + numbers.below((events.len() - first) as u64 + 1) as usize;
        verify(&name, crashed(&image, &events, at, block_size, &mut numbers), &world, at);
    }
}

#[test]
fn small_blocks() {
    (100..106).for_each(|seed| run(seed, 1024, 2 << 10));
}

#[test]
fn large_blocks() {
    (200..204).for_each(|seed| run(seed, 4096, 4 << 10));
}

#[test]
fn a_small_disk_on_which_everything_is_used_again_at_once() {
    (300..306).for_each(|seed| run(seed, 1024, 500));
}

#[test]
fn a_file_that_is_renamed_has_one_name_or_the_other() {
    for seed in 0..4 {
        let mut numbers = Numbers(seed);
        let name = format!("renamed{seed}");
        let image = empty_image(&name, 1024, 1 << 10, &["-N", "64"]);
        let disk = WriteDisk::new(image.clone());
        disk.record();
        let machine = Machine::new(300);
        let vfs = with_disk(&machine, &disk);
        for dir in ["/disk/one", "/disk/other"] {
            vfs.mkdir(dir.as_bytes(), 0o755).unwrap();
        }
        let put = |path: &[u8], content: &[u8]| {
            let mut file = vfs.create(path, 0o644, IfExists::Truncate).unwrap();
            file.write_at(0, content).unwrap();
        };
        put(b"/disk/one/new", b"new");
        put(b"/disk/other/target", b"old");
        put(b"/disk/one/linked", b"linked");
        vfs.sync().unwrap();
        let first = disk.now();
        vfs.rename(b"/disk/one/new", b"/disk/other/target").unwrap();
        vfs.link(b"/disk/one/linked", b"/disk/other/linked").unwrap();
        vfs.unlink(b"/disk/one/linked").unwrap();
        vfs.sync().unwrap();
        let events = disk.events.lock().unwrap().take().unwrap();
        for at in (first..=events.len()).flat_map(|at| [at; 6]) {
            let image = repair(&name, &crashed(&image, &events, at, 1024, &mut numbers));
            let after = Machine::new(300);
            let vfs = Vfs::new(&[b"disk"]);
            vfs.mount(b"/disk", Ext2::mount(WriteDisk::new(image), after.cache.clone()).unwrap()).unwrap();
            let at_path = |path: &str| node(&vfs, path.as_bytes()).ok();
            let file = |content: &str| Some(Node::File(content.into()));
            let target = at_path("/disk/other/target");
            assert!(target == file("old") && at_path("/disk/one/new") == file("new") || target == file("new"), "{at}");
            let links = [at_path("/disk/one/linked"), at_path("/disk/other/linked")];
            assert!(links.contains(&file("linked")), "{at}");
        }
    }
}
