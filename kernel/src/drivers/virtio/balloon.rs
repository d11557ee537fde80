//! The virtio balloon (virtio 1.2, 5.5) as [`donors::balloon`] wants it.

use bitflags::bitflags;
use donors::Fault;
use donors::balloon::{BATCH, BalloonDevice, Statistic};
use frames::{FrameRun, Memory, Pfn};
use log::info;

use super::Found;
use super::port::Port;
use super::queue::{DESCRIPTORS, Queue, REQUEST_MAX};

bitflags! {
    /// Feature bits that this driver knows (virtio 1.2, 5.5.3 and 6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const MUST_TELL_HOST = 1 << 0;
        const STATS_VQ = 1 << 1;
        const DEFLATE_ON_OOM = 1 << 2;
        const PAGE_REPORTING = 1 << 5;
        const VERSION_1 = 1 << 32;
    }
}

/// A feature that moves the number of a queue whether it is used or not.
const FREE_PAGE_HINT: u64 = 1 << 3;

/// Offsets in the device's configuration space (virtio 1.2, 5.5.4).
const CONFIG_NUM_PAGES: usize = 0;
const CONFIG_ACTUAL: usize = 4;

const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;

/// A statistic as the device reads it: a tag of two bytes, a value of eight.
const STATISTIC_LEN: usize = 10;
const _: () = assert!(BATCH * 4 <= REQUEST_MAX);

/// The device.
pub struct VirtioBalloon {
    port: Port,
    features: Features,
    queues: Queues,
}

struct Queues {
    inflate: Queue,
    deflate: Queue,
    statistics: Option<Queue>,
    reporting: Option<Queue>,
}

impl VirtioBalloon {
    /// Takes the device into service.
    ///
    /// # Errors
    /// [`Fault`]; the device is then reset.
    pub fn new(memory: &'static Memory, found: Found) -> Result<Self, Fault> {
        let (mut port, features) = Port::begin(found, Features::all())?;
        let queues = Queues::new(memory, &mut port, features).inspect_err(|_| {
            port.reset();
        })?;
        let calls = queues.statistics.as_ref().map(Queue::number);
        port.finish("balloon", calls.as_slice());
        info!(target: "virtio", "balloon at {}: {features:?}", port.place());
        Ok(Self { port, features, queues })
    }
}

impl Queues {
    /// They are numbered one after the other over those that the device has (QEMU and Linux agree on that).
    fn new(memory: &'static Memory, port: &mut Port, features: Features) -> Result<Self, Fault> {
        let offered = port.offered();
        let inflate = Queue::new(memory, port, INFLATE)?;
        let deflate = Queue::new(memory, port, DEFLATE)?;
        let mut next = DEFLATE + 1;
        let mut statistics = None;
        if features.contains(Features::STATS_VQ) {
            statistics.insert(Queue::new(memory, port, next)?).call_me();
            next += 1;
        }
        next += u16::from(offered & FREE_PAGE_HINT != 0);
        let reporting = match features.contains(Features::PAGE_REPORTING) {
            true => Some(Queue::new(memory, port, next)?),
            false => None,
        };
        Ok(Self { inflate, deflate, statistics, reporting })
    }
}

fn ask(port: &mut Port, queue: &mut Queue, pfns: &[Pfn]) -> Result<(), Fault> {
    let mut request = [0; BATCH * 4];
    let pfns = pfns.get(..pfns.len().min(BATCH)).unwrap_or_default();
    for (word, pfn) in request.chunks_exact_mut(4).zip(pfns) {
        let number = u32::try_from(pfn.get()).map_err(|_| Fault::Garbage("a frame beyond 16 TiB"))?;
        word.copy_from_slice(&number.to_le_bytes());
    }
    queue.ask(port, request.get(..pfns.len() * 4).unwrap_or_default(), &mut [])
}

impl BalloonDevice for VirtioBalloon {
    fn acknowledge(&mut self) -> Result<(), Fault> {
        self.port.acknowledge()
    }

    fn target(&mut self) -> Result<u32, Fault> {
        self.port.config(CONFIG_NUM_PAGES).map(|[pages]| u32::from_le(pages))
    }

    fn set_actual(&mut self, pages: u32) -> Result<(), Fault> {
        self.port.set_config(CONFIG_ACTUAL, pages.to_le())
    }

    fn inflate(&mut self, pfns: &[Pfn]) -> Result<(), Fault> {
        ask(&mut self.port, &mut self.queues.inflate, pfns)
    }

    fn deflate(&mut self, pfns: &[Pfn]) -> Result<(), Fault> {
        ask(&mut self.port, &mut self.queues.deflate, pfns)
    }

    fn must_tell(&self) -> bool {
        self.features.contains(Features::MUST_TELL_HOST)
    }

    fn deflates_on_oom(&self) -> bool {
        self.features.contains(Features::DEFLATE_ON_OOM)
    }

    fn wants_statistics(&mut self) -> Result<bool, Fault> {
        self.queues.statistics.as_mut().map_or(Ok(false), Queue::returned)
    }

    fn tell_statistics(&mut self, statistics: &[Statistic]) -> Result<(), Fault> {
        let Some(queue) = &mut self.queues.statistics else { return Ok(()) };
        let mut bytes = [0; 16 * STATISTIC_LEN];
        let count = statistics.len().min(16);
        for (entry, statistic) in bytes.chunks_exact_mut(STATISTIC_LEN).zip(statistics) {
            let (tag, value) = entry.split_at_mut(2);
            tag.copy_from_slice(&(statistic.tag as u16).to_le_bytes());
            value.copy_from_slice(&statistic.value.to_le_bytes());
        }
        queue.leave(&mut self.port, bytes.get(..count * STATISTIC_LEN).unwrap_or_default())
    }

    fn report_room(&self) -> usize {
        if self.queues.reporting.is_some() { DESCRIPTORS } else { 0 }
    }

    fn report(&mut self, blocks: &mut [FrameRun]) -> Result<(), Fault> {
        match &mut self.queues.reporting {
            Some(queue) => queue.show(&mut self.port, blocks),
            None => Ok(()),
        }
    }

    fn reset(&mut self) -> bool {
        self.port.reset()
    }
}
