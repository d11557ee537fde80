//! Generations: what this kernel got from the one before, and how it makes way for the next.

use alloc::string::String;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use bootproto::Parcel;
use frames::{FRAME_SIZE, PfnRange, PhysAddr, Zones};
use fs::tmpfs::{Casualty, Census, Environment, Restored, Tmpfs};
use handover::{About, Caches, Handover, PhysMap, Summary, WriteError, Writer};
use log::{error, info, warn};
use protocol::event;

use crate::arch::tsc;
use crate::kexec::{self, Image, LoadError, PrepareError, Target};
use crate::machine::BUILD;
use crate::system::System;
use crate::{console, time};

/// Reads the handover that `parcel` names, before memory is handed out. A handover that cannot be used, or lies in more than
/// `most` ranges, means an ordinary boot; the log says why.
pub fn open(parcel: &Parcel<'_>, map: &dyn PhysMap, most: u64) -> Option<Handover> {
    if !parcel.notice.is_empty() {
        error!(target: "kho", "the boot stage says: {}", parcel.notice.escape_ascii());
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
pub type Mounts = Vec<(Vec<u8>, Tmpfs)>;

/// A kernel in the line of kernels.
#[derive(Debug)]
pub struct Generation {
    /// How many kexecs ago the machine was booted.
    pub number: u32,
    previous_build: String,
    handed_over: Option<Summary>,
    /// What did not survive, with the mount point that it was below.
    casualties: Vec<(Vec<u8>, Casualty)>,
    /// Ticks from the beginning of the kexec to a tree in which files can be opened; 0 on a first boot.
    downtime: u64,
    spoil: AtomicBool,
}

impl Generation {
    /// Takes over what was handed over: builds the filesystems in memory, and says where they were mounted; claims no page.
    pub fn begin(parcel: &Parcel<'_>, handover: Option<Handover>, environment: &Environment) -> (Self, Mounts) {
        let mut generation = Self {
            number: parcel.generation,
            previous_build: String::from_utf8_lossy(parcel.previous_build).into_owned(),
            handed_over: None,
            casualties: Vec::new(),
            downtime: 0,
            spoil: AtomicBool::new(false),
        };
        let mounts = handover.and_then(|handover| generation.restore(handover, environment)).unwrap_or_default();
        if parcel.exec_tsc != 0 {
            generation.downtime = tsc::now().saturating_sub(parcel.exec_tsc);
        }
        (generation, mounts)
    }

    fn restore(&mut self, handover: Handover, environment: &Environment) -> Option<Mounts> {
        let memory = environment.cache.memory();
        let restored = match Tmpfs::restore(&handover, memory, environment) {
            Ok(restored) => restored,
            Err(reason) => {
                error!(target: "kho", "handover not taken: {reason}");
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
        self.handed_over = Some(summary);
        handover.release(memory);
        let mut mounts = Mounts::new();
        for Restored { label, tmpfs, casualties, .. } in restored {
            for casualty in &casualties {
                error!(target: "kho", "{}: {casualty}", label.escape_ascii());
            }
            self.casualties.extend(casualties.into_iter().map(|casualty| (label.clone(), casualty)));
            mounts.push((label, tmpfs));
        }
        Some(mounts)
    }

    /// From the beginning of the kexec until files could be opened again.
    pub fn downtime(&self) -> Duration {
        Duration::from_micros(time::ticks_to_micros(self.downtime))
    }

    /// Damages the next handover, to show what becomes of it.
    pub fn spoil_next(&self) {
        self.spoil.store(true, Ordering::Relaxed);
    }

    /// Writes what `kho` shows.
    pub fn report(&self, system: &System, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "generation {}", self.number)?;
        writeln!(out, "build {BUILD}")?;
        let kept = system.tmpfs().into_iter().filter(|(_, tmpfs)| tmpfs.options().handover);
        let census: Census = kept.map(|(_, tmpfs)| tmpfs.census()).sum();
        writeln!(out, "preserved now: {} inodes, {} extents, {} frames", census.inodes, census.extents, census.frames)?;
        if self.number == 0 {
            return Ok(());
        }
        writeln!(out, "previous build {}", self.previous_build)?;
        match &self.handed_over {
            Some(summary) => {
                let claimed = summary.content_frames.saturating_sub(census.unclaimed);
                writeln!(
                    out,
                    "handed over: {} inodes, {} extents, {} frames, {} bytes of metadata in {} frames",
                    summary.inodes, summary.extents, summary.content_frames, summary.bytes, summary.blob_frames
                )?;
                writeln!(out, "claimed or freed since: {claimed} frames, {} left", census.unclaimed)?;
                writeln!(out, "casualties: {}", self.casualties.len())?;
                for (point, casualty) in &self.casualties {
                    writeln!(out, "  {}: {casualty}", point.escape_ascii())?;
                }
            }
            None => writeln!(out, "handed over: nothing")?,
        }
        writeln!(out, "downtime {} us", time::ticks_to_micros(self.downtime))
    }
}

/// Why there was no kexec. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KexecError {
    /// The file cannot be opened, read, or brought to disk.
    File(fs::Error),
    /// The file is none that can be started here.
    Load(LoadError<fs::Error>),
    /// What has to be made before the jump cannot be made.
    Prepare(PrepareError),
    /// The handover cannot be written.
    Handover(WriteError),
}

impl fmt::Display for KexecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Load(error) => error.fmt(f),
            Self::Prepare(error) => error.fmt(f),
            Self::Handover(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for KexecError {}

/// Goes on in a fresh kernel: the bootable file at `path`, or the one that is running.
///
/// # Errors
/// [`KexecError`], with everything as it was.
pub fn kexec(system: &System, path: Option<&[u8]>) -> Result<Infallible, KexecError> {
    let machine = &system.machine;
    let parcel = &machine.parcel;
    let target = match path {
        Some(path) => load(system, path)?,
        None => Target::Running { boot_image: parcel.boot_image, entry: parcel.boot_entry },
    };
    system.vfs.sync().map_err(KexecError::File)?;

    let exec_tsc = tsc::now();
    let (root, blob) = hand_over(system)?;
    let next = Parcel {
        generation: parcel.generation.saturating_add(1),
        handover_root: Some(root.as_u64()),
        exec_tsc,
        previous_build: BUILD.as_bytes(),
        notice: &[],
        ..*parcel
    };
    let map = kexec::Machine { memory_map: machine.memory_map, rsdp: machine.rsdp };
    let prepared = kexec::prepare(&system.cache, target, &next, &map).map_err(KexecError::Prepare)?;

    info!(target: "kexec", "generation {} makes way", parcel.generation);
    console::event(event::KEXEC, |kexec| kexec.field("tsc", tsc::now()));
    console::flush();
    system.donors.quiesce();
    machine.quiesce();
    // The next kernel finds the handover in these frames.
    core::mem::forget(blob);
    // SAFETY: there is one processor, and the two calls of `quiesce` have reset every device that could write to memory.
    unsafe { prepared.jump() }
}

/// Reads the file at `path` into frames, and checks it.
fn load(system: &System, path: &[u8]) -> Result<Target, KexecError> {
    let mut file = system.vfs.open(path).map_err(KexecError::File)?;
    let size = file.stat().map_err(KexecError::File)?.size;
    let read = |at: u64, out: &mut [u8]| file.read_at(at, out);
    let image = Image::load(&system.cache, system.machine.parcel.scratch, size, read).map_err(KexecError::Load)?;
    if !image.is_sealed() {
        warn!(target: "kexec", "the image carries no seal, so damage to it cannot be seen");
    }
    Ok(Target::Loaded(image))
}

/// Writes the handover; where its root lies, and the frames that it is in.
fn hand_over(system: &System) -> Result<(PhysAddr, Vec<frames::Frame>), KexecError> {
    let about = About { generation: system.generation.number, build: BUILD.as_bytes(), version: handover::VERSION };
    let mut allocate = || system.cache.allocate(Zones::Preservable).ok();
    let mut writer = Writer::new(&about, &mut allocate).map_err(KexecError::Handover)?;
    for (point, tmpfs) in system.tmpfs().iter().filter(|(_, tmpfs)| tmpfs.options().handover) {
        tmpfs.save(point, &mut writer).map_err(KexecError::Handover)?;
    }
    let sealed = writer.finish();
    let root = sealed.root();
    let mut frames = sealed.into_frames();
    if system.generation.spoil.load(Ordering::Relaxed)
        && let Some(last) = frames.last_mut()
    {
        last.bytes_mut()[FRAME_SIZE / 2] ^= 1;
    }
    Ok((root, frames))
}
