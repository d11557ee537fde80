//! Trees that mke2fs put into images, compared with the host's: every name, every attribute that matters, every byte.

mod common;

use common::{Machine, MemoryDisk, Numbers, make_image, scratch};
use fs::Vfs;
use fs::filesystem::FileType;
use std::ffi::OsStr;
use std::fs as host;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

/// Files beyond this are compared in part.
const WHOLE: u64 = 64 << 20;

/// Everything that the format has a special case for.
fn grow_tree(root: &Path, block_size: usize) {
    let mut numbers = Numbers(block_size as u64);
    let pointers = block_size / 4;
    host::create_dir_all(root.join("a/b/c/d")).unwrap();
    host::create_dir(root.join("empty")).unwrap();
    let edges = [0, 12, 12 + pointers, 12 + pointers + 3 * pointers].map(|blocks| blocks * block_size);
    for size in edges.iter().flat_map(|&edge| [edge.saturating_sub(1), edge, edge + 1, edge + block_size + 77]) {
        host::write(root.join(format!("a/b/file{size}")), numbers.bytes(size)).unwrap();
    }
    host::write(root.join("a/b/c/d/deep"), b"deep").unwrap();
    host::write(root.join("x".repeat(255)), b"long name").unwrap();
    host::write(root.join(OsStr::from_bytes(b"not \xff utf-8")), b"bytes").unwrap();
    host::hard_link(root.join("a/b/c/d/deep"), root.join("hard")).unwrap();
    for len in [1, 58, 59, 60, 61, 200, 1000] {
        symlink("t".repeat(len), root.join(format!("link{len}"))).unwrap();
    }
    symlink("a/b/c/d/deep", root.join("to-deep")).unwrap();
    host::create_dir(root.join("many")).unwrap();
    for n in 0..3000 {
        let len = numbers.below(200) as usize;
        host::write(root.join(format!("many/{n}-{}", "n".repeat(len))), n.to_string()).unwrap();
    }
    // Data before, in and after each tree of indirect blocks, and past 4 GiB; all else is holes.
    let sparse = host::File::create(root.join("sparse")).unwrap();
    for at in [0, 5_000, 70_000, 1 << 20, 20 << 20] {
        sparse.write_all_at(&numbers.bytes(3_000), at).unwrap();
    }
    sparse.set_len(30 << 20).unwrap();
    let huge = host::File::create(root.join("huge")).unwrap();
    for at in [0, (1 << 32) - 100, 5 << 30] {
        huge.write_all_at(&numbers.bytes(10_000), at).unwrap();
    }
    huge.set_len((5 << 30) + 123_456).unwrap();
    host::File::create(root.join("all-hole")).unwrap().set_len(1 << 20).unwrap();
}

fn compare(vfs: &Vfs, here: &Path, there: &[u8]) -> usize {
    let mut names: Vec<_> = host::read_dir(here).unwrap().map(|entry| entry.unwrap()).collect();
    names.sort_by_key(|entry| entry.file_name());
    let mut entries = vfs.read_dir(there).unwrap();
    entries.retain(|entry| entry.name != b"lost+found");
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(names.len(), entries.len(), "{here:?}");
    let mut count = 0;
    for (name, entry) in names.iter().zip(entries) {
        assert_eq!(name.file_name().as_bytes(), entry.name);
        let (here, there) = (name.path(), [there, b"/", &entry.name].concat());
        let (wanted, found) = (here.symlink_metadata().unwrap(), vfs.lstat(&there).unwrap());
        assert_eq!(entry.kind, found.kind);
        assert_eq!(entry.ino, found.ino);
        assert_eq!(u32::from(found.mode), wanted.mode() & 0o7777, "{here:?}");
        assert_eq!((found.uid, found.gid), (wanted.uid(), wanted.gid()), "{here:?}");
        assert_eq!(found.mtime.seconds, wanted.mtime(), "{here:?}");
        count += 1;
        if wanted.is_dir() {
            assert_eq!(found.kind, FileType::Directory);
            count += compare(vfs, &here, &there);
            continue;
        }
        assert_eq!(found.size, wanted.len(), "{here:?}");
        assert_eq!(u64::from(found.links), wanted.nlink(), "{here:?}");
        if wanted.is_symlink() {
            assert_eq!(vfs.read_link(&there).unwrap(), here.read_link().unwrap().as_os_str().as_bytes());
        } else {
            compare_file(vfs, &here, &there);
        }
    }
    count
}

fn compare_file(vfs: &Vfs, here: &Path, there: &[u8]) {
    let (mut file, host) = (vfs.open(there).unwrap(), host::File::open(here).unwrap());
    let size = file.stat().unwrap().size;
    let mut numbers = Numbers(size);
    let starts: Vec<u64> = if size <= WHOLE {
        (0..=size).step_by(100_000).collect()
    } else {
        let around = [0, (1 << 32) - 50_000, (5 << 30) - 40_000, size - 50_000];
        around.into_iter().chain((0..200).map(|_| numbers.below(size))).collect()
    };
    let (mut got, mut wanted) = (vec![1; 100_000], vec![2; 100_000]);
    for start in starts {
        let read = file.read_at(start, &mut got).unwrap();
        assert_eq!(read as u64, (size - start).min(100_000));
        host.read_exact_at(&mut wanted[..read], start).unwrap();
        assert!(got[..read] == wanted[..read], "{here:?} differs after {start}");
    }
    assert_eq!(file.read_at(size, &mut got), Ok(0));
    assert_eq!(file.read_at(u64::MAX, &mut got), Ok(0));
}

fn tree_survives(block_size: usize, options: &[&str]) {
    let tree = scratch(&format!("tree{block_size}{}", options.len()));
    grow_tree(&tree, block_size);
    let disk = MemoryDisk::new(make_image(&tree, block_size, 160 << 10, options));
    // Much smaller than the tree, so that reclaim works all the while.
    let machine = Machine::new(256);
    let vfs = Vfs::new(&[b"disk"]);
    vfs.mount(b"/disk", machine.mount(&disk).unwrap()).unwrap();
    assert!(compare(&vfs, &tree, b"/disk") > 3000);
    assert_eq!(vfs.stat(b"/disk/to-deep").unwrap(), vfs.stat(b"/disk/hard").unwrap());
    vfs.unmount(b"/disk").unwrap();
    host::remove_dir_all(tree).unwrap();
}

#[test]
fn blocks_of_1_kib() {
    tree_survives(1024, &[]);
}

#[test]
fn blocks_of_2_kib() {
    tree_survives(2048, &[]);
}

#[test]
fn blocks_of_4_kib() {
    tree_survives(4096, &[]);
}

#[test]
fn small_inodes_and_entries_without_types() {
    tree_survives(1024, &["-I", "128", "-O", "^filetype,^dir_index"]);
}

#[test]
fn a_file_is_read_in_few_requests_and_each_indirect_block_once() {
    let tree = scratch("few");
    host::write(tree.join("file"), Numbers(1).bytes(2 << 20)).unwrap();
    for block_size in [1024, 4096] {
        let disk = MemoryDisk::new(make_image(&tree, block_size, 8 << 10, &[]));
        let machine = Machine::new(4096);
        let vfs = Vfs::new(&[b"disk"]);
        vfs.mount(b"/disk", machine.mount(&disk).unwrap()).unwrap();
        let mut file = vfs.open(b"/disk/file").unwrap();
        disk.reads_of.lock().unwrap().clear();
        let before = disk.requests.load(Relaxed);
        let mut bytes = vec![0; 2 << 20];
        assert_eq!(file.read_at(0, &mut bytes), Ok(2 << 20));
        // 512 pages in runs of up to 32, plus the indirect blocks in between.
        let requests = disk.requests.load(Relaxed) - before;
        assert!(requests < 64, "{requests} requests");
        // A page of the disk that holds an indirect block may hold small data blocks beside it.
        let allowed = if block_size == 4096 { 1 } else { 2 };
        let most = disk.reads_of.lock().unwrap().values().copied().max();
        assert!(most <= Some(allowed), "a sector was read {most:?} times");
    }
    host::remove_dir_all(tree).unwrap();
}
