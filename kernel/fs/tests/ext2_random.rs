//! Random operations on an ext2, the same on a tmpfs beside it: what they answer, and the trees that come out, are the same, and
//! e2fsck finds nothing wrong. Disks nearly full and little memory included.

mod common;
mod ext2_support;

use cache::DropWhat;
use common::{Machine, Numbers};
use ext2_support::{WriteDisk, check, clock, compare, empty_image, mount, with_disk};
use fs::filesystem::SetAttr;
use fs::vfs::{File, IfExists};
use fs::{Error, Vfs};
use std::collections::HashMap;

/// One operation, on paths below a root.
#[derive(Clone, Debug)]
enum Deed {
    Create(String),
    Write(String, u64, Vec<u8>),
    Truncate(String, u64),
    Punch(String, u64, u64),
    Unlink(String),
    Mkdir(String),
    Rmdir(String),
    Rename(String, String),
    Link(String, String),
    Symlink(usize, String),
    Chmod(String, u16),
    Open(String),
    WriteOpen(usize, u64, Vec<u8>),
    Close(usize),
}

fn path(numbers: &mut Numbers) -> String {
    let depth = numbers.below(3);
    let mut path = String::new();
    for _ in 0..depth {
        path += &format!("/d{}", numbers.below(3));
    }
    match numbers.below(5) {
        0 => path + &format!("/d{}", numbers.below(3)),
        1 => path + &format!("/{}{}", "long".repeat(numbers.below(40) as usize), numbers.below(9)),
        _ => path + &format!("/f{}", numbers.below(9)),
    }
}

fn deed(numbers: &mut Numbers, most: u64) -> Deed {
    let len = |numbers: &mut Numbers| {
        let scale = numbers.pick(&[10, 1000, 5000, 40_000]);
        numbers.below(scale) as usize
    };
    match numbers.below(40) {
        0..5 => Deed::Create(path(numbers)),
        5..14 => {
            let len = len(numbers);
            Deed::Write(path(numbers), numbers.below(most), numbers.bytes(len))
        }
        14..17 => Deed::Truncate(path(numbers), numbers.below(most)),
        17..19 => Deed::Punch(path(numbers), numbers.below(most), numbers.below(50_000)),
        19..23 => Deed::Unlink(path(numbers)),
        23..26 => Deed::Mkdir(path(numbers)),
        26..28 => Deed::Rmdir(path(numbers)),
        28..32 => Deed::Rename(path(numbers), path(numbers)),
        32..34 => Deed::Link(path(numbers), path(numbers)),
        34 => Deed::Symlink(1 + numbers.below(200) as usize, path(numbers)),
        35 => Deed::Chmod(path(numbers), numbers.below(0o10000) as u16),
        36 => Deed::Open(path(numbers)),
        37..39 => {
            let len = len(numbers);
            Deed::WriteOpen(numbers.below(4) as usize, numbers.below(most), numbers.bytes(len))
        }
        _ => Deed::Close(numbers.below(4) as usize),
    }
}

/// One side: where, and the files that are open.
struct Side {
    root: &'static str,
    open: HashMap<usize, File>,
    opened: usize,
}

impl Side {
    fn at(&self, path: &str) -> Vec<u8> {
        format!("{}{path}", self.root).into_bytes()
    }

    /// Do it; how much was written, where something was.
    fn run(&mut self, vfs: &Vfs, deed: &Deed) -> Result<usize, Error> {
        match deed {
            Deed::Create(path) => vfs.create(&self.at(path), 0o644, IfExists::Refuse).map(|_| 0),
            Deed::Write(path, pos, data) => vfs.open(&self.at(path))?.write_at(*pos, data),
            Deed::Truncate(path, size) => vfs.truncate(&self.at(path), *size).map(|()| 0),
            Deed::Punch(path, pos, len) => vfs.punch(&self.at(path), *pos, *len).map(|()| 0),
            Deed::Unlink(path) => vfs.unlink(&self.at(path)).map(|()| 0),
            Deed::Mkdir(path) => vfs.mkdir(&self.at(path), 0o755).map(|()| 0),
            Deed::Rmdir(path) => vfs.rmdir(&self.at(path)).map(|()| 0),
            Deed::Rename(from, to) => vfs.rename(&self.at(from), &self.at(to)).map(|()| 0),
            Deed::Link(from, to) => vfs.link(&self.at(from), &self.at(to)).map(|()| 0),
            Deed::Symlink(len, path) => vfs.symlink(&vec![b't'; *len], &self.at(path)).map(|()| 0),
            Deed::Chmod(path, mode) => {
                let attr = SetAttr { mode: Some(*mode), ..SetAttr::default() };
                vfs.lset_attr(&self.at(path), &attr).map(|()| 0)
            }
            Deed::Open(path) => {
                let file = vfs.open(&self.at(path))?;
                self.opened += 1;
                self.open.insert(self.opened % 4, file);
                Ok(0)
            }
            Deed::WriteOpen(file, pos, data) => match self.open.get_mut(file) {
                Some(file) => file.write_at(*pos, data),
                None => Ok(0),
            },
            Deed::Close(file) => Ok(self.open.remove(file).map_or(0, |_| 1)),
        }
    }
}

fn shorten(deed: Deed, to: usize) -> Deed {
    let cut = |mut data: Vec<u8>| {
        data.truncate(to);
        data
    };
    match deed {
        Deed::Write(path, pos, data) => Deed::Write(path, pos, cut(data)),
        Deed::WriteOpen(file, pos, data) => Deed::WriteOpen(file, pos, cut(data)),
        deed => deed,
    }
}

/// `count` operations on a disk of `kib` KiB.
fn run(name: &str, seed: u64, block_size: usize, kib: usize, frames: usize, count: usize) {
    let mut numbers = Numbers(seed);
    let disk = WriteDisk::new(empty_image(name, block_size, kib, &["-N", "128"]));
    let machine = Machine::new(frames);
    // The model has memory of its own.
    let beside = Machine::new(4096);
    let vfs = with_disk(&machine, &disk);
    vfs.unmount(b"/tmp").unwrap();
    let environment = fs::tmpfs::Environment { cache: beside.cache.clone(), clock };
    let tmpfs = fs::tmpfs::Tmpfs::new(environment, fs::tmpfs::Options::default());
    vfs.mount(b"/tmp", std::sync::Arc::new(tmpfs)).unwrap();
    let side = |root| Side { root, open: HashMap::new(), opened: 0 };
    let (mut here, mut there) = (side("/disk"), side("/tmp"));
    let most = numbers.pick(&[20_000, 400_000]);
    let mut full = 0;
    for n in 0..count {
        let deed = deed(&mut numbers, most);
        let got = here.run(&vfs, &deed);
        if got == Err(Error::NoSpace) {
            full += 1;
            continue;
        }
        let cut = match (&deed, got) {
            (Deed::Write(..) | Deed::WriteOpen(..), Ok(len)) => shorten(deed.clone(), len),
            _ => deed.clone(),
        };
        assert_eq!(got, there.run(&vfs, &cut), "{n}: {deed:?}");
        match numbers.below(200) {
            0 => vfs.sync().unwrap(),
            1 => drop(machine.cache.drop_caches(DropWhat::All)),
            2 => compare(&vfs, b"/disk", b"/tmp"),
            3 => {
                (here.open, there.open) = (HashMap::new(), HashMap::new());
                vfs.unmount(b"/disk").unwrap();
                check(name, &disk.image());
                vfs.mount(b"/disk", mount(&machine, &disk).unwrap()).unwrap();
            }
            _ => {}
        }
    }
    compare(&vfs, b"/disk", b"/tmp");
    (here.open, there.open) = (HashMap::new(), HashMap::new());
    vfs.unmount(b"/disk").unwrap();
    check(name, &disk.image());
    vfs.mount(b"/disk", mount(&machine, &disk).unwrap()).unwrap();
    compare(&vfs, b"/disk", b"/tmp");
    assert!(kib > 1024 || full > 0, "the disk was never full");
}

#[test]
fn with_room() {
    for (seed, block_size) in [(1, 1024), (2, 2048), (3, 4096), (4, 1024)] {
        run(&format!("room{seed}"), seed, block_size, 16 << 10, 1024, 4000);
    }
}

#[test]
fn with_little_memory() {
    for (seed, block_size) in [(11, 1024), (12, 4096)] {
        run(&format!("memory{seed}"), seed, block_size, 16 << 10, 240, 2500);
    }
}

#[test]
fn with_the_disk_nearly_full() {
    for (seed, block_size) in [(21, 1024), (22, 2048), (23, 4096), (24, 1024)] {
        run(&format!("full{seed}"), seed, block_size, 900, 512, 4000);
    }
}
