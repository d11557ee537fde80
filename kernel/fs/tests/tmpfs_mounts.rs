//! Extended attributes, and what a tmpfs is mounted with: its limits, and whether it is handed over.

mod tmpfs_support;

use frames::arena::{Arena, BASE};
use fs::filesystem::{FileSystem, NewNode, SetXattr};
use fs::tmpfs::{Options, Tmpfs};
use fs::vfs::{AtEnd, IfExists};
use fs::{Error, Vfs};
use handover::{About, Caches, Handover, WriteError, Writer};
use std::sync::Arc;
use tmpfs_support::{Machine, SCRATCH, environment, pattern, tick};

const PAGE: u64 = 4096;

fn machine() -> Machine {
    Machine::new(1024, Options { size: Some(400 * PAGE), ..Options::default() })
}

#[test]
fn attributes_have_limits() {
    let m = machine();
    let ino = m.file("f");
    let set = |name: &[u8], value: &[u8]| m.tmpfs.set_xattr(ino, name, value, SetXattr::Either);
    assert_eq!(set(b"", b""), Err(Error::InvalidName));
    assert_eq!(set(b"a\0", b""), Err(Error::InvalidName));
    assert_eq!(set(&[b'a'; 256], b""), Err(Error::NameTooLong));
    assert_eq!(set(b"a", &[0; 65_537]), Err(Error::ValueTooLong { limit: 65_536 }));
    assert_eq!(set(&[b'a'; 255], &pattern(65_536, 1)), Ok(()));
    assert_eq!(m.tmpfs.xattr(ino, &[b'a'; 255]), Ok(pattern(65_536, 1)));
    assert_eq!(m.tmpfs.xattr(ino, b"b"), Err(Error::NoSuchAttribute));
    assert_eq!(m.tmpfs.remove_xattr(ino, b"b"), Err(Error::NoSuchAttribute));
    assert_eq!(m.tmpfs.set_xattr(ino, &[b'a'; 255], b"", SetXattr::Create), Err(Error::Exists));
    assert_eq!(m.tmpfs.set_xattr(ino, b"b", b"", SetXattr::Replace), Err(Error::NoSuchAttribute));
    // Empty values are values.
    assert_eq!((set(b"b", b""), m.tmpfs.xattr(ino, b"b")), (Ok(()), Ok(Vec::new())));
    // The names of one inode fit in what listxattr(2) returns.
    let many = m.file("many");
    let ends = (0..300).map(|at: u32| {
        let name = format!("{at:0>255}");
        m.tmpfs.set_xattr(many, name.as_bytes(), b"", SetXattr::Either)
    });
    assert_eq!(ends.filter(|end| *end == Err(Error::NoSpace)).count(), 300 - 256);
}

#[test]
fn attributes_are_charged_and_given_back() {
    let m = machine();
    let ino = m.file("f");
    let free = || m.tmpfs.stat_fs().unwrap().free_inodes;
    let before = free();
    let mut made = 0_u32;
    let full = loop {
        match m.tmpfs.set_xattr(ino, &made.to_le_bytes().map(|byte| byte | 0x80), &[1; 4000], SetXattr::Create) {
            Ok(()) => made += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((full, free() * 320 < 4100), (Error::NoSpace, true), "{made}");
    // A smaller value gives back the difference, all of them everything.
    m.tmpfs.set_xattr(ino, &[0x80; 4], b"", SetXattr::Replace).unwrap();
    assert!(free() >= 12);
    m.tmpfs.unlink(m.root(), b"f").unwrap();
    assert!(free() > before);
}

#[test]
fn attributes_of_files_directories_and_links_by_path() {
    let m = machine();
    let vfs = Vfs::new(&[b"tmp"]);
    let environment = environment(m.arena.memory());
    vfs.mount(b"/tmp", Arc::new(Tmpfs::new(environment, Options::default()))).unwrap();
    vfs.create(b"/tmp/f", 0o644, IfExists::Refuse).unwrap();
    vfs.symlink(b"f", b"/tmp/l").unwrap();
    let before = vfs.stat(b"/tmp/f").unwrap();
    let now = tick();
    vfs.set_xattr(b"/tmp/l", AtEnd::Follow, b"user.a", b"file", SetXattr::Either).unwrap();
    vfs.set_xattr(b"/tmp/l", AtEnd::Keep, b"user.a", b"link", SetXattr::Either).unwrap();
    vfs.set_xattr(b"/tmp", AtEnd::Follow, b"user.a", b"root", SetXattr::Either).unwrap();
    assert_eq!(vfs.xattr(b"/tmp/f", AtEnd::Keep, b"user.a"), Ok(b"file".to_vec()));
    assert_eq!(vfs.xattr(b"/tmp/l", AtEnd::Keep, b"user.a"), Ok(b"link".to_vec()));
    assert_eq!(vfs.xattr_names(b"/tmp", AtEnd::Keep), Ok(vec![b"user.a".to_vec()]));
    let after = vfs.stat(b"/tmp/f").unwrap();
    assert_eq!((after.mtime, after.ctime), (before.mtime, now));
    vfs.remove_xattr(b"/tmp/f", AtEnd::Keep, b"user.a").unwrap();
    assert_eq!(vfs.xattr_names(b"/tmp/l", AtEnd::Follow), Ok(Vec::new()));
    // The root of all has none.
    assert_eq!(vfs.xattr_names(b"/", AtEnd::Keep), Err(Error::Unsupported("extended attributes")));
}

#[test]
fn attributes_cross_or_the_kexec_is_refused_with_the_reason() {
    let m = machine();
    let (file, value) = (m.file("f"), pattern(65_536, 7));
    let link = m.tmpfs.create(m.root(), b"l", NewNode::Symlink(b"f"), 0).unwrap();
    m.write(file, 0, b"content");
    for ino in [m.root(), file, link] {
        m.tmpfs.set_xattr(ino, b"user.large", &value, SetXattr::Either).unwrap();
        m.tmpfs.set_xattr(ino, &[0xff; 255], b"", SetXattr::Either).unwrap();
    }
    let space = m.tmpfs.stat_fs().unwrap();
    // An older version has no place for them.
    let about = About { generation: 0, build: b"test", version: handover::OLDEST_READ };
    let mut allocate = || m.arena.memory().allocate(frames::Zones::Preservable);
    let mut writer = Writer::new(&about, &mut allocate).unwrap();
    let refused = m.tmpfs.save(b"/tmp", &mut writer).unwrap_err();
    assert!(matches!(refused, WriteError::NeedsVersion { version: 2, .. }), "{refused:?}");
    drop(writer);

    let (m, casualties) = m.kexec();
    assert_eq!(casualties, []);
    for ino in [m.root(), file, link] {
        assert_eq!(m.tmpfs.xattr_names(ino), Ok(vec![b"user.large".to_vec(), vec![0xff; 255]]));
        assert_eq!(m.tmpfs.xattr(ino, b"user.large"), Ok(value.clone()));
    }
    assert_eq!(m.tmpfs.stat_fs().unwrap(), space);
    assert_eq!(m.read(file, 0, 10), b"content");
}

#[test]
fn one_that_is_not_handed_over_can_lie_in_the_scratch_area() {
    let arena = Arena::with_scratch(64, SCRATCH as usize);
    let fs = |handover| {
        let options = Options { size: Some(1 << 30), handover };
        Tmpfs::new(environment(arena.memory()), options)
    };
    let (kept, not_kept) = (fs(true), fs(false));
    let write = |fs: &Tmpfs, len: u64| {
        let ino = fs.create(fs.root(), b"f", NewNode::Regular, 0).unwrap();
        fs.open(ino).unwrap().write(0, &vec![1; (len * PAGE) as usize]).unwrap();
    };
    write(&not_kept, SCRATCH);
    assert_eq!(arena.memory().stats().free_scratch, 0);
    let free = arena.memory().stats().free_normal;
    write(&kept, 4);
    assert!(arena.memory().stats().free_normal <= free - 4);
    assert!(arena.memory().stats().free_scratch == 0 && BASE.get() > 0);
}

#[test]
fn mount_says_how() {
    let m = machine();
    let vfs = Vfs::new(&[b"a", b"b", b"a", b"", b"x/y"]);
    let environment = environment(m.arena.memory());
    let mount = |point: &[u8], options| vfs.mount(point, Arc::new(Tmpfs::new(environment.clone(), options)));
    assert_eq!(mount(b"/a", Options { size: Some(65_536), handover: false }), Ok(()));
    assert_eq!(mount(b"/b", Options::default()), Ok(()));
    assert_eq!(mount(b"//a/", Options::default()), Err(Error::Busy));
    let options: Vec<_> = vfs.mounts().into_iter().map(|mount| (mount.path, mount.options)).collect();
    assert_eq!(options, [(b"/a".to_vec(), "size=64k,handover=no".into()), (b"/b".to_vec(), String::new())]);
    assert_eq!((vfs.point_path(b"//b//"), vfs.point_path(b"/c")), (Ok(b"/b".to_vec()), Err(Error::NotFound)));
    assert_eq!(vfs.read_dir(b"/").unwrap().len(), 2);
}

#[test]
fn several_filesystems_cross_each_under_its_label() {
    let arena = Arena::with_scratch(512, SCRATCH as usize);
    let fs = |size| Tmpfs::new(environment(arena.memory()), Options { size, handover: true });
    let all = [(&b"/tmp"[..], fs(None)), (b"/mnt", fs(Some(1 << 20)))];
    let about = About { generation: 0, build: b"test", version: handover::VERSION };
    let mut allocate = || arena.memory().allocate(frames::Zones::Preservable);
    let mut writer = Writer::new(&about, &mut allocate).unwrap();
    for (label, fs) in &all {
        let ino = fs.create(fs.root(), label, NewNode::Regular, 0);
        assert_eq!(ino, Err(Error::InvalidName));
        fs.create(fs.root(), &label[1..], NewNode::Regular, 0).unwrap();
        fs.save(label, &mut writer).unwrap();
    }
    let sealed = writer.finish();
    let blob = sealed.frames().iter().map(|frame| (frame.pfn(), Box::new(*frame.bytes()))).collect();
    let early = tmpfs_support::Early { frames: 512, blob };
    let handover = Handover::open(sealed.root(), &early, Caches::Keep).unwrap();
    let restored = Tmpfs::restore(&handover, &early, &environment(arena.memory())).unwrap();
    assert_eq!(restored.len(), 2);
    for (restored, (label, fs)) in restored.iter().zip(&all) {
        assert_eq!((&restored.label[..], restored.tmpfs.options()), (*label, fs.options()));
        restored.tmpfs.lookup(restored.tmpfs.root(), &label[1..]).unwrap();
    }
    drop(all);
}
