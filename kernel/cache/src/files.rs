//! Which files the cache knows: names, epochs, and which filesystem fills them.

use crate::backing::{Backing, FillError};
use alloc::collections::BTreeMap;
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
struct File {
    id: FileId,
    name: Name,
    /// How many have it open.
    pins: u32,
    /// Changes whenever what is on disk stops being what a reader may see: truncated, written, invalidated.
    epoch: u32,
}

/// The files, by place and by name, both of which grow by small pieces: this happens under the cache's lock, when nothing can be
/// evicted.
pub(crate) struct Files {
    places: Chunks<Option<File>, { piece::<Option<File>>() }>,
    by_name: BTreeMap<Name, FileId>,
    filesystems: Vec<(FsId, Arc<dyn Backing>)>,
    sweep_at: usize,
}

/// What is needed to fill a page without the lock.
pub(crate) struct Source {
    pub(crate) backing: Arc<dyn Backing>,
    pub(crate) ino: u64,
    pub(crate) epoch: u32,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { places: Chunks::new(), by_name: BTreeMap::new(), filesystems: Vec::new(), sweep_at: SWEEP_FLOOR }
    }

    pub(crate) fn add_fs(&mut self, fs: FsId, backing: Arc<dyn Backing>) {
        self.filesystems.push((fs, backing));
    }

    /// Forget `fs` and its files, which are returned.
    pub(crate) fn remove_fs(&mut self, fs: FsId) -> Vec<FileId> {
        self.filesystems.retain(|&(id, _)| id != fs);
        self.remove_where(|file| file.name.fs == fs)
    }

    pub(crate) fn open(
        &mut self,
        fs: FsId,
        ino: u64,
        generation: u32,
        make: impl FnOnce() -> Result<FileId, FillError>,
    ) -> Result<FileId, FillError> {
        let name = Name { fs, ino, generation };
        if let Some(&id) = self.by_name.get(&name) {
            if let Some(file) = self.get_mut(id) {
                file.pins = file.pins.saturating_add(1);
            }
            return Ok(id);
        }
        let id = make()?;
        let slot = id.slot() as usize;
        self.places.grow(slot, |_| None);
        if let Some(place) = self.places.get_mut(slot) {
            *place = Some(File { id, name, pins: 1, epoch: 0 });
        }
        self.by_name.insert(name, id);
        Ok(id)
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
        if let Some(file) = self.get_mut(id) {
            file.epoch = file.epoch.wrapping_add(1);
        }
    }

    pub(crate) fn epoch(&self, id: FileId) -> Option<u32> {
        self.get(id).map(|file| file.epoch)
    }

    pub(crate) fn source(&self, id: FileId) -> Result<Source, FillError> {
        let file = self.get(id).ok_or(FillError::Unmounted)?;
        let (_, backing) = self.filesystems.iter().find(|(fs, _)| *fs == file.name.fs).ok_or(FillError::Unmounted)?;
        Ok(Source { backing: backing.clone(), ino: file.name.ino, epoch: file.epoch })
    }

    /// The inode's number.
    pub(crate) fn ino(&self, id: FileId) -> Option<u64> {
        self.get(id).map(|file| file.name.ino)
    }

    /// The file at a place.
    pub(crate) fn at(&self, slot: u32) -> Option<FileId> {
        self.places.get(slot as usize)?.as_ref().map(|file| file.id)
    }

    #[inline]
    fn get(&self, id: FileId) -> Option<&File> {
        self.places.get(id.slot() as usize)?.as_ref().filter(|file| file.id == id)
    }

    fn get_mut(&mut self, id: FileId) -> Option<&mut File> {
        self.places.get_mut(id.slot() as usize)?.as_mut().filter(|file| file.id == id)
    }
}
