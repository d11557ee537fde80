//! The way back: a second jump, prepared before the first, that starts this kernel again should the next one fail before it is
//! up.
//!
//! It gives the same handover to the kernel that is running now. What it needs lies outside the scratch area, in frames that
//! the handover asks the next kernel to keep ([`handover::Writer::keep`]); how to jump travels in the parcel. A kernel that comes
//! back this way has no way back itself, so there is no circle. See [`crate::kexec::way_back`] for the other end.

use alloc::format;
use alloc::vec::Vec;
use core::fmt;

use bootproto::{Jump, Parcel};
use frames::{Pfn, PfnRange, PhysAddr};
use log::warn;

use super::load::Loaded;
use crate::kexec::{self, Image, Machine, Prepared, Target};
use crate::machine::BUILD;
use crate::system::System;
use crate::time;

/// Kernels that know no later version of the handover do not keep frames.
const SINCE_VERSION: u32 = 2;

/// The image to come back to.
#[derive(Debug)]
pub enum Back {
    /// The one that is running, which is entered again anyway and stays where it is.
    InPlace,
    /// A copy of the one that is running, since another takes its place.
    Copy(Image),
    /// There is none: the next kernel does not know how.
    Unknown,
    /// There is none: memory was too short for the copy.
    OutOfMemory,
}

impl Back {
    /// For entering the running image again.
    pub fn of_running(version: u32) -> Self {
        if version < SINCE_VERSION { Back::Unknown } else { Back::InPlace }
    }

    /// For starting another, which is given a handover of this version.
    pub fn of_another(system: &System, version: u32) -> Self {
        let Parcel { boot_image, boot_entry, .. } = system.machine.parcel;
        if version < SINCE_VERSION {
            return Back::Unknown;
        }
        Image::of_running(&system.cache, boot_image, boot_entry).map_or(Back::OutOfMemory, Back::Copy)
    }
}

impl Back {
    /// The copy, if there is one.
    pub fn image(&self) -> Option<&Image> {
        match self {
            Back::Copy(image) => Some(image),
            Back::InPlace | Back::Unknown | Back::OutOfMemory => None,
        }
    }
}

impl fmt::Display for Back {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Back::InPlace => write!(f, "build {BUILD}, the same"),
            Back::Copy(image) => write!(f, "build {BUILD}, in {} frames", image.frames()),
            Back::Unknown => f.write_str("none: the next kernel is too old for one"),
            Back::OutOfMemory => f.write_str("none: out of memory"),
        }
    }
}

/// A way back that only needs to be taken.
pub struct WayBack<'a> {
    prepared: Prepared<'a>,
    ranges: Vec<PfnRange>,
}

impl WayBack<'_> {
    /// How to jump, for the next kernel's parcel.
    pub fn plan(&self) -> Jump {
        self.prepared.plan()
    }

    /// The frames that have to be kept until then, ascending and joined.
    pub fn ranges(&self) -> &[PfnRange] {
        &self.ranges
    }
}

/// Prepares the way back from `loaded`, with the handover at `root`. A kexec goes on without one, as it did before there were any;
/// the log says so.
pub fn prepare<'a>(system: &System, loaded: &'a Loaded, root: PhysAddr, exec_tsc: u64) -> Option<WayBack<'a>> {
    let machine = &system.machine;
    let parcel = &machine.parcel;
    let target = match &loaded.back {
        Back::InPlace => Target::Running { boot_image: parcel.boot_image, entry: parcel.boot_entry },
        Back::Copy(image) => Target::Loaded(image),
        Back::Unknown | Back::OutOfMemory => {
            warn!(target: "kexec", "no way back: {}", loaded.back);
            return None;
        }
    };
    let notice = format!("build {} failed before it was up; build {BUILD} was started again", loaded.build());
    let again = Parcel {
        // The one between counts too.
        generation: parcel.generation.saturating_add(2),
        handover_root: Some(root.as_u64()),
        exec_tsc,
        tsc_hz: time::known_frequency(),
        previous_build: BUILD.as_bytes(),
        notice: notice.as_bytes(),
        way_back: None,
        came_back: true,
        ..*parcel
    };
    let map = Machine { memory_map: machine.memory_map, rsdp: machine.rsdp };
    let prepared = kexec::prepare(&system.cache, target, &again, &map)
        .inspect_err(|error| warn!(target: "kexec", "no way back: {error}"))
        .ok()?;
    let ranges = ranges(prepared.pfns());
    Some(WayBack { prepared, ranges })
}

/// Frames as ranges, ascending and joined.
fn ranges(pfns: impl Iterator<Item = Pfn>) -> Vec<PfnRange> {
    let mut pfns: Vec<Pfn> = pfns.collect();
    pfns.sort_unstable();
    let mut ranges: Vec<PfnRange> = Vec::new();
    for pfn in pfns {
        match ranges.last_mut() {
            Some(last) if last.end() == pfn => last.count += 1,
            _ => ranges.push(PfnRange { start: pfn, count: 1 }),
        }
    }
    ranges
}
