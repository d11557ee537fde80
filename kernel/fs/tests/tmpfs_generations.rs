//! A thousand kexecs in a row under a tree that changes between them: it stays what its model says, no frame is lost, what a
//! handover takes does not grow, and frames that nobody wants are handed on unclaimed.
//!
//! `HOLDOVER_GENERATIONS` says how many, `HOLDOVER_SEED` which tree.

#[path = "tmpfs_support/model.rs"]
mod model;
mod tmpfs_support;

use cache::ReadAhead;
use frames::Zones;
use fs::filesystem::{FileSystem, Ino, NewNode, SetAttr, Time};
use fs::tmpfs::Options;
use model::{Body, Model, PAGE, ROOT};
use tmpfs_support::{Machine, clock, pattern, tick};

const FRAMES: u64 = 1024;
/// Pages that the filesystem may hold.
const LIMIT: u64 = 640;
/// Inodes that there are, about.
const INODES: usize = 48;
/// Operations between two kexecs.
const OPERATIONS: u64 = 12;
/// All bytes are compared each time that so many generations have passed; at other times one file's.
const ALL_BYTES: u64 = 50;
/// Handovers before the tree has grown up. Of those after them the first quarter is compared with the last.
const GROWING: usize = 50;
/// What the format needs at most for a filesystem and its label, for an inode, a name, an extent, and for the checksums of a file
/// and of a window of it.
const FILESYSTEM: u64 = 64;
const INODE: u64 = 80;
const NAME: u64 = 9;
const EXTENT: u64 = 16;
const SUMS: u64 = 8;
const SUM: u64 = 4;

/// Xorshift, by Marsaglia.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }
}

/// What one handover took, and what of.
#[derive(Clone, Copy, Debug)]
struct Taken {
    bytes: u64,
    extents: u64,
    pages: u64,
    frames: u64,
}

struct Run {
    machine: Option<Machine>,
    model: Model,
    random: Random,
}

impl Run {
    fn new(seed: u64) -> Self {
        let model = Model::new(LIMIT, clock());
        let machine = Machine::new(FRAMES, Options { size: Some(LIMIT * PAGE), ..Options::default() });
        Self { machine: Some(machine), model, random: Random(seed | 1) }
    }

    fn machine(&self) -> &Machine {
        self.machine.as_ref().unwrap()
    }

    fn inos(&self, of: impl Fn(&Body) -> bool) -> Vec<u64> {
        self.model.nodes.iter().filter(|(_, node)| of(&node.body)).map(|(&ino, _)| ino).collect()
    }

    fn directory(&mut self) -> u64 {
        let directories = self.inos(|body| matches!(body, Body::Directory(_)));
        self.random.of(&directories)
    }

    fn file(&mut self) -> Option<u64> {
        let files = self.inos(|body| matches!(body, Body::File(..)));
        (!files.is_empty()).then(|| self.random.of(&files))
    }

    /// A directory and a name in it.
    fn name(&mut self) -> Option<(u64, Vec<u8>)> {
        let names = |(&dir, node): (&u64, &model::Node)| match &node.body {
            Body::Directory(names) => names.keys().map(|name| (dir, name.clone())).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        let all: Vec<_> = self.model.nodes.iter().flat_map(names).collect();
        (!all.is_empty()).then(|| self.random.of(&all))
    }

    fn new_name(&mut self) -> Vec<u8> {
        let length = if self.random.below(20) == 0 { 255 } else { 1 + self.random.below(12) };
        (0..length).map(|_| b'a' + self.random.below(26) as u8).collect()
    }

    /// One operation, done to both: they answer alike.
    fn operation(&mut self) {
        let now = tick();
        let crowded = self.model.nodes.len() > INODES;
        match self.random.below(if crowded { 14 } else { 20 }) {
            0..2 => {
                let Some((dir, name)) = self.name() else { return };
                let expected = self.model.unlink(dir, &name, now);
                let done = self.machine().tmpfs.unlink(Ino(dir), &name);
                assert_eq!(done, expected);
                if done.is_err() {
                    let expected = self.model.rmdir(dir, &name, now);
                    assert_eq!(self.machine().tmpfs.rmdir(Ino(dir), &name), expected);
                }
            }
            2..6 => {
                let Some(ino) = self.file() else { return };
                let pos = self.position();
                let data = pattern(1 + self.random.below(9 * PAGE) as usize, self.random.next());
                let expected = self.model.write(ino, pos, &data, now);
                let done = self.machine().tmpfs.open(Ino(ino)).and_then(|file| file.write(pos, &data));
                assert_eq!(done, expected);
            }
            6..8 => {
                let Some(ino) = self.file() else { return };
                let size = self.position();
                let expected = self.model.truncate(ino, size, now);
                assert_eq!(self.machine().tmpfs.truncate(Ino(ino), size), expected);
            }
            8..10 => {
                let Some(ino) = self.file() else { return };
                let (pos, len) = (self.position(), self.random.below(4 * PAGE));
                let expected = self.model.punch(ino, pos, len, now);
                assert_eq!(self.machine().tmpfs.punch(Ino(ino), pos, len), expected);
            }
            10 => {
                let Some(ino) = self.file() else { return };
                let (pos, len) = (self.position(), self.random.below(4 * PAGE));
                let expected = self.model.preallocate(ino, pos, len, now);
                assert_eq!(self.machine().tmpfs.preallocate(Ino(ino), pos, len), expected);
            }
            11..13 => {
                let (Some((from, name)), to, new) = (self.name(), self.directory(), self.new_name()) else { return };
                let expected = self.model.rename(from, &name, to, &new, now);
                assert_eq!(self.machine().tmpfs.rename(Ino(from), &name, Ino(to), &new), expected);
            }
            13 => {
                let Some(ino) = self.file() else { return };
                let attr = SetAttr {
                    mode: Some(self.random.below(0o10000) as u16),
                    uid: Some(self.random.next() as u32),
                    mtime: Some(Time { seconds: self.random.below(2000) as i64 - 1000, nanos: 123_456_789 }),
                    ..SetAttr::default()
                };
                let expected = self.model.set_attr(ino, &attr, now);
                assert_eq!(self.machine().tmpfs.set_attr(Ino(ino), &attr), expected);
            }
            14 => {
                let (Some(ino), dir, name) = (self.file(), self.directory(), self.new_name()) else { return };
                let expected = self.model.link(dir, &name, ino, now);
                assert_eq!(self.machine().tmpfs.link(Ino(dir), &name, Ino(ino)), expected);
            }
            what => {
                let (dir, name) = (self.directory(), self.new_name());
                let node = match what {
                    15 => NewNode::Directory,
                    16 => NewNode::Symlink(b"../somewhere/else"),
                    _ => NewNode::Regular,
                };
                let expected = self.model.create(dir, &name, node, 0o640, now).map(Ino);
                assert_eq!(self.machine().tmpfs.create(Ino(dir), &name, node, 0o640), expected);
            }
        }
    }

    /// A position in a file, now and then at the edge of a page.
    fn position(&mut self) -> u64 {
        let at = self.random.below(40 * PAGE);
        if self.random.below(3) == 0 { at / PAGE * PAGE } else { at }
    }

    /// A kexec. What crosses is what was there; nothing else has an owner afterwards.
    fn kexec(&mut self) -> Taken {
        let before = self.taken();
        let (machine, casualties) = self.machine.take().unwrap().kexec();
        assert_eq!(casualties, []);
        let census = machine.tmpfs.census();
        assert_eq!((census.unclaimed, census.frames), (self.model.used(), self.model.used()));
        let stats = machine.arena.memory().stats();
        assert_eq!((stats.owned(), stats.set_aside), (0, self.model.used()), "frames are lost");
        self.machine = Some(machine);
        let after = self.taken();
        assert_eq!(after.bytes, before.bytes, "the same tree, twice: {before:?}, {after:?}");
        before
    }

    /// What a handover takes now: no more than what there is needs.
    fn taken(&self) -> Taken {
        let sealed = self.machine().save();
        let census = self.machine().tmpfs.census();
        let taken = Taken {
            bytes: sealed.bytes(),
            extents: census.extents,
            pages: census.frames,
            frames: sealed.frames().len() as u64,
        };
        let of = |node: &model::Node| match &node.body {
            Body::File(_, pages) => {
                let mut windows: Vec<u64> = pages.iter().map(|page| page / 64).collect();
                windows.dedup();
                SUMS * windows.len() as u64 + SUM * windows.len() as u64
            }
            Body::Symlink(target) => target.len() as u64,
            Body::Directory(names) => names.keys().map(|name| NAME + name.len() as u64).sum(),
        };
        let needed: u64 = self.model.nodes.values().map(|node| INODE + of(node)).sum();
        assert!(taken.bytes <= FILESYSTEM + needed + EXTENT * taken.extents, "{taken:?}: {needed} are needed");
        assert!(taken.frames <= 1 + taken.bytes.saturating_sub(3968).div_ceil(4080), "{taken:?}");
        taken
    }

    /// Every frame is free, or holds a page of a file.
    fn no_frame_is_lost(&self) {
        self.machine().tmpfs.trim();
        let stats = self.machine().arena.memory().stats();
        assert_eq!(stats.owned() + stats.set_aside, self.model.used());
        assert_eq!(stats.free_normal + stats.free_scratch + self.model.used(), FRAMES);
    }

    /// The whole tree is what the model says: every name, every inode, all that stat tells.
    fn compare_tree(&self) {
        let tmpfs = &self.machine().tmpfs;
        for ino in 0..=self.model.next {
            let stat = tmpfs.stat(Ino(ino));
            let node = match self.model.node(ino) {
                Ok(node) => node,
                Err(error) => {
                    assert_eq!(stat.err(), Some(error));
                    continue;
                }
            };
            let stat = stat.unwrap();
            let (size, pages) = match &node.body {
                Body::File(bytes, pages) => (bytes.len(), pages.len()),
                Body::Symlink(target) => (target.len(), 0),
                Body::Directory(_) => (0, 0),
            };
            assert_eq!((stat.size, stat.allocated), (size as u64, pages as u64 * PAGE), "inode {ino}");
            assert_eq!((stat.mode, stat.uid, stat.gid), (node.mode, node.uid, node.gid), "inode {ino}");
            assert_eq!((stat.atime, stat.mtime, stat.ctime), (node.atime, node.mtime, node.ctime), "inode {ino}");
            assert_eq!((Ok(stat.kind), stat.links), (self.model.kind(ino), self.model.links(ino)), "inode {ino}");
            match &node.body {
                Body::File(..) => {}
                Body::Symlink(target) => assert_eq!(tmpfs.read_link(Ino(ino)).as_ref(), Ok(target)),
                Body::Directory(names) => {
                    let mut listed = Vec::new();
                    let mut cursor = Some(0);
                    while let Some(at) = cursor {
                        let (entries, next) = tmpfs.read_dir(Ino(ino), at).unwrap();
                        listed.extend(entries.into_iter().map(|entry| (entry.name.to_vec(), entry.ino.0)));
                        cursor = next;
                    }
                    listed.sort();
                    let expected: Vec<_> = names.iter().map(|(name, &ino)| (name.clone(), ino)).collect();
                    assert_eq!(listed, expected);
                    assert_eq!(tmpfs.parent(Ino(ino)).map(|ino| ino.0), self.model.parent(ino));
                }
            }
        }
    }

    /// A part of a file's bytes, or all of them, are what the model says. Reading claims what it reads, and no more than it has to.
    fn compare_bytes(&mut self, ino: u64, all: bool) {
        let Body::File(bytes, _) = self.model.node(ino).unwrap().body.clone() else { return };
        let from = if all { 0 } else { self.random.below(bytes.len() as u64) as usize };
        let len = if all { bytes.len() } else { self.random.below((bytes.len() - from) as u64) as usize };
        let now = tick();
        let expected = self.model.read(ino, from as u64, len, now).unwrap();
        let mut out = vec![0xa5; len];
        let file = self.machine().tmpfs.open(Ino(ino)).unwrap();
        assert_eq!(file.read(from as u64, &mut out, &mut ReadAhead::default()), Ok(len), "inode {ino}");
        assert!(out == expected, "inode {ino}, bytes {from} to {}", from + len);
    }

    fn remove_everything(&mut self) {
        while let Some((dir, name)) = self.name() {
            let now = tick();
            if self.model.unlink(dir, &name, now).is_ok() {
                self.machine().tmpfs.unlink(Ino(dir), &name).unwrap();
            } else if self.model.rmdir(dir, &name, now).is_ok() {
                self.machine().tmpfs.rmdir(Ino(dir), &name).unwrap();
            }
        }
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn a_thousand_generations() {
    let generations = from_environment("HOLDOVER_GENERATIONS", 1000);
    let mut run = Run::new(from_environment("HOLDOVER_SEED", 20_261_124));
    let mut taken = Vec::new();
    let mut partly = 0;
    for generation in 1..=generations {
        for _ in 0..OPERATIONS {
            run.operation();
        }
        // Checksums of all, of some or of no content cross.
        let most = run.random.below(200);
        if most < 150 {
            run.machine().tmpfs.take_sums(most);
        }
        run.no_frame_is_lost();
        let stats = run.machine().arena.memory().stats();
        partly += u64::from(stats.owned() > 0 && stats.set_aside > 0);
        taken.push(run.kexec());
        run.compare_tree();
        let all = generation % ALL_BYTES == 0;
        let files = run.inos(|body| matches!(body, Body::File(..)));
        let some: Vec<u64> = if all { files } else { run.file().into_iter().collect() };
        for ino in some {
            run.compare_bytes(ino, all);
        }
    }
    assert_eq!(u64::from(run.machine().generation), generations);
    assert!(partly > generations * 3 / 4, "frames are claimed when they need not be: {partly}");
    let quarter = taken.len().saturating_sub(GROWING) / 4;
    if quarter >= 50 {
        let mean = |taken: &[Taken], of: fn(&Taken) -> u64| taken.iter().map(of).sum::<u64>() / taken.len() as u64;
        let (first, last) = (&taken[GROWING..][..quarter], &taken[taken.len() - quarter..]);
        for (what, of) in [("bytes", (|taken| taken.bytes) as fn(&Taken) -> u64), ("extents", |taken| taken.extents)] {
            let (was, is) = (mean(first, of), mean(last, of));
            let pages = (mean(first, |taken| taken.pages), mean(last, |taken| taken.pages));
            println!("{what}: {was} at first, {is} at last, of {pages:?} pages");
            assert!(is * 100 <= was * 115, "{what} grew from {was} to {is}");
        }
    }

    run.remove_everything();
    let free = |run: &Run| run.machine().arena.memory().free_frames(Zones::Ephemeral);
    assert_eq!(run.model.nodes.keys().copied().collect::<Vec<_>>(), [ROOT]);
    assert_eq!(u64::from(free(&run)), FRAMES);
    run.kexec();
    run.compare_tree();
    assert_eq!(u64::from(free(&run)), FRAMES);
}
