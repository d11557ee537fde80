//! How a virtio device calls: by messages, by a line to the I/O APIC, or not at all.
//!
//! QEMU's balloon and virtio-mem have no messages before version 9, so a PCI function's pin is what remains: firmware has led it to an
//! input below 16, whose number it wrote into the function's configuration space.
//! Crate `virtio-drivers` has no messages, so the registers that choose them are those of [`super::common`]. A disk has a message for
//! each queue, or is polled; it never uses a line.

use core::fmt;

use log::info;
use virtio_drivers::transport::pci::bus::{BarInfo, DeviceFunction};

use super::common::{CONFIG_VECTOR, CommonConfig, QUEUE_VECTOR};
use crate::arch::apic;
use crate::arch::trap::{VECTOR_DEVICES, VECTOR_DISKS};
use crate::drivers::msix::{self, MsixError};
use crate::drivers::{attention, pci};

/// The one entry of the table that is used of a device that is served at safe points.
const ENTRY: u16 = 0;

/// What a device has for calling.
#[derive(Debug)]
pub enum Interrupt {
    /// Messages.
    Message(Messages),
    /// A line that leads to this input of the I/O APIC.
    Line(u32),
    /// Nothing, for this reason.
    None(NoInterrupt),
}

/// The messages of a PCI function: which it sends is chosen in its common configuration.
#[derive(Debug)]
pub struct Messages {
    common: CommonConfig,
    table: msix::Table,
}

/// Why a device cannot call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoInterrupt {
    /// The function cannot send messages.
    Msix(MsixError),
    /// The common configuration is not where the function has memory.
    NoCommonConfig,
    /// The device does not accept the entry.
    Refused,
    /// Its line is unknown, or no input of the I/O APIC that we use.
    Line(u32),
}

impl fmt::Display for NoInterrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Msix(error) => error.fmt(f),
            Self::NoCommonConfig => f.write_str("its common configuration cannot be found"),
            Self::Refused => f.write_str("it does not accept an interrupt vector"),
            Self::Line(line) => write!(f, "interrupt line {line} leads nowhere"),
        }
    }
}

impl Interrupt {
    /// Prepares a PCI function, whose `bars` are mapped, for messages, or else for the use of its pin.
    pub fn of_function(root: &pci::Root, function: DeviceFunction, bars: &[Option<BarInfo>; 6]) -> Self {
        match (Messages::of_function(root, function, bars), pci::line(function)) {
            (Ok(messages), _) => Self::Message(messages),
            (Err(_), Some(line)) => Self::Line(line),
            (Err(reason), None) => Self::None(reason),
        }
    }

    /// Prepares a PCI function, whose `bars` are mapped, for messages only.
    pub fn by_message(root: &pci::Root, function: DeviceFunction, bars: &[Option<BarInfo>; 6]) -> Self {
        Messages::of_function(root, function, bars).map_or_else(Self::None, Self::Message)
    }

    /// Whether a PCI function needs its pin.
    pub fn uses_pin(&self) -> bool {
        matches!(self, Self::Line(_))
    }

    /// The line of a memory-mapped slot; 0 when nobody said which.
    pub fn of_line(line: u32) -> Self {
        if line == 0 { Self::None(NoInterrupt::Line(line)) } else { Self::Line(line) }
    }

    /// Lets the device call when its configuration changes and when it returns a buffer of one of `queues`. Where it cannot,
    /// it is said, and the device is polled. The device was just reset and does not run yet.
    pub fn attach(&self, name: &str, queues: &[u16]) {
        let attached = match self {
            Self::Message(messages) => messages.choose(queues),
            Self::Line(line) if apic::route(*line) => Ok(()),
            Self::Line(line) => Err(NoInterrupt::Line(*line)),
            Self::None(reason) => Err(*reason),
        };
        if let Err(reason) = attached {
            info!(target: "virtio", "{name}: no interrupt, so it is looked at between commands: {reason}");
            attention::poll();
        }
    }
}

impl Messages {
    fn of_function(
        root: &pci::Root,
        function: DeviceFunction,
        bars: &[Option<BarInfo>; 6],
    ) -> Result<Self, NoInterrupt> {
        let common = CommonConfig::find(root, function, bars).ok_or(NoInterrupt::NoCommonConfig)?;
        let table = msix::enable(root, function, bars).map_err(NoInterrupt::Msix)?;
        Ok(Self { common, table })
    }

    /// One message for everything, to the processor that serves devices.
    fn choose(&self, queues: &[u16]) -> Result<(), NoInterrupt> {
        self.table.lead(ENTRY, apic::serves_devices(), VECTOR_DEVICES);
        let mut accepted = self.common.set_vector(CONFIG_VECTOR, ENTRY);
        for &queue in queues {
            self.common.select(queue);
            accepted &= self.common.set_vector(QUEUE_VECTOR, ENTRY);
        }
        if accepted { Ok(()) } else { Err(NoInterrupt::Refused) }
    }

    /// Gives a queue of a disk the entry of the same number; whether there is one. The queue does not run yet, and the entry sends
    /// nothing before it is led somewhere.
    pub fn give(&self, queue: u16) -> bool {
        self.common.select(queue);
        self.table.has(queue) && self.common.set_vector(QUEUE_VECTOR, queue)
    }

    /// Leads a queue's message to the processor whose local APIC has this id.
    pub fn lead(&self, queue: u16, to: u8) {
        self.table.lead(queue, to, VECTOR_DISKS);
    }
}
