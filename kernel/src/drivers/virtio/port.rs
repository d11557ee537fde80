//! A virtio device under a driver that serves it now and then: its registers, and the end of it.
//!
//! Nothing here waits without a limit. A device that did not confirm its reset may go on writing to memory that it was
//! given, so that memory is never freed: see [`super::queue`].

use core::fmt;
use core::mem::ManuallyDrop;

use bitflags::Flags;
use core::ops::BitAnd;
use donors::Fault;
use log::warn;
use virtio_drivers::transport::{DeviceStatus, SomeTransport, Transport};

use super::interrupt::Interrupt;
use super::{Found, Place};
use crate::time::Deadline;

/// How long a reset may take.
const RESET_SECONDS: u64 = 5;
/// How often the configuration is read again because it changed meanwhile.
const CONFIG_TRIES: usize = 8;

/// The device.
pub struct Port {
    /// Dropped never: its own way of ending waits for the device without a limit.
    pub(super) transport: ManuallyDrop<SomeTransport<'static>>,
    interrupt: Interrupt,
    place: Place,
}

impl Port {
    /// Resets the device and agrees on features. Answers with those that it offers and those that both sides will use.
    ///
    /// # Errors
    /// [`Fault`], when it is not a device of virtio 1.0 or refuses what it offered; it is then reset.
    pub fn begin<F>(found: Found, known: F) -> Result<(Self, F), Fault>
    where
        F: Flags<Bits = u64> + BitAnd<Output = F> + fmt::Debug,
    {
        const VERSION_1: u64 = 1 << 32;
        let Found { place, transport, interrupt, .. } = found;
        let mut port = Self { transport: ManuallyDrop::new(transport), interrupt, place };
        let agreed = port.transport.begin_init(known);
        let refused = if agreed.bits() & VERSION_1 == 0 {
            "the interface of virtio 1.0"
        } else if !port.transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            "its own features"
        } else {
            return Ok((port, agreed));
        };
        port.reset();
        Err(Fault::Refused(refused))
    }

    /// Resets a device that nobody drives, and lets go of it.
    pub fn retire(found: Found) {
        let Found { place, transport, interrupt, .. } = found;
        let mut port = Self { transport: ManuallyDrop::new(transport), interrupt, place };
        if !port.reset() {
            warn!(target: "virtio", "device at {place} is not used, and does not stop");
        }
    }

    /// Features that the device has, used or not.
    pub fn offered(&mut self) -> u64 {
        self.transport.read_device_features()
    }

    /// Lets the device run, and call for these queues and for changes of its configuration.
    pub fn finish(&mut self, name: &str, queues: &[u16]) {
        self.interrupt.attach(name, queues);
        self.transport.finish_init();
    }

    /// Where the device is.
    pub fn place(&self) -> Place {
        self.place
    }

    /// `N` words of the configuration from the byte `at` on, all of one moment.
    ///
    /// # Errors
    /// [`Fault::Unsteady`], and [`Fault::NoConfig`].
    pub fn config<const N: usize>(&self, at: usize) -> Result<[u32; N], Fault> {
        for _ in 0..CONFIG_TRIES {
            let generation = self.transport.read_config_generation();
            let mut words = [0; N];
            for (index, word) in words.iter_mut().enumerate() {
                *word = self.transport.read_config_space(at + 4 * index).map_err(|_| Fault::NoConfig)?;
            }
            if self.transport.read_config_generation() == generation {
                return Ok(words);
            }
        }
        Err(Fault::Unsteady)
    }

    /// Sets a word of the configuration.
    ///
    /// # Errors
    /// [`Fault::NoConfig`].
    pub fn set_config(&mut self, at: usize, word: u32) -> Result<(), Fault> {
        self.transport.write_config_space(at, word).map_err(|_| Fault::NoConfig)
    }

    /// Tells the device that its call was heard. Has to come before the look at what it called for, so that no later call is
    /// missed. A device with a line lets go of it here.
    ///
    /// # Errors
    /// [`Fault::NeedsReset`], when it called because it cannot go on.
    pub fn acknowledge(&mut self) -> Result<(), Fault> {
        self.transport.ack_interrupt();
        match self.transport.get_status().contains(DeviceStatus::DEVICE_NEEDS_RESET) {
            true => Err(Fault::NeedsReset),
            false => Ok(()),
        }
    }

    /// Stops the device for good; says whether it confirmed that in time.
    pub fn reset(&mut self) -> bool {
        let patience = Deadline::after_seconds(RESET_SECONDS);
        self.transport.set_status(DeviceStatus::empty());
        while self.transport.get_status() != DeviceStatus::empty() {
            if patience.passed() {
                return false;
            }
            core::hint::spin_loop();
        }
        true
    }
}
