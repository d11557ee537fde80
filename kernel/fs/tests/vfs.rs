//! The name space over two tmpfs: paths, links, mounts, and what they must not do.

mod common;

use common::Machine;
use fs::filesystem::{DirEntry, FileSystem, FileType, Ino, OpenFile, SetAttr, Stat, StatFs, Time};
use fs::tmpfs::{Environment, Options, Tmpfs};
use fs::vfs::{IfExists, path};
use fs::{Error, Vfs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// A name space with an empty tmpfs at `/disk` and one at `/tmp`.
fn two(machine: &Machine) -> Vfs {
    let vfs = Vfs::new(&[b"disk", b"tmp", b"free"]);
    for point in [b"/disk", &b"/tmp"[..]] {
        vfs.mount(point, tmpfs(machine)).unwrap();
    }
    vfs
}

fn tmpfs(machine: &Machine) -> Arc<Tmpfs> {
    let environment = Environment { cache: machine.cache.clone(), clock: Time::default };
    Arc::new(Tmpfs::new(environment, Options::default()))
}

fn write(vfs: &Vfs, path: &str, content: &str) {
    let mut file = vfs.create(path.as_bytes(), 0o644, IfExists::Truncate).unwrap();
    assert_eq!(file.write_at(0, content.as_bytes()), Ok(content.len()));
}

fn read(vfs: &Vfs, path: &str) -> Result<String, Error> {
    let mut file = vfs.open(path.as_bytes())?;
    let mut content = vec![0; file.stat()?.size as usize];
    assert_eq!(file.read_at(0, &mut content)?, content.len());
    Ok(String::from_utf8(content).unwrap())
}

fn names(vfs: &Vfs, path: &str) -> Vec<String> {
    let entries = vfs.read_dir(path.as_bytes()).unwrap();
    let mut names: Vec<_> = entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect();
    names.sort();
    names
}

#[test]
fn paths_lead_across_mounts() {
    let machine = Machine::new(256);
    let vfs = two(&machine);
    vfs.mkdir(b"/tmp/a", 0o755).unwrap();
    vfs.mkdir(b"/tmp/a/b/", 0o755).unwrap();
    write(&vfs, "/tmp/a/file", "here");
    write(&vfs, "/disk/file", "there");
    for path in ["/tmp/a/file", "tmp/./a//file", "/tmp/a/b/../file", "/../tmp/../disk/../tmp/a/b/../../a/file"] {
        assert_eq!(read(&vfs, path).as_deref(), Ok("here"), "{path}");
        assert_eq!(vfs.real_path(path.as_bytes()).unwrap(), b"/tmp/a/file");
    }
    assert_eq!(read(&vfs, "/tmp/a/b/../../../disk/file").as_deref(), Ok("there"));
    assert_eq!(names(&vfs, "/"), ["disk", "free", "tmp"]);
    assert_eq!(names(&vfs, "/tmp/a"), ["b", "file"]);
    assert_eq!(vfs.real_path(b"/tmp/../.."), Ok(b"/".to_vec()));
    assert_eq!(vfs.stat(b"/free").unwrap().kind, FileType::Directory);
    assert_eq!(vfs.stat(&path::join(b"/tmp/a/b", b"../file")).unwrap().size, 4);
}

#[test]
fn bad_paths_are_refused() {
    let machine = Machine::new(256);
    let vfs = two(&machine);
    write(&vfs, "/tmp/file", "");
    let long = [b"/tmp/", &b"n".repeat(256)[..]].concat();
    let cases: [(&[u8], Error); 8] = [
        (b"", Error::NotFound),
        (b"/tmp/none", Error::NotFound),
        (b"/tmp/none/file", Error::NotFound),
        (b"/tmp/file/", Error::NotADirectory),
        (b"/tmp/file/.", Error::NotADirectory),
        (b"/tmp/file/../file", Error::NotADirectory),
        (b"/tmp/fi\0le", Error::InvalidName),
        (&long, Error::NameTooLong),
    ];
    for (path, error) in cases {
        assert_eq!(vfs.lstat(path), Err(error), "{}", path.escape_ascii());
    }
    assert_eq!(vfs.stat(&b"/".repeat(4096)), Err(Error::NameTooLong));
    assert!(vfs.stat(&b"/".repeat(4095)).is_ok());
    assert_eq!(vfs.open(b"/tmp").err(), Some(Error::IsADirectory));
    assert_eq!(vfs.read_dir(b"/tmp/file"), Err(Error::NotADirectory));
    assert_eq!(vfs.create(b"/tmp/new/", 0, IfExists::Keep).err(), Some(Error::IsADirectory));
    for path in [&b"/"[..], b"/tmp/.", b"/tmp/.."] {
        assert_eq!(vfs.mkdir(path, 0o755), Err(Error::Exists));
        assert_eq!(vfs.rmdir(path), Err(Error::InvalidName));
    }
    assert_eq!(vfs.mkdir(b"/new", 0o755), Err(Error::ReadOnly));
    assert_eq!(vfs.rmdir(b"/free"), Err(Error::ReadOnly));
}

#[test]
fn symbolic_links_are_followed_up_to_40() {
    let machine = Machine::new(256);
    let vfs = two(&machine);
    vfs.mkdir(b"/tmp/dir", 0o755).unwrap();
    write(&vfs, "/tmp/dir/file", "content");
    vfs.symlink(b"dir", b"/tmp/relative").unwrap();
    vfs.symlink(b"/tmp/dir/", b"/disk/absolute").unwrap();
    vfs.symlink(b"../tmp/dir/file", b"/disk/up").unwrap();
    for path in ["/tmp/relative/file", "/disk/absolute/file", "/disk/up", "/disk/absolute/../relative/file"] {
        assert_eq!(read(&vfs, path).as_deref(), Ok("content"), "{path}");
        assert_eq!(vfs.real_path(path.as_bytes()).unwrap(), b"/tmp/dir/file");
    }
    assert_eq!(vfs.lstat(b"/tmp/relative").unwrap().kind, FileType::Symlink);
    assert_eq!(vfs.lstat(b"/tmp/relative/").unwrap().kind, FileType::Directory);
    assert_eq!(vfs.lstat(b"/disk/up/"), Err(Error::NotADirectory));
    assert_eq!(vfs.read_link(b"/disk/absolute"), Ok(b"/tmp/dir/".to_vec()));
    assert_eq!(vfs.read_link(b"/tmp/dir"), Err(Error::NotASymlink));
    vfs.symlink(b"loop", b"/tmp/loop").unwrap();
    assert_eq!(vfs.stat(b"/tmp/loop"), Err(Error::Loop));
    vfs.symlink(b"dir/file", b"/tmp/link1").unwrap();
    for n in 2..=41 {
        vfs.symlink(format!("link{}", n - 1).as_bytes(), format!("/tmp/link{n}").as_bytes()).unwrap();
    }
    assert_eq!(read(&vfs, "/tmp/link40").as_deref(), Ok("content"));
    assert_eq!(read(&vfs, "/tmp/link41"), Err(Error::Loop));
    // A file may be made through a link that leads nowhere yet.
    vfs.symlink(b"/disk/made", b"/tmp/dangling").unwrap();
    assert_eq!(vfs.open(b"/tmp/dangling").err(), Some(Error::NotFound));
    assert_eq!(vfs.create(b"/tmp/dangling", 0o600, IfExists::Refuse).err(), Some(Error::Exists));
    write(&vfs, "/tmp/dangling", "made");
    assert_eq!(read(&vfs, "/disk/made").as_deref(), Ok("made"));
}

#[test]
fn names_are_made_moved_and_removed() {
    let machine = Machine::new(2048);
    let vfs = two(&machine);
    write(&vfs, "/tmp/one", "first");
    assert_eq!(vfs.create(b"/tmp/one", 0, IfExists::Refuse).err(), Some(Error::Exists));
    assert_eq!(vfs.create(b"/tmp/one", 0, IfExists::Keep).unwrap().stat().unwrap().size, 5);
    write(&vfs, "/tmp/one", "2nd");
    assert_eq!(read(&vfs, "/tmp/one").as_deref(), Ok("2nd"));
    vfs.link(b"/tmp/one", b"/tmp/two").unwrap();
    assert_eq!(vfs.stat(b"/tmp/two").unwrap().links, 2);
    assert_eq!(vfs.link(b"/tmp/one", b"/disk/two"), Err(Error::CrossDevice));
    assert_eq!(vfs.link(b"/tmp", b"/tmp/three"), Err(Error::IsADirectory));
    assert_eq!(vfs.rename(b"/tmp/one", b"/disk/one"), Err(Error::CrossDevice));
    assert_eq!(vfs.rename(b"/tmp/one", b"/tmp/three/"), Err(Error::NotADirectory));
    vfs.rename(b"/tmp/one", b"/tmp/three").unwrap();
    vfs.mkdir(b"/tmp/dir", 0o700).unwrap();
    vfs.rename(b"/tmp/dir/", b"/tmp/moved/").unwrap();
    assert_eq!(vfs.rename(b"/tmp/moved", b"/tmp/moved/below"), Err(Error::Loop));
    assert_eq!(names(&vfs, "/tmp"), ["moved", "three", "two"]);
    assert_eq!(vfs.unlink(b"/tmp/three/"), Err(Error::NotADirectory));
    assert_eq!(vfs.unlink(b"/tmp/moved/"), Err(Error::IsADirectory));
    assert_eq!(vfs.rmdir(b"/tmp/three"), Err(Error::NotADirectory));
    vfs.unlink(b"/tmp/three").unwrap();
    vfs.rmdir(b"/tmp/moved/").unwrap();
    assert_eq!(names(&vfs, "/tmp"), ["two"]);
    vfs.truncate(b"/tmp/two", 1).unwrap();
    vfs.set_attr(b"/tmp/two", &SetAttr { mode: Some(0o640), ..SetAttr::default() }).unwrap();
    let stat = vfs.stat(b"/tmp/two").unwrap();
    assert_eq!((stat.size, stat.mode, stat.links), (1, 0o640, 1));
    // Thousands of names come in many pieces.
    for n in 0..1000 {
        write(&vfs, &format!("/disk/{n:04}"), "");
    }
    assert_eq!(names(&vfs, "/disk"), (0..1000).map(|n| format!("{n:04}")).collect::<Vec<_>>());
}

#[test]
fn a_mount_with_open_files_stays() {
    let machine = Machine::new(256);
    let vfs = two(&machine);
    assert_eq!(vfs.mount(b"/tmp", tmpfs(&machine)), Err(Error::Busy));
    assert_eq!(vfs.mount(b"/none", tmpfs(&machine)), Err(Error::NotFound));
    assert_eq!(vfs.unmount(b"/free"), Err(Error::Unmounted));
    write(&vfs, "/tmp/file", "content");
    let mut file = vfs.open(b"/tmp/file").unwrap();
    assert_eq!(vfs.unmount(b"/tmp"), Err(Error::Busy));
    vfs.unlink(b"/tmp/file").unwrap();
    let mut content = [0; 7];
    assert_eq!(file.read_at(0, &mut content), Ok(7));
    assert_eq!(&content, b"content");
    drop(file);
    let listed: Vec<_> = vfs.mounts().into_iter().map(|mount| mount.path).collect();
    assert_eq!(listed, [&b"/disk"[..], b"/tmp"]);
    vfs.sync().unwrap();
    vfs.unmount(b"/tmp").unwrap();
    assert_eq!(vfs.mounts().len(), 1);
    assert_eq!(names(&vfs, "/tmp"), [""; 0]);
    vfs.mount(b"/tmp/", tmpfs(&machine)).unwrap();
    assert!(vfs.stat_fs(b"/tmp").unwrap().blocks > 0);
}

/// A filesystem that has something to commit, or has not.
struct Waiting {
    changed: AtomicBool,
    commits: AtomicU32,
    syncs: AtomicU32,
}

impl FileSystem for Waiting {
    fn kind(&self) -> &'static str {
        "waiting"
    }
    fn source(&self) -> &str {
        "nowhere"
    }
    fn read_only(&self) -> bool {
        false
    }
    fn root(&self) -> Ino {
        Ino(1)
    }
    fn lookup(&self, _dir: Ino, _name: &[u8]) -> Result<Ino, Error> {
        Err(Error::NotFound)
    }
    fn parent(&self, dir: Ino) -> Result<Ino, Error> {
        Ok(dir)
    }
    fn stat(&self, ino: Ino) -> Result<Stat, Error> {
        let time = Time::default();
        let (mode, links, uid, gid, size, allocated) = (0o755, 2, 0, 0, 0, 0);
        let kind = FileType::Directory;
        Ok(Stat { ino, kind, mode, links, uid, gid, size, allocated, atime: time, mtime: time, ctime: time })
    }
    fn read_dir(&self, _dir: Ino, _cursor: u64) -> Result<(Vec<DirEntry>, Option<u64>), Error> {
        Ok((Vec::new(), None))
    }
    fn read_link(&self, _ino: Ino) -> Result<Vec<u8>, Error> {
        Err(Error::NotASymlink)
    }
    fn open(&self, _ino: Ino) -> Result<Arc<dyn OpenFile>, Error> {
        Err(Error::IsADirectory)
    }
    fn stat_fs(&self) -> Result<StatFs, Error> {
        Ok(StatFs::default())
    }
    fn sync(&self) -> Result<(), Error> {
        self.syncs.fetch_add(1, Relaxed);
        Ok(())
    }
    fn is_changed(&self) -> bool {
        self.changed.load(Relaxed)
    }
    fn commit(&self) -> Result<(), Error> {
        self.commits.fetch_add(1, Relaxed);
        Err(Error::Busy)
    }
    fn unmount(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn what_has_waited_for_long_is_committed_and_a_failure_is_tried_again_later() {
    let machine = Machine::new(256);
    let vfs = two(&machine);
    let waiting = || Waiting { changed: AtomicBool::new(false), commits: AtomicU32::new(0), syncs: AtomicU32::new(0) };
    let waiting = Arc::new(waiting());
    vfs.mount(b"/free", waiting.clone()).unwrap();
    let commits = || waiting.commits.load(Relaxed);
    let at = |millis| vfs.commit_aged(Duration::from_millis(millis));
    assert_eq!((at(1000), at(20_000)), (Ok(false), Ok(false)));
    assert!(!vfs.is_changed());
    waiting.changed.store(true, Relaxed);
    assert!(vfs.is_changed());
    // Seen for the first time, then not yet old.
    assert_eq!((at(30_000), at(34_999), commits()), (Ok(false), Ok(false), 0));
    assert_eq!((at(35_000), commits()), (Err(Error::Busy), 1));
    assert_eq!((at(35_001), at(39_999), commits()), (Ok(false), Ok(false), 1));
    assert_eq!((at(40_000), commits()), (Err(Error::Busy), 2));
    // Committed by somebody else, then changed again.
    waiting.changed.store(false, Relaxed);
    assert_eq!(at(41_000), Ok(false));
    waiting.changed.store(true, Relaxed);
    assert_eq!((at(46_000), at(50_000), commits()), (Ok(false), Ok(false), 2));
    assert_eq!(vfs.commit(), Err(Error::Busy));
    assert_eq!((commits(), waiting.syncs.load(Relaxed)), (3, 0));
    assert_eq!((vfs.sync(), vfs.fsync(b"/free"), waiting.syncs.load(Relaxed)), (Ok(()), Ok(()), 2));
}

#[test]
fn files_and_directories_are_synced_by_name_or_as_they_are_open() {
    let machine = Machine::new(256);
    let vfs = two(&machine);
    write(&vfs, "/tmp/file", "content");
    assert_eq!((vfs.fsync(b"/tmp/file"), vfs.fsync(b"/tmp"), vfs.fsync(b"/")), (Ok(()), Ok(()), Ok(())));
    assert_eq!(vfs.open(b"/tmp/file").unwrap().fsync(), Ok(()));
    assert_eq!(vfs.fsync(b"/tmp/none"), Err(Error::NotFound));
}
