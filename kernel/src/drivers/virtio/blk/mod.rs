//! The virtio block device (virtio 1.2, 5.2): many requests in flight, each of many segments, in a queue for each processor.
//!
//! A batch is cut into *parts* of as many segments as one request may have. All parts that fit are put in flight at
//! once; then they are waited for. A queue's lock is held only while its ring is touched, never while the device works, so
//! several batches may be under way even where processors share a queue, and whoever looks reaps for all.
//!
//! Buffers in flight belong to the device. A call returns only when its parts have come back, or after the device was
//! reset, which makes it forget them. What the device writes into the rings is checked before it is believed.
//!
//! A device that was reset, asks for that, or does nothing for long is set up again, and what it had in hand is done once more;
//! one that breaks the rules, or is no better after it, is not used any more.

mod device;
mod request;
mod ring;
mod wait;

pub use wait::{calls, on_interrupt};

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bitflags::bitflags;
use frames::{Lock, Memory, Rank};
use fs::block::{BlockDevice, BlockError, BlockStats, ReadRequest, SECTOR_SIZE, WriteRequest};
use log::{error, info};
use virtio_drivers::transport::{SomeTransport, Transport};

use self::device::Device;
use self::request::{Batch, FlushOnly, Kind};
use self::ring::Ring;
use super::{Found, hal};
use crate::arch::local;

bitflags! {
    /// Feature bits that this driver knows (virtio 1.2, 5.2.3 and 6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const SEG_MAX = 1 << 2;
        const READ_ONLY = 1 << 5;
        const FLUSH = 1 << 9;
        const QUEUES = 1 << 12;
        const VERSION_1 = 1 << 32;
    }
}

/// Offsets in the device's configuration space (virtio 1.2, 5.2.4).
const CONFIG_CAPACITY: usize = 0;
const CONFIG_SEG_MAX: usize = 12;
const CONFIG_QUEUES: usize = 34;
/// How often the configuration is read again because it changed meanwhile.
const CONFIG_TRIES: usize = 8;

/// How often a call is tried whose requests were lost in a reset.
const ATTEMPTS: usize = 3;

/// Why a block device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The device does not offer the interface of virtio 1.0.
    Legacy,
    /// The device refused the features that were chosen.
    FeaturesRefused,
    /// The capacity kept changing while it was read.
    UnstableConfig,
    /// It does not say where it is told of requests.
    NoNotifier,
    /// The queue could not be set up, or there is no configuration.
    Virtio(virtio_drivers::Error),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legacy => f.write_str("it does not speak virtio 1.0"),
            Self::FeaturesRefused => f.write_str("it refused its own features"),
            Self::NoNotifier => f.write_str("it has nowhere to be told of requests"),
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
    /// Before the queues: it is reset when it is dropped, and only then may their memory go.
    device: Lock<Device>,
    queues: Vec<Queue>,
    /// How often it was set up again. Changes with `device` locked, as `dead` does, which is set when the device has stopped for good.
    set_up: AtomicU32,
    dead: AtomicBool,
    counters: Counters,
}

/// A queue, in cache lines of its own.
#[repr(align(64))]
struct Queue {
    /// That of the processor that is called.
    number: usize,
    /// Whether the device has a message for it.
    has_message: bool,
    /// Whether that is led to the processor.
    calls: AtomicBool,
    ring: Lock<Ring>,
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
    /// Takes a block device into service, as disk number `index`, with a queue for each of so many `processors` if it has them.
    ///
    /// # Errors
    /// [`DiskError`]; the device is then reset.
    pub fn new(memory: &'static Memory, found: Found, index: usize, processors: usize) -> Result<Self, DiskError> {
        let place = found.place;
        let mut device = Device::begin(found)?;
        let (features, transport) = (device.features(), device.transport());
        let sectors = capacity(transport)?;
        let max_segments = match features.contains(Features::SEG_MAX) {
            true => transport.read_config_space::<u32>(CONFIG_SEG_MAX)? as usize,
            false => 1,
        };
        let offered = match features.contains(Features::QUEUES) {
            // Where it cannot be read there is one, as there always is.
            true => transport.read_config_space::<u16>(CONFIG_QUEUES).unwrap_or(1),
            false => 1,
        };
        let count = usize::from(offered).min(processors).max(1);
        let mut queues = Vec::new();
        queues.try_reserve_exact(count).map_err(|_| virtio_drivers::Error::DmaError)?;
        for number in 0..count {
            let (ring, has_message) = match device.make_ring(memory, number as u16) {
                // Some queues are as good as all.
                Err(_) if number > 0 => break,
                made => made?,
            };
            let (calls, ring) = (AtomicBool::new(false), Lock::new(Rank::Disk, ring));
            queues.push(Queue { number, has_message, calls, ring });
        }
        device.finish();
        queues.iter_mut().for_each(|queue| queue.ring.get_mut().open());
        let disk = Self {
            name: format!("vd{}", char::from(b'a' + (index % 26) as u8)),
            sectors,
            read_only: features.contains(Features::READ_ONLY),
            has_flush: features.contains(Features::FLUSH),
            max_segments,
            device: Lock::new(Rank::Device, device),
            queues,
            set_up: AtomicU32::new(0),
            dead: AtomicBool::new(false),
            counters: Counters::default(),
        };
        let count = disk.queues.len();
        let access = if disk.read_only { "read-only" } else { "read-write" };
        let queues = if count == 1 { "queue" } else { "queues" };
        info!(target: "virtio", "{}: {} sectors, {access}, {count} {queues}, at {place}", disk.name, disk.sectors);
        Ok(disk)
    }

    /// Leads the calls of each queue to its processor, of those with these numbers and local APICs. They have to take part.
    pub fn lead_calls(&self, processors: impl Iterator<Item = (usize, u8)>) {
        let device = self.device.lock();
        for (number, id) in processors {
            if let Some(queue) = self.queues.get(number).filter(|queue| queue.has_message) {
                device.lead(number as u16, id);
                queue.calls.store(true, Ordering::Release);
            }
        }
    }

    /// Stops the device for good: after this it touches no memory, and every request fails.
    pub fn quiesce(&self) {
        self.kill(None);
    }

    /// Resets the device without telling the driver: a fault for tests.
    pub fn forget(&self) {
        self.device.lock().stop();
    }

    /// Makes the device break at the next request in the last queue: a fault for tests.
    pub fn spoil(&self) {
        if let Some(queue) = self.queues.last() {
            queue.ring.lock().spoil();
        }
    }

    /// The queue of this processor.
    fn queue(&self) -> Result<&Queue, BlockError> {
        self.queues.get(local::number() % self.queues.len().max(1)).ok_or(BlockError::Dead)
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
