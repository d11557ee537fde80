//! virtio-mem: memory that the host plugs in and out in blocks.
//!
//! The device shows a region of addresses, of which nothing may be touched but what is plugged. The host says how much
//! it wants plugged; blocks are plugged from the bottom up, and each becomes part of a pool with fixed addresses. When the host
//! wants less, the highest blocks are taken back, whatever is in them, and unplugged. Invariant: the pool has exactly the frames
//! of the blocks that the device acknowledged as plugged and that it was not asked to unplug since.
//!
//! What frames are to be made of a block is the kernel's business: it gives a [`Ground`].

use alloc::sync::Arc;
use alloc::vec::Vec;
use cleancache::{Cleancache, Kind, PoolId};
use core::fmt;
use frames::{FRAME_SIZE, FrameRun, Lock, Pfn, PfnRange, PhysAddr, Rank};
use log::{debug, error, info, warn};

use crate::{Donor, Fault, TooManyPools, pool};

/// What the pool is called.
pub const NAME: &str = "mem";
/// The most requests in one call of `serve`.
const REQUESTS: usize = 32;
/// The most blocks that are kept account of; with blocks of 2 MiB that is 128 GiB.
const MAX_BLOCKS: u64 = 1 << 16;

/// The device's configuration, in bytes (virtio 1.2, 5.15.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What is plugged and unplugged as a whole.
    pub block_size: u64,
    /// Where the region begins.
    pub address: u64,
    /// How long it is.
    pub region: u64,
    /// How much of it, from its beginning, may be plugged now.
    pub usable: u64,
    /// How much is plugged.
    pub plugged: u64,
    /// How much the host wants plugged.
    pub requested: u64,
}

/// What the device says to a request (virtio 1.2, 5.15.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Ack,
    /// Not now, and not later unless something changes.
    Nack,
    /// Not now.
    Busy,
    /// The request made no sense to it.
    Error,
}

/// What is wanted of the device. After a [`Fault`] it is [reset](Self::reset) and not used again.
pub trait MemDevice: Send {
    /// The device's call was heard. Comes before a look at its wishes.
    fn acknowledge(&mut self) -> Result<(), Fault>;
    /// Its configuration, all of one moment.
    fn config(&mut self) -> Result<Config, Fault>;
    /// Plug `blocks` blocks from `address` on.
    fn plug(&mut self, address: u64, blocks: u16) -> Result<Answer, Fault>;
    /// Unplug `blocks` blocks from `address` on.
    fn unplug(&mut self, address: u64, blocks: u16) -> Result<Answer, Fault>;
    /// Unplug everything.
    fn unplug_all(&mut self) -> Result<Answer, Fault>;
    /// Stops the device for good; says whether it confirmed that.
    fn reset(&mut self) -> bool;
}

/// Makes frames of plugged memory.
pub trait Ground: Send {
    /// The part of `region` for which there are records of frames, from its beginning; `None` when it is no place for memory.
    fn prepare(&mut self, region: PfnRange) -> Option<PfnRange>;
    /// The frames of `block`, a part of what was prepared, which has just been plugged.
    fn plugged(&mut self, block: PfnRange) -> Option<FrameRun>;
    /// `block` is about to be unplugged: nobody owns its frames any more.
    fn unplugged(&mut self, block: FrameRun);
}

/// Why the device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemError {
    /// It broke the rules.
    Fault(Fault),
    /// It did not unplug what a previous kernel had.
    NotEmpty(Answer),
    /// Blocks of this size are no use: no power of two, or less than a frame.
    BlockSize(u64),
    /// The region is not made of blocks, or runs over the end of the addresses.
    Region(Config),
    /// There can be no pool.
    TooManyPools,
    /// There are no records for the frames of the region, or it lies where there is memory already.
    NoRecords(PfnRange),
}

impl fmt::Display for MemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::NotEmpty(answer) => write!(f, "it does not unplug what is there: {answer:?}"),
            Self::BlockSize(size) => write!(f, "blocks of {size} bytes"),
            Self::Region(config) => write!(f, "a region of {:#x} bytes at {:#x}", config.region, config.address),
            Self::TooManyPools => TooManyPools.fmt(f),
            Self::NoRecords(range) => write!(f, "no records for frames {range:?}"),
        }
    }
}

impl core::error::Error for MemError {}

impl From<Fault> for MemError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<TooManyPools> for MemError {
    fn from(_: TooManyPools) -> Self {
        Self::TooManyPools
    }
}

/// The pluggable memory.
pub struct PluggedMemory<D, G> {
    cleancache: Arc<Cleancache>,
    pool: PoolId,
    /// First frame, and frames of a block.
    first: Pfn,
    block: u64,
    state: Lock<State<D, G>>,
}

struct State<D, G> {
    /// `None` when it broke the rules.
    device: Option<D>,
    ground: G,
    /// Which blocks are plugged, from the first on.
    plugged: Vec<bool>,
    count: u64,
    /// Blocks that may or may not be plugged, since the device broke the rules when it was asked.
    lost: u64,
    wanted: u64,
    /// What the host asked for the last time that it was complained about.
    complaint: Option<u64>,
    refusals: u64,
}

/// The part of the region that can be used, in blocks.
fn blocks_of(config: &Config) -> Result<(Pfn, u64, u64), MemError> {
    let size = config.block_size;
    if !size.is_power_of_two() || size < FRAME_SIZE as u64 {
        return Err(MemError::BlockSize(size));
    }
    let end = config.address.checked_add(config.region);
    let whole = config.address.is_multiple_of(size) && config.region.is_multiple_of(size);
    if !whole || end.is_none() || config.region == 0 {
        return Err(MemError::Region(*config));
    }
    Ok((PhysAddr::new(config.address).pfn(), size / FRAME_SIZE as u64, (config.region / size).min(MAX_BLOCKS)))
}

impl<D: MemDevice, G: Ground> PluggedMemory<D, G> {
    /// Empties the device of what a previous kernel had, and makes ready for what the host will plug. Nothing is plugged before the
    /// first [`Donor::serve`].
    ///
    /// # Errors
    /// [`MemError`]; the device is then reset.
    pub fn start(cleancache: Arc<Cleancache>, mut device: D, mut ground: G) -> Result<Self, MemError> {
        let made = Self::empty(&mut device, &mut ground)
            .and_then(|place| Ok((place, pool(&cleancache, NAME, Kind::Fixed)?)))
            .inspect_err(|_| {
                device.reset();
            });
        let ((first, block, blocks), pool) = made?;
        info!(target: "donate", "{NAME}: up to {blocks} blocks of {block} frames at {:?}", first.addr());
        let state = State {
            device: Some(device),
            ground,
            plugged: alloc::vec![false; blocks as usize],
            count: 0,
            lost: 0,
            wanted: 0,
            complaint: None,
            refusals: 0,
        };
        Ok(Self { cleancache, pool, first, block, state: Lock::new(Rank::Donation, state) })
    }

    fn empty(device: &mut D, ground: &mut G) -> Result<(Pfn, u64, u64), MemError> {
        match device.unplug_all()? {
            Answer::Ack => {}
            answer => return Err(MemError::NotEmpty(answer)),
        }
        let (first, block, blocks) = blocks_of(&device.config()?)?;
        let region = PfnRange { start: first, count: blocks * block };
        let prepared = ground.prepare(region).filter(|prepared| prepared.start == first && region.covers(*prepared));
        match prepared.map_or(0, |prepared| prepared.count / block) {
            0 => Err(MemError::NoRecords(region)),
            blocks => Ok((first, block, blocks)),
        }
    }

    fn range(&self, index: usize) -> PfnRange {
        PfnRange { start: self.first.offset(index as u64 * self.block), count: self.block }
    }

    /// A piece of what the host wants; says whether there is more.
    fn follow(&self, state: &mut State<D, G>) -> Result<bool, Fault> {
        let Some(device) = &mut state.device else { return Ok(false) };
        device.acknowledge()?;
        let config = device.config()?;
        let known = blocks_of(&config).ok().filter(|&(first, block, _)| (first, block) == (self.first, self.block));
        if known.is_none() {
            return Err(Fault::Garbage("a region that moved"));
        }
        if config.requested > config.usable || config.usable > config.region {
            if state.complaint.replace(config.requested) != Some(config.requested) {
                let Config { requested, usable, region, .. } = config;
                warn!(target: "donate", "{NAME}: the host wants {requested:#x} of {usable:#x} usable of {region:#x} bytes; refused");
            }
            return Ok(false);
        }
        let all = state.plugged.len() as u64;
        let wanted = config.requested / config.block_size;
        if wanted > all && state.complaint.replace(config.requested) != Some(config.requested) {
            warn!(target: "donate", "{NAME}: the host wants {wanted} blocks plugged; there are records for {all}");
        }
        state.wanted = wanted.min(all);
        let usable = (config.usable / config.block_size).min(all) as usize;
        for _ in 0..REQUESTS {
            let moved = match state.count.cmp(&state.wanted) {
                core::cmp::Ordering::Less => self.plug(state, usable)?,
                core::cmp::Ordering::Greater => self.unplug(state)?,
                core::cmp::Ordering::Equal => false,
            };
            if !moved {
                return Ok(false);
            }
        }
        Ok(state.count != state.wanted)
    }

    /// Plugs the lowest block that is not plugged; says whether that was possible.
    fn plug(&self, state: &mut State<D, G>, usable: usize) -> Result<bool, Fault> {
        let Some(device) = &mut state.device else { return Ok(false) };
        let Some(index) = state.plugged.iter().take(usable).position(|plugged| !plugged) else { return Ok(false) };
        let range = self.range(index);
        let answer = device.plug(range.start.addr().as_u64(), 1)?;
        if answer != Answer::Ack {
            return Ok(self.refused(state, "plug", range, answer));
        }
        let Some(run) = state.ground.plugged(range) else {
            device.unplug(range.start.addr().as_u64(), 1)?;
            return Ok(self.refused(state, "make frames of", range, answer));
        };
        if let Some(plugged) = state.plugged.get_mut(index) {
            *plugged = true;
            state.count += 1;
        }
        self.lend(run);
        Ok(true)
    }

    /// Unplugs the highest block; says whether that was possible.
    fn unplug(&self, state: &mut State<D, G>) -> Result<bool, Fault> {
        let Some(device) = &mut state.device else { return Ok(false) };
        let Some(index) = state.plugged.iter().rposition(|&plugged| plugged) else { return Ok(false) };
        let range = self.range(index);
        let run = match self.cleancache.take_range(self.pool, range) {
            Ok(run) => run,
            // The pool has every block that is plugged, so this does not come about.
            Err(error) => {
                error!(target: "donate", "{NAME}: {error}");
                return Ok(false);
            }
        };
        state.ground.unplugged(run);
        let answer = device.unplug(range.start.addr().as_u64(), 1);
        match answer {
            Ok(Answer::Ack) => {}
            // It is still plugged, so it is lent again.
            Ok(answer) => {
                if let Some(run) = state.ground.plugged(range) {
                    self.lend(run);
                    return Ok(self.refused(state, "unplug", range, answer));
                }
                state.lost += 1;
            }
            Err(_) => state.lost += 1,
        }
        if let Some(plugged) = state.plugged.get_mut(index) {
            *plugged = false;
            state.count -= 1;
        }
        answer.map(|_| true)
    }

    fn lend(&self, run: FrameRun) {
        if let Err((error, rest)) = self.cleancache.donate_run(self.pool, run) {
            error!(target: "donate", "{NAME}: {} frames not lent: {error}", rest.len());
        }
    }

    fn refused(&self, state: &mut State<D, G>, what: &str, range: PfnRange, answer: Answer) -> bool {
        state.refusals += 1;
        debug!(target: "donate", "{NAME}: cannot {what} {range:?}: {answer:?}");
        false
    }
}

/// Plugged memory is the host's to have back at any time, so none of it is given away when memory is short.
impl<D: MemDevice, G: Ground> Donor for PluggedMemory<D, G> {
    fn name(&self) -> &str {
        NAME
    }

    fn serve(&self) -> bool {
        let mut state = self.state.lock();
        match self.follow(&mut state) {
            Ok(more) => more,
            Err(fault) => {
                error!(target: "donate", "{NAME}: {fault}; the device is not used any more");
                // What is plugged stays plugged over a reset, and stays in use.
                if !state.device.take().is_some_and(|mut device| device.reset()) {
                    error!(target: "donate", "{NAME}: the device does not stop");
                }
                false
            }
        }
    }

    /// The next kernel unplugs what this one had: nothing in it is handed over.
    fn quiesce(&self) {
        if let Some(mut device) = self.state.lock().device.take()
            && !device.reset()
        {
            error!(target: "donate", "{NAME}: the device does not stop");
        }
    }

    fn foreign(&self) -> u64 {
        self.state.lock().count * self.block
    }

    fn report(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let state = self.state.lock();
        let (blocks, all) = (state.count, state.plugged.len());
        write!(
            out,
            "{NAME}: {blocks} of {all} blocks of {} frames plugged; the host wants {}",
            self.block, state.wanted
        )?;
        writeln!(out, "{}", if state.device.is_none() { " (device given up)" } else { "" })?;
        writeln!(out, "  refused {}  lost {}", state.refusals, state.lost)
    }
}

impl<D, G> fmt::Debug for PluggedMemory<D, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluggedMemory").finish_non_exhaustive()
    }
}
