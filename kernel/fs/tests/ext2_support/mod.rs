//! What the tests of writing to ext2 share: a disk that remembers every write, the host's tools, a tree in a tmpfs as the model.

#![allow(dead_code, reason = "each test program uses a part of it")]

use crate::common::{Machine, Numbers, make_image, scratch};
use fs::block::{BlockDevice, BlockError, BlockStats, ReadRequest, SECTOR_SIZE, WriteRequest};
use fs::ext2::Ext2;
use fs::filesystem::{FileType, Time};
use fs::tmpfs::{Environment, Options, Tmpfs};
use fs::vfs::IfExists;
use fs::{Error, Vfs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// What reached the disk, in order.
#[derive(Clone, Debug)]
pub enum Event {
    Write { sector: u64, bytes: Vec<u8> },
    Flush,
}

/// A disk in memory that can be written, and remembers how it was.
#[derive(Default)]
pub struct WriteDisk {
    pub image: Mutex<Vec<u8>>,
    /// What happened since [`WriteDisk::record`].
    pub events: Mutex<Option<Vec<Event>>>,
    /// Writes that touch this sector fail.
    pub bad_sector: Mutex<Option<u64>>,
    /// Writes of a sector that is full of this byte fail.
    pub bad_byte: Mutex<Option<u8>>,
    pub read_only: bool,
    pub writes: AtomicU64,
    pub flushes: AtomicU64,
}

impl WriteDisk {
    pub fn new(image: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { image: Mutex::new(image), ..Self::default() })
    }

    pub fn image(&self) -> Vec<u8> {
        self.image.lock().unwrap().clone()
    }

    pub fn record(&self) {
        *self.events.lock().unwrap() = Some(Vec::new());
    }

    /// How many events there were.
    pub fn now(&self) -> usize {
        self.events.lock().unwrap().as_ref().map_or(0, Vec::len)
    }

    fn note(&self, event: impl FnOnce() -> Event) {
        if let Some(events) = &mut *self.events.lock().unwrap() {
            events.push(event());
        }
    }
}

impl BlockDevice for WriteDisk {
    fn name(&self) -> &str {
        "memory"
    }

    fn sectors(&self) -> u64 {
        (self.image.lock().unwrap().len() / SECTOR_SIZE) as u64
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, requests: &mut [ReadRequest<'_, '_>]) -> Result<(), BlockError> {
        let image = self.image.lock().unwrap();
        for request in requests {
            let mut at = request.sector as usize * SECTOR_SIZE;
            for segment in request.segments.iter_mut() {
                assert!(!segment.is_empty() && segment.len() % SECTOR_SIZE == 0);
                let past =
                    BlockError::OutOfRange { sector: request.sector, sectors: (image.len() / SECTOR_SIZE) as u64 };
                segment.copy_from_slice(image.get(at..at + segment.len()).ok_or(past)?);
                at += segment.len();
            }
        }
        Ok(())
    }

    fn write(&self, requests: &[WriteRequest<'_>]) -> Result<(), BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        for request in requests {
            self.writes.fetch_add(1, Relaxed);
            let len: usize = request.segments.iter().map(|segment| segment.len()).sum();
            assert!(len > 0 && request.segments.iter().all(|segment| segment.len() % SECTOR_SIZE == 0));
            let sectors = request.sector..request.sector + (len / SECTOR_SIZE) as u64;
            if self.bad_sector.lock().unwrap().is_some_and(|bad| sectors.contains(&bad)) {
                return Err(BlockError::Io { sector: request.sector });
            }
            if let Some(byte) = *self.bad_byte.lock().unwrap() {
                let mut parts = request.segments.iter().flat_map(|segment| segment.chunks(SECTOR_SIZE));
                if parts.any(|part| part.iter().all(|&here| here == byte)) {
                    return Err(BlockError::Io { sector: request.sector });
                }
            }
            let mut image = self.image.lock().unwrap();
            let past = BlockError::OutOfRange { sector: request.sector, sectors: (image.len() / SECTOR_SIZE) as u64 };
            let at = request.sector as usize * SECTOR_SIZE;
            let mut place = image.get_mut(at..at + len).ok_or(past)?;
            for segment in request.segments {
                let (here, rest) = place.split_at_mut(segment.len());
                here.copy_from_slice(segment);
                place = rest;
            }
            drop(image);
            self.note(|| Event::Write { sector: request.sector, bytes: request.segments.concat() });
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.flushes.fetch_add(1, Relaxed);
        self.note(|| Event::Flush);
        Ok(())
    }

    fn stats(&self) -> BlockStats {
        BlockStats::default()
    }
}

static CLOCK: AtomicU64 = AtomicU64::new(1_700_000_000);

/// Each look at the clock is a second later.
pub fn clock() -> Time {
    Time { seconds: CLOCK.fetch_add(1, Relaxed) as i64, nanos: 123_456_789 }
}

/// An empty filesystem of `kib` KiB.
pub fn empty_image(name: &str, block_size: usize, kib: usize, options: &[&str]) -> Vec<u8> {
    let tree = scratch(name);
    let image = make_image(&tree, block_size, kib, options);
    std::fs::remove_dir_all(tree).unwrap();
    image
}

pub fn mount(machine: &Machine, disk: &Arc<WriteDisk>) -> Result<Arc<Ext2>, Error> {
    Ext2::mount_for_writing(disk.clone(), machine.cache.clone(), clock)
}

/// A name space with the disk at `/disk` and an empty tmpfs at `/tmp`.
pub fn with_disk(machine: &Machine, disk: &Arc<WriteDisk>) -> Vfs {
    let vfs = Vfs::new(&[b"disk", b"tmp"]);
    vfs.mount(b"/disk", mount(machine, disk).unwrap()).unwrap();
    let environment = Environment { cache: machine.cache.clone(), clock };
    vfs.mount(b"/tmp", Arc::new(Tmpfs::new(environment, Options::default()))).unwrap();
    vfs
}

pub fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    // A user's PATH often lacks the directories of such tools.
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}

fn image_file(name: &str, image: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.img"));
    std::fs::write(&path, image).unwrap();
    path
}

pub fn put(vfs: &Vfs, path: &str, pos: u64, data: &[u8]) {
    let mut file = vfs.create(path.as_bytes(), 0o644, IfExists::Keep).unwrap();
    assert_eq!(file.write_at(pos, data), Ok(data.len()), "{path}");
}

pub fn get(vfs: &Vfs, path: &str) -> Vec<u8> {
    let mut file = vfs.open(path.as_bytes()).unwrap();
    let mut bytes = vec![0; file.stat().unwrap().size as usize];
    assert_eq!(file.read_at(0, &mut bytes), Ok(bytes.len()));
    bytes
}

/// What e2fsck finds wrong with an image; nothing, if it is clean.
pub fn check(name: &str, image: &[u8]) {
    let path = image_file(name, image);
    let checked = tool("e2fsck").args(["-f", "-n"]).arg(&path).output().expect("e2fsck (package e2fsprogs)");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{} is left\n{said}", path.display());
    std::fs::remove_file(path).unwrap();
}

/// The image as e2fsck repairs it.
pub fn repair(name: &str, image: &[u8]) -> Vec<u8> {
    let path = image_file(name, image);
    let run = || tool("e2fsck").args(["-f", "-y"]).arg(&path).output().expect("e2fsck (package e2fsprogs)");
    let checked = run();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(matches!(checked.status.code(), Some(0 | 1)), "{} is left\n{said}", path.display());
    let repaired = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    repaired
}

/// What is at a path: a link's target, a file's content, names for a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    File(Vec<u8>),
    Link(Vec<u8>),
    Directory(Vec<Vec<u8>>),
}

pub fn node(vfs: &Vfs, path: &[u8]) -> Result<Node, Error> {
    let stat = vfs.lstat(path)?;
    Ok(match stat.kind {
        FileType::Regular => {
            let mut bytes = vec![0; stat.size as usize];
            assert_eq!(vfs.open(path)?.read_at(0, &mut bytes)?, bytes.len());
            Node::File(bytes)
        }
        FileType::Symlink => Node::Link(vfs.read_link(path)?),
        FileType::Directory => {
            let mut names: Vec<_> = vfs.read_dir(path)?.into_iter().map(|entry| entry.name).collect();
            names.retain(|name| name != b"lost+found");
            names.sort();
            Node::Directory(names)
        }
        FileType::Special => panic!("{}", path.escape_ascii()),
    })
}

/// Compare two trees: names, contents, permissions, owners, links.
pub fn compare(vfs: &Vfs, here: &[u8], there: &[u8]) {
    let (one, other) = (node(vfs, here).unwrap(), node(vfs, there).unwrap());
    let path = here.escape_ascii();
    if let (Node::File(one), Node::File(other)) = (&one, &other) {
        assert_eq!(one.len(), other.len(), "{path}");
        let differs = one.iter().zip(other).position(|(one, other)| one != other);
        assert_eq!(differs, None, "{path} of {} bytes", one.len());
    }
    assert!(one == other, "{path}: {one:?}, {other:?}");
    let (a, b) = (vfs.lstat(here).unwrap(), vfs.lstat(there).unwrap());
    if here != b"/disk" {
        assert_eq!((a.mode, a.uid, a.gid, a.links), (b.mode, b.uid, b.gid, b.links), "{path}");
    }
    if let Node::Directory(names) = one {
        for name in names {
            compare(vfs, &[here, b"/", &name].concat(), &[there, b"/", &name].concat());
        }
    }
}

/// Bytes that tell which file they are of, and when they were written.
pub fn marked(numbers: &mut Numbers, len: usize) -> Vec<u8> {
    numbers.bytes(len)
}
