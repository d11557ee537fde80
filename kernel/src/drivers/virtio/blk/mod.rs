//! The virtio block device (virtio 1.2, 5.2): many requests in flight, each of many segments.
//!
//! A batch is cut into *parts* of as many segments as one request may have. All parts that fit are put in flight at
//! once; the used ring is then polled. The lock is held only while the ring is touched, never while the device works, so
//! several batches may be under way, and whoever polls reaps for all.
//!
//! Buffers in flight belong to the device. A call returns only when its parts have come back, or after the device was
//! reset, which makes it forget them. What the device writes into the rings is checked before it is believed.
//!
//! A device that was reset, asks for that, or does nothing for long is set up again, and what it had in hand is done once more;
//! one that breaks the rules, or is no better after it, is not used any more.

mod request;
mod ring;

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use bitflags::bitflags;
use frames::{Lock, Memory, Rank};
use fs::block::{BlockDevice, BlockError, BlockStats, ReadRequest, SECTOR_SIZE, WriteRequest};
use log::{error, info, warn};
use virtio_drivers::transport::{DeviceStatus, SomeTransport, Transport};

use self::request::{Batch, FlushOnly, Kind, Part, Parts};
use self::ring::{Finished, Ring, SLOTS};
use super::{Place, hal};
use crate::time::Deadline;

bitflags! {
    /// Feature bits that this driver knows (virtio 1.2, 5.2.3 and 6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const SEG_MAX = 1 << 2;
        const READ_ONLY = 1 << 5;
        const FLUSH = 1 << 9;
        const VERSION_1 = 1 << 32;
    }
}

/// Offsets in the device's configuration space (virtio 1.2, 5.2.4).
const CONFIG_CAPACITY: usize = 0;
const CONFIG_SEG_MAX: usize = 12;
/// How often the configuration is read again because it changed meanwhile.
const CONFIG_TRIES: usize = 8;

/// How long a device may do nothing at all with requests in flight before it is reset.
const PATIENCE_SECONDS: u64 = 30;
/// After so many looks at a ring where nothing happens the device is asked how it is; that costs more than a look.
const LOOKS: u32 = 1 << 16;
/// How often a call is tried whose requests were lost in a reset.
const ATTEMPTS: usize = 3;
/// How long a reset may take.
const RESET_SECONDS: u64 = 5;

/// Why a block device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The device does not offer the interface of virtio 1.0.
    Legacy,
    /// The device refused the features that were chosen.
    FeaturesRefused,
    /// The capacity kept changing while it was read.
    UnstableConfig,
    /// The queue could not be set up, or there is no configuration.
    Virtio(virtio_drivers::Error),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legacy => f.write_str("it does not speak virtio 1.0"),
            Self::FeaturesRefused => f.write_str("it refused its own features"),
            Self::UnstableConfig => f.write_str("its capacity does not hold still"),
            Self::Virtio(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for DiskError {}

impl From<virtio_drivers::Error> for DiskError {
    fn from(error: virtio_drivers::Error) -> Self {
        Self::Virtio(error)
    }
}

/// A disk.
pub struct Disk {
    name: String,
    sectors: u64,
    read_only: bool,
    has_flush: bool,
    max_segments: usize,
    ring: Lock<Ring>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    reads: AtomicU64,
    sectors_read: AtomicU64,
    writes: AtomicU64,
    sectors_written: AtomicU64,
    errors: AtomicU64,
}

impl Disk {
    /// Takes a block device into service, as disk number `index`.
    ///
    /// # Errors
    /// [`DiskError`]; the device is then reset.
    pub fn new(
        memory: &'static Memory,
        mut transport: SomeTransport<'static>,
        index: usize,
        place: Place,
    ) -> Result<Self, DiskError> {
        let features = transport.begin_init(Features::all());
        if !features.contains(Features::VERSION_1) {
            return Err(DiskError::Legacy);
        }
        if !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            return Err(DiskError::FeaturesRefused);
        }
        let sectors = capacity(&transport)?;
        let max_segments = match features.contains(Features::SEG_MAX) {
            true => transport.read_config_space::<u32>(CONFIG_SEG_MAX)? as usize,
            false => 1,
        };
        let disk = Self {
            name: format!("vd{}", char::from(b'a' + (index % 26) as u8)),
            sectors,
            read_only: features.contains(Features::READ_ONLY),
            has_flush: features.contains(Features::FLUSH),
            max_segments,
            ring: Lock::new(Rank::Disk, Ring::new(memory, transport, features)?),
            counters: Counters::default(),
        };
        let access = if disk.read_only { "read-only" } else { "read-write" };
        info!(target: "virtio", "{}: {} sectors, {access}, at {place}", disk.name, disk.sectors);
        Ok(disk)
    }

    /// Stops the device for good: after this it touches no memory, and every request fails.
    pub fn quiesce(&self) {
        self.ring.lock().kill(Deadline::after_seconds(RESET_SECONDS));
    }

    /// Resets the device without telling the driver: a fault for tests.
    pub fn forget(&self) {
        self.ring.lock().forget(Deadline::after_seconds(RESET_SECONDS));
    }

    /// Makes the device break at the next request: a fault for tests.
    pub fn spoil(&self) {
        self.ring.lock().spoil();
    }

    /// Does `requests`, and again if they are lost in a reset: done twice they change no more than done once.
    fn insist(&self, mut requests: impl FnMut() -> Result<(), BlockError>) -> Result<(), BlockError> {
        (1..ATTEMPTS)
            .find_map(|_| Some(requests()).filter(|done| *done != Err(BlockError::Reset)))
            .unwrap_or_else(requests)
    }

    /// Checks that every request lies on the disk and every buffer is one that the device can reach, and counts them.
    fn admit(&self, batch: &mut impl Batch) -> Result<(), BlockError> {
        let (mut requests, mut sectors) = (0, 0);
        while let Some((sector, segments)) = batch.request(requests) {
            let mut bytes = 0;
            for index in 0..segments {
                let Some(segment) = batch.segment(requests, index) else { continue };
                if hal::physical_of(segment.0).is_none() {
                    error!(target: "virtio", "{}: a buffer is scattered over memory", self.name);
                    return Err(BlockError::Io { sector });
                }
                bytes += segment.len();
            }
            requests += 1;
            sectors += self.check_place(batch.kind(), sector, bytes)?;
        }
        let (request_counter, sector_counter) = match batch.kind() {
            Kind::Read => (&self.counters.reads, &self.counters.sectors_read),
            Kind::Write => (&self.counters.writes, &self.counters.sectors_written),
            Kind::Flush => return Ok(()),
        };
        request_counter.fetch_add(requests as u64, Ordering::Relaxed);
        sector_counter.fetch_add(sectors, Ordering::Relaxed);
        Ok(())
    }

    fn revive(&self, ring: &mut Ring, reason: fmt::Arguments<'_>) {
        ring.revive(Deadline::after_seconds(RESET_SECONDS));
        let name = &self.name;
        match ring.is_dead() {
            true => error!(target: "virtio", "{name}: {reason}; not used any more"),
            false => warn!(target: "virtio", "{name}: {reason}; reset, and set up again"),
        }
    }

    /// How many sectors a request is about, if it is about whole ones and they are on the disk.
    fn check_place(&self, kind: Kind, sector: u64, bytes: usize) -> Result<u64, BlockError> {
        if !matches!(kind, Kind::Read | Kind::Write) {
            return Ok(0);
        }
        let count = (bytes / SECTOR_SIZE) as u64;
        if !bytes.is_multiple_of(SECTOR_SIZE) {
            error!(target: "virtio", "{}: a request of {bytes} bytes is no number of sectors", self.name);
            return Err(BlockError::Io { sector });
        }
        if sector.checked_add(count).is_none_or(|end| end > self.sectors) {
            return Err(BlockError::OutOfRange { sector, sectors: self.sectors });
        }
        Ok(count)
    }

    /// Puts every part in flight, as many at a time as fit, and waits for all of them.
    fn run(&self, mut batch: impl Batch) -> Result<(), BlockError> {
        self.admit(&mut batch)?;
        let mut parts = Parts::new(&mut batch, self.max_segments);
        let mut in_flight = [None; SLOTS];
        let mut waiting: Option<Part> = parts.next();
        let mut outcome = Ok(());
        let (mut patience, mut looks) = (Deadline::after_seconds(PATIENCE_SECONDS), 0);
        loop {
            let mut ring = self.ring.lock();
            if ring.is_dead() {
                return Err(BlockError::Dead);
            }
            let mut progress = false;
            while let Some((part, slot)) = waiting.as_ref().and_then(|part| Some((part, ring.submit(part)?))) {
                if let Some(entry) = in_flight.get_mut(slot) {
                    *entry = Some(part.sector);
                }
                waiting = parts.next();
                progress = true;
            }
            ring.notify();
            ring.reap(Deadline::after_seconds(RESET_SECONDS));
            for (slot, entry) in in_flight.iter_mut().enumerate() {
                let Some((sector, finished)) = entry.and_then(|sector| Some((sector, ring.take_finished(slot)?)))
                else {
                    continue;
                };
                *entry = None;
                progress = true;
                match finished {
                    Finished::Done => {}
                    Finished::Failed => {
                        self.counters.errors.fetch_add(1, Ordering::Relaxed);
                        outcome = outcome.and(Err(BlockError::Io { sector }));
                    }
                    // Whatever else happened is found out again when all of it is done once more.
                    Finished::Lost => (outcome, waiting) = (Err(BlockError::Reset), None),
                }
            }
            if waiting.is_none() && in_flight.iter().all(Option::is_none) {
                return outcome;
            }
            looks = if progress { 0 } else { looks + 1 };
            if progress {
                patience = Deadline::after_seconds(PATIENCE_SECONDS);
            } else if patience.passed() {
                self.revive(&mut ring, format_args!("no answer for {PATIENCE_SECONDS} s"));
            } else if looks % LOOKS == 0 && ring.is_lost() {
                self.revive(&mut ring, format_args!("it was reset, or asks for it"));
            }
            drop(ring);
            core::hint::spin_loop();
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("name", &self.name).field("sectors", &self.sectors).finish_non_exhaustive()
    }
}

/// Reads the capacity, in two halves that must belong together.
fn capacity(transport: &SomeTransport<'static>) -> Result<u64, DiskError> {
    for _ in 0..CONFIG_TRIES {
        let generation = transport.read_config_generation();
        let low: u32 = transport.read_config_space(CONFIG_CAPACITY)?;
        let high: u32 = transport.read_config_space(CONFIG_CAPACITY + 4)?;
        if transport.read_config_generation() == generation {
            return Ok(u64::from(high) << 32 | u64::from(low));
        }
    }
    Err(DiskError::UnstableConfig)
}

impl BlockDevice for Disk {
    fn name(&self) -> &str {
        &self.name
    }

    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, requests: &mut [ReadRequest<'_, '_>]) -> Result<(), BlockError> {
        self.insist(|| self.run(&mut *requests))
    }

    fn write(&self, requests: &[WriteRequest<'_>]) -> Result<(), BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        self.insist(|| self.run(requests))
    }

    fn flush(&self) -> Result<(), BlockError> {
        // A device without the feature writes through (virtio 1.2, 5.2.6.2).
        if !self.has_flush {
            return Ok(());
        }
        self.insist(|| self.run(FlushOnly))
    }

    fn stats(&self) -> BlockStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BlockStats {
            reads: get(&self.counters.reads),
            sectors_read: get(&self.counters.sectors_read),
            writes: get(&self.counters.writes),
            sectors_written: get(&self.counters.sectors_written),
            errors: get(&self.counters.errors),
        }
    }
}
