//! Changes right up to the switch, and through several of them: a handover is written and called off, checksums are taken here and
//! there, everything changes at random, and what crosses is what there was at the end, though only some of it is ever claimed.

#[path = "tmpfs_support/model.rs"]
mod model;
mod tmpfs_support;

use cache::ReadAhead;
use fs::filesystem::{FileSystem, Ino, NewNode, SetXattr};
use fs::tmpfs::Options;
use model::{Body, Model, PAGE, ROOT};
use proptest::prelude::*;
use tmpfs_support::{Machine, clock, pattern, tick};

const LIMIT: u64 = 600;
const FILES: usize = 4;
/// Pages in which a file's content lies: some windows.
const PAGES: u64 = 200;

#[derive(Clone, Debug)]
enum Change {
    Write(u64, u64, u64),
    Truncate(u64),
    Punch(u64, u64),
    Preallocate(u64, u64),
    Xattr(u8, usize),
    RemoveXattr(u8),
    Rename(usize),
    Unlink,
    /// Another name.
    Link,
    Read(u64, u64),
    TakeSums(u64),
    /// A handover that is called off.
    Save,
}

fn pos() -> impl Strategy<Value = u64> {
    let edges = prop::sample::select(vec![0_u64, 1, 63, 64, 65, 127, 128, 192]);
    prop_oneof![
        (edges, prop::sample::select(vec![0, 1, PAGE - 1])).prop_map(|(page, at)| page * PAGE + at),
        0..PAGES * PAGE
    ]
}

fn len() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 1..3 * PAGE, 1 => Just(64 * PAGE), 1 => 0..80 * PAGE]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (pos(), len(), any::<u64>()).prop_map(|(pos, len, seed)| Change::Write(pos, len, seed)),
        3 => pos().prop_map(Change::Truncate),
        3 => (pos(), len()).prop_map(|(pos, len)| Change::Punch(pos, len)),
        2 => (pos(), len()).prop_map(|(pos, len)| Change::Preallocate(pos, len)),
        1 => (0_u8..3, 0_usize..5000).prop_map(|(name, len)| Change::Xattr(name, len)),
        1 => (0_u8..3).prop_map(Change::RemoveXattr),
        1 => (0..FILES).prop_map(Change::Rename),
        1 => Just(Change::Unlink),
        1 => Just(Change::Link),
        2 => (pos(), len()).prop_map(|(pos, len)| Change::Read(pos, len)),
        3 => (0_u64..300).prop_map(Change::TakeSums),
        1 => Just(Change::Save),
    ]
}

struct Both {
    machine: Machine,
    model: Model,
}

fn name(file: usize) -> Vec<u8> {
    format!("file {file}").into_bytes()
}

impl Both {
    /// The file of that name, made if it is not there.
    fn file(&mut self, file: usize) -> u64 {
        if let Some(&ino) = self.model.directory(ROOT).unwrap().get(&name(file)) {
            return ino;
        }
        let ino = self.model.create(ROOT, &name(file), NewNode::Regular, 0o640, tick()).unwrap();
        assert_eq!(self.machine.tmpfs.create(Ino(ROOT), &name(file), NewNode::Regular, 0o640), Ok(Ino(ino)));
        ino
    }

    fn apply(&mut self, file: usize, change: &Change) -> Result<(), TestCaseError> {
        let ino = self.file(file);
        let (now, fs, model) = (tick(), &self.machine.tmpfs, &mut self.model);
        match *change {
            Change::Write(pos, len, seed) => {
                let data = pattern(len as usize, seed);
                let done = fs.open(Ino(ino)).unwrap().write(pos, &data);
                prop_assert_eq!(done, model.write(ino, pos, &data, now));
            }
            Change::Truncate(size) => prop_assert_eq!(fs.truncate(Ino(ino), size), model.truncate(ino, size, now)),
            Change::Punch(pos, len) => prop_assert_eq!(fs.punch(Ino(ino), pos, len), model.punch(ino, pos, len, now)),
            Change::Preallocate(pos, len) => {
                prop_assert_eq!(fs.preallocate(Ino(ino), pos, len), model.preallocate(ino, pos, len, now));
            }
            Change::Xattr(name, len) => {
                let (name, value) = ([b'a' + name], pattern(len, now.seconds as u64));
                let expected = model.set_xattr(ino, &name, &value, SetXattr::Either, now);
                prop_assert_eq!(fs.set_xattr(Ino(ino), &name, &value, SetXattr::Either), expected);
            }
            Change::RemoveXattr(name) => {
                let expected = model.remove_xattr(ino, &[b'a' + name], now);
                prop_assert_eq!(fs.remove_xattr(Ino(ino), &[b'a' + name]), expected);
            }
            Change::Rename(to) => {
                let expected = model.rename(ROOT, &name(file), ROOT, &name(to), now);
                prop_assert_eq!(fs.rename(Ino(ROOT), &name(file), Ino(ROOT), &name(to)), expected);
            }
            Change::Unlink => {
                prop_assert_eq!(fs.unlink(Ino(ROOT), &name(file)), model.unlink(ROOT, &name(file), now));
            }
            Change::Link => {
                let expected = model.link(ROOT, b"another", ino, now);
                prop_assert_eq!(fs.link(Ino(ROOT), b"another", Ino(ino)), expected);
            }
            Change::Read(pos, len) => {
                let mut out = vec![0xa5; len as usize];
                let done = fs.open(Ino(ino)).unwrap().read(pos, &mut out, &mut ReadAhead::default());
                let expected = model.read(ino, pos, len as usize, now).unwrap();
                prop_assert_eq!(done, Ok(expected.len()));
                prop_assert!(out[..expected.len()] == expected);
            }
            Change::TakeSums(most) => {
                let progress = fs.take_sums(most);
                prop_assert!(progress.hashed <= most.max(64), "{:?}", progress);
            }
            Change::Save => drop(self.machine.save()),
        }
        prop_assert_eq!(self.machine.tmpfs.claims().lost, 0);
        Ok(())
    }

    /// Names, attributes and sizes, and with `bytes` all content.
    fn compare(&mut self, bytes: bool) -> Result<(), TestCaseError> {
        let tmpfs = &self.machine.tmpfs;
        tmpfs.trim();
        let names: Vec<_> =
            self.model.directory(ROOT).unwrap().iter().map(|(name, &ino)| (name.clone(), ino)).collect();
        prop_assert_eq!(tmpfs.read_dir(Ino(ROOT), 0).unwrap().0.len(), names.len());
        for (name, ino) in names {
            prop_assert_eq!(tmpfs.lookup(Ino(ROOT), &name), Ok(Ino(ino)));
            let (stat, node) = (tmpfs.stat(Ino(ino)).unwrap(), self.model.node(ino).unwrap().clone());
            let Body::File(content, pages) = &node.body else { continue };
            prop_assert_eq!((stat.size, stat.allocated), (content.len() as u64, pages.len() as u64 * PAGE));
            prop_assert_eq!((stat.links, stat.mtime, stat.ctime), (self.model.links(ino), node.mtime, node.ctime));
            for (name, value) in &node.xattrs {
                prop_assert_eq!(&tmpfs.xattr(Ino(ino), name).unwrap(), value);
            }
            if bytes {
                let now = tick();
                prop_assert!(self.machine.read(Ino(ino), 0, content.len() + 1) == *content, "content of inode {}", ino);
                self.model.read(ino, 0, 0, now).unwrap();
            }
        }
        let stats = self.machine.arena.memory().stats();
        prop_assert_eq!(stats.owned() + stats.set_aside, self.model.used());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_until_the_switch_and_through_several(
        generations in prop::collection::vec((prop::collection::vec((0..FILES, change()), 0..16), any::<bool>()), 1..6),
    ) {
        let machine = Machine::new(1500, Options { size: Some(LIMIT * PAGE), ..Options::default() });
        let mut both = Both { machine, model: Model::new(LIMIT, clock()) };
        for (changes, settle) in &generations {
            for (file, change) in changes {
                both.apply(*file, change)?;
            }
            if *settle {
                both.machine.tmpfs.take_sums(u64::MAX);
                let census = both.machine.tmpfs.census();
                prop_assert_eq!((census.summed, both.machine.tmpfs.without_sums()), (census.windows, 0));
            }
            let summed = both.machine.tmpfs.census().summed;
            let (machine, casualties) = both.machine.kexec();
            prop_assert_eq!(casualties, []);
            both.machine = machine;
            let census = both.machine.tmpfs.census();
            prop_assert_eq!((census.unclaimed, census.summed), (census.frames, summed));
            both.compare(false)?;
        }
        both.compare(true)?;
        prop_assert_eq!(both.machine.tmpfs.claims().lost, 0);
    }
}
