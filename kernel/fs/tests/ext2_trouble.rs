//! What goes wrong in the middle of a change to an ext2: a disk that takes some writes and not others, blocks that cannot be read,
//! a disk that is full half way. What comes after a crash is what e2fsck makes of it.

mod common;
mod ext2_support;

use common::Machine;
use ext2_support::*;
use fs::block::{BlockDevice, BlockError, BlockStats, ReadRequest, SECTOR_SIZE, WriteRequest};
use fs::ext2::Ext2;
use fs::filesystem::SetAttr;
use fs::vfs::IfExists;
use fs::{Error, Vfs};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// What a refused page begins with.
const REFUSED: &[u8] = b"REFUSED";

/// A disk that refuses what begins with [`REFUSED`], or every write, and cannot read one sector.
struct Picky {
    inner: Arc<WriteDisk>,
    refuses_all: AtomicBool,
    unreadable: Mutex<Option<u64>>,
}

impl Picky {
    fn new(image: Vec<u8>) -> Arc<Self> {
        let inner = WriteDisk::new(image);
        Arc::new(Self { inner, refuses_all: AtomicBool::new(false), unreadable: Mutex::new(None) })
    }

    fn image(&self) -> Vec<u8> {
        self.inner.image()
    }
}

impl BlockDevice for Picky {
    fn name(&self) -> &str {
        "picky"
    }

    fn sectors(&self) -> u64 {
        self.inner.sectors()
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read(&self, requests: &mut [ReadRequest<'_, '_>]) -> Result<(), BlockError> {
        let bad = *self.unreadable.lock().unwrap();
        for ReadRequest { sector, segments } in requests.iter() {
            let bytes: usize = segments.iter().map(|segment| segment.len()).sum();
            if bad.is_some_and(|bad| (*sector..sector + (bytes / SECTOR_SIZE) as u64).contains(&bad)) {
                return Err(BlockError::Io { sector: *sector });
            }
        }
        self.inner.read(requests)
    }

    fn write(&self, requests: &[WriteRequest<'_>]) -> Result<(), BlockError> {
        for WriteRequest { sector, segments } in requests {
            if self.refuses_all.load(Relaxed) || segments.iter().any(|segment| segment.starts_with(REFUSED)) {
                return Err(BlockError::Io { sector: *sector });
            }
        }
        self.inner.write(requests)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.inner.flush()
    }

    fn stats(&self) -> BlockStats {
        BlockStats::default()
    }
}

fn mounted(machine: &Machine, disk: &Arc<Picky>) -> Vfs {
    let vfs = Vfs::new(&[b"disk"]);
    vfs.mount(b"/disk", Ext2::mount_for_writing(disk.clone(), machine.cache.clone(), clock).unwrap()).unwrap();
    vfs
}

/// A disk with an empty filesystem.
fn with_empty(name: &str, block_size: usize, kib: usize, options: &[&str]) -> (Arc<Picky>, Machine, Vfs) {
    let (disk, machine) = (Picky::new(empty_image(name, block_size, kib, options)), Machine::new(512));
    let vfs = mounted(&machine, &disk);
    (disk, machine, vfs)
}

fn put(vfs: &Vfs, path: &str, at: u64, bytes: &[u8]) {
    let mut file = vfs.create(path.as_bytes(), 0o644, IfExists::Keep).unwrap();
    assert_eq!(file.write_at(at, bytes), Ok(bytes.len()), "{path}");
}

fn get(vfs: &Vfs, path: &str) -> Vec<u8> {
    match node(vfs, path.as_bytes()).unwrap() {
        Node::File(bytes) => bytes,
        other => panic!("{path} is {other:?}"),
    }
}

fn refused(pages: usize) -> Vec<u8> {
    let mut bytes = vec![b'r'; pages * 4096];
    bytes.chunks_mut(4096).for_each(|page| page[..REFUSED.len()].copy_from_slice(REFUSED));
    bytes
}

fn free_blocks(vfs: &Vfs) -> u64 {
    vfs.stat_fs(b"/disk").unwrap().free_blocks
}

/// What is at `path` after a crash.
fn after_a_crash(name: &str, disk: &Picky, path: &str) -> Vec<u8> {
    let machine = Machine::new(512);
    let vfs = with_disk(&machine, &WriteDisk::new(repair(name, &disk.image())));
    get(&vfs, path)
}

#[test]
fn what_a_file_gave_up_is_its_own_until_the_disk_knows() {
    let (disk, _machine, vfs) = with_empty("given-up", 4096, 4096, &[]);
    put(&vfs, "/disk/a", 0, &[b'A'; 16384]);
    vfs.fsync(b"/disk/a").unwrap();
    vfs.truncate(b"/disk/a", 0).unwrap();
    put(&vfs, "/disk/a", 0, &refused(4));
    assert!(vfs.sync().is_err());
    let room = free_blocks(&vfs);
    put(&vfs, "/disk/b", 0, &vec![b'B'; 3 << 20]);
    vfs.fsync(b"/disk/b").unwrap();
    assert!(!after_a_crash("given-up", &disk, "/disk/a").contains(&b'B'), "another file's bytes");
    // Once its content is on the disk what it gave up is free, and everything adds up.
    put(&vfs, "/disk/a", 0, &[b'a'; 16384]);
    vfs.unlink(b"/disk/b").unwrap();
    assert!(vfs.sync().is_err(), "what failed earlier is told, once");
    vfs.sync().unwrap();
    assert_eq!(free_blocks(&vfs), room);
    vfs.unmount(b"/disk").unwrap();
    check("given-up", &disk.image());
}

#[test]
fn blocks_that_lead_to_what_is_not_written_are_not_written() {
    let (disk, _machine, vfs) = with_empty("leading", 4096, 4096, &[]);
    put(&vfs, "/disk/a", 13 * 4096, &[b'A'; 4096]);
    put(&vfs, "/disk/a", 100 * 4096, &[b'A'; 4096]);
    put(&vfs, "/disk/s", 0, &vec![b'S'; 3 << 20]);
    vfs.sync().unwrap();
    vfs.unlink(b"/disk/s").unwrap();
    vfs.sync().unwrap();
    put(&vfs, "/disk/a", 14 * 4096, &refused(4));
    put(&vfs, "/disk/c", 0, b"c");
    vfs.fsync(b"/disk/c").unwrap();
    assert_eq!(after_a_crash("leading", &disk, "/disk/c"), b"c");
    assert!(!after_a_crash("leading", &disk, "/disk/a").contains(&b'S'), "a deleted file's bytes");
    put(&vfs, "/disk/a", 14 * 4096, &[b'A'; 16384]);
    assert!(vfs.fsync(b"/disk/a").is_err(), "what failed earlier is told, once");
    vfs.fsync(b"/disk/a").unwrap();
    assert!(after_a_crash("leading", &disk, "/disk/a")[14 * 4096..18 * 4096].iter().all(|byte| *byte == b'A'));
}

/// Whatever else is done to a file that the disk does not take, it can be deleted, and then everything is as before.
#[test]
fn a_page_that_is_never_written_does_not_stop_the_filesystem() {
    for block_size in [1024, 4096] {
        let (disk, _machine, vfs) = with_empty("never-written", block_size, 65536, &["-N", "1024"]);
        put(&vfs, "/disk/other", 0, b"other");
        vfs.sync().unwrap();
        let room = free_blocks(&vfs);
        put(&vfs, "/disk/a", 0, &refused(1));
        let leaf = (block_size * block_size / 4) as u64;
        let mut file = vfs.open(b"/disk/a").unwrap();
        // Each needs a leaf, and none of those is written; and each hole is of blocks that are not given out again.
        let refusal = (0..2000).find_map(|at| file.write_at(at % 400 * leaf / 2 + 8192, &[b'A'; 4096]).err());
        let holes = (0..2000).find_map(|at| vfs.punch(b"/disk/a", at % 400 * leaf / 2 + 8192, 4096).err());
        assert!(matches!(refusal.or(holes), None | Some(Error::Device(_))), "{refusal:?} {holes:?}");
        drop(file);
        put(&vfs, "/disk/small", 0, b"small");
        vfs.mkdir(b"/disk/d", 0o755).unwrap();
        vfs.unlink(b"/disk/a").unwrap();
        let _told = vfs.sync();
        vfs.sync().unwrap();
        vfs.unlink(b"/disk/small").unwrap();
        vfs.rmdir(b"/disk/d").unwrap();
        vfs.sync().unwrap();
        assert_eq!(free_blocks(&vfs), room);
        vfs.unmount(b"/disk").unwrap();
        check("never-written", &disk.image());
    }
}

#[test]
fn a_hole_that_fails_half_way_loses_nothing_that_stays() {
    let base = {
        let (disk, _machine, vfs) = with_empty("half-a-hole", 4096, 4096, &[]);
        put(&vfs, "/disk/a", 12 * 4096, &[b'A'; 8 * 4096]);
        put(&vfs, "/disk/s", 0, &vec![b'S'; 3 << 20]);
        vfs.sync().unwrap();
        vfs.unlink(b"/disk/s").unwrap();
        vfs.unmount(b"/disk").unwrap();
        disk.image()
    };
    // The inode's thirteenth pointer leads to its indirect block, which leads to eight others.
    let leads = |block: &[u8]| {
        let words: Vec<u32> = block.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        words[..8].windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == 1) && words[8..].iter().all(|word| *word == 0)
    };
    let sector = base.chunks(4096).position(leads).unwrap() as u64 * 8;
    let (disk, machine) = (Picky::new(base), Machine::new(512));
    let vfs = mounted(&machine, &disk);
    put(&vfs, "/disk/a", 0, &[b'N'; 3 * 4096]);
    *disk.unreadable.lock().unwrap() = Some(sector);
    let punched = vfs.punch(b"/disk/a", 0, 20 * 4096);
    *disk.unreadable.lock().unwrap() = None;
    assert!(matches!(punched, Err(Error::Device(_))), "{punched:?}");
    vfs.sync().unwrap();
    machine.cache.drop_caches(cache::DropWhat::All);
    assert!(!get(&vfs, "/disk/a").contains(&b'S'), "a deleted file's bytes");
    assert!(!after_a_crash("half-a-hole", &disk, "/disk/a").contains(&b'S'), "a deleted file's bytes");
}

#[test]
fn a_file_that_replaces_another_brings_its_content_with_it() {
    let (disk, _machine, vfs) = with_empty("replaced", 4096, 4096, &[]);
    put(&vfs, "/disk/a", 0, b"the old content");
    vfs.sync().unwrap();
    put(&vfs, "/disk/new", 0, &refused(1));
    assert!(matches!(vfs.rename(b"/disk/new", b"/disk/a"), Err(Error::Device(_))));
    let _told = vfs.sync();
    put(&vfs, "/disk/c", 0, b"c");
    vfs.fsync(b"/disk/c").unwrap();
    assert_eq!(after_a_crash("replaced", &disk, "/disk/a"), b"the old content");
    put(&vfs, "/disk/new", 0, &[b'n'; 4096]);
    vfs.rename(b"/disk/new", b"/disk/a").unwrap();
    vfs.fsync(b"/disk/c").unwrap();
    assert_eq!(after_a_crash("replaced", &disk, "/disk/a"), [b'n'; 4096]);
}

/// A write allocates, and then the rest of its page cannot be read, when there is hardly room in the buffer and no commit
/// succeeds: whatever the buffer holds at that moment, the blocks are given back, or nobody sees what was in them.
#[test]
fn blocks_of_a_write_that_fails_are_given_back() {
    let base = {
        let (disk, _machine, vfs) = with_empty("given-back", 1024, 8192, &["-N", "2048"]);
        (0..1200).for_each(|number| put(&vfs, &format!("/disk/{number}"), 0, b""));
        put(&vfs, "/disk/a", 0, &[b'A'; 1024]);
        vfs.truncate(b"/disk/a", 8192).unwrap();
        put(&vfs, "/disk/s", 0, &vec![b'S'; (free_blocks(&vfs) as usize - 40) * 1024]);
        vfs.sync().unwrap();
        vfs.unlink(b"/disk/s").unwrap();
        vfs.unmount(b"/disk").unwrap();
        disk.image()
    };
    let of_a = base.chunks(1024).position(|block| block == [b'A'; 1024]).unwrap() as u64 * 2;
    let private = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let mut failed = 0;
    for changes in (120..220).step_by(2) {
        let (disk, machine) = (Picky::new(base.clone()), Machine::new(1024));
        let vfs = mounted(&machine, &disk);
        vfs.stat(b"/disk/a").unwrap();
        vfs.set_attr(b"/disk/0", &private).unwrap();
        disk.refuses_all.store(true, Relaxed);
        *disk.unreadable.lock().unwrap() = Some(of_a);
        for number in 1..changes {
            // When the buffer is full these fail, as no commit makes room.
            let _ = vfs.set_attr(format!("/disk/{}", number * 4).as_bytes(), &private);
        }
        let mut file = vfs.open(b"/disk/a").unwrap();
        failed += usize::from(file.write_at(1024, b"x").is_err());
        *disk.unreadable.lock().unwrap() = None;
        let mut out = vec![0; 8192];
        file.read_at(0, &mut out).unwrap();
        assert!(!out.contains(&b'S'), "a deleted file's bytes, with {changes} changes");
        drop(file);
        disk.refuses_all.store(false, Relaxed);
        vfs.sync().unwrap_or_default();
        vfs.unmount(b"/disk").unwrap();
        check("given-back", &disk.image());
    }
    assert!(failed > 10, "the test is about writes that fail");
}

#[test]
fn a_directory_without_room_for_its_block_is_as_it_was() {
    let (disk, _machine, vfs) = with_empty("directory-full", 1024, 1024, &["-N", "256"]);
    vfs.mkdir(b"/disk/d", 0o755).unwrap();
    let name = |number: usize| format!("/disk/d/{}{number:05}", "x".repeat(235));
    // Twelve blocks, so that the next one needs an indirect block as well, and all of them full.
    let full = (0..).find(|&number| {
        put(&vfs, &name(number), 0, b"");
        vfs.stat(b"/disk/d").unwrap().size == 12 * 1024
    });
    let full = full.unwrap() + 1;
    (full..full + 3).for_each(|number| put(&vfs, &name(number), 0, b""));
    put(&vfs, "/disk/fill", 0, b"");
    vfs.sync().unwrap();
    let mut file = vfs.open(b"/disk/fill").unwrap();
    for block in 0.. {
        if free_blocks(&vfs) == 1 {
            break;
        }
        assert_eq!(file.write_at(block * 1024, &[7; 1024]), Ok(1024));
    }
    drop(file);
    vfs.sync().unwrap();
    let refusal = (full + 3..full + 8).find_map(|number| vfs.mkdir(name(number).as_bytes(), 0o755).err());
    assert_eq!(refusal, Some(Error::NoSpace));
    vfs.unmount(b"/disk").unwrap();
    check("directory-full", &disk.image());
}

#[test]
fn an_append_with_room_for_the_pointers_only_leaves_nothing_behind() {
    let (disk, _machine, vfs) = with_empty("append-full", 1024, 1024, &["-N", "256"]);
    put(&vfs, "/disk/a", 0, &[1; 12 * 1024]);
    put(&vfs, "/disk/one", 0, &[1; 1024]);
    let mut file = vfs.create(b"/disk/fill", 0o644, IfExists::Keep).unwrap();
    let written = (0..).find(|block| file.write_at(block * 1024, &[7; 1024]) != Ok(1024));
    assert!(written.is_some_and(|blocks| blocks > 500));
    drop(file);
    vfs.sync().unwrap();
    vfs.unlink(b"/disk/one").unwrap();
    let appended = vfs.open(b"/disk/a").unwrap().write_at(12 * 1024, &[2; 1024]);
    assert_eq!(appended, Err(Error::NoSpace));
    vfs.unmount(b"/disk").unwrap();
    check("append-full", &disk.image());
}

/// A disk with a file of a hundred blocks, and where its indirect block is.
fn with_indirect(name: &str) -> (Arc<Picky>, u64) {
    let (disk, _machine, vfs) = with_empty(name, 4096, 4096, &[]);
    put(&vfs, "/disk/a", 0, &vec![b'A'; 100 * 4096]);
    vfs.unmount(b"/disk").unwrap();
    let image = disk.image();
    let words =
        |block: &[u8]| -> Vec<u32> { block.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect() };
    let leads =
        |block: &[u8]| words(block)[..88].windows(2).all(|pair| pair[0] != 0 && pair[1].wrapping_sub(pair[0]) == 1);
    let block = image.chunks(4096).position(leads).expect("blocks one after the other");
    (disk, block as u64 * 8)
}

/// The filesystem is not called sound, and e2fsck puts it right.
fn is_blamed(name: &str, disk: &Picky) {
    const STATE: usize = 1024 + 58;
    let image = disk.image();
    assert_eq!(image[STATE] & 3, 2, "neither valid nor without errors");
    repair(name, &image);
}

#[test]
fn what_cannot_be_freed_is_said() {
    let (disk, sector) = with_indirect("unlink-unreadable");
    let machine = Machine::new(512);
    let vfs = mounted(&machine, &disk);
    *disk.unreadable.lock().unwrap() = Some(sector);
    assert!(matches!(vfs.unlink(b"/disk/a"), Err(Error::Device(_))));
    assert_eq!(vfs.stat(b"/disk/a").err(), Some(Error::NotFound));
    *disk.unreadable.lock().unwrap() = None;
    vfs.unmount(b"/disk").unwrap();
    is_blamed("unlink-unreadable", &disk);
}

#[test]
fn what_was_cut_off_does_not_come_back() {
    let (disk, sector) = with_indirect("truncate-unreadable");
    let machine = Machine::new(512);
    let vfs = mounted(&machine, &disk);
    *disk.unreadable.lock().unwrap() = Some(sector);
    assert!(matches!(vfs.truncate(b"/disk/a", 0), Err(Error::Device(_))));
    assert!(matches!(vfs.truncate(b"/disk/a", 40960), Err(Error::Device(_))), "it grows before it was cut");
    let mut file = vfs.open(b"/disk/a").unwrap();
    assert!(matches!(file.write_at(20480, b"x"), Err(Error::Device(_))), "it grows before it was cut");
    drop(file);
    *disk.unreadable.lock().unwrap() = None;
    // Nor when the inode is forgotten in between.
    vfs.unmount(b"/disk").unwrap();
    let vfs = mounted(&machine, &disk);
    vfs.truncate(b"/disk/a", 40960).unwrap();
    assert_eq!(get(&vfs, "/disk/a"), [0; 40960]);
    vfs.unmount(b"/disk").unwrap();
    is_blamed("truncate-unreadable", &disk);
}

#[test]
fn a_format_without_large_files_stays_below_2_gib() {
    let (disk, _machine, vfs) = with_empty("revision-0", 4096, 4096, &["-r", "0"]);
    let mut file = vfs.create(b"/disk/a", 0o644, IfExists::Keep).unwrap();
    assert_eq!(file.write_at((1 << 31) - 8192, &[1; 4096]), Ok(4096));
    assert!(matches!(file.write_at(1 << 31, &[1; 4096]), Err(Error::FileTooLarge { .. })));
    drop(file);
    vfs.unmount(b"/disk").unwrap();
    check("revision-0", &disk.image());
}

/// Whichever block of a commit is the last that reaches the disk, a file that is moved into a directory that is just made, in one that
/// just lost a name, has one name or the other.
#[test]
fn a_file_moved_into_a_new_directory_has_one_name_or_the_other() {
    let disk = WriteDisk::new(empty_image("moved", 4096, 4096, &[]));
    let machine = Machine::new(512);
    let vfs = with_disk(&machine, &disk);
    ["/disk/o", "/disk/p", "/disk/q"].iter().for_each(|path| vfs.mkdir(path.as_bytes(), 0o755).unwrap());
    put(&vfs, "/disk/o/f", 0, &[b'F'; 5000]);
    put(&vfs, "/disk/p/z", 0, &[b'Z'; 5000]);
    vfs.link(b"/disk/p/z", b"/disk/q/z").unwrap();
    vfs.sync().unwrap();
    let mut image = disk.image();
    disk.record();
    vfs.unlink(b"/disk/p/z").unwrap();
    vfs.mkdir(b"/disk/p/d", 0o755).unwrap();
    vfs.rename(b"/disk/o/f", b"/disk/p/d/f").unwrap();
    vfs.sync().unwrap();
    let events = disk.events.lock().unwrap().take().unwrap();
    let blocks = |event: &Event| -> Vec<(usize, Vec<u8>)> {
        let Event::Write { sector, bytes } = event else { return Vec::new() };
        (*sector as usize * SECTOR_SIZE..).step_by(4096).zip(bytes.chunks(4096).map(<[u8]>::to_vec)).collect()
    };
    for between_flushes in events.split(|event| matches!(event, Event::Flush)) {
        let blocks: Vec<_> = between_flushes.iter().flat_map(blocks).collect();
        for (at, block) in &blocks {
            let mut crashed = image.clone();
            crashed[*at..*at + block.len()].copy_from_slice(block);
            let machine = Machine::new(512);
            let vfs = with_disk(&machine, &WriteDisk::new(repair("moved", &crashed)));
            assert!(vfs.stat(b"/disk/o/f").is_ok() || vfs.stat(b"/disk/p/d/f").is_ok(), "it has neither name");
        }
        blocks.iter().for_each(|(at, block)| image[*at..*at + block.len()].copy_from_slice(block));
    }
}
