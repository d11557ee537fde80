//! Cached pages of an ext2 across a kexec: nothing that is proved unchanged is read from disk again, and no difference goes
//! unnoticed.

mod common;

use cache::{DropWhat, PageCache};
use cleancache::{Cleancache, Config};
use common::{MemoryDisk, Numbers, make_image, scratch};
use frames::arena::{Arena, BASE};
use frames::{FRAME_SIZE, Frame, Memory, Page, Pfn, PfnRange, Zones};
use fs::block::SECTOR_SIZE;
use fs::ext2::Ext2;
use fs::heritage::{self, Heirs, Saved};
use fs::{Error, Vfs};
use handover::{About, Caches, Handover, PhysMap, PhysRead, Writer};
use std::collections::HashMap;
use std::fs as host;
use std::sync::Arc;

const FRAMES: usize = 1200;
const SCRATCH: usize = 100;
const FILES: usize = 40;
/// Offsets in a superblock: last mount, last write, number of mounts, the filesystem's own identity.
const MOUNTED: usize = 1024 + 44;
const WRITTEN: usize = 1024 + 48;
const UUID: usize = 1024 + 104;

/// Memory before there is an allocator: the handover's own frames, as they were left.
struct Early(HashMap<Pfn, Page>);

impl PhysRead for Early {
    fn read(&self, frame: Pfn, page: &mut Page) -> bool {
        self.0.get(&frame).is_some_and(|bytes| {
            *page = *bytes;
            true
        })
    }
}

impl PhysMap for Early {
    fn span(&self) -> PfnRange {
        PfnRange { start: BASE, count: FRAMES as u64 }
    }

    fn preservable(&self, range: PfnRange) -> bool {
        range.start >= BASE.offset(SCRATCH as u64) && range.end() <= self.span().end()
    }
}

/// One kernel, with the disk mounted if that can be.
struct Kernel {
    vfs: Vfs,
    cache: Arc<PageCache>,
    disk: Arc<MemoryDisk>,
    arena: Arena,
}

fn cache_over(memory: &'static Memory) -> Arc<PageCache> {
    PageCache::new(memory, Arc::new(Cleancache::new(memory, Config::default())))
}

impl Kernel {
    fn boot(arena: Arena, cache: Arc<PageCache>, disk: Arc<MemoryDisk>) -> (Self, Result<(), Error>) {
        let vfs = Vfs::new(&[b"disk"]);
        let mounted = Ext2::mount(disk.clone(), cache.clone()).and_then(|fs| vfs.mount(b"/disk", fs));
        (Self { vfs, cache, disk, arena }, mounted)
    }

    /// A kernel that has read all files.
    fn warm(name: &str, block_size: usize) -> (Self, Vec<Vec<u8>>) {
        let tree = scratch(name);
        let mut numbers = Numbers(3);
        let files: Vec<Vec<u8>> = (0..FILES).map(|n| numbers.bytes(1 + n * 1500)).collect();
        for (n, bytes) in files.iter().enumerate() {
            host::create_dir_all(tree.join(format!("d{}", n % 5))).unwrap();
            host::write(tree.join(format!("d{}/f{n}", n % 5)), bytes).unwrap();
        }
        let disk = MemoryDisk::new(make_image(&tree, block_size, 8 << 10, &["-N", "256"]));
        host::remove_dir_all(tree).unwrap();
        let arena = Arena::with_scratch(FRAMES, SCRATCH);
        let cache = cache_over(arena.memory());
        let (kernel, mounted) = Self::boot(arena, cache, disk);
        mounted.unwrap();
        kernel.check(&files);
        (kernel, files)
    }

    fn read(&self, n: usize) -> Vec<u8> {
        let mut file = self.vfs.open(format!("/disk/d{}/f{n}", n % 5).as_bytes()).unwrap();
        let mut bytes = vec![0; file.stat().unwrap().size as usize];
        assert_eq!(file.read_at(0, &mut bytes), Ok(bytes.len()));
        bytes
    }

    fn check(&self, files: &[Vec<u8>]) {
        for (n, bytes) in files.iter().enumerate() {
            assert!(self.read(n) == *bytes, "file {n}");
        }
    }

    /// Pages that came from the disk by way of the page cache.
    fn filled(&self) -> u64 {
        self.cache.stats().filled
    }

    /// The next kernel, which finds the disk as `meanwhile` leaves it.
    fn kexec(self, meanwhile: impl FnOnce(&MemoryDisk)) -> (Self, Result<(), Error>, Saved) {
        assert!(self.cache.prepare_handover(usize::MAX).done);
        let memory = self.arena.memory();
        let mut allocate = || memory.allocate(Zones::Preservable);
        let about = About { generation: 0, build: b"test", version: handover::VERSION };
        let mut writer = Writer::new(&about, &mut allocate).unwrap();
        let saved = heritage::save(&self.cache, &mut writer, 0).unwrap();
        let sealed = writer.finish();
        let early = Early(sealed.frames().iter().map(|frame: &Frame| (frame.pfn(), *frame.bytes())).collect());
        let handover = Handover::open(sealed.root(), &early, Caches::Keep).unwrap();
        assert_eq!((handover.summary().cached_frames, handover.summary().cached_rejected), (saved.pages, 0));
        meanwhile(&self.disk);
        let disk = self.disk.clone();
        let arena = self.arena.kexec(&handover.reserved().collect::<Vec<_>>());
        drop(sealed);
        drop(self);

        let cache = cache_over(arena.memory());
        let mut heirs = Heirs::new(&cache);
        let mut items = handover.items(arena.memory()).unwrap();
        while let Some(item) = items.next().unwrap() {
            heirs.take(&item);
        }
        heirs.finish();
        drop(items);
        handover.release(arena.memory());
        assert_eq!(cache.inherited().left, saved.pages);
        assert_eq!(arena.memory().stats().set_aside, saved.pages);
        let (kernel, mounted) = Self::boot(arena, cache, disk);
        (kernel, mounted, saved)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let _ = self.vfs.unmount(b"/disk");
        self.cache.drop_caches(DropWhat::All);
    }
}

#[test]
fn what_is_proved_unchanged_is_not_read_again() {
    for block_size in [1024, 4096] {
        let (mut kernel, files) = Kernel::warm("warm", block_size);
        for _ in 0..3 {
            let requests = requests_of(&kernel);
            let (next, mounted, saved) = kernel.kexec(|_| ());
            mounted.unwrap();
            let proof = requests_of(&next) - requests;
            assert!((2..50).contains(&proof), "{proof} requests for the proof");
            let requests = requests_of(&next);
            next.check(&files);
            assert_eq!((next.filled(), requests_of(&next)), (0, requests), "read from disk again");
            let inherited = next.cache.inherited();
            assert_eq!((inherited.failed, inherited.dropped, inherited.why), (0, 0, None));
            assert!(inherited.taken > saved.pages / 2 && saved.left_out == 0, "{saved:?}");
            kernel = next;
        }
    }
}

#[test]
fn pages_that_nobody_wants_are_handed_on() {
    let (kernel, files) = Kernel::warm("handed-on", 4096);
    let (kernel, _, first) = kernel.kexec(|_| ());
    assert!(kernel.read(3) == files[3]);
    let (kernel, _, second) = kernel.kexec(|_| ());
    let (kernel, _, third) = kernel.kexec(|_| ());
    assert_eq!((first, second), (second, third));
    kernel.check(&files);
    assert_eq!(kernel.filled(), 0);
}

/// Where the raw inode of a file lies, in bytes.
fn inode_of(kernel: &Kernel, n: usize) -> usize {
    let ino = kernel.vfs.stat(format!("/disk/d{}/f{n}", n % 5).as_bytes()).unwrap().ino.0 as usize;
    let mut at = 0;
    kernel.disk.change(|image| {
        let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
        let (block, size) = (1024 << word(1024 + 24), word(1024 + 88) & 0xffff);
        let per_group = word(1024 + 40);
        assert!(ino <= per_group, "a filesystem of one group");
        at = word(block.max(2048) + 8) * block + (ino - 1) * size;
    });
    at
}

fn flip(at: usize) -> impl Fn(&MemoryDisk) {
    move |disk| disk.change(|image| image[at] ^= 1)
}

#[test]
fn any_difference_drops_everything_and_is_named() {
    let (kernel, _) = Kernel::warm("differences", 4096);
    let inode = inode_of(&kernel, 7);
    drop(kernel);
    type Change = Box<dyn Fn(&MemoryDisk)>;
    let differences: [(&str, Change); 11] = [
        ("the filesystem was written at", Box::new(flip(WRITTEN))),
        ("the filesystem was mounted at", Box::new(flip(MOUNTED))),
        ("the filesystem was mounted at", Box::new(flip(1024 + 52))),
        ("the filesystem was written at", Box::new(flip(1024 + 58))),
        ("the filesystem was written at", Box::new(flip(1024 + 300))),
        ("there is another filesystem", Box::new(flip(UUID))),
        ("the disk has", Box::new(|disk| disk.change(|image| image.extend([0; SECTOR_SIZE])))),
        // The inode's ctime, its generation, a block pointer: the page of the inode table tells of it first.
        ("has changed", Box::new(flip(inode + 12))),
        ("has changed", Box::new(flip(inode + 100))),
        ("has changed", Box::new(flip(inode + 44))),
        // Nothing but a page of the disk: the free blocks of a group.
        ("page 1 of the disk has changed", Box::new(flip(4096 + 12))),
    ];
    for (why, change) in differences {
        let (kernel, files) = Kernel::warm("differences", 4096);
        let (kernel, _, saved) = kernel.kexec(|disk| change(disk));
        let inherited = kernel.cache.inherited();
        assert!(inherited.why.as_ref().is_some_and(|said| said.contains(why)), "{why}: {inherited:?}");
        assert_eq!((inherited.left, inherited.taken, inherited.dropped), (0, 0, saved.pages));
        assert!(kernel.read(3) == files[3] && kernel.filled() > 0);
    }
}

#[test]
fn an_inode_tells_even_if_its_page_was_not_cached() {
    for at in [12, 100, 44] {
        let (kernel, _) = Kernel::warm("inode", 4096);
        let inode = inode_of(&kernel, 7);
        // What remains is pages of files, read again past the inodes that are kept in memory.
        kernel.cache.drop_caches(DropWhat::All);
        let mut file = kernel.vfs.open(b"/disk/d2/f7").unwrap();
        kernel.cache.drop_caches(DropWhat::All);
        assert_eq!(file.read_at(0, &mut [0; 10]), Ok(10));
        drop(file);
        let (kernel, _, saved) = kernel.kexec(flip(inode + at));
        assert!(saved.files == 1 && saved.pages > 0, "{saved:?}");
        let why = kernel.cache.inherited().why.expect("dropped");
        assert!(why.starts_with("inode ") && why.ends_with(" has changed"), "{why}");
    }
}

#[test]
fn a_disk_without_the_filesystem_has_no_heir() {
    let (kernel, _) = Kernel::warm("swapped", 4096);
    let (kernel, mounted, _) = kernel.kexec(|disk| disk.change(|image| image.fill(0)));
    assert!(mounted.is_err());
    assert_eq!(kernel.cache.inherited().left, 0);
    drop(kernel);
    let (kernel, _) = Kernel::warm("failing", 4096);
    let (kernel, mounted, _) = kernel.kexec(|disk| disk.fail(Some((FRAME_SIZE / SECTOR_SIZE) as u64)));
    assert!(mounted.is_err(), "the descriptors lie there");
    let inherited = kernel.cache.inherited();
    assert!(inherited.left == 0 && inherited.why.is_some_and(|why| why.contains("cannot be compared")));
}

fn requests_of(kernel: &Kernel) -> u64 {
    kernel.disk.requests.load(std::sync::atomic::Ordering::Relaxed)
}
