//! The root of the name space: a directory in memory whose entries are the mount points, fixed at boot. Nothing can be
//! made, changed or removed in it.

use super::path;
use crate::error::{Error, Result};
use crate::filesystem::{DirEntry, FileSystem, FileType, Ino, OpenFile, Stat, StatFs, Time};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The root's own number; the mount point in place `n` has the number `FIRST_POINT + n`.
const ROOT: Ino = Ino(1);
const FIRST_POINT: u64 = 2;

/// The root directory and the empty directories in it.
#[derive(Debug)]
pub(super) struct RootDirectory {
    points: Vec<Vec<u8>>,
}

impl RootDirectory {
    /// A name that is there twice, or cannot be one, is left out.
    pub(super) fn new(names: &[&[u8]]) -> Self {
        let mut points: Vec<Vec<u8>> = Vec::new();
        for name in names {
            let is_name = path::last(name).is_ok_and(|last| last.name == *name);
            if is_name && !points.iter().any(|point| point == name) {
                points.push(name.to_vec());
            }
        }
        Self { points }
    }

    /// How many mount points there are.
    pub(super) fn len(&self) -> usize {
        self.points.len()
    }

    /// The place of the mount point `ino`.
    pub(super) fn place(ino: Ino) -> Option<usize> {
        usize::try_from(ino.0.checked_sub(FIRST_POINT)?).ok()
    }

    /// The name of the mount point in place `place`.
    pub(super) fn name(&self, place: usize) -> &[u8] {
        self.points.get(place).map_or(b"", Vec::as_slice)
    }

    fn check(&self, ino: Ino) -> Result<()> {
        match Self::place(ino) {
            None if ino == ROOT => Ok(()),
            Some(place) if place < self.points.len() => Ok(()),
            _ => Err(Error::NotFound),
        }
    }
}

impl FileSystem for RootDirectory {
    fn kind(&self) -> &'static str {
        "root"
    }

    fn source(&self) -> &str {
        "none"
    }

    fn read_only(&self) -> bool {
        true
    }

    fn root(&self) -> Ino {
        ROOT
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Ino> {
        self.check(dir)?;
        let place = self.points.iter().position(|point| dir == ROOT && point == name).ok_or(Error::NotFound)?;
        Ok(Ino(FIRST_POINT + place as u64))
    }

    fn parent(&self, dir: Ino) -> Result<Ino> {
        self.check(dir)?;
        Ok(ROOT)
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        self.check(ino)?;
        Ok(Stat {
            ino,
            kind: FileType::Directory,
            mode: 0o755,
            links: if ino == ROOT { 2 + self.points.len() as u32 } else { 2 },
            uid: 0,
            gid: 0,
            size: 0,
            allocated: 0,
            atime: Time::default(),
            mtime: Time::default(),
            ctime: Time::default(),
        })
    }

    fn read_dir(&self, dir: Ino, _cursor: u64) -> Result<(Vec<DirEntry>, Option<u64>)> {
        self.check(dir)?;
        let points = if dir == ROOT { self.points.as_slice() } else { &[] };
        let entry = |(name, number): (&Vec<u8>, u64)| DirEntry {
            name: name.clone(),
            ino: Ino(number),
            kind: FileType::Directory,
        };
        Ok((points.iter().zip(FIRST_POINT..).map(entry).collect(), None))
    }

    fn read_link(&self, _ino: Ino) -> Result<Vec<u8>> {
        Err(Error::NotASymlink)
    }

    fn open(&self, _ino: Ino) -> Result<Arc<dyn OpenFile>> {
        Err(Error::IsADirectory)
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs::default())
    }

    fn unmount(&self) -> Result<()> {
        Err(Error::Busy)
    }
}
