//! What is mounted where.
//!
//! A mount is held by its place in the table and by everybody who is using it: an open [`File`](super::File), a walk on its
//! way. New holders come only out of the table, under its lock, or from a holder; so under the lock a mount with one
//! holder is free to go. No filesystem is called while the lock is held.

use crate::error::{Error, Result};
use crate::filesystem::{FileSystem, FileType, Ino};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use frames::{Lock, Rank};

/// A filesystem in the name space.
pub(super) struct Mount {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) root: Ino,
    /// When it was first seen to be changed, in microseconds; [`UNCHANGED`] when it was not.
    changed: AtomicU64,
}

/// No time.
const UNCHANGED: u64 = u64::MAX;

impl Mount {
    pub(super) fn new(fs: Arc<dyn FileSystem>) -> Arc<Self> {
        let root = fs.root();
        Arc::new(Self { fs, root, changed: AtomicU64::new(UNCHANGED) })
    }

    /// Whether it has been changed for `age` or longer, as far as was seen. After `true` the time begins anew.
    pub(super) fn is_due(&self, now: Duration, age: Duration) -> bool {
        if !self.fs.is_changed() {
            self.changed.store(UNCHANGED, Relaxed);
            return false;
        }
        let now = now.as_micros() as u64;
        let since = self.changed.load(Relaxed);
        if since == UNCHANGED {
            self.changed.store(now, Relaxed);
            return false;
        }
        let due = u128::from(now.saturating_sub(since)) >= age.as_micros();
        if due {
            self.changed.store(now, Relaxed);
        }
        due
    }
}

/// An inode, by the mount that it is on and its number there.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) mount: Arc<Mount>,
    pub(super) ino: Ino,
}

impl Node {
    pub(super) fn root_of(mount: &Arc<Mount>) -> Self {
        Self { mount: Arc::clone(mount), ino: mount.root }
    }

    pub(super) fn fs(&self) -> &dyn FileSystem {
        &*self.mount.fs
    }

    pub(super) fn kind(&self) -> Result<FileType> {
        Ok(self.fs().stat(self.ino)?.kind)
    }

    /// Whether both lie on one mounted filesystem.
    pub(super) fn same_mount(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount)
    }
}

/// A mount point.
enum Point {
    Free,
    Used(Arc<Mount>),
    /// Its filesystem is writing what it has to before it goes.
    Leaving,
}

/// The mount points, by their place in the root directory.
pub(super) struct MountTable {
    points: Lock<Vec<Point>>,
}

impl MountTable {
    pub(super) fn new(points: usize) -> Self {
        Self { points: Lock::new(Rank::Mounts, (0..points).map(|_| Point::Free).collect()) }
    }

    /// What is mounted at `place`.
    pub(super) fn at(&self, place: usize) -> Option<Arc<Mount>> {
        match self.points.lock().get(place) {
            Some(Point::Used(mount)) => Some(Arc::clone(mount)),
            _ => None,
        }
    }

    /// Everything that is mounted, with its place.
    pub(super) fn all(&self) -> Vec<(usize, Arc<Mount>)> {
        let points = self.points.lock();
        let used = points.iter().enumerate().filter_map(|(place, point)| match point {
            Point::Used(mount) => Some((place, Arc::clone(mount))),
            _ => None,
        });
        used.collect()
    }

    /// The filesystem at the first of the places from `from` on that has one, with its place.
    pub(super) fn next(&self, from: usize) -> Option<(usize, Arc<Mount>)> {
        self.points.lock().iter().enumerate().skip(from).find_map(|(place, point)| match point {
            Point::Used(mount) => Some((place, Arc::clone(mount))),
            _ => None,
        })
    }

    /// Put `mount` at `place`.
    pub(super) fn mount(&self, place: usize, mount: Arc<Mount>) -> Result<()> {
        match self.points.lock().get_mut(place) {
            Some(point @ Point::Free) => {
                *point = Point::Used(mount);
                Ok(())
            }
            Some(_) => Err(Error::Busy),
            None => Err(Error::NotFound),
        }
    }

    /// Take down what is mounted at `place`. If the filesystem cannot finish its work, it stays mounted.
    pub(super) fn unmount(&self, place: usize) -> Result<()> {
        let mount = match self.points.lock().get_mut(place).ok_or(Error::NotFound)? {
            Point::Free => return Err(Error::Unmounted),
            Point::Used(mount) if Arc::strong_count(mount) > 1 => return Err(Error::Busy),
            Point::Leaving => return Err(Error::Busy),
            point => mem::replace(point, Point::Leaving),
        };
        let left = match &mount {
            Point::Used(mount) => mount.fs.unmount(),
            _ => Ok(()),
        };
        let after = if left.is_ok() { Point::Free } else { mount };
        if let Some(point) = self.points.lock().get_mut(place) {
            *point = after;
        }
        left
    }
}
