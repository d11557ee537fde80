//! The kexec itself: everything goes to disk, the handover is written, the jump prepared, the devices are stopped.
//!
//! Whatever can fail comes before the devices are stopped, and what was made until then goes away when it is dropped.

use alloc::vec::Vec;
use core::convert::Infallible;

use bootproto::Parcel;
use frames::{FRAME_SIZE, Frame, PhysAddr, Zones};
use fs::heritage::{self, Saved};
use handover::{About, WriteError, Writer};
use log::info;
use protocol::event;

use super::ahead;
use super::load::{Loaded, ready};
use super::way_back::{self, WayBack};
use super::{KexecError, Step};
use crate::arch::tsc;
use crate::console;
use crate::fault::Stage;
use crate::kexec::{self, Machine};
use crate::machine::BUILD;
use crate::smp::chores;
use crate::system::System;
use crate::time;

/// Cached pages that are hashed while the machine stands still, at most.
const MOST_HASHED: usize = 2048;

/// Goes on in a fresh kernel: the one that was loaded, or the running image. `called_off` is asked after each step.
///
/// # Errors
/// [`KexecError`], with everything as it was; what was loaded still is.
pub fn exec(system: &System, called_off: &mut dyn FnMut() -> bool) -> Result<Infallible, KexecError> {
    let Some(loaded) = system.generation.take_loaded() else {
        let running = ready(system, None, called_off)?;
        return go(system, &running, called_off);
    };
    let failed = go(system, &loaded, called_off);
    system.generation.put_loaded(loaded);
    failed
}

fn go(system: &System, loaded: &Loaded, called_off: &mut dyn FnMut() -> bool) -> Result<Infallible, KexecError> {
    let (machine, generation) = (&system.machine, &system.generation);
    let parcel = &machine.parcel;
    // The others are stopped later, which must not be in the midst of anything.
    let _rest = chores::rest();
    system.vfs.commit().and(system.cache.write_out(None).map_err(Into::into)).map_err(KexecError::Changes)?;
    // Up to here everything goes on as ever, so what the disk takes its time for is no downtime.
    let exec_tsc = tsc::now();
    ahead::the_rest(system);
    let handed_over = match hand_over(system, loaded, exec_tsc, true) {
        // Cached pages can be done without.
        Err(KexecError::Handover(WriteError::NoMemory)) => hand_over(system, loaded, exec_tsc, false)?,
        other => other?,
    };
    generation.made(Step::Handover, called_off)?;
    // A kernel that lived through what it was to suffer does not hand that on.
    let suffered = Stage::Mute.word().as_bytes();
    let mut command_line = parcel.command_line.strip_suffix(suffered).unwrap_or(parcel.command_line).to_vec();
    if let Some(stage) = generation.next_fails() {
        command_line.extend_from_slice(stage.word().as_bytes());
    }
    let next = Parcel {
        generation: parcel.generation.saturating_add(1),
        command_line: &command_line,
        handover_root: Some(handed_over.root.as_u64()),
        exec_tsc,
        tsc_hz: time::known_frequency(),
        previous_build: BUILD.as_bytes(),
        notice: &[],
        way_back: handed_over.way_back.as_ref().map(|back| back.plan()),
        came_back: false,
        ..*parcel
    };
    let map = Machine { memory_map: machine.memory_map, rsdp: machine.rsdp };
    let prepared = kexec::prepare(&system.cache, loaded.target(system), &next, &map).map_err(KexecError::Prepare)?;
    generation.made(Step::Prepare, called_off)?;

    info!(target: "kexec", "generation {} makes way for build {}", parcel.generation, loaded.build());
    console::event(event::KEXEC, |kexec| kexec.field("tsc", tsc::now()));
    console::flush();
    system.donors.quiesce();
    machine.quiesce();
    // The next kernel finds the handover in these frames, and the way back.
    core::mem::forget(handed_over);
    // SAFETY: the two calls of `quiesce` have parked the other processors, and told every device that could write to memory to stop. A
    // host whose device does not do as it is told can write to this memory whatever we do.
    unsafe { prepared.jump() }
}

/// What the next kernel finds in memory.
struct HandedOver<'a> {
    root: PhysAddr,
    _frames: Vec<Frame>,
    way_back: Option<WayBack<'a>>,
}

/// Writes the handover, and which pages of disks are cached if `caches` says so.
fn hand_over<'a>(
    system: &System,
    loaded: &'a Loaded,
    exec_tsc: u64,
    caches: bool,
) -> Result<HandedOver<'a>, KexecError> {
    let (build, version) = (BUILD.as_bytes(), loaded.version);
    let about = About { generation: system.generation.number, build, version };
    let mut allocate = || system.cache.allocate(Zones::Preservable).ok();
    let mut writer = Writer::new(&about, &mut allocate).map_err(KexecError::Handover)?;
    write(system, &mut writer).map_err(KexecError::Handover)?;
    let way_back = way_back::prepare(system, loaded, writer.root(), exec_tsc);
    if let Some(way_back) = &way_back {
        writer.keep(way_back.ranges()).map_err(KexecError::Handover)?;
    }
    // Last, so that where anything else was written over a cached page since, that is what counts.
    if caches {
        save_caches(system, &mut writer).map_err(KexecError::Handover)?;
    }
    let sealed = writer.finish();
    let root = sealed.root();
    let mut frames = sealed.into_frames();
    if system.generation.spoils()
        && let Some(last) = frames.last_mut()
    {
        last.bytes_mut()[FRAME_SIZE / 2] ^= 1;
    }
    Ok(HandedOver { root, _frames: frames, way_back })
}

/// Writes which pages are cached.
fn save_caches(system: &System, writer: &mut Writer<'_>) -> Result<(), WriteError> {
    let Saved { files, pages, left_out } = heritage::save(&system.cache, writer, MOST_HASHED)?;
    info!(target: "kexec", "{pages} cached pages of {files} files are handed over, {left_out} are left out");
    Ok(())
}

/// Writes what crosses.
fn write(system: &System, writer: &mut Writer<'_>) -> Result<(), WriteError> {
    for (point, tmpfs) in system.tmpfs().iter().filter(|(_, tmpfs)| tmpfs.options().handover) {
        tmpfs.save(point, writer)?;
    }
    Ok(())
}
