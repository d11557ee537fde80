//! ext2 images with damage in the places that matter, lived through: mounted for writing, walked, written to, unmounted.
//!
//! An input is a list of patches of eight bytes each: what kind of structure, which one of them, where in it, how wide, and with what
//! value. So any bytes are an input, and a fuzzer's changes hit structures, whatever the image looks like. The images that are
//! patched are made by mke2fs, with blocks of each size.

#![allow(dead_code, reason = "each program uses a part of it")]

use cache::PageCache;
use cleancache::Cleancache;
use frames::arena::Arena;
use fs::block::{BlockDevice, BlockError, BlockStats, ReadRequest, SECTOR_SIZE, WriteRequest};
use fs::ext2::Ext2;
use fs::filesystem::{FileType, SetAttr, Time};
use fs::vfs::IfExists;
use fs::{Error, Vfs};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Bytes of a patch.
pub const PATCH: usize = 8;
/// Patches that are applied; what follows them is ignored.
const MOST_PATCHES: usize = 64;
/// Requests to the disk that one image may cause: many times what the sound ones do.
const MOST_REQUESTS: u64 = 60_000;
/// Names that a walk looks at.
const MOST_NAMES: usize = 2_000;

/// An image, and where in it the structures are that are worth damaging.
pub struct Base {
    pub image: Vec<u8>,
    block: usize,
    /// Offsets of superblock, descriptors, inodes, directory blocks, indirect blocks, bitmaps; each with the length that matters.
    places: [(Vec<usize>, usize); 6],
}

impl Base {
    /// One with blocks of each size, the smallest with many groups. `scratch` is a directory that may be used.
    pub fn all(scratch: &Path) -> Vec<Self> {
        let images: [(usize, &[&str]); 3] =
            [(1024, &["-g", "256", "-I", "128"]), (2048, &["-I", "256"]), (4096, &["-I", "256"])];
        images.map(|(block, options)| Self::make(scratch, block, options)).into()
    }

    fn make(scratch: &Path, block: usize, options: &[&str]) -> Self {
        let (tree, image) = (scratch.join("tree"), scratch.join("image"));
        let _ = std::fs::remove_dir_all(scratch);
        std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
        std::fs::write(tree.join("a/small"), "small").unwrap();
        std::fs::write(tree.join("a/b/indirect"), vec![7; 20 * block]).unwrap();
        let far = std::fs::File::create(tree.join("a/b/c/trees")).unwrap();
        for at in [0, 13, 300, (block / 4) * (block / 4) + 500] {
            far.write_all_at(&vec![9; 2 * block], (at * block) as u64).unwrap();
        }
        symlink("a/b", tree.join("fast")).unwrap();
        symlink("/disk/a/b/c/".repeat(10), tree.join("slow")).unwrap();
        for n in 0..40 {
            std::fs::write(tree.join(format!("a/b/c/entry-with-a-name-{n}")), "x").unwrap();
        }
        // A user's PATH often lacks the directories of such tools.
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.env("PATH", path).args(["-q", "-F", "-t", "ext2", "-m", "0", "-N", "128", "-b", &block.to_string()]);
        let made =
            mke2fs.args(options).arg("-d").args([&tree, &image]).arg(format!("{}k", block * 600 / 1024)).output();
        let made = made.expect("mke2fs (package e2fsprogs)");
        assert!(made.status.success(), "mke2fs: {}", String::from_utf8_lossy(&made.stderr));
        let image = std::fs::read(&image).unwrap();
        let _ = std::fs::remove_dir_all(scratch);
        Self::survey(image, block)
    }

    fn survey(image: Vec<u8>, block: usize) -> Self {
        let word = |at: usize| image.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
        let half = |at: usize| word(at) as u16 as usize;
        let (per_group, inodes, first) = (word(1024 + 32) as usize, word(1024 + 40) as usize, word(1024 + 20) as usize);
        let groups = (image.len() / block - first).div_ceil(per_group);
        let inode_size = half(1024 + 88);
        let descriptors: Vec<usize> = (0..groups).map(|group| (first + 1) * block + 32 * group).collect();
        let mut places: [(Vec<usize>, usize); 6] = Default::default();
        places[0] = (vec![1024], 104);
        for descriptor in &descriptors {
            places[5].0.extend([0, 4].map(|field| word(descriptor + field) as usize * block));
            for index in 0..inodes {
                let inode = word(descriptor + 8) as usize * block + index * inode_size;
                if half(inode + 26) == 0 {
                    continue;
                }
                places[2].0.push(inode);
                let pointers: Vec<usize> = (0..15).map(|n| word(inode + 40 + 4 * n) as usize * block).collect();
                match half(inode) >> 12 {
                    4 => places[3].0.extend(pointers[..12].iter().filter(|at| **at != 0)),
                    8 => {
                        let tops = pointers[12..].iter().zip(0..).filter(|(at, _)| **at != 0);
                        for (top, depth) in tops {
                            places[4].0.push(*top);
                            let next = (0..block / 4).map(|n| word(top + 4 * n) as usize * block);
                            places[4].0.extend(next.filter(|at| depth > 0 && *at != 0));
                        }
                    }
                    _ => {}
                }
            }
        }
        places[1] = (descriptors, 32);
        (places[2].1, places[3].1, places[4].1, places[5].1) = (128, block.min(256), block, 64);
        Self { image, block, places }
    }

    /// The image with the patches of `input`.
    pub fn patched(&self, input: &[u8]) -> Vec<u8> {
        let mut image = self.image.clone();
        for patch in input.chunks_exact(PATCH).take(MOST_PATCHES) {
            let (places, len) = &self.places[usize::from(patch[0]) % self.places.len()];
            let which = usize::from(patch[1]);
            let Some(place) = places.get(which % places.len().max(1)) else { continue };
            // Directories begin with what matters most; else anywhere.
            let at = place + usize::from(u16::from_le_bytes([patch[2], patch[3] & 0x3f])) % len;
            let (at, width) = [(at, 1), (at & !1, 2), (at & !3, 4), (at & !3, 4)][usize::from(patch[3] >> 6)];
            let value = u32::from_le_bytes(patch[4..].try_into().unwrap());
            if let Some(bytes) = image.get_mut(at..at + width) {
                bytes.copy_from_slice(&value.to_le_bytes()[..width]);
            }
        }
        image
    }

    /// Bytes in a block.
    pub fn block_size(&self) -> usize {
        self.block
    }
}

/// A disk in memory that stops after so many requests.
struct Disk {
    image: Mutex<Vec<u8>>,
    requests: AtomicU64,
}

impl Disk {
    fn count(&self, requests: usize) {
        let before = self.requests.fetch_add(requests as u64, Relaxed);
        assert!(before < MOST_REQUESTS, "no end of requests to the disk");
    }

    fn find(&self, sector: u64, len: usize, all: usize) -> Result<std::ops::Range<usize>, BlockError> {
        let sectors = (all / SECTOR_SIZE) as u64;
        let past = BlockError::OutOfRange { sector, sectors };
        let at = usize::try_from(sector).ok().and_then(|sector| sector.checked_mul(SECTOR_SIZE)).ok_or(past)?;
        match at.checked_add(len) {
            Some(end) if end <= all => Ok(at..end),
            _ => Err(past),
        }
    }
}

impl BlockDevice for Disk {
    fn name(&self) -> &str {
        "wild"
    }

    fn sectors(&self) -> u64 {
        (self.image.lock().unwrap().len() / SECTOR_SIZE) as u64
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read(&self, requests: &mut [ReadRequest<'_, '_>]) -> Result<(), BlockError> {
        self.count(requests.len());
        let image = self.image.lock().unwrap();
        for request in requests {
            let mut sector = request.sector;
            for segment in request.segments.iter_mut() {
                segment.copy_from_slice(&image[self.find(sector, segment.len(), image.len())?]);
                sector += (segment.len() / SECTOR_SIZE) as u64;
            }
        }
        Ok(())
    }

    fn write(&self, requests: &[WriteRequest<'_>]) -> Result<(), BlockError> {
        self.count(requests.len());
        let mut image = self.image.lock().unwrap();
        for request in requests {
            let mut sector = request.sector;
            for segment in request.segments {
                let place = self.find(sector, segment.len(), image.len())?;
                image[place].copy_from_slice(segment);
                sector += (segment.len() / SECTOR_SIZE) as u64;
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.count(1);
        Ok(())
    }

    fn stats(&self) -> BlockStats {
        BlockStats::default()
    }
}

fn clock() -> Time {
    Time { seconds: 1_700_000_000, nanos: 0 }
}

/// What became of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    pub refused: bool,
    /// Reads and changes that went well, and that did not.
    pub went_well: u32,
    pub failed: u32,
}

/// A machine to try images on, one after the other.
pub struct Machine {
    // Dropped in this order: the arena asserts that every frame came back.
    cache: Arc<PageCache>,
    _arena: Arena,
}

impl Default for Machine {
    fn default() -> Self {
        let arena = Arena::new(512);
        let cleancache = Arc::new(Cleancache::new(arena.memory(), cleancache::Config::default()));
        Self { cache: PageCache::new(arena.memory(), cleancache), _arena: arena }
    }
}

impl Machine {
    /// Mounts the image, looks at all there is, changes what it can, and takes it down.
    pub fn live_through(&self, image: Vec<u8>) -> Fate {
        let disk = Arc::new(Disk { image: Mutex::new(image), requests: AtomicU64::new(0) });
        let vfs = Vfs::new(&[b"disk"]);
        let mut fate = Fate::default();
        match Ext2::mount_for_writing(disk.clone(), self.cache.clone(), clock) {
            Err(error) => {
                check(&error);
                fate.refused = true;
            }
            Ok(fs) => {
                vfs.mount(b"/disk", fs).unwrap();
                let (directories, files) = walk(&vfs, &mut fate);
                change(&vfs, &directories, &files, &mut fate);
                fate.note(vfs.sync());
                // The page cache lets go of everything whatever the disk says.
                fate.note(vfs.unmount(b"/disk"));
            }
        }
        fate
    }
}

impl Fate {
    fn note<T>(&mut self, outcome: Result<T, Error>) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.went_well += 1;
                Some(value)
            }
            Err(error) => {
                check(&error);
                self.failed += 1;
                None
            }
        }
    }
}

/// The disk itself is sound, so no error may be its own; and nothing that is asked for here takes much memory.
fn check(error: &Error) {
    assert!(!matches!(error, Error::Device(_) | Error::NoMemory), "an odd error: {error}");
}

/// All directories and files.
fn walk(vfs: &Vfs, fate: &mut Fate) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut paths, mut directories, mut files) = (vec![b"/disk".to_vec()], Vec::new(), Vec::new());
    let mut names = 0;
    let mut out = vec![0; 8192];
    while let Some(path) = paths.pop() {
        names += 1;
        assert!(names < MOST_NAMES, "no end of names");
        let Some(stat) = fate.note(vfs.lstat(&path)) else { continue };
        match stat.kind {
            FileType::Directory => {
                let entries = fate.note(vfs.read_dir(&path)).unwrap_or_default();
                paths.extend(entries.iter().map(|entry| [&path[..], b"/", &entry.name].concat()));
                fate.note(vfs.stat(&[&path[..], b"/.."].concat()));
                directories.push(path);
            }
            FileType::Regular => {
                if let Some(mut file) = fate.note(vfs.open(&path)) {
                    for at in [0, 13_000, 300 << 10, stat.size / 2, stat.size.saturating_sub(5)] {
                        fate.note(file.read_at(at, &mut out));
                    }
                }
                files.push(path);
            }
            FileType::Symlink => {
                fate.note(vfs.read_link(&path));
                fate.note(vfs.stat(&path));
            }
            FileType::Special => {}
        }
    }
    (directories, files)
}

fn change(vfs: &Vfs, directories: &[Vec<u8>], files: &[Vec<u8>], fate: &mut Fate) {
    let data = vec![5; 9_000];
    for directory in directories.iter().take(6) {
        let name = |name: &str| [&directory[..], b"/", name.as_bytes()].concat();
        if let Some(mut file) = fate.note(vfs.create(&name("new"), 0o644, IfExists::Truncate)) {
            for at in [0, 5_000, 40_000, 2 << 20] {
                fate.note(file.write_at(at, &data));
            }
        }
        fate.note(vfs.mkdir(&name("made"), 0o755));
        fate.note(vfs.rename(&name("new"), &name("made/moved")));
        fate.note(vfs.symlink(&data[..100], &name("link")));
        fate.note(vfs.unlink(&name("link")));
        fate.note(vfs.rmdir(&name("made")));
    }
    for (file, way) in files.iter().zip(0..).take(30) {
        match way % 5 {
            0 => drop(fate.note(vfs.truncate(file, 700))),
            1 => drop(fate.note(vfs.unlink(file))),
            2 => drop(fate.note(vfs.set_attr(file, &SetAttr { mode: Some(0o600), ..SetAttr::default() }))),
            3 => drop(fate.note(vfs.open(file).and_then(|file| file.punch(1_000, 500_000)))),
            _ => drop(fate.note(vfs.open(file).and_then(|mut file| file.write_at(15_000, &data)))),
        }
    }
    for directory in directories.iter().skip(1).rev() {
        fate.note(vfs.rmdir(directory));
    }
}

/// Inputs of patches: the same for each seed.
pub struct Mutator(pub u64);

impl Mutator {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A patch: half of the values are some that mean something.
    pub fn patch(&mut self) -> [u8; PATCH] {
        let [mut patch, numbers] = [self.next().to_le_bytes(), self.next().to_le_bytes()];
        let value = u32::from_le_bytes(numbers[..4].try_into().unwrap());
        let telling = [0, 1, 2, 7, 11, 12, 128, 599, 600, 601, 0x4000, 0x8000, 0xa000, 0x7fff_ffff, 0xffff_ffff];
        let value = match numbers[4] % 4 {
            0 | 1 => telling[usize::from(numbers[5]) % telling.len()],
            2 => value % 700,
            _ => value,
        };
        patch[4..].copy_from_slice(&value.to_le_bytes());
        patch
    }

    /// One to four of them, after those of `seed`.
    pub fn input(&mut self, seed: &[u8]) -> Vec<u8> {
        let more = 1 + self.next() % 4;
        let mut input = seed.to_vec();
        (0..more).for_each(|_| input.extend(self.patch()));
        input
    }
}
