//! The donors of this machine: for each kind of memory one file finds the device and makes the donor, whose policy is in crate
//! [`donors`].
//!
//! They are served at safe points only, never from an interrupt handler and never with a lock held.

mod balloon;
pub mod carve_out;
mod ivshmem;
mod mem;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use cache::PageCache;
use donors::Donor;
use donors::carve_out::CarveOut;
use frames::{FRAME_SIZE, PfnRange};
use log::warn;
use virtio_drivers::transport::DeviceType;

use crate::arch::apic;
use crate::cmdline::{Donation, DonationKind};
use crate::drivers::attention;
use crate::drivers::ivshmem::Shared;
use crate::drivers::virtio::port::Port;
use crate::drivers::virtio::{self, Found};

/// What the donors of this machine are made of.
pub struct Sources {
    /// What the command line asks for.
    pub wanted: Vec<Donation>,
    /// Frames set aside at the top of memory.
    pub carve_out: PfnRange,
    /// Virtio devices; those that are no donor are left.
    pub devices: Vec<Found>,
    /// Shared memory.
    pub shared: Vec<Shared>,
}

impl Sources {
    /// Frames that the command line asks for, of a kind.
    fn frames(&self, kind: DonationKind) -> u64 {
        frames_of(self.wanted.iter().copied(), kind)
    }
}

/// Frames that `donations` ask for, of a kind.
pub fn frames_of(donations: impl Iterator<Item = Donation>, kind: DonationKind) -> u64 {
    donations
        .filter(|donation| donation.kind == kind)
        .map(|donation| donation.bytes / FRAME_SIZE as u64)
        .fold(0, u64::saturating_add)
}

/// The donors.
pub struct Donors {
    all: Vec<Arc<dyn Donor>>,
    carve_out: Option<Arc<CarveOut>>,
}

impl Donors {
    /// Makes a donor of everything else that can be one. What cannot is said, and the machine runs without it. They are served for the
    /// first time at the first safe point.
    pub fn start(cache: &Arc<PageCache>, carve_out: Option<Arc<CarveOut>>, mut sources: Sources) -> Self {
        let mut all: Vec<Arc<dyn Donor>> = Vec::new();
        if let Some(carve_out) = &carve_out {
            all.push(carve_out.clone());
        }
        let balloons = virtio::take(&mut sources.devices, DeviceType::MemoryBalloon);
        all.extend(balloon::start(cache, balloons, sources.frames(DonationKind::Balloon)));
        let memories = virtio::take(&mut sources.devices, DeviceType::Memory);
        all.extend(mem::start(cache, memories, sources.frames(DonationKind::Mem)));
        all.extend(ivshmem::start(cache, &sources.shared, sources.frames(DonationKind::Ivshmem)));
        sources.devices.into_iter().for_each(Port::retire);
        if all.iter().any(|donor| donor.name() != donors::carve_out::NAME) {
            attention::ring();
        }
        Self { all, carve_out }
    }

    /// Does a bounded piece of what the hosts want; what is left is done at the next safe point. No lock may be held.
    pub fn serve(&self) {
        let mut more = false;
        for donor in &self.all {
            more |= donor.serve();
        }
        apic::listen();
        if more {
            attention::ring();
        }
    }

    /// Memory is short: makes up to `frames` lent frames free; returns how many.
    pub fn relieve(&self, frames: usize) -> usize {
        let mut freed = 0;
        for donor in &self.all {
            freed += donor.relieve(frames.saturating_sub(freed));
        }
        freed
    }

    /// As [`Donors::relieve`], for callers that may hold any lock.
    pub fn relieve_at_once(&self, frames: usize) -> usize {
        let mut freed = 0;
        for donor in &self.all {
            freed += donor.relieve_at_once(frames.saturating_sub(freed));
        }
        freed
    }

    /// Ends all dealings with devices, for good: another kernel takes over.
    pub fn quiesce(&self) {
        for donor in &self.all {
            donor.quiesce();
        }
    }

    /// The carve-out.
    pub fn carve_out(&self) -> Option<&CarveOut> {
        self.carve_out.as_deref()
    }

    /// Frames of the guest's own that hosts have.
    pub fn away(&self) -> u64 {
        self.all.iter().map(|donor| donor.away()).sum()
    }

    /// Frames in pools that are no memory of the guest's own.
    pub fn foreign(&self) -> u64 {
        self.all.iter().map(|donor| donor.foreign()).sum()
    }

    /// How things stand with each, in lines for people.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn report(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.all.iter().try_for_each(|donor| donor.report(out))
    }
}

/// Says that a donor cannot be had, and goes on without it.
fn or_say<T>(what: &str, made: Result<T, impl fmt::Display>) -> Option<T> {
    made.inspect_err(|error| warn!(target: "donate", "{what} not used: {error}")).ok()
}

/// Takes the one device that is used. More than one of a kind is one too many, and none where `wanted` frames are to come from
/// one is one too few.
fn only<T>(what: &str, found: Vec<T>, wanted: u64, retire: impl Fn(T)) -> Option<T> {
    match found.len() {
        0 if wanted > 0 => warn!(target: "donate", "{what}: no device for {wanted} frames"),
        0 | 1 => {}
        count => warn!(target: "donate", "{what}: {count} devices; only the first is used"),
    }
    let mut found = found.into_iter();
    let first = found.next();
    found.for_each(retire);
    first
}
