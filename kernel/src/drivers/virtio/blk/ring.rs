//! A queue of a block device: parts go in, come back finished in any order, and wait to be collected.
//!
//! Each part in flight has a slot, with the request header and the status byte in a page of their own that the device
//! reads and writes, and with the part itself, because the queue wants to see the same buffers again when they return.

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use frames::{FRAME_SIZE, FrameRun, Memory, Zones};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::SomeTransport;
use virtio_drivers::{Error, Result};

use super::request::{Kind, MAX_SEGMENTS, Part};
use crate::drivers::virtio::common::Notifier;
use crate::drivers::virtio::hal::GuestHal;

/// Parts that can be in flight at a time.
pub const SLOTS: usize = 32;
/// Descriptors: three full parts, or every slot with two segments.
const DESCRIPTORS: usize = 128;

/// Bytes of the control page for each slot: header (16), status (1), unused.
const CONTROL_STRIDE: usize = 32;
const HEADER_LEN: usize = 16;
type Queue = VirtQueue<GuestHal, DESCRIPTORS>;

const _: () = assert!(SLOTS * CONTROL_STRIDE <= FRAME_SIZE);

/// Status byte of a request that succeeded (virtio 1.2, 5.2.6); before the device has written it, it is all ones.
const STATUS_OK: u8 = 0;
const STATUS_UNSET: u8 = 0xff;

/// How a part came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// As asked.
    Done,
    /// With an error status.
    Failed,
    /// Not at all: the device was reset meanwhile.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    InFlight { token: u16 },
    Finished(Finished),
}

struct Slot {
    state: State,
    part: Part,
}

/// The device returned what it was not given.
#[derive(Clone, Copy, Debug)]
pub struct Nonsense;

/// The queue and everything that is in it. It is dropped after the device was reset.
pub struct Ring {
    number: u16,
    /// `None` while the device is set up again: the ring is closed.
    queue: Option<Queue>,
    /// One that is set up, for when the device runs.
    next: Option<Queue>,
    control: FrameRun,
    slots: Vec<Slot>,
    notifier: Notifier,
    /// Whether parts were added that the device has not been told of.
    untold: bool,
    /// Whether the device has answered anything since it was last set up.
    answered: bool,
}

impl Ring {
    /// Sets up queue `number` of a device that does not run yet; it is closed.
    ///
    /// # Errors
    /// If there is no memory, or the device's queue is too short.
    pub fn new(
        memory: &'static Memory,
        transport: &mut SomeTransport<'static>,
        number: u16,
        notifier: Notifier,
    ) -> Result<Self> {
        let control = memory.allocate_run(Zones::Ephemeral, 0).ok_or(Error::DmaError)?;
        let mut slots = Vec::new();
        slots.try_reserve_exact(SLOTS).map_err(|_| Error::DmaError)?;
        slots.resize_with(SLOTS, || Slot { state: State::Free, part: Part::empty(Kind::Flush, 0) });
        let (queue, next) = (None, None);
        let mut ring = Self { number, queue, next, control, slots, notifier, untold: false, answered: false };
        ring.set_up(transport)?;
        Ok(ring)
    }

    /// Sets up the queue, which is closed, for a device that does not run yet.
    ///
    /// # Errors
    /// As [`Ring::new`].
    pub fn set_up(&mut self, transport: &mut SomeTransport<'static>) -> Result<()> {
        let mut queue = VirtQueue::new(transport, self.number, false, false)?;
        queue.set_dev_notify(false);
        self.next = Some(queue);
        Ok(())
    }

    /// Lets parts in, now that the device runs.
    pub fn open(&mut self) {
        self.queue = self.next.take();
    }

    /// Lets nothing in any more, and frees the queue of a device that was reset. What was in flight comes back as [`Finished::Lost`].
    /// Whether the device has answered anything since the last time.
    pub fn close(&mut self) -> bool {
        (self.queue, self.next, self.untold) = (None, None, false);
        for slot in &mut self.slots {
            if let State::InFlight { .. } = slot.state {
                slot.state = State::Finished(Finished::Lost);
            }
        }
        core::mem::take(&mut self.answered)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Puts a part in flight and returns its slot; `None` when there is no room now.
    pub fn submit(&mut self, part: &Part) -> Option<usize> {
        // One descriptor each for the header and the status.
        if self.queue.as_ref()?.available_desc() < part.segments().len() + 2 {
            return None;
        }
        let index = self.slots.iter().position(|slot| slot.state == State::Free)?;
        self.slots.get_mut(index)?.part = *part;
        self.write_header(index, part);
        // SAFETY: the header and the status lie in our control page; the segments belong to a caller that stays blocked
        // until `take_finished` or the death of the device, which is what `Disk::run` sees to.
        let token = self.with_buffers(index, |queue, inputs, outputs| unsafe { queue.add(inputs, outputs) })?.ok()?;
        self.slots.get_mut(index)?.state = State::InFlight { token };
        self.untold = true;
        Some(index)
    }

    /// Tells the device about what was added since the last time. Always: it may wish not to be told while it works, but to be
    /// wrong about that wish is to wait for ever, and one telling covers a whole batch.
    pub fn notify(&mut self) {
        if core::mem::take(&mut self.untold) {
            self.notifier.notify();
        }
    }

    /// Whether the device is to call when it returns something. It sees that before anything that is done after this.
    pub fn want_call(&mut self, wanted: bool) {
        if let Some(queue) = &mut self.queue {
            queue.set_dev_notify(wanted);
            fence(Ordering::SeqCst);
        }
    }

    /// Whether something came back that was not moved to its slot, or nothing can.
    pub fn has_news(&self) -> bool {
        self.queue.as_ref().is_none_or(|queue| queue.can_pop())
    }

    /// Whether the part in this slot has come back.
    pub fn is_finished(&self, index: usize) -> bool {
        self.slots.get(index).is_none_or(|slot| matches!(slot.state, State::Finished(_)))
    }

    /// Moves everything that came back to its slot.
    ///
    /// # Errors
    /// [`Nonsense`]; the device must then be stopped.
    pub fn reap(&mut self) -> core::result::Result<(), Nonsense> {
        // No more can come back than can be in flight.
        for _ in 0..SLOTS {
            let Some(token) = self.queue.as_ref().and_then(|queue| queue.peek_used()) else { break };
            let index = self.slots.iter().position(|slot| slot.state == State::InFlight { token });
            let popped = index.and_then(|index| {
                // SAFETY: these are the buffers that this slot's part was added with, under this token.
                self.with_buffers(index, |queue, inputs, outputs| unsafe { queue.pop_used(token, inputs, outputs) })
            });
            match (index.and_then(|index| Some((self.status(index), self.slots.get_mut(index)?))), popped) {
                (Some((status, slot)), Some(Ok(_))) => {
                    let outcome = if status == STATUS_OK { Finished::Done } else { Finished::Failed };
                    slot.state = State::Finished(outcome);
                    self.answered = true;
                }
                _ => return Err(Nonsense),
            }
        }
        Ok(())
    }

    /// How the part in this slot came back, if it did; the slot is then free again.
    pub fn take_finished(&mut self, index: usize) -> Option<Finished> {
        let slot = self.slots.get_mut(index)?;
        let State::Finished(outcome) = slot.state else { return None };
        slot.state = State::Free;
        Some(outcome)
    }

    /// Gives the device a request that it has no place to answer, so that it breaks when it is told of the next one: a fault for tests.
    pub fn spoil(&mut self) {
        let header = NonNull::slice_from_raw_parts(self.control(0, 0), HEADER_LEN);
        // SAFETY: the header is in our page, which lives as long as the queue. The device only reads it, and what it reads there does
        // not matter.
        let added = self.queue.as_mut().map(|queue| unsafe { queue.add(&[header.as_ref()], &mut []) });
        self.untold |= matches!(added, Some(Ok(_)));
    }

    fn control(&self, index: usize, offset: usize) -> NonNull<u8> {
        // SAFETY: the offset is within the page, which holds `SLOTS` strides (asserted above); `index` names a slot.
        unsafe { self.control.as_ptr().byte_add((index % SLOTS) * CONTROL_STRIDE + offset) }
    }

    fn write_header(&mut self, index: usize, part: &Part) {
        let mut header = [0; HEADER_LEN];
        let (kind, sector) = header.split_at_mut(8);
        kind[..4].copy_from_slice(&(part.kind as u32).to_le_bytes());
        sector.copy_from_slice(&part.sector.to_le_bytes());
        // SAFETY: the slot is free, so the device does not look at its header and status; both are in our page.
        unsafe {
            self.control(index, 0).cast::<[u8; HEADER_LEN]>().write_volatile(header);
            self.control(index, HEADER_LEN).write_volatile(STATUS_UNSET);
        }
    }

    fn status(&self, index: usize) -> u8 {
        // SAFETY: the byte is in our page; the device wrote it before it returned the request.
        unsafe { self.control(index, HEADER_LEN).read_volatile() }
    }

    /// Lets `f` use the queue together with the buffers of a slot: those that the device reads, and those that it writes.
    fn with_buffers<R>(
        &mut self,
        index: usize,
        f: impl for<'a> FnOnce(&mut Queue, &'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> R,
    ) -> Option<R> {
        let header = NonNull::slice_from_raw_parts(self.control(index, 0), HEADER_LEN);
        let status = NonNull::slice_from_raw_parts(self.control(index, HEADER_LEN), 1);
        let part = &self.slots.get(index)?.part;
        let mut inputs: [&[u8]; MAX_SEGMENTS + 1] = [&[]; MAX_SEGMENTS + 1];
        let mut outputs: [&mut [u8]; MAX_SEGMENTS + 1] = core::array::from_fn(|_| &mut [][..]);
        let (mut read, mut written) = (0, 0);
        let mut give = |buffer: NonNull<[u8]>, fills: bool| {
            if fills {
                // SAFETY: the part's caller is blocked and lends us its exclusive borrow of the segment, so nothing else
                // refers to it; the status byte is ours. The reference ends with this call.
                *outputs.get_mut(written)? = unsafe { &mut *buffer.as_ptr() };
                written += 1;
            } else {
                // SAFETY: as above, with a shared borrow; the header is ours.
                *inputs.get_mut(read)? = unsafe { &*buffer.as_ptr() };
                read += 1;
            }
            Some(())
        };
        give(header, false)?;
        for segment in part.segments() {
            give(segment.0, part.kind.fills())?;
        }
        give(status, true)?;
        Some(f(self.queue.as_mut()?, inputs.get(..read)?, outputs.get_mut(..written)?))
    }
}
