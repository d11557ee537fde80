//! virtio-mem against hosts that keep the rules and hosts that do not.

mod common;

use common::{FILE_PAGES, Guest};
use donors::mem::{Answer, Config, Ground, MemDevice, MemError, PluggedMemory};
use donors::{Donor, Fault};
use frames::arena::{Arena, BASE};
use frames::{FRAME_SIZE, FrameRun, Memory, Pfn, PfnRange};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

const BLOCK: u64 = 16;
const BLOCKS: u64 = 48;

#[derive(Clone)]
struct Host {
    config: Config,
    plugged: BTreeSet<u64>,
    /// What it says instead of doing as it is told.
    says: Option<Result<Answer, Fault>>,
    resets: u32,
    stops: bool,
}

#[derive(Clone)]
struct Device(Arc<Mutex<Host>>);

fn region() -> PfnRange {
    PfnRange { start: BASE.offset(1024), count: BLOCK * BLOCKS }
}

fn bytes(frames: u64) -> u64 {
    frames * FRAME_SIZE as u64
}

impl Device {
    fn new() -> Self {
        let config = Config {
            block_size: bytes(BLOCK),
            address: region().start.addr().as_u64(),
            region: bytes(region().count),
            usable: bytes(region().count),
            plugged: 0,
            requested: 0,
        };
        Self(Arc::new(Mutex::new(Host { config, plugged: BTreeSet::new(), says: None, resets: 0, stops: true })))
    }

    fn host<R>(&self, look: impl FnOnce(&mut Host) -> R) -> R {
        look(&mut self.0.lock().unwrap())
    }

    fn want(&self, blocks: u64) {
        self.host(|host| host.config.requested = bytes(BLOCK * blocks));
    }

    fn request(&self, address: u64, blocks: u16, plug: bool) -> Result<Answer, Fault> {
        assert_eq!(blocks, 1);
        self.host(|host| {
            if let Some(answer) = host.says {
                return answer;
            }
            let changed = if plug { host.plugged.insert(address) } else { host.plugged.remove(&address) };
            assert!(changed, "{address:#x} is so already");
            host.config.plugged = host.plugged.len() as u64 * host.config.block_size;
            Ok(Answer::Ack)
        })
    }
}

impl MemDevice for Device {
    fn acknowledge(&mut self) -> Result<(), Fault> {
        assert_eq!(self.host(|host| host.resets), 0, "a device that was reset is asked");
        Ok(())
    }

    fn config(&mut self) -> Result<Config, Fault> {
        Ok(self.host(|host| host.config))
    }

    fn plug(&mut self, address: u64, blocks: u16) -> Result<Answer, Fault> {
        self.request(address, blocks, true)
    }

    fn unplug(&mut self, address: u64, blocks: u16) -> Result<Answer, Fault> {
        self.request(address, blocks, false)
    }

    fn unplug_all(&mut self) -> Result<Answer, Fault> {
        self.host(|host| {
            if let Some(answer) = host.says {
                return answer;
            }
            host.plugged.clear();
            Ok(Answer::Ack)
        })
    }

    fn reset(&mut self) -> bool {
        self.host(|host| {
            host.resets += 1;
            host.stops
        })
    }
}

/// Blocks of an arena that were set aside.
struct Blocks {
    memory: &'static Memory,
    device: Device,
    most: u64,
    idle: BTreeMap<Pfn, FrameRun>,
}

impl Ground for Blocks {
    fn prepare(&mut self, region: PfnRange) -> Option<PfnRange> {
        let mut all = Some(self.memory.claim(region).ok()?);
        while let Some(run) = all.take() {
            let (block, rest) = match run.len() as u64 > BLOCK {
                true => run.split_at(BLOCK as usize),
                false => {
                    self.idle.insert(run.start(), run);
                    break;
                }
            };
            self.idle.insert(block.start(), block);
            all = Some(rest);
        }
        Some(PfnRange { start: region.start, count: region.count.min(self.most) })
    }

    fn plugged(&mut self, block: PfnRange) -> Option<FrameRun> {
        assert!(
            self.device.host(|host| host.plugged.contains(&block.start.addr().as_u64())),
            "used before it is plugged"
        );
        self.idle.remove(&block.start).filter(|run| run.range() == block)
    }

    fn unplugged(&mut self, block: FrameRun) {
        assert!(
            self.device.host(|host| host.plugged.contains(&block.start().addr().as_u64())),
            "used after it was unplugged"
        );
        self.idle.insert(block.start(), block);
    }
}

type Plugged = PluggedMemory<Device, Blocks>;

fn start(guest: &Guest, device: &Device, most: u64) -> Result<Plugged, MemError> {
    let ground = Blocks { memory: guest.cache.memory(), device: device.clone(), most, idle: BTreeMap::new() };
    PluggedMemory::start(guest.cleancache().clone(), device.clone(), ground)
}

fn with_guest(test: impl FnOnce(&Guest, &Device)) {
    let arena = Arena::new(2048).kexec(&[region()]);
    test(&Guest::over(arena.memory()), &Device::new());
}

fn settle(mem: &Plugged) {
    for _ in 0..10 {
        if !mem.serve() {
            return;
        }
    }
    panic!("there is always more to do");
}

#[test]
fn blocks_come_from_the_bottom_and_go_from_the_top() {
    with_guest(|guest, device| {
        device.host(|host| host.plugged.insert(0xdead_0000));
        let mem = start(guest, device, u64::MAX).unwrap();
        assert!(device.host(|host| host.plugged.is_empty()), "what the last kernel had is gone");
        device.want(40);
        assert!(mem.serve(), "all of it at once");
        settle(&mem);
        assert_eq!((guest.donated("mem"), device.host(|host| host.plugged.len())), (40 * BLOCK, 40));
        (0..FILE_PAGES).for_each(|page| guest.read(page));
        guest.cache.reclaim(400);
        device.want(3);
        settle(&mem);
        let address = |block: u64| region().start.offset(block * BLOCK).addr().as_u64();
        assert_eq!(device.host(|host| host.plugged.clone()), (0..3).map(address).collect());
        (0..FILE_PAGES).for_each(|page| guest.read(page));
        device.want(48);
        settle(&mem);
        assert_eq!(guest.donated("mem"), 48 * BLOCK);
        (0..FILE_PAGES).for_each(|page| guest.read(page));
    });
}

#[test]
fn no_more_is_plugged_than_there_are_records_for() {
    with_guest(|guest, device| {
        let mem = start(guest, device, 10 * BLOCK + 5).unwrap();
        device.want(48);
        settle(&mem);
        assert_eq!(guest.donated("mem"), 10 * BLOCK);
        let mut text = String::new();
        mem.report(&mut text).unwrap();
        assert!(text.starts_with("mem: 10 of 10 blocks of 16 frames plugged; the host wants 10\n"), "{text}");
    });
}

#[test]
fn a_region_that_makes_no_sense_is_refused() {
    let spoilt: [fn(&mut Config); 8] = [
        |config| config.block_size = 0,
        |config| config.block_size = 3 << 12,
        |config| config.block_size = 2048,
        |config| config.address += 4096,
        |config| config.address = 0_u64.wrapping_sub(config.block_size),
        |config| config.region += 4096,
        |config| config.region = 0,
        |config| config.region = u64::MAX - u64::MAX % config.block_size,
    ];
    for spoil in spoilt {
        with_guest(|guest, device| {
            device.host(|host| spoil(&mut host.config));
            let error = start(guest, device, u64::MAX).unwrap_err();
            assert!(matches!(error, MemError::BlockSize(_) | MemError::Region(_)), "{error}");
            assert_eq!(device.host(|host| host.resets), 1);
        });
    }
}

#[test]
fn a_region_that_is_somebody_elses_is_refused() {
    with_guest(|guest, device| {
        device.host(|host| host.config.address = BASE.addr().as_u64());
        assert!(matches!(start(guest, device, u64::MAX), Err(MemError::NoRecords(_))));
    });
}

#[test]
fn a_device_that_stays_full_is_not_used() {
    with_guest(|guest, device| {
        device.host(|host| host.says = Some(Ok(Answer::Busy)));
        assert_eq!(start(guest, device, u64::MAX).unwrap_err(), MemError::NotEmpty(Answer::Busy));
    });
}

#[test]
fn absurd_wishes_change_nothing() {
    let spoilt: [fn(&mut Config); 3] =
        [|config| config.requested = u64::MAX, |config| config.usable = 0, |config| config.usable = u64::MAX];
    for spoil in spoilt {
        with_guest(|guest, device| {
            let mem = start(guest, device, u64::MAX).unwrap();
            device.want(5);
            settle(&mem);
            device.want(7);
            device.host(|host| spoil(&mut host.config));
            settle(&mem);
            assert_eq!((guest.donated("mem"), device.host(|host| host.resets)), (5 * BLOCK, 0));
        });
    }
}

#[test]
fn a_refusal_is_tried_again_later() {
    for answer in [Answer::Nack, Answer::Busy, Answer::Error] {
        with_guest(|guest, device| {
            let mem = start(guest, device, u64::MAX).unwrap();
            for (now, wanted) in [(0, 5), (5, 2)] {
                device.want(wanted);
                device.host(|host| host.says = Some(Ok(answer)));
                settle(&mem);
                assert_eq!(guest.donated("mem"), now * BLOCK);
                device.host(|host| host.says = None);
                settle(&mem);
                assert_eq!(guest.donated("mem"), wanted * BLOCK);
            }
        });
    }
}

#[test]
fn a_block_in_doubt_is_lost_and_the_others_stay() {
    with_guest(|guest, device| {
        let mem = start(guest, device, u64::MAX).unwrap();
        device.want(5);
        settle(&mem);
        device.want(2);
        device.host(|host| host.says = Some(Err(Fault::Silent)));
        settle(&mem);
        settle(&mem);
        assert_eq!((guest.donated("mem"), device.host(|host| host.resets)), (4 * BLOCK, 1));
        (0..FILE_PAGES).for_each(|page| guest.read(page));
    });
}

#[test]
fn a_region_that_moves_ends_it() {
    with_guest(|guest, device| {
        let mem = start(guest, device, u64::MAX).unwrap();
        device.want(5);
        settle(&mem);
        device.host(|host| host.config.address += host.config.block_size);
        settle(&mem);
        assert_eq!((guest.donated("mem"), device.host(|host| host.resets)), (5 * BLOCK, 1));
    });
}
