//! Which files the cache knows: names, epochs, and which filesystem fills them.

use crate::backing::{Backing, FillError};
use crate::failures::{Failure, Failures};
use crate::handing::Heritage;
use crate::inherited::{Heir, InheritedFile, Stamp};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cleancache::{FileId, FsId};
use frames::chunks::{Chunks, piece};

/// Files that may be known before those that nobody needs are looked for.
const SWEEP_FLOOR: usize = 1024;

/// A file, for good: inode numbers come back after a deletion, generations tell the lives apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    fs: FsId,
    ino: u64,
    generation: u32,
}

#[derive(Debug)]
pub(crate) struct File {
    id: FileId,
    name: Name,
    /// How many have it open.
    pins: u32,
    /// Changes whenever what is on disk stops being what a reader may see: truncated, written, invalidated. No other file has or had
    /// the same.
    epoch: u32,
    /// What it is told by after a kexec.
    stamp: Option<Stamp>,
    /// The inherited file that it continues.
    heir: Option<Heir>,
    /// Its last failure to be written.
    pub(crate) failure: Option<Failure>,
}

impl File {
    pub(crate) fn ino(&self) -> u64 {
        self.name.ino
    }
}

/// The files, by place and by name, both of which grow by small pieces: this happens under the cache's lock, when nothing can be
/// evicted.
pub(crate) struct Files {
    places: Chunks<Option<File>, { piece::<Option<File>>() }>,
    by_name: BTreeMap<Name, FileId>,
    filesystems: Vec<Filesystem>,
    sweep_at: usize,
    /// The last epoch that was given to a file.
    epoch: u32,
    pub(crate) failures: Failures,
}

/// A filesystem that is mounted.
struct Filesystem {
    id: FsId,
    name: String,
    backing: Arc<dyn Backing>,
}

/// What is needed to fill a page without the lock.
pub(crate) struct Source {
    pub(crate) backing: Arc<dyn Backing>,
    pub(crate) ino: u64,
    pub(crate) epoch: u32,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self {
            places: Chunks::new(),
            by_name: BTreeMap::new(),
            filesystems: Vec::new(),
            sweep_at: SWEEP_FLOOR,
            epoch: 0,
            failures: Failures::default(),
        }
    }

    pub(crate) fn add_fs(&mut self, id: FsId, name: &str, backing: Arc<dyn Backing>) {
        self.filesystems.push(Filesystem { id, name: String::from(name), backing });
    }

    /// Forget `fs` and its files, which are returned.
    pub(crate) fn remove_fs(&mut self, fs: FsId) -> Vec<FileId> {
        self.filesystems.retain(|filesystem| filesystem.id != fs);
        self.remove_where(|file| file.name.fs == fs)
    }

    pub(crate) fn open(
        &mut self,
        fs: FsId,
        ino: u64,
        generation: u32,
        stamp: Option<Stamp>,
        make: impl FnOnce() -> Result<FileId, FillError>,
        heir: impl FnOnce() -> Option<Heir>,
    ) -> Result<FileId, FillError> {
        let name = Name { fs, ino, generation };
        if let Some(&id) = self.by_name.get(&name) {
            if let Some(file) = self.get_mut(id) {
                file.pins = file.pins.saturating_add(1);
                file.stamp = stamp.or(file.stamp);
            }
            return Ok(id);
        }
        let id = make()?;
        let slot = id.slot() as usize;
        self.places.grow(slot, |_| None);
        if let Some(place) = self.places.get_mut(slot) {
            self.epoch = self.epoch.wrapping_add(1);
            *place = Some(File { id, name, pins: 1, epoch: self.epoch, stamp, heir: heir(), failure: None });
        }
        self.by_name.insert(name, id);
        Ok(id)
    }

    /// What a file is told by after a kexec has changed.
    pub(crate) fn restamp(&mut self, id: FileId, stamp: Stamp) {
        if let Some(file) = self.get_mut(id) {
            file.stamp = Some(stamp);
        }
    }

    pub(crate) fn close(&mut self, id: FileId) {
        if let Some(file) = self.get_mut(id) {
            file.pins = file.pins.saturating_sub(1);
        }
    }

    pub(crate) fn remove(&mut self, id: FileId) {
        if let Some(place) = self.places.get_mut(id.slot() as usize)
            && let Some(file) = place.take_if(|file| file.id == id)
        {
            self.by_name.remove(&file.name);
        }
    }

    /// Whether so many files are known that those nobody needs should go.
    pub(crate) fn want_sweep(&self) -> bool {
        self.by_name.len() >= self.sweep_at
    }

    /// Forget the files that nobody has open and that are `idle`; returns them. The cost is spread: the next sweep is due when the
    /// number of files has doubled.
    pub(crate) fn sweep(&mut self, idle: impl Fn(FileId) -> bool) -> Vec<FileId> {
        let gone = self.remove_where(|file| file.pins == 0 && idle(file.id));
        self.sweep_at = (self.by_name.len() * 2).max(SWEEP_FLOOR);
        gone
    }

    fn remove_where(&mut self, which: impl Fn(&File) -> bool) -> Vec<FileId> {
        let gone: Vec<FileId> = self.places.iter().flatten().filter(|file| which(file)).map(|file| file.id).collect();
        for &id in &gone {
            self.remove(id);
        }
        gone
    }

    /// Whether `id` is a file that is known.
    #[inline]
    pub(crate) fn knows(&self, id: FileId) -> bool {
        self.get(id).is_some()
    }

    /// The file's content has changed: what is being read from disk right now must not enter the cache.
    pub(crate) fn bump(&mut self, id: FileId) {
        let epoch = self.epoch.wrapping_add(1);
        if let Some(file) = self.get_mut(id) {
            file.epoch = epoch;
            self.epoch = epoch;
        }
    }

    pub(crate) fn epoch(&self, id: FileId) -> Option<u32> {
        self.get(id).map(|file| file.epoch)
    }

    pub(crate) fn source(&self, id: FileId) -> Result<Source, FillError> {
        let file = self.get(id).ok_or(FillError::Unmounted)?;
        let of = |filesystem: &&Filesystem| filesystem.id == file.name.fs;
        let Filesystem { backing, .. } = self.filesystems.iter().find(of).ok_or(FillError::Unmounted)?;
        Ok(Source { backing: backing.clone(), ino: file.name.ino, epoch: file.epoch })
    }

    /// The inherited file that this one continues.
    #[inline]
    pub(crate) fn heir(&self, id: FileId) -> Option<Heir> {
        self.get(id)?.heir
    }

    /// The filesystems that can be told after a kexec.
    pub(crate) fn heritages(&self) -> Vec<Heritage> {
        let heritage = |filesystem: &Filesystem| {
            let identity = filesystem.backing.identity()?;
            Some(Heritage { fs: filesystem.id, label: filesystem.name.clone(), identity })
        };
        self.filesystems.iter().filter_map(heritage).collect()
    }

    /// The files of `fs` that can be.
    pub(crate) fn stamped(&self, fs: FsId) -> impl Iterator<Item = (FileId, InheritedFile, Option<Heir>)> {
        self.places.iter().flatten().filter(move |file| file.name.fs == fs).filter_map(|file| {
            let Name { ino, generation, .. } = file.name;
            Some((file.id, InheritedFile { ino, generation, stamp: file.stamp? }, file.heir))
        })
    }

    /// Whether `id` is one of them.
    pub(crate) fn is_stamped(&self, id: FileId) -> bool {
        self.get(id).is_some_and(|file| file.stamp.is_some())
    }

    /// Whether a file is known.
    pub(crate) fn is_known(&self, fs: FsId, ino: u64, generation: u32) -> bool {
        self.by_name.contains_key(&Name { fs, ino, generation })
    }

    /// The inode's number.
    pub(crate) fn ino(&self, id: FileId) -> Option<u64> {
        self.get(id).map(|file| file.name.ino)
    }

    /// Whether the file at a place is one of `fs`.
    pub(crate) fn is_of(&self, slot: u32, fs: FsId) -> bool {
        let file = self.places.get(slot as usize).and_then(Option::as_ref);
        file.is_some_and(|file| file.name.fs == fs)
    }

    /// The file at a place.
    pub(crate) fn at(&self, slot: u32) -> Option<FileId> {
        self.places.get(slot as usize)?.as_ref().map(|file| file.id)
    }

    #[inline]
    fn get(&self, id: FileId) -> Option<&File> {
        self.places.get(id.slot() as usize)?.as_ref().filter(|file| file.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: FileId) -> Option<&mut File> {
        self.places.get_mut(id.slot() as usize)?.as_mut().filter(|file| file.id == id)
    }
}
