//! Following the host, step by step.

use frames::{FrameList, Zones};
use log::{debug, error, warn};

use super::found::{Names, Own, lend};
use super::{BATCH, Balloon, BalloonDevice, NAME, State};
use crate::{Fault, statistics};

/// The most steps in one call of `serve`: each is a request, or looks for the frames of one.
const STEPS: usize = 16;
/// The guest keeps so many times the upper watermark of free frames and clean pages before it pays its debt: otherwise it might need
/// the frames again at once.
const PLENTY: u32 = 4;
/// The smallest free block that the host is told of has 2^9 frames, which are 2 MiB: below that it gains nothing.
const REPORT_ORDER: u32 = 9;

/// What a look at the host's wishes came to.
enum Step {
    /// Frames changed hands.
    Moved,
    /// So many of the guest's own are to be found, which is done while nothing is locked, since it may take the disk.
    Wants(usize),
    /// There is nothing to do, but perhaps to report more.
    Settled {
        /// Whether.
        more: bool,
    },
}

impl<D: BalloonDevice> Balloon<D> {
    /// A piece of what the host wants; says whether there is more.
    pub(super) fn follow(&self) -> bool {
        let mut own = Own { frames: self.no_frames(), none_left: false };
        for _ in 0..STEPS {
            let mut state = self.state.lock();
            let step = self.step(&mut state, &mut own).unwrap_or_else(|fault| {
                self.give_up(&mut state, fault);
                Step::Settled { more: false }
            });
            drop(state);
            match step {
                Step::Moved => {}
                Step::Wants(frames) => own.find(&self.cache, frames),
                Step::Settled { more } => return more,
            }
        }
        true
    }

    fn step(&self, state: &mut State<D>, own: &mut Own) -> Result<Step, Fault> {
        let Some(device) = &mut state.device else { return Ok(Step::Settled { more: false }) };
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
            device.tell_statistics(&statistics::take(&self.cache, state.held.len() as u64))?;
            state.statistics += 1;
        }
        if absurd {
            return Ok(Step::Settled { more: false });
        }
        let (held, target) = (state.held.len(), target as usize);
        if held < target {
            let most = (target - held).min(BATCH);
            // Those of the pool first.
            let lent = self.of_pool(most);
            let borrowed = lent.is_empty();
            let frames = if borrowed { own.take(most, self.no_frames()) } else { lent };
            if !frames.is_empty() {
                return self.give(state, frames, borrowed).map(|()| Step::Moved);
            }
            if !own.none_left {
                return Ok(Step::Wants(most));
            }
        } else if held > target {
            return self.take(state, held - target).map(|()| Step::Moved);
        }
        self.settle(state, own)
    }

    /// The host has what it wants, or all that it can have.
    fn settle(&self, state: &mut State<D>, own: &mut Own) -> Result<Step, Fault> {
        let owed = self.payable(state).min(BATCH);
        if owed > 0 && !own.none_left {
            let frames = own.take(owed, self.no_frames());
            if frames.is_empty() {
                return Ok(Step::Wants(owed));
            }
            state.debt -= frames.len() as u64;
            lend(self.cleancache(), self.pool, frames);
            return Ok(Step::Moved);
        }
        self.report_free(state).map(|more| Step::Settled { more })
    }

    /// How much of what the guest took of the share when memory was short can go back to the pool, now that memory is plenty.
    fn payable(&self, state: &State<D>) -> usize {
        if state.debt == 0 {
            return 0;
        }
        let (memory, pages) = (self.cache.memory(), self.cache.stats());
        let idle = u64::from(memory.free_frames(Zones::Preservable)) + pages.inactive + pages.active;
        state.debt.min(idle.saturating_sub(u64::from(PLENTY * memory.watermarks().high))) as usize
    }

    /// These frames go to the host: frames of the pool, or borrowed ones, which are the guest's own.
    fn give(&self, state: &mut State<D>, mut frames: FrameList, borrowed: bool) -> Result<(), Fault> {
        let Some(device) = &mut state.device else { return Ok(()) };
        let mut names = Names::default();
        let count = frames.len() as u64;
        if borrowed {
            // What the guest owes is paid with what it gives, and only the rest is borrowed.
            let paid = count.min(state.debt);
            (state.debt, state.borrowed) = (state.debt - paid, state.borrowed + count - paid);
        }
        while let Some(frame) = frames.pop_front() {
            names.push(frame.pfn());
            state.held.push_back(frame);
        }
        device.inflate(names.as_slice())?;
        device.set_actual(state.held.len() as u32)?;
        state.inflated += count;
        Ok(())
    }

    /// Up to `most` frames come from the host: the guest's own first, then those of the pool.
    fn take(&self, state: &mut State<D>, most: usize) -> Result<(), Fault> {
        let mut back = self.take_from_host(state, most)?;
        let count = back.len();
        for _ in 0..state.borrowed.min(count as u64) {
            drop(back.pop_front());
            state.borrowed -= 1;
        }
        lend(self.cleancache(), self.pool, back);
        Ok(())
    }

    /// Up to `most` frames that the host has let go of.
    pub(super) fn take_from_host(&self, state: &mut State<D>, most: usize) -> Result<FrameList, Fault> {
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
    pub(super) fn give_up(&self, state: &mut State<D>, fault: Fault) {
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
}
