//! ext4 as mke2fs makes it, read byte for byte; damaged ones are survived.

mod common;

use common::{Machine, MemoryDisk, Numbers, scratch};
use fs::block::BlockError;
use fs::ext4::Ext4;
use fs::filesystem::FileType;
use fs::vfs::IfExists;
use fs::{Error, Vfs};
use std::fs as host;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

fn tool(name: &str) -> Command {
    // A user's PATH often lacks the directories of such tools.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(name);
    command.env("PATH", path);
    command
}

fn run(mut command: Command) {
    let done = command.output().expect("e2fsprogs");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An ext4 image of `kib` KiB with the content of `tree`.
fn make_image(tree: &Path, block_size: usize, kib: usize, features: &str) -> Vec<u8> {
    let image = tree.with_extension("img");
    let _ = host::remove_file(&image);
    let mut mke2fs = tool("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-m", "0", "-b", &block_size.to_string()]);
    if !features.is_empty() {
        mke2fs.args(["-O", features]);
    }
    mke2fs.arg("-d").args([tree, &image]).arg(format!("{kib}k"));
    run(mke2fs);
    // Blocks that were allocated and never written read as zeros, whatever they hold.
    for request in ["fallocate /allocated 0 40", "fallocate /a/partly 3 9"] {
        let mut debugfs = tool("debugfs");
        debugfs.args(["-w", "-R", request]).arg(&image);
        run(debugfs);
    }
    // Large directories get an index; that makes it end with status 1.
    let checked = tool("e2fsck").args(["-fyD"]).arg(&image).output().expect("e2fsck (package e2fsprogs)");
    assert!(checked.status.code().is_some_and(|code| code <= 1), "{}", String::from_utf8_lossy(&checked.stdout));
    let bytes = host::read(&image).unwrap();
    host::remove_file(&image).unwrap();
    bytes
}

/// A tree with extents of every kind.
fn make_tree(name: &str, block_size: usize, files: usize) -> std::path::PathBuf {
    let tree = scratch(name);
    let mut numbers = Numbers(4);
    host::create_dir_all(tree.join("a/b/c")).unwrap();
    host::create_dir(tree.join("empty")).unwrap();
    host::write(tree.join("a/small"), numbers.bytes(100)).unwrap();
    host::write(tree.join("a/nothing"), []).unwrap();
    host::write(tree.join("a/b/long"), numbers.bytes(300_001)).unwrap();
    host::hard_link(tree.join("a/b/long"), tree.join("a/b/again")).unwrap();
    // More extents than fit into an inode, or one node.
    let gaps = host::File::create(tree.join("a/b/gaps")).unwrap();
    for n in 0..600 {
        gaps.write_all_at(&numbers.bytes(block_size), 2 * n * block_size as u64).unwrap();
    }
    gaps.set_len(3_000_000_000).unwrap();
    host::File::create(tree.join("allocated")).unwrap().set_len(30 * block_size as u64).unwrap();
    let partly = host::File::create(tree.join("a/partly")).unwrap();
    partly.write_all_at(&numbers.bytes(2 * block_size), 0).unwrap();
    partly.write_all_at(&numbers.bytes(3 * block_size), 5 * block_size as u64).unwrap();
    partly.set_len(20 * block_size as u64).unwrap();
    host::set_permissions(tree.join("a/small"), host::Permissions::from_mode(0o4750)).unwrap();
    symlink("a/b", tree.join("fast")).unwrap();
    symlink("/disk/a/b/c/".repeat(10), tree.join("slow")).unwrap();
    for n in 0..files {
        host::write(tree.join(format!("a/b/c/entry-with-a-name-{n}")), n.to_string()).unwrap();
    }
    tree
}

fn mounted(machine: &Machine, disk: &Arc<MemoryDisk>) -> Result<Vfs, Error> {
    let vfs = Vfs::new(&[b"disk"]);
    vfs.mount(b"/disk", Ext4::mount(disk.clone(), machine.cache.clone())?)?;
    Ok(vfs)
}

/// What lies at `path` is what lies at `real`, and so is all below; how many names that are.
fn same(vfs: &Vfs, path: &[u8], real: &Path) -> usize {
    let name = String::from_utf8_lossy(path).into_owned();
    let (stat, meta) =
        (vfs.lstat(path).unwrap_or_else(|error| panic!("{name}: {error}")), real.symlink_metadata().unwrap());
    assert_eq!((u32::from(stat.mode), stat.uid, stat.gid), (meta.mode() & 0o7777, meta.uid(), meta.gid()), "{name}");
    // The root is made by mke2fs.
    assert!(path == b"/disk" || stat.mtime.seconds == meta.mtime(), "{name}");
    if meta.is_symlink() {
        let target = host::read_link(real).unwrap();
        assert_eq!((stat.kind, vfs.read_link(path)), (FileType::Symlink, Ok(target.as_os_str().as_bytes().to_vec())));
    } else if meta.is_dir() {
        let mut found: Vec<_> = vfs.read_dir(path).unwrap().into_iter().map(|entry| entry.name).collect();
        let mut names: Vec<_> =
            host::read_dir(real).unwrap().map(|entry| entry.unwrap().file_name().as_bytes().to_vec()).collect();
        if path == b"/disk" {
            names.push(b"lost+found".to_vec());
        }
        found.sort();
        names.sort();
        assert_eq!(found, names, "{name}");
        let below = names.iter().filter(|name| *name != b"lost+found");
        return 1 + below
            .map(|name| same(vfs, &[path, b"/", name].concat(), &real.join(std::ffi::OsStr::from_bytes(name))))
            .sum::<usize>();
    } else {
        assert_eq!(
            (stat.kind, stat.size, u64::from(stat.links)),
            (FileType::Regular, meta.len(), meta.nlink()),
            "{name}"
        );
        let file = host::File::open(real).unwrap();
        let mut reader = vfs.open(path).unwrap();
        let (mut ours, mut theirs) = (vec![1; 40_000], vec![2; 40_000]);
        let ends = [meta.len() / 2, meta.len().saturating_sub(30_000)];
        for pos in (0..meta.len().min(5_000_000)).step_by(40_000).chain(ends) {
            let read = reader.read_at(pos, &mut ours).unwrap();
            let wanted = file.read_at(&mut theirs, pos).unwrap();
            assert!(ours[..read] == theirs[..wanted], "{name} at {pos}");
        }
    }
    1
}

#[test]
fn a_tree_is_read_as_it_is_whatever_the_features() {
    for (block_size, features) in [
        (4096, ""),
        (2048, ""),
        (1024, ""),
        (1024, "^64bit,^metadata_csum"),
        (4096, "^has_journal,^flex_bg"),
        (4096, "metadata_csum_seed,sparse_super2"),
    ] {
        // So many names that the directory has an index.
        let tree = make_tree(&format!("ext4-{block_size}{}", features.len()), block_size, 250);
        let disk = MemoryDisk::new(make_image(&tree, block_size, 24 << 10, features));
        let machine = Machine::new(2048);
        let vfs = mounted(&machine, &disk).unwrap();
        assert_eq!(same(&vfs, b"/disk", &tree), 250 + 14, "{block_size} {features}");
        let ino = |path: &[u8]| vfs.stat(path).unwrap().ino;
        assert_eq!(ino(b"/disk/a/b/long"), ino(b"/disk/fast/again"));
        assert_eq!(ino(b"/disk/a"), ino(b"/disk/a/b/.."));
        assert_eq!(vfs.stat(b"/disk/a/none"), Err(Error::NotFound));
        assert_eq!(vfs.stat(b"/disk/a/small/x"), Err(Error::NotADirectory));
        let usage = vfs.stat_fs(b"/disk").unwrap();
        assert!(usage.free_blocks < usage.blocks && usage.free_inodes < usage.inodes, "{usage:?}");
        // The second time nothing comes from the disk.
        let before = disk.requests.load(Relaxed);
        let mut out = vec![0; 100];
        assert_eq!(vfs.open(b"/disk/a/small").unwrap().read_at(0, &mut out), Ok(100));
        assert_eq!(disk.requests.load(Relaxed), before);
        vfs.unmount(b"/disk").unwrap();
        host::remove_dir_all(tree).unwrap();
    }
}

#[test]
fn nothing_can_be_changed_and_the_reason_is_given() {
    let tree = make_tree("ext4-refused", 1024, 3);
    let image = make_image(&tree, 1024, 8 << 10, "");
    let machine = Machine::new(512);
    let vfs = mounted(&machine, &MemoryDisk::new(image.clone())).unwrap();
    assert_eq!(vfs.create(b"/disk/new", 0o644, IfExists::Keep).map(drop), Err(Error::ReadOnly));
    assert_eq!(vfs.unlink(b"/disk/a/small"), Err(Error::ReadOnly));
    assert_eq!(vfs.rename(b"/disk/a/small", b"/disk/x"), Err(Error::ReadOnly));
    let mut file = vfs.open(b"/disk/a/small").unwrap();
    assert_eq!(file.write_at(0, b"x"), Err(Error::ReadOnly));
    assert_eq!(file.truncate(0), Err(Error::ReadOnly));
    assert_eq!((vfs.mounts()[0].kind, vfs.mounts()[0].read_only), ("ext4", true));
    drop(file);
    let mount = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut image = image.clone();
        change(&mut image);
        mounted(&machine, &MemoryDisk::new(image)).map(drop)
    };
    let or = |at: usize, bits: u32| {
        move |image: &mut Vec<u8>| {
            let bits = bits | u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
            image[at..at + 4].copy_from_slice(&bits.to_le_bytes());
        }
    };
    assert_eq!(mount(&|image| image.fill(0)), Err(Error::WrongFormat { wanted: "ext4", magic: 0 }));
    assert_eq!(mount(&or(1024 + 96, 4)), Err(Error::Feature { name: "needs_recovery", bits: 4 }));
    assert_eq!(mount(&or(1024 + 96, 0x8000)), Err(Error::Feature { name: "inline_data", bits: 0x8000 }));
    // The checksum of the superblock does not fit any more.
    assert!(matches!(mount(&or(1024 + 48, 1 << 31)), Err(Error::Corrupt { .. })));
    host::remove_dir_all(tree).unwrap();
}

/// Reads whatever can be, and counts what cannot.
fn survey(vfs: &Vfs, most: usize) -> Vec<Error> {
    let (mut paths, mut errors, mut steps) = (vec![b"/disk".to_vec()], Vec::new(), 0);
    while let Some(path) = paths.pop() {
        steps += 1;
        assert!(steps < most, "no end of it");
        let met = vfs.lstat(&path).and_then(|stat| match stat.kind {
            FileType::Directory => {
                let entries = vfs.read_dir(&path)?;
                paths.extend(entries.iter().map(|entry| [&path[..], b"/", &entry.name].concat()));
                Ok(())
            }
            FileType::Regular => {
                let (mut file, mut out) = (vfs.open(&path)?, vec![0; 9000]);
                [0, 20_000, stat.size / 2, stat.size.saturating_sub(5)]
                    .into_iter()
                    .try_for_each(|pos| file.read_at(pos, &mut out).map(drop))
            }
            FileType::Symlink => vfs.read_link(&path).map(drop),
            FileType::Special => Ok(()),
        });
        errors.extend(met.err());
    }
    errors
}

#[test]
fn damage_is_survived() {
    const BLOCK: usize = 1024;
    let tree = make_tree("ext4-mutants", BLOCK, 40);
    // Without checksums damage goes deeper; with them it is noticed.
    for (features, rounds) in [("^metadata_csum", 150), ("metadata_csum", 40)] {
        let sound = make_image(&tree, BLOCK, 6 << 10, features);
        let used: Vec<usize> = (1..sound.len() / BLOCK)
            .filter(|block| sound[block * BLOCK..][..BLOCK].iter().any(|byte| *byte != 0))
            .collect();
        // Nodes of extent trees, directories and inode tables are told by what stands in them.
        let magic: Vec<usize> =
            (0..sound.len() - 2).step_by(4).filter(|at| sound[*at..*at + 2] == [0x0a, 0xf3]).collect();
        assert!(magic.len() > 50, "{}", magic.len());
        let machine = Machine::new(512);
        let mut numbers = Numbers(2027);
        let (mut refused, mut noticed) = (0, 0);
        for round in 0..rounds {
            let mut image = sound.clone();
            for _ in 0..=numbers.below(3) {
                let at = match round % 4 {
                    0 => 1024 + numbers.below(0x178) as usize,
                    1 => 2 * BLOCK + numbers.below(64) as usize,
                    2 => (numbers.pick(&magic) + numbers.below(120) as usize).saturating_sub(40),
                    _ => numbers.pick(&used[..used.len().min(80)]) * BLOCK + numbers.below(BLOCK as u64) as usize,
                };
                let random = numbers.next() as u32;
                let value = numbers.pick(&[0, 1, 5, 6, 0x7fff, 0x8000, 0xffff_ffff, random, random >> 16]);
                let (at, len) = numbers.pick(&[(at, 1), (at & !1, 2), (at & !3, 4)]);
                image[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            }
            let disk = MemoryDisk::new(image);
            match mounted(&machine, &disk) {
                Err(
                    Error::Corrupt { .. } | Error::Feature { .. } | Error::WrongFormat { .. } | Error::Unsupported(_),
                ) => {
                    refused += 1;
                }
                Err(other) => panic!("round {round}: refused for an odd reason: {other}"),
                Ok(vfs) => {
                    let errors = survey(&vfs, 3000);
                    noticed += usize::from(!errors.is_empty());
                    let odd = errors.iter().find(|error| matches!(error, Error::Device(_) | Error::NoMemory));
                    assert_eq!(odd, None, "round {round}");
                }
            }
            assert!(disk.batches.load(Relaxed) < 5_000, "round {round}");
        }
        assert!(refused > rounds / 40 && noticed > rounds / 40, "{refused} refused, {noticed} noticed");
    }
    host::remove_dir_all(tree).unwrap();
}

#[test]
fn an_io_error_comes_from_where_it_happened() {
    let tree = make_tree("ext4-sectors", 1024, 3);
    let disk = MemoryDisk::new(make_image(&tree, 1024, 8 << 10, ""));
    let machine = Machine::new(512);
    drop(mounted(&machine, &disk).unwrap());
    let sectors: Vec<u64> = disk.reads_of.lock().unwrap().keys().copied().collect();
    for sector in sectors.into_iter().take(30) {
        disk.fail(Some(sector));
        let met = mounted(&machine, &disk).map(|vfs| survey(&vfs, 200));
        match met {
            Err(error) => assert!(matches!(error, Error::Device(BlockError::Io { .. })), "sector {sector}: {error}"),
            Ok(errors) => assert!(
                errors.iter().all(|error| matches!(error, Error::Device(BlockError::Io { .. }))),
                "sector {sector}: {errors:?}"
            ),
        }
    }
    host::remove_dir_all(tree).unwrap();
}
