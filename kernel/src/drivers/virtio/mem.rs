//! virtio-mem (virtio 1.2, 5.15) as [`donors::mem`] wants it.

use bitflags::bitflags;
use donors::Fault;
use donors::mem::{Answer, Config, MemDevice};
use frames::Memory;
use log::info;

use super::Found;
use super::port::Port;
use super::queue::Queue;

bitflags! {
    /// Feature bits that this driver knows (virtio 1.2, 5.15.3 and 6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        /// Nothing may be touched but what is plugged, and nothing else ever is.
        const UNPLUGGED_INACCESSIBLE = 1 << 1;
        const VERSION_1 = 1 << 32;
    }
}

const QUEUE: u16 = 0;

/// Words of the configuration, and which of them begin its fields (5.15.4), each of two words.
const CONFIG_WORDS: usize = 14;
const BLOCK_SIZE: usize = 0;
const ADDRESS: usize = 4;
const REGION_SIZE: usize = 6;
const USABLE_SIZE: usize = 8;
const PLUGGED_SIZE: usize = 10;
const REQUESTED_SIZE: usize = 12;

/// Requests and answers (5.15.6.2): a type of two bytes and padding to eight; in a request then an address and a number of
/// blocks, and padding again.
const REQUEST_LEN: usize = 24;
const REQUEST_ADDRESS: usize = 8;
const REQUEST_BLOCKS: usize = 16;
const ANSWER_LEN: usize = 10;

#[derive(Clone, Copy, Debug)]
#[repr(u16)]
enum Kind {
    Plug = 0,
    Unplug = 1,
    UnplugAll = 2,
}

/// The device.
pub struct VirtioMem {
    port: Port,
    queue: Queue,
}

impl VirtioMem {
    /// Takes the device into service.
    ///
    /// # Errors
    /// [`Fault`]; the device is then reset.
    pub fn new(memory: &'static Memory, found: Found) -> Result<Self, Fault> {
        let (mut port, features) = Port::begin(found, Features::all())?;
        let queue = Queue::new(memory, &mut port, QUEUE).inspect_err(|_| {
            port.reset();
        })?;
        port.finish("mem", &[]);
        info!(target: "virtio", "mem at {}: {features:?}", port.place());
        Ok(Self { port, queue })
    }

    fn ask(&mut self, kind: Kind, address: u64, blocks: u16) -> Result<Answer, Fault> {
        let mut request = [0; REQUEST_LEN];
        request[..2].copy_from_slice(&(kind as u16).to_le_bytes());
        request[REQUEST_ADDRESS..REQUEST_ADDRESS + 8].copy_from_slice(&address.to_le_bytes());
        request[REQUEST_BLOCKS..REQUEST_BLOCKS + 2].copy_from_slice(&blocks.to_le_bytes());
        let mut answer = [0xff; ANSWER_LEN];
        self.queue.ask(&mut self.port, &request, &mut answer)?;
        match u16::from_le_bytes([answer[0], answer[1]]) {
            0 => Ok(Answer::Ack),
            1 => Ok(Answer::Nack),
            2 => Ok(Answer::Busy),
            3 => Ok(Answer::Error),
            _ => Err(Fault::Garbage("an answer that there is not")),
        }
    }
}

impl MemDevice for VirtioMem {
    fn acknowledge(&mut self) -> Result<(), Fault> {
        self.port.acknowledge()
    }

    fn config(&mut self) -> Result<Config, Fault> {
        let words = self.port.config::<CONFIG_WORDS>(0)?;
        let field = |at: usize| match words.get(at..at + 2) {
            Some(&[low, high]) => u64::from(u32::from_le(high)) << 32 | u64::from(u32::from_le(low)),
            _ => 0,
        };
        Ok(Config {
            block_size: field(BLOCK_SIZE),
            address: field(ADDRESS),
            region: field(REGION_SIZE),
            usable: field(USABLE_SIZE),
            plugged: field(PLUGGED_SIZE),
            requested: field(REQUESTED_SIZE),
        })
    }

    fn plug(&mut self, address: u64, blocks: u16) -> Result<Answer, Fault> {
        self.ask(Kind::Plug, address, blocks)
    }

    fn unplug(&mut self, address: u64, blocks: u16) -> Result<Answer, Fault> {
        self.ask(Kind::Unplug, address, blocks)
    }

    fn unplug_all(&mut self) -> Result<Answer, Fault> {
        self.ask(Kind::UnplugAll, 0, 0)
    }

    fn reset(&mut self) -> bool {
        self.port.reset()
    }
}
