//! The balloon: a share of the guest's own memory that cleancache uses until the host wants it.
//!
//! The share is allocated at the start and lent to a pool whose frames are interchangeable. When the host raises its target,
//! frames go from the pool to the host, and only then frames that are the guest's own, as long as those are not few. When it
//! lowers it, they come back in the opposite order. Invariants, under one lock:
//! - a frame is the host's from before it is named in an inflate request until a deflate request with its name has been
//!   answered, and all that time it is on the list `held`, which nobody reads or writes;
//! - share = frames of the pool + (held − borrowed) + debt, where `borrowed` are frames of the guest's own among those held, and
//!   `debt` frames of the share that the guest uses as its own because memory was short;
//! - the device is told how many are held after every change.
//!
//! The lock is taken before those of the caches, and held while the device answers, which it does at once or never. When memory is
//! short the balloon may be asked from below them: then the lock is only tried.

use alloc::sync::Arc;
use cache::PageCache;
use cleancache::{Cleancache, Kind, PoolId};
use core::fmt;
use frames::{Frame, FrameList, FrameRun, Lock, Pfn, Rank, Zones};
use log::{debug, error, info, warn};

use crate::{Donor, Fault, TooManyPools, pool};

/// What the pool is called.
pub const NAME: &str = "balloon";
/// The most frames in one request.
pub const BATCH: usize = 256;
/// The most requests in one call of `serve`.
const REQUESTS: usize = 16;
/// The guest keeps so many times the upper watermark of free frames and clean pages before it pays its debt: otherwise it might need
/// the frames again at once.
const PLENTY: u32 = 4;
/// The smallest free block that the host is told of has 2^9 frames, which are 2 MiB: below that it gains nothing.
const REPORT_ORDER: u32 = 9;

/// What the balloon wants of its device. After a [`Fault`] it is [reset](Self::reset) and not used again.
pub trait BalloonDevice: Send {
    /// The device's call was heard. Comes before a look at its wishes.
    fn acknowledge(&mut self) -> Result<(), Fault>;
    /// How many frames the host wants to have.
    fn target(&mut self) -> Result<u32, Fault>;
    /// How many it has.
    fn set_actual(&mut self, pages: u32) -> Result<(), Fault>;
    /// Gives these frames to the host, at most [`BATCH`]. They are the host's even if this fails.
    fn inflate(&mut self, pfns: &[Pfn]) -> Result<(), Fault>;
    /// Takes these frames from the host, at most [`BATCH`]. They are the guest's when this has succeeded.
    fn deflate(&mut self, pfns: &[Pfn]) -> Result<(), Fault>;
    /// Whether frames may be used only after the host was told.
    fn must_tell(&self) -> bool;
    /// Whether the balloon may shrink below the host's target when memory is short.
    fn deflates_on_oom(&self) -> bool;
    /// Whether the host waits for new statistics.
    fn wants_statistics(&mut self) -> Result<bool, Fault>;
    /// The statistics that it waits for.
    fn tell_statistics(&mut self, statistics: &[Statistic]) -> Result<(), Fault>;
    /// How many free blocks the host can be told of at a time; 0 if it does not want to know.
    fn report_room(&self) -> usize;
    /// Tells the host that nothing is kept in these blocks; their bytes are unspecified afterwards.
    fn report(&mut self, blocks: &mut [FrameRun]) -> Result<(), Fault>;
    /// Stops the device for good; says whether it confirmed that, so that it holds no frame any more.
    fn reset(&mut self) -> bool;
}

/// A number about the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// About what.
    pub tag: Tag,
    /// Bytes, or events since the start.
    pub value: u64,
}

/// What a statistic is about (virtio 1.2, 5.5.6.3). There is no swap here and there are no huge pages, so those tags are
/// not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Tag {
    /// Page faults that needed the disk: here, pages read from disk.
    MajorFaults = 2,
    /// Page faults that did not. The spec has no tag for hits in a second cache; they are what spared a read, so here: pages
    /// that cleancache had.
    MinorFaults = 3,
    /// Bytes that nobody uses.
    Free = 4,
    /// Bytes of memory that the guest can use: not what the host holds.
    Total = 5,
    /// Bytes that could be had without losing anything: free ones, and clean pages.
    Available = 6,
    /// Bytes in caches of files: the page cache and cleancache together, since the spec knows one.
    Caches = 7,
}

/// The balloon.
pub struct Balloon<D> {
    cache: Arc<PageCache>,
    pool: PoolId,
    state: Lock<State<D>>,
}

struct State<D> {
    /// `None` when it broke the rules.
    device: Option<D>,
    /// It did so at a moment when nothing could be done about it.
    fault: Option<Fault>,
    /// What the host has, or might have.
    held: FrameList,
    /// How many of those are the guest's own.
    borrowed: u64,
    /// Frames of the share that the guest uses as its own.
    debt: u64,
    /// The host's last target, and whether it was too absurd to follow.
    target: u32,
    absurd: bool,
    /// What happened.
    inflated: u64,
    deflated: u64,
    relieved: u64,
    reported: u64,
    statistics: u64,
}

impl<D: BalloonDevice> Balloon<D> {
    /// Takes `share` frames of the guest's memory, or as many as there are, and lends them to cleancache.
    ///
    /// # Errors
    /// [`TooManyPools`]; the device is then reset.
    pub fn start(cache: Arc<PageCache>, mut device: D, share: u64) -> Result<Self, TooManyPools> {
        let memory = cache.memory();
        let pool = pool(cache.cleancache(), NAME, Kind::Exchangeable).inspect_err(|_| {
            device.reset();
        })?;
        let mut frames = FrameList::new(memory);
        // Whatever is asked for, an eighth stays the guest's: tmpfs and the next kexec need some of it.
        let free = u64::from(memory.free_frames(Zones::Preservable));
        let most = share.min(free - free / 8);
        while (frames.len() as u64) < most
            && let Some(frame) = spare(&cache)
        {
            frames.push_back(frame);
        }
        let lent = frames.len() as u64;
        lend(cache.cleancache(), pool, frames);
        info!(target: "donate", "{NAME}: {lent} frames lent to cleancache");
        if lent < share {
            warn!(target: "donate", "{NAME}: there is no memory for more of {share} frames");
        }
        let state = State {
            device: Some(device),
            fault: None,
            held: FrameList::new(memory),
            borrowed: 0,
            debt: 0,
            target: 0,
            absurd: false,
            inflated: 0,
            deflated: 0,
            relieved: 0,
            reported: 0,
            statistics: 0,
        };
        Ok(Self { cache, pool, state: Lock::new(Rank::Donation, state) })
    }

    fn cleancache(&self) -> &Cleancache {
        self.cache.cleancache()
    }

    /// A piece of what the host wants; says whether there is more.
    fn follow(&self, state: &mut State<D>) -> Result<bool, Fault> {
        let Some(device) = &mut state.device else { return Ok(false) };
        if let Some(fault) = state.fault.take() {
            return Err(fault);
        }
        device.acknowledge()?;
        let target = device.target()?;
        // Holes included, so that a host that wants all of the machine is merely greedy.
        let total = self.cache.memory().span().count;
        let absurd = u64::from(target) > total;
        if absurd && (target != state.target || !state.absurd) {
            warn!(target: "donate", "{NAME}: the host wants {target} of {total} frames; refused");
        } else if target != state.target {
            debug!(target: "donate", "{NAME}: the host wants {target} frames");
        }
        (state.target, state.absurd) = (target, absurd);
        if device.wants_statistics()? {
            device.tell_statistics(&self.statistics(state.held.len() as u64))?;
            state.statistics += 1;
        }
        if absurd {
            return Ok(false);
        }
        for _ in 0..REQUESTS {
            let held = state.held.len();
            let moved = match held.cmp(&(target as usize)) {
                core::cmp::Ordering::Less => self.give(state, target as usize - held)?,
                core::cmp::Ordering::Greater => self.take(state, held - target as usize)?,
                core::cmp::Ordering::Equal => 0,
            };
            if moved == 0 {
                self.repay(state);
                return self.report_free(state);
            }
        }
        Ok(true)
    }

    /// Up to `most` frames go to the host, those of the pool first; returns how many.
    fn give(&self, state: &mut State<D>, most: usize) -> Result<usize, Fault> {
        let Some(device) = &mut state.device else { return Ok(0) };
        let most = most.min(BATCH);
        let mut frames = self.cleancache().take_any(self.pool, most).unwrap_or_else(|_| self.no_frames());
        let lent = frames.len();
        while frames.len() < most
            && let Some(frame) = spare(&self.cache)
        {
            frames.push_back(frame);
        }
        if frames.is_empty() {
            return Ok(0);
        }
        let mut names = Names::default();
        let count = frames.len();
        // What the guest owes is paid with what it gives, and only the rest is borrowed.
        let own = (count - lent) as u64;
        let paid = own.min(state.debt);
        (state.debt, state.borrowed) = (state.debt - paid, state.borrowed + own - paid);
        while let Some(frame) = frames.pop_front() {
            names.push(frame.pfn());
            state.held.push_back(frame);
        }
        device.inflate(names.as_slice())?;
        device.set_actual(state.held.len() as u32)?;
        state.inflated += count as u64;
        Ok(count)
    }

    /// Up to `most` frames come from the host: the guest's own first, then those of the pool.
    fn take(&self, state: &mut State<D>, most: usize) -> Result<usize, Fault> {
        let mut back = self.take_from_host(state, most)?;
        let count = back.len();
        for _ in 0..state.borrowed.min(count as u64) {
            drop(back.pop_front());
            state.borrowed -= 1;
        }
        lend(self.cleancache(), self.pool, back);
        Ok(count)
    }

    /// Up to `most` frames that the host has let go of.
    fn take_from_host(&self, state: &mut State<D>, most: usize) -> Result<FrameList, Fault> {
        let mut frames = self.no_frames();
        let Some(device) = &mut state.device else { return Ok(frames) };
        let mut names = Names::default();
        while frames.len() < most.min(BATCH)
            && let Some(frame) = state.held.pop_back()
        {
            names.push(frame.pfn());
            frames.push_back(frame);
        }
        if frames.is_empty() {
            return Ok(frames);
        }
        let told = device.deflate(names.as_slice()).and_then(|()| device.set_actual(state.held.len() as u32));
        if let Err(fault) = told {
            // Whether the host let go of them is not known.
            while let Some(frame) = frames.pop_front() {
                state.held.push_back(frame);
            }
            return Err(fault);
        }
        state.deflated += frames.len() as u64;
        Ok(frames)
    }

    /// What the guest took of the share when memory was short goes back to the pool, as far as memory is plenty now.
    fn repay(&self, state: &mut State<D>) {
        if state.debt == 0 {
            return;
        }
        let (memory, pages) = (self.cache.memory(), self.cache.stats());
        let idle = u64::from(memory.free_frames(Zones::Preservable)) + pages.inactive + pages.active;
        let most = idle.saturating_sub(u64::from(PLENTY * memory.watermarks().high)).min((BATCH * REQUESTS) as u64);
        let mut frames = self.no_frames();
        while (frames.len() as u64) < state.debt.min(most)
            && let Some(frame) = spare(&self.cache)
        {
            frames.push_back(frame);
        }
        state.debt -= frames.len() as u64;
        lend(self.cleancache(), self.pool, frames);
    }

    /// Tells the host of large blocks that nobody uses; says whether there may be more.
    fn report_free(&self, state: &mut State<D>) -> Result<bool, Fault> {
        let Some(device) = &mut state.device else { return Ok(false) };
        let room = device.report_room();
        if room == 0 {
            return Ok(false);
        }
        let (mut outcome, mut frames) = (Ok(()), 0);
        let blocks = self.cache.memory().report_free(REPORT_ORDER, room, |blocks| {
            frames = blocks.iter().map(|block| block.len() as u64).sum();
            outcome = device.report(blocks);
            // Until it confirms a reset, a device that did not answer may still change them.
            let usable = outcome.is_ok() || device.reset();
            if !usable {
                error!(target: "donate", "{NAME}: {frames} free frames are lost, which it may still discard");
            }
            usable
        });
        outcome?;
        state.reported += frames;
        Ok(blocks == room)
    }

    /// The device broke the rules: it is reset. Frames that it held are used again if it confirmed that, and never otherwise.
    fn give_up(&self, state: &mut State<D>, fault: Fault) {
        let Some(mut device) = state.device.take() else { return };
        error!(target: "donate", "{NAME}: {fault}; the device is not used any more");
        if !device.reset() {
            let lost = state.held.len();
            error!(target: "donate", "{NAME}: it does not stop; {lost} frames that it may hold are lost");
            return;
        }
        let mut back = core::mem::replace(&mut state.held, self.no_frames());
        for _ in 0..core::mem::take(&mut state.borrowed) {
            drop(back.pop_front());
        }
        lend(self.cleancache(), self.pool, back);
    }

    fn no_frames(&self) -> FrameList {
        FrameList::new(self.cache.memory())
    }

    fn statistics(&self, held: u64) -> [Statistic; 6] {
        let (memory, pages) = (self.cache.memory().stats(), self.cache.stats());
        let pools = self.cleancache().pool_stats();
        let cached: u64 = pools.iter().map(|pool| pool.cached).sum();
        let (free, clean) = (memory.free_scratch + memory.free_normal, pages.inactive + pages.active);
        let bytes = |frames: u64| frames.saturating_mul(frames::FRAME_SIZE as u64);
        [
            Statistic { tag: Tag::MajorFaults, value: pages.filled },
            Statistic { tag: Tag::MinorFaults, value: pages.restored },
            Statistic { tag: Tag::Free, value: bytes(free) },
            Statistic { tag: Tag::Total, value: bytes(memory.total.saturating_sub(held)) },
            Statistic { tag: Tag::Available, value: bytes(free + clean) },
            Statistic { tag: Tag::Caches, value: bytes(pages.pages() + cached) },
        ]
    }

    /// Up to `most` frames of the pool, then of the host, become free memory; adds to `freed` how many.
    fn relieve_now(&self, state: &mut State<D>, most: usize, freed: &mut usize) -> Result<(), Fault> {
        let lent = self.cleancache().take_any(self.pool, most).map_or(0, |frames| frames.len());
        state.debt += lent as u64;
        *freed += lent;
        self.deflate_for_guest(state, most, freed)
    }

    /// Up to `most` frames, less those in `freed`, come from the host and become free memory, if it permits that.
    fn deflate_for_guest(&self, state: &mut State<D>, most: usize, freed: &mut usize) -> Result<(), Fault> {
        let willing = state.fault.is_none() && state.device.as_ref().is_some_and(D::deflates_on_oom);
        while willing && *freed < most {
            let count = self.take_from_host(state, most - *freed)?.len();
            if count == 0 {
                break;
            }
            let own = state.borrowed.min(count as u64);
            state.borrowed -= own;
            state.debt += count as u64 - own;
            *freed += count;
        }
        Ok(())
    }
}

impl<D: BalloonDevice> Donor for Balloon<D> {
    fn name(&self) -> &str {
        NAME
    }

    fn serve(&self) -> bool {
        let mut state = self.state.lock();
        match self.follow(&mut state) {
            Ok(more) => more,
            Err(fault) => {
                self.give_up(&mut state, fault);
                false
            }
        }
    }

    /// Where the host wants to be told before its frames are used, it is told; everywhere else the reset says enough, and the
    /// next kernel starts with an empty balloon.
    fn quiesce(&self) {
        let mut state = self.state.lock();
        while state.device.as_ref().is_some_and(D::must_tell) && !state.held.is_empty() {
            if self.take_from_host(&mut state, BATCH).is_err() {
                break;
            }
        }
        if let Some(mut device) = state.device.take()
            && !device.reset()
        {
            error!(target: "donate", "{NAME}: the device does not stop");
        }
    }

    fn relieve(&self, frames: usize) -> usize {
        let Some(mut state) = self.state.try_lock() else { return 0 };
        let mut freed = 0;
        if let Err(fault) = self.relieve_now(&mut state, frames, &mut freed) {
            self.give_up(&mut state, fault);
        }
        state.relieved += freed as u64;
        freed
    }

    /// The pool is behind a lock that the caller may hold, so only the host is asked. A fault is dealt with when the balloon is
    /// served again.
    fn relieve_at_once(&self, frames: usize) -> usize {
        let Some(mut state) = self.state.try_lock() else { return 0 };
        let mut freed = 0;
        if let Err(fault) = self.deflate_for_guest(&mut state, frames, &mut freed) {
            state.fault = Some(fault);
        }
        state.relieved += freed as u64;
        freed
    }

    fn away(&self) -> u64 {
        self.state.lock().held.len() as u64
    }

    fn foreign(&self) -> u64 {
        0
    }

    fn report(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let state = self.state.lock();
        let held = state.held.len() as u64;
        write!(
            out,
            "{NAME}: the host has {held} frames, {} of them the guest's own; it wants {}",
            state.borrowed, state.target
        )?;
        match (&state.device, state.absurd) {
            (None, _) if held > 0 => writeln!(out, " (device given up; those frames are lost)")?,
            (None, _) => writeln!(out, " (device given up)")?,
            (_, true) => writeln!(out, " (refused)")?,
            _ => writeln!(out)?,
        }
        writeln!(
            out,
            "  given {}  taken back {}  statistics told {}",
            state.inflated, state.deflated, state.statistics
        )?;
        writeln!(out, "  freed when memory was short {}, still in use {}", state.relieved, state.debt)?;
        writeln!(out, "  free frames reported {}", state.reported)
    }
}

impl<D> fmt::Debug for Balloon<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balloon").finish_non_exhaustive()
    }
}

/// A frame outside the scratch area, as long as that leaves the guest as many free ones as reclaim sees to.
fn spare(cache: &PageCache) -> Option<Frame> {
    let frame = cache.allocate(Zones::Preservable).ok()?;
    (cache.memory().free_frames(Zones::Ephemeral) >= cache.memory().watermarks().low).then_some(frame)
}

fn lend(cleancache: &Cleancache, pool: PoolId, frames: FrameList) {
    if frames.is_empty() {
        return;
    }
    // The pool lives as long as the balloon and the frames are the guest's, so none is refused.
    if let Err((error, rest)) = cleancache.donate_list(pool, frames) {
        error!(target: "donate", "{NAME}: {} frames not lent: {error}", rest.len());
    }
}

/// The names of the frames in a request.
struct Names {
    pfns: [Pfn; BATCH],
    len: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self { pfns: [Pfn::new(0); BATCH], len: 0 }
    }
}

impl Names {
    fn push(&mut self, pfn: Pfn) {
        if let Some(place) = self.pfns.get_mut(self.len) {
            *place = pfn;
            self.len += 1;
        }
    }

    fn as_slice(&self) -> &[Pfn] {
        self.pfns.get(..self.len).unwrap_or_default()
    }
}
