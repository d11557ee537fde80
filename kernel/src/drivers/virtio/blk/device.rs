//! The device as a whole, which all its queues share: setting it up, stopping it, and setting it up again.
//!
//! Its registers are locked before any queue is. While the device is stopped it touches no memory, whatever the queues' users do; a
//! queue is closed then, so that nothing is put into it until the device runs again.

use core::sync::atomic::Ordering;
use core::{fmt, hint};

use frames::Memory;
use log::{error, warn};
use virtio_drivers::transport::{DeviceStatus, SomeTransport, Transport};

use super::ring::Ring;
use super::{Disk, DiskError, Features, Queue};
use crate::drivers::virtio::Found;
use crate::drivers::virtio::common::Notifiers;
use crate::drivers::virtio::interrupt::{Interrupt, Messages};
use crate::smp;
use crate::time::Deadline;

/// How long a reset may take.
const RESET_SECONDS: u64 = 5;

/// The device. Dropping it resets it.
pub struct Device {
    transport: SomeTransport<'static>,
    features: Features,
    notifiers: Notifiers,
    messages: Option<Messages>,
}

impl Device {
    /// Resets a device and agrees on features with it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn begin(found: Found) -> Result<Self, DiskError> {
        let Found { mut transport, interrupt, notifiers, .. } = found;
        let features = transport.begin_init(Features::all());
        if !features.contains(Features::VERSION_1) {
            return Err(DiskError::Legacy);
        }
        if !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            return Err(DiskError::FeaturesRefused);
        }
        let notifiers = notifiers.ok_or(DiskError::NoNotifier)?;
        let messages = match interrupt {
            Interrupt::Message(messages) => Some(messages),
            Interrupt::Line(_) | Interrupt::None(_) => None,
        };
        Ok(Self { transport, features, notifiers, messages })
    }

    /// What both sides will use.
    pub fn features(&self) -> Features {
        self.features
    }

    /// The registers.
    pub fn transport(&self) -> &SomeTransport<'static> {
        &self.transport
    }

    /// A ring for queue `number`, closed; the device does not run yet. Whether the queue can call.
    ///
    /// # Errors
    /// If there is no memory, or the device's queue is too short.
    pub fn make_ring(&mut self, memory: &'static Memory, number: u16) -> Result<(Ring, bool), DiskError> {
        let notifier = self.notifiers.of_queue(number).ok_or(DiskError::NoNotifier)?;
        let calls = self.give_message(number);
        Ok((Ring::new(memory, &mut self.transport, number, notifier)?, calls))
    }

    fn give_message(&self, number: u16) -> bool {
        self.messages.as_ref().is_some_and(|messages| messages.give(number))
    }

    /// Leads the calls of queue `number` to the processor whose local APIC has this id.
    pub fn lead(&self, number: u16, to: u8) {
        if let Some(messages) = &self.messages {
            messages.lead(number, to);
        }
    }

    /// Lets it run.
    pub fn finish(&mut self) {
        self.transport.finish_init();
    }

    /// Whether it asks for a reset (virtio 1.2, 2.1.2), or was reset by somebody else.
    pub fn is_lost(&self) -> bool {
        let status = self.transport.get_status();
        status.contains(DeviceStatus::DEVICE_NEEDS_RESET) || !status.contains(DeviceStatus::DRIVER_OK)
    }

    /// Resets it, and returns when it has let go of every buffer.
    ///
    /// # Panics
    /// If it does not confirm that in time. It might then write into buffers that were given back, so there is no safe way to go
    /// on.
    pub fn stop(&mut self) {
        let patience = Deadline::after_seconds(RESET_SECONDS);
        self.transport.set_status(DeviceStatus::empty());
        while self.transport.get_status() != DeviceStatus::empty() {
            assert!(!patience.passed(), "a disk does not stop; it may still write to memory");
            hint::spin_loop();
        }
    }

    /// Agrees on the same features as before; says whether it does.
    fn begin_again(&mut self) -> bool {
        let agreed = self.transport.begin_init(Features::all());
        agreed == self.features && self.transport.get_status().contains(DeviceStatus::FEATURES_OK)
    }

    /// Sets a queue up again that was closed; says whether that worked. One that gets no message this time is polled from now on.
    fn restore(&mut self, queue: &Queue) -> bool {
        let mut ring = queue.ring.lock();
        if !self.give_message(ring.number()) {
            queue.calls.store(false, Ordering::Release);
        }
        ring.set_up(&mut self.transport).is_ok()
    }
}

impl Disk {
    /// Stops the device for good, and says so with the reason if there is one and nobody did it before. What is in flight is so no
    /// more, and whoever waits for it is told.
    pub(super) fn kill(&self, reason: Option<&str>) {
        let mut device = self.device.lock();
        device.stop();
        if !self.dead.swap(true, Ordering::AcqRel)
            && let Some(reason) = reason
        {
            error!(target: "virtio", "{}: {reason}; not used any more", self.name);
            // Nothing else tells those who halt.
            smp::wake_others();
        }
    }

    /// Whether the device asks for a reset, or was reset.
    pub(super) fn is_lost(&self) -> bool {
        self.device.lock().is_lost()
    }

    /// Resets the device and sets all of it up again as it was, unless somebody has since it was set up for the `seen`th time. What was
    /// in flight, in any queue, comes back as lost. A device that has answered nothing since the last time, or comes back with
    /// other features, is stopped for good.
    ///
    /// # Panics
    /// As [`Device::stop`].
    pub(super) fn revive(&self, seen: u32, reason: fmt::Arguments<'_>) {
        let mut device = self.device.lock();
        if self.set_up.load(Ordering::Acquire) != seen || self.dead.load(Ordering::Acquire) {
            return;
        }
        device.stop();
        let name = &self.name;
        let same = device.begin_again();
        // The old ones all go first: memory may be what the disk is wanted for.
        let answered = self.queues.iter().fold(false, |answered, queue| queue.ring.lock().close() | answered);
        if !(same && answered && self.queues.iter().all(|queue| device.restore(queue))) {
            device.stop();
            self.dead.store(true, Ordering::Release);
            smp::wake_others();
            return error!(target: "virtio", "{name}: {reason}; not used any more");
        }
        device.finish();
        self.set_up.store(seen.wrapping_add(1), Ordering::Release);
        self.queues.iter().for_each(|queue| queue.ring.lock().open());
        // Nothing else tells those who halt that what they wait for is lost.
        smp::wake_others();
        warn!(target: "virtio", "{name}: {reason}; reset, and set up again");
    }
}
