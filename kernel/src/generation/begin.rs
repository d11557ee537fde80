//! Taking over: from the first look at what the previous kernel left to the moment when this one is up.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bootproto::Parcel;
use frames::{FRAME_SIZE, Lock, Memory, PhysAddr, Rank};
use fs::heritage::Heirs;
use fs::tmpfs::{Environment, Restored, Restorer, Tmpfs};
use handover::{Caches, Handover, HandoverError, PhysMap};
use log::{error, info, warn};
use protocol::event;

use super::Generation;
use crate::arch::tsc;
use crate::console;
use crate::kexec::way_back;

/// Reads the handover that `parcel` names, before memory is handed out. A handover that cannot be used, or lies in more than
/// `most` ranges, means an ordinary boot; the log says why, and there is no way back. Cached pages are left where they are rather
/// than that.
pub fn open(parcel: &Parcel<'_>, map: &dyn PhysMap, most: u64) -> Option<Handover> {
    let handover = look(parcel, map, most);
    match &handover {
        // Its frames are kept with those of the handover.
        Some(handover) => way_back::close_unless(handover.needed()),
        None => way_back::close(),
    }
    handover
}

fn look(parcel: &Parcel<'_>, map: &dyn PhysMap, most: u64) -> Option<Handover> {
    if !parcel.notice.is_empty() {
        error!(target: "kho", "{}", parcel.notice.escape_ascii());
    }
    let root = PhysAddr::new(parcel.handover_root?);
    let whole = read(root, map, most, Caches::Keep);
    let read = whole.or_else(|reason| match reason {
        Refused::Ranges | Refused::Handover(HandoverError::NoMemory) => {
            warn!(target: "kho", "cached pages are not taken over: {reason}");
            read(root, map, most, Caches::Ignore)
        }
        Refused::Handover(_) => Err(reason),
    });
    let refused = |reason: &_| error!(target: "kho", "handover not taken, this is an ordinary boot: {reason}");
    read.inspect_err(refused).ok()
}

/// Why a handover is not taken over.
enum Refused {
    /// It lies in more ranges than there is room to note.
    Ranges,
    /// It cannot be read.
    Handover(HandoverError),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ranges => f.write_str("it lies in too many ranges"),
            Self::Handover(error) => error.fmt(f),
        }
    }
}

fn read(root: PhysAddr, map: &dyn PhysMap, most: u64, caches: Caches) -> Result<Handover, Refused> {
    let handover = Handover::open(root, map, caches).map_err(Refused::Handover)?;
    let ranges = handover.needed().count() + handover.cached().count();
    if ranges as u64 <= most { Ok(handover) } else { Err(Refused::Ranges) }
}

/// Filesystems in memory, with their mount points.
type Mounts = Vec<(Vec<u8>, Tmpfs)>;

impl Generation {
    /// Takes over what was handed over: builds the filesystems in memory, and says where they were mounted; claims no page. All of it
    /// stays as it is until the kernel is [up](Generation::up).
    pub fn begin(parcel: &Parcel<'_>, handover: Option<Handover>, environment: &Environment) -> (Self, Mounts) {
        let notice = || String::from_utf8_lossy(parcel.notice).into_owned();
        let mut generation = Self {
            number: parcel.generation,
            previous_build: String::from_utf8_lossy(parcel.previous_build).into_owned(),
            came_back: parcel.came_back.then(notice),
            handed_over: None,
            casualties: Vec::new(),
            downtime: 0,
            handover: Lock::new(Rank::Mounts, None),
            unmounted: Lock::new(Rank::Mounts, Vec::new()),
            loaded: Lock::new(Rank::Mounts, None),
            provoked: Lock::new(Rank::Mounts, Default::default()),
        };
        let mounts = handover.and_then(|handover| generation.restore(handover, environment)).unwrap_or_default();
        if parcel.exec_tsc != 0 {
            generation.downtime = tsc::now().saturating_sub(parcel.exec_tsc);
        }
        (generation, mounts)
    }

    fn restore(&mut self, handover: Handover, environment: &Environment) -> Option<Mounts> {
        let memory = environment.cache.memory();
        let mut restorer = Restorer::new(environment);
        if let Err(reason) = read_all(&handover, memory, environment, &mut restorer) {
            // The kernel before is not wanted any more once what it left is freed.
            way_back::close();
            error!(target: "kho", "handover not taken: {reason}");
            drop(restorer);
            environment.cache.renounce();
            handover.abandon(memory);
            return None;
        }
        let summary = handover.summary();
        info!(
            target: "kho",
            "{} inodes in {} extents, {} KiB of content, {} bytes of metadata",
            summary.inodes,
            summary.extents,
            summary.content_frames * FRAME_SIZE as u64 / 1024,
            summary.bytes
        );
        self.handed_over = Some((handover.version(), summary));
        let mut mounts = Mounts::new();
        let mut homeless = Vec::new();
        for Restored { label, tmpfs, casualties, rejected } in restorer.finish() {
            for casualty in &casualties {
                error!(target: "kho", "{}: {casualty}", label.escape_ascii());
            }
            self.casualties.extend(casualties.into_iter().map(|casualty| (label.clone(), casualty)));
            homeless.push(rejected);
            mounts.push((label, tmpfs));
        }
        *self.handover.get_mut() = Some((handover, homeless));
        Some(mounts)
    }

    /// The kernel stands: what was handed over is its own from here on, and what was only kept for the kernel before is free.
    pub fn up(&self, memory: &'static Memory) {
        way_back::close();
        console::event(event::UP, |up| up.field("generation", self.number));
        let handover = self.handover.lock().take();
        if let Some((handover, _)) = handover {
            handover.release(memory);
        }
        let unmounted = core::mem::take(&mut *self.unmounted.lock());
        drop(unmounted);
    }

    /// A filesystem that was handed over cannot be mounted: it goes when this kernel is up, and not before.
    pub fn no_place_for(&self, tmpfs: Arc<Tmpfs>) {
        self.unmounted.lock().push(tmpfs);
    }
}

/// Lets everybody take what is theirs of `handover`.
fn read_all(
    handover: &Handover,
    memory: &'static Memory,
    environment: &Environment,
    restorer: &mut Restorer,
) -> Result<(), HandoverError> {
    let mut items = handover.items(memory)?;
    let mut heirs = Heirs::new(&environment.cache);
    while let Some(item) = items.next()? {
        heirs.take(&item);
        restorer.take(item);
    }
    heirs.finish();
    Ok(())
}
