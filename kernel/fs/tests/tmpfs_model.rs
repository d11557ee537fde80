//! Any sequence of operations, kexecs among them, leaves tmpfs and an obvious model of it in the same state.

#[path = "tmpfs_support/model.rs"]
mod model;
mod tmpfs_support;

use cache::ReadAhead;
use fs::Error;
use fs::filesystem::{DirEntry, FileSystem, FileType, Ino, NewNode, OpenFile, SetAttr, SetXattr, Time};
use fs::tmpfs::{Claims, Options};
use model::{Body, Model, PAGE};
use proptest::prelude::*;
use proptest::sample::Index;
use std::sync::Arc;
use tmpfs_support::{Machine, clock, pattern, tick};

/// Pages that the filesystem may hold; few enough that many sequences run out.
const LIMIT: u64 = 96;

#[derive(Clone, Debug)]
enum Op {
    Create(Index, Vec<u8>, What, u16),
    Link(Index, Vec<u8>, Index),
    Unlink(Index, Vec<u8>),
    Rmdir(Index, Vec<u8>),
    Rename(Index, Vec<u8>, Index, Vec<u8>),
    Write(Index, u64, usize, u64),
    Read(Index, u64, usize),
    Truncate(Index, u64),
    Punch(Index, u64, u64),
    Preallocate(Index, u64, u64),
    SetAttr(Index, SetAttr),
    SetXattr(Index, Vec<u8>, usize, u64, SetXattr),
    RemoveXattr(Index, Vec<u8>),
    Open(Index),
    Close(Index),
    Trim,
    TakeSums(u64),
    /// A kexec that is called off.
    Save,
    Kexec,
}

#[derive(Clone, Debug)]
enum What {
    File,
    Directory,
    Symlink(Vec<u8>),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let usual = prop::sample::select(vec!["a", "b", "c", "d", "e"]).prop_map(|name| name.as_bytes().to_vec());
    let odd = prop_oneof![
        Just(b"".to_vec()),
        Just(b".".to_vec()),
        Just(b"..".to_vec()),
        Just(b"x/y".to_vec()),
        Just(b"nul\0".to_vec()),
        Just(vec![b'n'; 255]),
        Just(vec![b'n'; 256]),
        Just(vec![0xff, b'\n', 1]),
    ];
    prop_oneof![12 => usual, 1 => odd]
}

/// Positions and lengths at, near and far from the edges of pages.
fn pos() -> impl Strategy<Value = u64> {
    let near = (0_u64..24, prop::sample::select(vec![0_u64, 1, 2047, 4095]));
    let far = (60_u64..70, 1_u64..3, 0_u64..PAGE).prop_map(|(page, times, offset)| page * times * PAGE + offset);
    prop_oneof![2 => far, 3 => near.prop_map(|(page, offset)| page * PAGE + offset), 3 => 0_u64..30 * PAGE]
}

fn len() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1_u64..100, Just(PAGE), Just(3 * PAGE), 0_u64..14 * PAGE]
}

fn time() -> impl Strategy<Value = Option<Time>> {
    prop::option::of((-10_i64..2000, 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| Time { seconds, nanos }))
}

fn attr() -> impl Strategy<Value = SetAttr> {
    (prop::option::of(any::<u16>()), prop::option::of(any::<u32>()), prop::option::of(any::<u32>()), time(), time())
        .prop_map(|(mode, uid, gid, atime, mtime)| SetAttr { mode, uid, gid, atime, mtime })
}

fn xattr() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec!["user.a", "user.b", "trusted.\u{fc}/", "", "a\0b"])
        .prop_map(|name| name.as_bytes().to_vec())
}

fn how() -> impl Strategy<Value = SetXattr> {
    prop::sample::select(vec![SetXattr::Either, SetXattr::Create, SetXattr::Replace])
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        4 => Just(What::File),
        3 => Just(What::Directory),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(What::Symlink),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<Index>;
    prop_oneof![
        6 => (index(), name(), what(), any::<u16>()).prop_map(|(dir, name, what, mode)| Op::Create(dir, name, what, mode)),
        2 => (index(), name(), index()).prop_map(|(dir, name, ino)| Op::Link(dir, name, ino)),
        3 => (index(), name()).prop_map(|(dir, name)| Op::Unlink(dir, name)),
        2 => (index(), name()).prop_map(|(dir, name)| Op::Rmdir(dir, name)),
        4 => (index(), name(), index(), name()).prop_map(|(from, name, to, new)| Op::Rename(from, name, to, new)),
        12 => (index(), pos(), len(), any::<u64>()).prop_map(|(ino, pos, len, seed)| Op::Write(ino, pos, len as usize, seed)),
        4 => (index(), pos(), len()).prop_map(|(ino, pos, len)| Op::Read(ino, pos, len as usize)),
        4 => (index(), pos()).prop_map(|(ino, size)| Op::Truncate(ino, size)),
        4 => (index(), pos(), len()).prop_map(|(ino, pos, len)| Op::Punch(ino, pos, len)),
        3 => (index(), pos(), len()).prop_map(|(ino, pos, len)| Op::Preallocate(ino, pos, len)),
        1 => (index(), attr()).prop_map(|(ino, attr)| Op::SetAttr(ino, attr)),
        2 => (index(), xattr(), 0_usize..5000, any::<u64>(), how()).prop_map(|(ino, name, len, seed, how)| Op::SetXattr(ino, name, len, seed, how)),
        1 => (index(), xattr()).prop_map(|(ino, name)| Op::RemoveXattr(ino, name)),
        2 => index().prop_map(Op::Open),
        1 => index().prop_map(Op::Close),
        1 => Just(Op::Trim),
        3 => (0_u64..200).prop_map(Op::TakeSums),
        1 => Just(Op::Save),
        2 => Just(Op::Kexec),
    ]
}

struct Both {
    machine: Option<Machine>,
    model: Model,
    handles: Vec<(u64, Arc<dyn OpenFile>)>,
}

impl Both {
    fn new() -> Self {
        let model = Model::new(LIMIT, clock());
        let machine = Machine::new(512, Options { size: Some(LIMIT * PAGE), ..Options::default() });
        Self { machine: Some(machine), model, handles: Vec::new() }
    }

    fn fs(&self) -> &fs::tmpfs::Tmpfs {
        &self.machine.as_ref().unwrap().tmpfs
    }

    /// An inode that there is, or sometimes was.
    fn any(&self, index: &Index) -> u64 {
        1 + index.index(self.model.next as usize) as u64
    }

    fn directory(&self, index: &Index) -> u64 {
        // Mostly directories, and among them mostly the first.
        let directories: Vec<u64> =
            self.model.nodes.keys().copied().filter(|&ino| self.model.directory(ino).is_ok()).collect();
        match index.index(10) {
            0 => self.any(index),
            _ => *index.get(&directories),
        }
    }

    fn file(&self, index: &Index) -> u64 {
        let is_file = |&ino: &u64| matches!(self.model.nodes[&ino].body, Body::File(..));
        let files: Vec<u64> = self.model.nodes.keys().copied().filter(is_file).collect();
        if files.is_empty() || index.index(12) == 0 { self.any(index) } else { *index.get(&files) }
    }

    /// Do it to both; they answer alike.
    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let now = tick();
        match op {
            Op::Create(dir, name, what, mode) => {
                let dir = self.directory(dir);
                let node = match what {
                    What::File => NewNode::Regular,
                    What::Directory => NewNode::Directory,
                    What::Symlink(target) => NewNode::Symlink(target),
                };
                let expected = self.model.create(dir, name, node, *mode & 0o7777, now).map(Ino);
                prop_assert_eq!(self.fs().create(Ino(dir), name, node, *mode), expected);
            }
            Op::Link(dir, name, ino) => {
                let (dir, ino) = (self.directory(dir), self.any(ino));
                let expected = self.model.link(dir, name, ino, now);
                prop_assert_eq!(self.fs().link(Ino(dir), name, Ino(ino)), expected);
            }
            Op::Unlink(dir, name) => {
                let dir = self.directory(dir);
                let expected = self.model.unlink(dir, name, now);
                prop_assert_eq!(self.fs().unlink(Ino(dir), name), expected);
            }
            Op::Rmdir(dir, name) => {
                let dir = self.directory(dir);
                let expected = self.model.rmdir(dir, name, now);
                prop_assert_eq!(self.fs().rmdir(Ino(dir), name), expected);
            }
            Op::Rename(from, name, to, new) => {
                let (from, to) = (self.directory(from), self.directory(to));
                let expected = self.model.rename(from, name, to, new, now);
                prop_assert_eq!(self.fs().rename(Ino(from), name, Ino(to), new), expected);
            }
            Op::Write(ino, pos, len, seed) => {
                let (ino, data) = (self.file(ino), pattern(*len, *seed));
                let expected = self.model.write(ino, *pos, &data, now);
                let done = self.fs().open(Ino(ino)).and_then(|file| file.write(*pos, &data));
                prop_assert_eq!(done, expected);
            }
            Op::Read(ino, pos, len) => {
                let ino = self.file(ino);
                let expected = self.model.read(ino, *pos, *len, now);
                let mut out = vec![0xa5; *len];
                let read = |file: Arc<dyn OpenFile>| file.read(*pos, &mut out, &mut ReadAhead::default());
                let done = self.fs().open(Ino(ino)).and_then(read);
                prop_assert_eq!(done.map(|len| out[..len].to_vec()), expected);
            }
            Op::Truncate(ino, size) => {
                let ino = self.file(ino);
                let expected = self.model.truncate(ino, *size, now);
                prop_assert_eq!(self.fs().truncate(Ino(ino), *size), expected);
            }
            Op::Punch(ino, pos, len) => {
                let ino = self.file(ino);
                let expected = self.model.punch(ino, *pos, *len, now);
                prop_assert_eq!(self.fs().punch(Ino(ino), *pos, *len), expected);
            }
            Op::Preallocate(ino, pos, len) => {
                let ino = self.file(ino);
                let expected = self.model.preallocate(ino, *pos, *len, now);
                prop_assert_eq!(self.fs().preallocate(Ino(ino), *pos, *len), expected);
            }
            Op::SetAttr(ino, attr) => {
                let ino = self.any(ino);
                let expected = self.model.set_attr(ino, attr, now);
                prop_assert_eq!(self.fs().set_attr(Ino(ino), attr), expected);
            }
            Op::SetXattr(ino, name, len, seed, how) => {
                let (ino, value) = (self.any(ino), pattern(*len, *seed));
                let expected = self.model.set_xattr(ino, name, &value, *how, now);
                prop_assert_eq!(self.fs().set_xattr(Ino(ino), name, &value, *how), expected);
            }
            Op::RemoveXattr(ino, name) => {
                let ino = self.any(ino);
                let expected = self.model.remove_xattr(ino, name, now);
                prop_assert_eq!(self.fs().remove_xattr(Ino(ino), name), expected);
            }
            Op::Open(ino) => {
                let ino = self.file(ino);
                match (self.fs().open(Ino(ino)), self.model.kind(ino)) {
                    (Ok(handle), Ok(FileType::Regular)) => {
                        self.model.nodes.get_mut(&ino).unwrap().opens += 1;
                        self.handles.push((ino, handle));
                    }
                    (Err(Error::IsADirectory), Ok(FileType::Directory))
                    | (Err(Error::NotAFile), Ok(FileType::Symlink))
                    | (Err(Error::NotFound), Err(_)) => {}
                    (result, kind) => prop_assert!(false, "open {kind:?}: {:?}", result.err()),
                }
            }
            Op::Close(which) => {
                if !self.handles.is_empty() {
                    let (ino, handle) = self.handles.swap_remove(which.index(self.handles.len()));
                    drop(handle);
                    self.model.nodes.get_mut(&ino).unwrap().opens -= 1;
                    self.model.reap();
                }
            }
            Op::Trim => {
                self.fs().trim();
            }
            Op::TakeSums(most) => {
                let before = self.fs().without_sums();
                prop_assert!(self.fs().take_sums(*most).left <= before);
            }
            Op::Save => drop(self.machine.as_ref().unwrap().save()),
            Op::Kexec => {
                // Nobody is left to hold a file open.
                self.handles.clear();
                self.model.nodes.values_mut().for_each(|node| node.opens = 0);
                self.model.reap();
                let (machine, casualties) = self.machine.take().unwrap().kexec();
                prop_assert_eq!(casualties, []);
                prop_assert_eq!(machine.tmpfs.claims(), Claims::default());
                let census = machine.tmpfs.census();
                prop_assert_eq!(census.unclaimed, census.frames);
                prop_assert_eq!(machine.arena.memory().stats().set_aside, census.frames);
                self.machine = Some(machine);
            }
        }
        Ok(())
    }

    /// Everything that can be seen is the same.
    fn compare(&mut self) -> Result<(), TestCaseError> {
        let now = tick();
        prop_assert_eq!(self.fs().claims().lost, 0);
        self.fs().trim();
        let space = self.fs().stat_fs().unwrap();
        prop_assert_eq!((space.blocks, space.free_blocks), (LIMIT, LIMIT - self.model.used()));
        let inos: Vec<u64> = (0..=self.model.next).collect();
        for ino in inos {
            let stat = self.fs().stat(Ino(ino));
            let node = match self.model.node(ino) {
                Ok(node) => node.clone(),
                Err(error) => {
                    prop_assert_eq!(stat.err(), Some(error));
                    continue;
                }
            };
            let stat = stat.unwrap();
            let (size, pages) = match &node.body {
                Body::File(bytes, pages) => (bytes.len(), pages.len()),
                Body::Symlink(target) => (target.len(), 0),
                Body::Directory(_) => (0, 0),
            };
            prop_assert_eq!((stat.size, stat.allocated), (size as u64, pages as u64 * PAGE), "inode {}", ino);
            prop_assert_eq!((stat.mode, stat.uid, stat.gid), (node.mode, node.uid, node.gid));
            prop_assert_eq!(
                (stat.atime, stat.mtime, stat.ctime),
                (node.atime, node.mtime, node.ctime),
                "inode {}",
                ino
            );
            prop_assert_eq!(
                (Ok(stat.kind), stat.links),
                (self.model.kind(ino), self.model.links(ino)),
                "inode {}",
                ino
            );
            let names = self.fs().xattr_names(Ino(ino)).unwrap();
            prop_assert_eq!(&names, &node.xattrs.keys().cloned().collect::<Vec<_>>());
            for (name, value) in &node.xattrs {
                prop_assert_eq!(&self.fs().xattr(Ino(ino), name).unwrap(), value);
            }
            match &node.body {
                Body::File(bytes, _) => {
                    let mut out = vec![0xa5; bytes.len() + 10];
                    let file = self.fs().open(Ino(ino)).unwrap();
                    let len = file.read(0, &mut out, &mut ReadAhead::default()).unwrap();
                    prop_assert!(out[..len] == bytes[..], "content of inode {}", ino);
                    self.model.read(ino, 0, 0, now).unwrap();
                }
                Body::Symlink(target) => prop_assert_eq!(&self.fs().read_link(Ino(ino)).unwrap(), target),
                Body::Directory(names) => {
                    let mut listed = self.list(ino);
                    listed.sort();
                    let expected: Vec<_> = names.iter().map(|(name, &ino)| (name.clone(), ino)).collect();
                    prop_assert_eq!(listed, expected);
                    prop_assert_eq!(self.fs().parent(Ino(ino)).map(|ino| ino.0), self.model.parent(ino));
                }
            }
        }
        Ok(())
    }

    fn list(&self, dir: u64) -> Vec<(Vec<u8>, u64)> {
        let mut listed = Vec::new();
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            let (entries, next) = self.fs().read_dir(Ino(dir), at).unwrap();
            for DirEntry { name, ino, kind } in entries {
                assert_eq!(self.fs().lookup(Ino(dir), &name), Ok(ino));
                assert_eq!(Ok(kind), self.model.kind(ino.0));
                listed.push((name, ino.0));
            }
            cursor = next;
        }
        listed
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn tmpfs_is_its_model(ops in prop::collection::vec(op(), 1..120)) {
        let mut both = Both::new();
        for (at, op) in ops.iter().enumerate() {
            both.apply(op)?;
            if at % 16 == 15 {
                both.compare()?;
            }
        }
        both.compare()?;
        // Once more from cold, so that what was written last crosses too.
        both.apply(&Op::Kexec)?;
        both.compare()?;
    }
}
