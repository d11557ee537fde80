//! Writing to ext2: each operation, and what e2fsck says of the disk afterwards.

mod common;
mod ext2_support;

use common::{Machine, Numbers, scratch};
use ext2_support::{WriteDisk, check, compare, empty_image, get, mount, node, put, tool, with_disk};
use frames::checksum::crc32c;
use fs::filesystem::{SetAttr, Time};
use fs::vfs::IfExists;
use fs::{Error, FileSystem, Vfs};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The same on `/disk` and `/tmp`.
fn both(mut deed: impl FnMut(&dyn Fn(&str) -> String)) {
    for root in ["/disk", "/tmp"] {
        deed(&|path| format!("{root}/{path}"));
    }
}

fn everything(block_size: usize, options: &[&str]) {
    let name = format!("everything{block_size}{}", options.concat().replace(['^', ','], ""));
    let disk = WriteDisk::new(empty_image(&name, block_size, 32 << 10, options));
    let machine = Machine::new(6144);
    let vfs = with_disk(&machine, &disk);
    both(|at| {
        let mut numbers = Numbers(5);
        for size in [0, 1, 1023, 1024, 5000, 12 * block_size, 13 * block_size + 7, 300_000, 5_000_000] {
            put(&vfs, &at(&format!("file{size}")), 0, &numbers.bytes(size));
        }
        // Beyond the end, over the end, within.
        put(&vfs, &at("sparse"), 100_000, &numbers.bytes(3000));
        put(&vfs, &at("sparse"), 99_000, &numbers.bytes(500));
        put(&vfs, &at("sparse"), 102_500, &numbers.bytes(1700));
        put(&vfs, &at("sparse"), 4_000_000, b"far");
        put(&vfs, &at("sparse"), 700, b"hole");
        for n in 0..500 {
            put(&vfs, &at("appended"), n * 37, &numbers.bytes(37));
        }
        let path = |name: &str| at(name).into_bytes();
        vfs.truncate(&path("file300000"), 123_457).unwrap();
        vfs.truncate(&path("file300000"), 200_001).unwrap();
        vfs.truncate(&path("file5000"), 0).unwrap();
        vfs.truncate(&path("file1024"), 1 << 20).unwrap();
        for (pos, len) in [(0, 1), (3000, 10_000), (16_384, 65_536), (500_000, 3_000_001), (4_999_000, 5000)] {
            vfs.punch(&path("file5000000"), pos, len).unwrap();
        }
        vfs.mkdir(&path("a"), 0o750).unwrap();
        vfs.mkdir(&path("a/b"), 0o755).unwrap();
        vfs.mkdir(&path("c"), 0o755).unwrap();
        for n in 0..200 {
            put(&vfs, &at(&format!("a/b/{n}-{}", "x".repeat(n))), 0, n.to_string().as_bytes());
        }
        for n in (0..200).step_by(3) {
            vfs.unlink(&path(&format!("a/b/{n}-{}", "x".repeat(n)))).unwrap();
        }
        for len in [1, 59, 60, 61, 1000, 1023] {
            vfs.symlink(&b"t".repeat(len), &path(&format!("link{len}"))).unwrap();
        }
        vfs.unlink(&path("link1000")).unwrap();
        vfs.link(&path("file1023"), &path("a/hard")).unwrap();
        vfs.rename(&path("a/b"), &path("c/moved")).unwrap();
        vfs.rename(&path("file1"), &path("file1023")).unwrap();
        vfs.mkdir(&path("d"), 0o700).unwrap();
        vfs.rename(&path("c/moved"), &path("d")).unwrap();
        assert_eq!(vfs.rename(&path("d"), &path("d/1-x")), Err(Error::Loop));
        vfs.mkdir(&path("d/deep"), 0o700).unwrap();
        assert_eq!(vfs.rename(&path("d"), &path("d/deep/er")), Err(Error::Loop));
        assert_eq!(vfs.rename(&path("d"), &path("sparse")), Err(Error::NotADirectory));
        assert_eq!(vfs.rename(&path("sparse"), &path("d")), Err(Error::IsADirectory));
        assert_eq!(vfs.rename(&path("c"), &path("d")), Err(Error::NotEmpty));
        assert_eq!(vfs.rmdir(&path("d")), Err(Error::NotEmpty));
        vfs.rmdir(&path("c")).unwrap();
        let mtime = Time { seconds: 1_000_000_000, nanos: 5 };
        let attr = SetAttr { mode: Some(0o4711), uid: Some(70_000), gid: Some(3), mtime: Some(mtime), atime: None };
        vfs.set_attr(&path("sparse"), &attr).unwrap();
        assert_eq!(vfs.stat(&path("sparse")).unwrap().mtime.seconds, 1_000_000_000);
    });
    compare(&vfs, b"/disk", b"/tmp");
    let free = vfs.stat_fs(b"/disk").unwrap();
    vfs.unmount(b"/disk").unwrap();
    check(&name, &disk.image());
    vfs.mount(b"/disk", mount(&machine, &disk).unwrap()).unwrap();
    assert_eq!(vfs.stat_fs(b"/disk").unwrap(), free);
    compare(&vfs, b"/disk", b"/tmp");
    // All of it gone again: nothing is lost.
    fn remove(vfs: &Vfs, path: &[u8]) {
        for entry in vfs.read_dir(path).unwrap() {
            let path = [path, b"/", &entry.name].concat();
            if entry.name == b"lost+found" {
                continue;
            }
            if vfs.lstat(&path).unwrap().kind == fs::filesystem::FileType::Directory {
                remove(vfs, &path);
                vfs.rmdir(&path).unwrap();
            } else {
                vfs.unlink(&path).unwrap();
            }
        }
    }
    remove(&vfs, b"/disk");
    vfs.unmount(b"/disk").unwrap();
    check(&name, &disk.image());
    let fresh = WriteDisk::new(empty_image(&name, block_size, 32 << 10, options));
    let before = mount(&machine, &fresh).unwrap().stat_fs().unwrap();
    let after = mount(&machine, &disk).unwrap().stat_fs().unwrap();
    // The root directory has grown, perhaps.
    assert!(before.free_blocks - after.free_blocks < 40 && before.free_inodes == after.free_inodes);
}

#[test]
fn blocks_of_1_kib() {
    everything(1024, &[]);
}

#[test]
fn blocks_of_2_kib() {
    everything(2048, &[]);
}

#[test]
fn blocks_of_4_kib() {
    everything(4096, &[]);
}

#[test]
fn small_inodes_and_entries_without_types() {
    everything(1024, &["-I", "128", "-O", "^filetype,^dir_index"]);
}

#[test]
fn many_groups() {
    everything(1024, &["-g", "1024", "-N", "2000"]);
}

#[test]
fn the_hosts_tools_read_what_was_written() {
    let disk = WriteDisk::new(empty_image("rdump", 1024, 8 << 10, &[]));
    let machine = Machine::new(1024);
    let vfs = with_disk(&machine, &disk);
    vfs.mkdir(b"/disk/dir", 0o755).unwrap();
    let content = Numbers(3).bytes(700_001);
    put(&vfs, "/disk/dir/file", 0, &content);
    vfs.symlink(b"dir/file", b"/disk/link").unwrap();
    vfs.unmount(b"/disk").unwrap();
    let out = scratch("rdump-out");
    let image = out.join("image");
    std::fs::write(&image, disk.image()).unwrap();
    let request = format!("rdump / {}", out.display());
    assert!(tool("debugfs").args(["-R", &request]).arg(&image).output().unwrap().status.success());
    assert!(std::fs::read(out.join("dir/file")).unwrap() == content);
    assert_eq!(std::fs::read_link(out.join("link")).unwrap().to_str(), Some("dir/file"));
    std::fs::remove_dir_all(out).unwrap();
}

fn state(image: &[u8]) -> (u16, u16) {
    let word = |at: usize| u16::from_le_bytes([image[1024 + at], image[1024 + at + 1]]);
    (word(58), word(52))
}

#[test]
fn the_superblock_tells_whether_it_is_in_use() {
    let disk = WriteDisk::new(empty_image("state", 1024, 1 << 10, &[]));
    let machine = Machine::new(512);
    assert_eq!(state(&disk.image()), (1, 0));
    let fs = mount(&machine, &disk).unwrap();
    assert_eq!(state(&disk.image()), (0, 1));
    fs.unmount().unwrap();
    assert_eq!(state(&disk.image()), (1, 1));
    // One that was not unmounted stays so for e2fsck.
    drop(mount(&machine, &disk).unwrap());
    let fs = mount(&machine, &disk).unwrap();
    assert!(!fs.read_only());
    fs.unmount().unwrap();
    assert_eq!(state(&disk.image()), (0, 3));
    // With everything on the disk it is as good as unmounted, until the next change.
    let disk = WriteDisk::new(empty_image("state", 1024, 1 << 10, &[]));
    let vfs = with_disk(&machine, &disk);
    put(&vfs, "/disk/file", 0, b"content");
    vfs.sync().unwrap();
    assert_eq!(state(&disk.image()).0, 1);
    check("state", &disk.image());
    put(&vfs, "/disk/file", 0, b"changes");
    assert_eq!(state(&disk.image()).0, 0);
}

#[test]
fn what_cannot_be_written_is_read_only() {
    let machine = Machine::new(512);
    let mut image = empty_image("read-only", 1024, 1 << 10, &[]);
    let disk = Arc::new(WriteDisk { read_only: true, image: image.clone().into(), ..WriteDisk::default() });
    let fs = mount(&machine, &disk).unwrap();
    assert!(fs.read_only());
    assert_eq!(fs.create(fs.root(), b"x", fs::filesystem::NewNode::Regular, 0), Err(Error::ReadOnly));
    drop(fs);
    // A feature that nobody knows.
    image[1024 + 100 + 2] |= 0x40;
    let disk = WriteDisk::new(image.clone());
    assert!(mount(&machine, &disk).unwrap().read_only());
    assert!(disk.image() == image);
}

#[test]
fn a_file_that_is_open_outlives_its_name() {
    let disk = WriteDisk::new(empty_image("orphan", 1024, 2 << 10, &[]));
    let machine = Machine::new(512);
    let vfs = with_disk(&machine, &disk);
    let before = vfs.stat_fs(b"/disk").unwrap();
    let content = Numbers(1).bytes(100_000);
    put(&vfs, "/disk/file", 0, &content);
    let mut file = vfs.open(b"/disk/file").unwrap();
    vfs.unlink(b"/disk/file").unwrap();
    vfs.sync().unwrap();
    assert_eq!(state(&disk.image()).0, 0);
    let mut bytes = vec![0; 100_000];
    assert_eq!(file.read_at(0, &mut bytes), Ok(100_000));
    assert!(bytes == content);
    assert_eq!(file.write_at(100_000, b"more"), Ok(4));
    drop(file);
    assert_eq!(vfs.stat_fs(b"/disk").unwrap(), before);
    vfs.unmount(b"/disk").unwrap();
    check("orphan", &disk.image());
}

#[test]
fn a_full_disk_says_so_and_keeps_what_it_took() {
    for block_size in [1024, 4096] {
        let disk = WriteDisk::new(empty_image("full", block_size, 1 << 10, &["-N", "32"]));
        let machine = Machine::new(1024);
        let vfs = with_disk(&machine, &disk);
        let free = vfs.stat_fs(b"/disk").unwrap();
        let content = Numbers(2).bytes(2 << 20);
        let mut file = vfs.create(b"/disk/file", 0o644, IfExists::Refuse).unwrap();
        let written = file.write_at(0, &content).unwrap();
        assert!(written < content.len() && written as u64 > free.free_blocks * block_size as u64 * 9 / 10);
        assert_eq!(file.write_at(written as u64, b"x"), Err(Error::NoSpace));
        assert_eq!(file.stat().unwrap().size, written as u64);
        assert!(get(&vfs, "/disk/file") == content[..written]);
        // What is freed can be used at once.
        vfs.truncate(b"/disk/file", 0).unwrap();
        assert_eq!(file.write_at(0, &content), Ok(written));
        drop(file);
        let made =
            (0..100).take_while(|n| vfs.create(format!("/disk/{n}").as_bytes(), 0o644, IfExists::Refuse).is_ok());
        assert_eq!(made.count() as u64, free.free_inodes - 1);
        vfs.unmount(b"/disk").unwrap();
        check("full", &disk.image());
    }
}

#[test]
fn nobody_sees_what_was_on_the_disk_before() {
    let mut image = empty_image("secrets", 1024, 4 << 10, &["-N", "64"]);
    // Every free block holds something that is nobody's business.
    let machine = Machine::new(512);
    let zero = vec![0; 1024];
    for block in image.chunks_mut(1024).skip(256) {
        if block == zero {
            block.fill(0xdd);
        }
    }
    let disk = WriteDisk::new(image);
    let vfs = with_disk(&machine, &disk);
    let mut numbers = Numbers(9);
    for n in 0..300 {
        let (pos, len) = (numbers.below(400_000), numbers.below(3000) as usize);
        put(&vfs, &format!("/disk/{}", n % 4), pos, &vec![1; len]);
        machine.cache.drop_caches(cache::DropWhat::All);
        if n % 50 == 0 {
            vfs.sync().unwrap();
        }
    }
    vfs.sync().unwrap();
    machine.cache.drop_caches(cache::DropWhat::All);
    for n in 0..4 {
        assert!(get(&vfs, &format!("/disk/{n}")).iter().all(|byte| *byte < 2));
    }
    vfs.unmount(b"/disk").unwrap();
    check("secrets", &disk.image());
}

#[test]
fn bitmaps_that_contradict_files_end_all_changes() {
    let disk = WriteDisk::new(empty_image("contradiction", 1024, 1 << 10, &[]));
    let machine = Machine::new(512);
    let vfs = with_disk(&machine, &disk);
    put(&vfs, "/disk/file", 0, &[7; 5000]);
    vfs.unmount(b"/disk").unwrap();
    // The bitmap says that the file's blocks are free, and the count that as many are as there were.
    let mut image = disk.image();
    let bitmap = u32::from_le_bytes(image[2048..2052].try_into().unwrap()) as usize * 1024;
    let last = (0..1023).rev().find(|bit| image[bitmap + bit / 8] >> (bit % 8) & 1 != 0).unwrap();
    image[bitmap + last / 8] &= !(1 << (last % 8));
    let disk = WriteDisk::new(image);
    vfs.mount(b"/disk", mount(&machine, &disk).unwrap()).unwrap();
    assert!(matches!(vfs.unlink(b"/disk/file"), Err(Error::Corrupt { .. })));
    assert_eq!(vfs.mkdir(b"/disk/dir", 0o755), Err(Error::ReadOnly));
    assert!(vfs.mounts().iter().any(|mount| mount.path == b"/disk" && mount.read_only));
    assert_eq!(state(&disk.image()).0, 2);
}

#[test]
fn an_overwrite_of_what_is_there_writes_no_metadata_of_its_own() {
    let disk = WriteDisk::new(empty_image("overwrite", 4096, 4 << 10, &[]));
    let machine = Machine::new(512);
    let vfs = with_disk(&machine, &disk);
    put(&vfs, "/disk/file", 0, &[1; 100 << 10]);
    vfs.sync().unwrap();
    let before = disk.writes.load(Relaxed);
    let mut file = vfs.open(b"/disk/file").unwrap();
    for n in 0..25 {
        file.write_at(n * 4096, &[2; 4096]).unwrap();
    }
    file.fsync().unwrap();
    let writes = disk.writes.load(Relaxed) - before;
    // The content, perhaps page by page; the superblock before and after; the inode.
    assert!(writes <= 25 + 4, "{writes}");
}

#[test]
fn what_is_cached_after_a_sync_is_what_is_on_the_disk() {
    for block_size in [1024, 4096] {
        let disk = WriteDisk::new(empty_image("told", block_size, 8 << 10, &["-N", "128"]));
        let machine = Machine::new(1024);
        let vfs = with_disk(&machine, &disk);
        let mut numbers = Numbers(4);
        for n in 0..400 {
            let (pos, len) = (numbers.below(60_000), numbers.below(5000) as usize);
            put(&vfs, &format!("/disk/{}", n % 40), pos, &numbers.bytes(len));
            if numbers.below(10) == 0 {
                vfs.unlink(format!("/disk/{}", n % 40).as_bytes()).unwrap();
            }
            if numbers.below(20) == 0 {
                machine.cache.drop_caches(cache::DropWhat::All);
            }
        }
        vfs.sync().unwrap();
        (0..40).for_each(|n| drop(node(&vfs, format!("/disk/{n}").as_bytes())));
        let image = disk.image();
        let heritages = machine.cache.heritages();
        let [heritage] = &heritages[..] else { panic!("{heritages:?}") };
        assert_eq!(heritage.identity.superblock, crc32c(0, &image[1024..2048]));
        let table =
            u32::from_le_bytes(image[block_size.max(2048) + 8..][..4].try_into().unwrap()) as usize * block_size;
        let (mut told, mut pages) = (0, Vec::new());
        for handed in machine.cache.handed_files(heritage.fs) {
            machine.cache.handed_pages(&handed, &mut 10_000, &mut pages);
            if handed.file.ino == 0 {
                for page in &pages {
                    let on_disk = &image[page.index as usize * 4096..][..4096];
                    assert_eq!(page.sum, crc32c(0, on_disk), "page {} of the disk", page.index);
                }
            } else if !pages.is_empty() {
                let inode = &image[table + (handed.file.ino as usize - 1) * 256..][..256];
                assert_eq!(handed.file.stamp.inode, crc32c(0, inode), "inode {}", handed.file.ino);
                told += 1;
            }
        }
        assert!(told > 10);
    }
}

#[test]
fn a_disk_that_fails_is_tried_again() {
    let disk = WriteDisk::new(empty_image("fails", 1024, 2 << 10, &["-N", "64"]));
    let machine = Machine::new(512);
    let vfs = with_disk(&machine, &disk);
    put(&vfs, "/disk/gone", 0, &[9; 50_000]);
    put(&vfs, "/disk/here", 0, &[1; 10_000]);
    vfs.sync().unwrap();
    let image = disk.image();
    let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
    let mut numbers = Numbers(6);
    // Bitmaps, the table of inodes, the superblock, the descriptors; whatever is in the way.
    for sector in [word(2048) * 2, word(2052) * 2, word(2056) * 2 + 6, 2, 4].map(u64::from) {
        let content = numbers.bytes(30_000);
        let name = format!("/disk/{sector}");
        if vfs.stat(b"/disk/gone").is_ok() {
            vfs.unlink(b"/disk/gone").unwrap();
        }
        put(&vfs, &name, 0, &content);
        put(&vfs, "/disk/here", 0, &content);
        *disk.bad_sector.lock().unwrap() = Some(sector);
        assert!(matches!(vfs.fsync(name.as_bytes()), Err(Error::Device(_))), "{sector}");
        assert!(vfs.sync().is_err());
        assert!(get(&vfs, &name) == content);
        *disk.bad_sector.lock().unwrap() = None;
        vfs.sync().unwrap();
        check("fails", &disk.image());
    }
    // Content that cannot be written: its file hears of it, others do not.
    put(&vfs, "/disk/bad", 0, &[3; 5000]);
    put(&vfs, "/disk/good", 0, &[4; 5000]);
    let content_at = || {
        let image = disk.image();
        let at = image.chunks(1024).position(|block| block == [3; 1024]);
        at.map(|block| block as u64 * 2)
    };
    vfs.sync().unwrap();
    *disk.bad_sector.lock().unwrap() = content_at();
    put(&vfs, "/disk/bad", 0, &[5; 5000]);
    put(&vfs, "/disk/good", 5000, &[4; 5000]);
    vfs.fsync(b"/disk/good").unwrap();
    assert!(vfs.fsync(b"/disk/bad").is_err());
    *disk.bad_sector.lock().unwrap() = None;
    vfs.fsync(b"/disk/bad").unwrap();
    assert!(get(&vfs, "/disk/bad") == [5; 5000]);
    vfs.unmount(b"/disk").unwrap();
    check("fails", &disk.image());
}

#[test]
fn what_was_freed_is_not_given_out_before_a_commit_has_ended() {
    let disk = WriteDisk::new(empty_image("freed", 1024, 1 << 10, &["-N", "32"]));
    let machine = Machine::new(1024);
    let vfs = with_disk(&machine, &disk);
    let old = Numbers(8).bytes(300_000);
    put(&vfs, "/disk/old", 0, &old);
    let mut rest = vfs.create(b"/disk/rest", 0o644, IfExists::Refuse).unwrap();
    let taken = rest.write_at(0, &[1; 1 << 20]).unwrap();
    vfs.sync().unwrap();
    let before = disk.image();
    vfs.create(b"/disk/new", 0o644, IfExists::Refuse).unwrap();
    vfs.unlink(b"/disk/old").unwrap();
    // The superblock, which is the last that a commit writes.
    *disk.bad_sector.lock().unwrap() = Some(2);
    for _ in 0..3 {
        assert!(vfs.sync().is_err());
        let mut new = vfs.open(b"/disk/new").unwrap();
        assert!(matches!(new.write_at(0, &[2; 100_000]), Err(Error::Device(_))), "the disk may lead to these blocks");
    }
    let kept = old.chunks(1024).all(|block| {
        let at = before.chunks(1024).position(|on_disk| on_disk.starts_with(block)).unwrap();
        disk.image()[at * 1024..].starts_with(block)
    });
    assert!(kept);
    *disk.bad_sector.lock().unwrap() = None;
    put(&vfs, "/disk/new", 0, &[2; 100_000]);
    assert!(get(&vfs, "/disk/new") == [2; 100_000] && get(&vfs, "/disk/rest") == vec![1; taken]);
    drop(rest);
    vfs.unmount(b"/disk").unwrap();
    check("freed", &disk.image());
}

#[test]
fn a_failure_is_told_to_those_who_sync_that_file_whoever_met_it() {
    type Meet = fn(&Vfs, &dyn FileSystem);
    let meet: [(&str, Meet); 3] = [
        ("a sync of another file", |vfs, _| vfs.fsync(b"/disk/good").unwrap()),
        ("age", |_, fs| assert!(fs.commit().is_err())),
        ("a directory's", |vfs, _| assert!(vfs.fsync(b"/disk").is_ok())),
    ];
    for (what, meet) in meet {
        let disk = WriteDisk::new(empty_image("told to whom", 1024, 2 << 10, &["-N", "64"]));
        let machine = Machine::new(512);
        let vfs = Vfs::new(&[b"disk"]);
        let fs = mount(&machine, &disk).unwrap();
        vfs.mount(b"/disk", fs.clone()).unwrap();
        // Both have new blocks, so both are of every commit.
        put(&vfs, "/disk/bad", 0, &[0xbd; 5000]);
        put(&vfs, "/disk/good", 0, &[4; 5000]);
        *disk.bad_byte.lock().unwrap() = Some(0xbd);
        meet(&vfs, &*fs);
        *disk.bad_byte.lock().unwrap() = None;
        assert_eq!(vfs.fsync(b"/disk/good"), Ok(()), "{what}");
        assert!(matches!(vfs.fsync(b"/disk/bad"), Err(Error::Device(_))), "{what}");
        assert_eq!(vfs.fsync(b"/disk/bad"), Ok(()), "{what}");
        assert!(matches!(vfs.sync(), Err(Error::Device(_))), "{what}");
        assert_eq!(vfs.sync(), Ok(()), "{what}");
        assert!(get(&vfs, "/disk/bad") == [0xbd; 5000]);
        vfs.unmount(b"/disk").unwrap();
        check("told to whom", &disk.image());
    }
}
