//! Taking over: from the first look at what the previous kernel left to the moment when this one is up.

use alloc::string::String;
use alloc::vec::Vec;

use bootproto::Parcel;
use frames::{FRAME_SIZE, Lock, Memory, PfnRange, PhysAddr, Rank};
use fs::tmpfs::{Environment, Restored, Restorer, Tmpfs};
use handover::{Caches, Handover, HandoverError, PhysMap};
use log::{error, info};
use protocol::event;

use super::Generation;
use crate::arch::tsc;
use crate::console;
use crate::kexec::way_back;

/// Reads the handover that `parcel` names, before memory is handed out. A handover that cannot be used, or lies in more than
/// `most` ranges, means an ordinary boot; the log says why, and there is no way back.
pub fn open(parcel: &Parcel<'_>, map: &dyn PhysMap, most: u64) -> Option<Handover> {
    let handover = read(parcel, map, most);
    match &handover {
        // Its frames are kept with those of the handover.
        Some(handover) => way_back::close_unless(handover.reserved()),
        None => way_back::close(),
    }
    handover
}

fn read(parcel: &Parcel<'_>, map: &dyn PhysMap, most: u64) -> Option<Handover> {
    if !parcel.notice.is_empty() {
        error!(target: "kho", "{}", parcel.notice.escape_ascii());
    }
    let root = PhysAddr::new(parcel.handover_root?);
    match Handover::open(root, map, Caches::Ignore) {
        Ok(handover) if handover.reserved().count() as u64 <= most => Some(handover),
        Ok(_) => {
            error!(target: "kho", "handover not taken, this is an ordinary boot: more than {most} ranges");
            None
        }
        Err(reason) => {
            error!(target: "kho", "handover not taken, this is an ordinary boot: {reason}");
            None
        }
    }
}

/// The ranges of `handover` that must not be handed out, in a list with room for one more, so that it need not grow.
pub fn preserved(handover: &Handover) -> Vec<PfnRange> {
    let mut ranges = Vec::with_capacity(handover.reserved().count() + 1);
    ranges.extend(handover.reserved());
    ranges
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
        let restored = match restore(&handover, memory, environment) {
            Ok(restored) => restored,
            Err(reason) => {
                error!(target: "kho", "handover not taken: {reason}");
                way_back::close();
                handover.abandon(memory);
                return None;
            }
        };
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
        for Restored { label, tmpfs, casualties, rejected } in restored {
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
    }
}

/// Everything in `handover`.
fn restore(
    handover: &Handover,
    memory: &'static Memory,
    environment: &Environment,
) -> Result<Vec<Restored>, HandoverError> {
    let mut items = handover.items(memory)?;
    let mut restorer = Restorer::new(environment);
    while let Some(item) = items.next()? {
        restorer.take(item);
    }
    Ok(restorer.finish())
}
