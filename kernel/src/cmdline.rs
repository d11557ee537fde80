//! The kernel command line, parsed once into types.
//!
//! Words are separated by blanks. A word that means nothing here, or whose value is malformed, is kept aside for the log
//! and changes nothing: a typing error must not cost the boot.

use cleancache::policy::{self, MakePolicy};
use core::fmt;
use log::LevelFilter;

use crate::console::Mode;
use crate::fault::Stage;

/// Most donations and most virtio-mmio slots that are taken; QEMU's microvm has 24 slots.
const MAX_DONATIONS: usize = 8;
const MAX_SLOTS: usize = 32;

/// A kind of donated memory, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Donation {
    /// Where it comes from.
    pub kind: DonationKind,
    /// Bytes.
    pub bytes: u64,
}

/// Where donated memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DonationKind {
    /// The top of the guest's own memory.
    CarveOut,
    /// What a virtio-balloon leaves to the guest.
    Balloon,
    /// The blocks that a virtio-mem device has plugged.
    Mem,
    /// Memory of the host behind an ivshmem device, which others can write.
    Ivshmem,
}

/// A `virtio_mmio.device=SIZE@ADDRESS:IRQ[:ID]` word, as QEMU writes one for each slot of a microvm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioSlot {
    /// Bytes of registers.
    pub size: u64,
    /// Physical address of the first.
    pub address: u64,
    /// Interrupt line.
    pub irq: u32,
}

/// Why a word was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint<'a> {
    /// No such option.
    Unknown(&'a str),
    /// The option exists and its value makes no sense.
    BadValue(&'a str),
    /// There are more words of this kind than are taken.
    TooMany(&'a str),
}

impl fmt::Display for Complaint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "unknown word `{word}`"),
            Self::BadValue(word) => write!(f, "bad value in `{word}`"),
            Self::TooMany(word) => write!(f, "one too many: `{word}`"),
        }
    }
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine {
    /// For whom the serial line is written.
    pub console: Mode,
    /// Down to which level the log is shown.
    pub log_level: LevelFilter,
    /// Which page leaves cleancache when its pools are full.
    pub policy: MakePolicy,
    /// Where to fail, to show what becomes of it.
    pub panic_at: Option<Stage>,
    donations: List<Donation, MAX_DONATIONS>,
    slots: List<MmioSlot, MAX_SLOTS>,
}

impl CommandLine {
    /// Reads a command line. `complain` hears of every word that was passed over.
    pub fn parse<'a>(line: &'a str, mut complain: impl FnMut(Complaint<'a>)) -> Self {
        let mut parsed = Self {
            console: Mode::Plain,
            log_level: LevelFilter::Info,
            policy: policy::DEFAULT,
            panic_at: None,
            donations: List::new(),
            slots: List::new(),
        };
        for word in line.split_ascii_whitespace() {
            if let Err(complaint) = parsed.take(word) {
                complain(complaint);
            }
        }
        parsed
    }

    /// The donations asked for, in order.
    pub fn donations(&self) -> impl Iterator<Item = Donation> {
        self.donations.iter()
    }

    /// The virtio-mmio slots announced, in order.
    pub fn mmio_slots(&self) -> impl Iterator<Item = MmioSlot> {
        self.slots.iter()
    }

    fn take<'a>(&mut self, word: &'a str) -> Result<(), Complaint<'a>> {
        let bad = Complaint::BadValue(word);
        let (name, value) = word.split_once('=').ok_or(Complaint::Unknown(word))?;
        match name {
            "console" => self.console = mode(value).ok_or(bad)?,
            "policy" => self.policy = policy(value).ok_or(bad)?,
            "loglevel" => self.log_level = level(value).ok_or(bad)?,
            "panic-at" => self.panic_at = Some(Stage::named(value).ok_or(bad)?),
            "donate" => {
                for part in value.split(',') {
                    let donation = donation(part).ok_or(bad)?;
                    self.donations.push(donation).ok_or(Complaint::TooMany(word))?;
                }
            }
            "virtio_mmio.device" => {
                let slot = mmio_slot(value).ok_or(bad)?;
                self.slots.push(slot).ok_or(Complaint::TooMany(word))?;
            }
            _ => return Err(Complaint::Unknown(word)),
        }
        Ok(())
    }
}

fn mode(value: &str) -> Option<Mode> {
    match value {
        "plain" => Some(Mode::Plain),
        "tagged" => Some(Mode::Tagged),
        _ => None,
    }
}

fn policy(value: &str) -> Option<MakePolicy> {
    policy::BUILT_IN.iter().find(|(name, _)| *name == value).map(|&(_, make)| make)
}

/// Only the five names: `off` would hide why a boot failed.
fn level(value: &str) -> Option<LevelFilter> {
    value.parse().ok().filter(|&level| level != LevelFilter::Off)
}

/// `carveout:16M`, and likewise `balloon:`, `mem:` and `ivshmem:`.
fn donation(value: &str) -> Option<Donation> {
    let (kind, size) = value.split_once(':')?;
    let kind = match kind {
        "carveout" => DonationKind::CarveOut,
        "balloon" => DonationKind::Balloon,
        "mem" => DonationKind::Mem,
        "ivshmem" => DonationKind::Ivshmem,
        _ => return None,
    };
    Some(Donation { kind, bytes: size_in_bytes(size)? })
}

/// `512@0xfeb02e00:12`, with an optional `:ID` that is of no use here.
fn mmio_slot(value: &str) -> Option<MmioSlot> {
    let (size, rest) = value.split_once('@')?;
    let mut rest = rest.split(':');
    Some(MmioSlot { size: size_in_bytes(size)?, address: number(rest.next()?)?, irq: rest.next()?.parse().ok()? })
}

/// A number with an optional K, M or G, as on QEMU's command line.
fn size_in_bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (text.get(..text.len() - 1)?, 10),
        b'M' | b'm' => (text.get(..text.len() - 1)?, 20),
        b'G' | b'g' => (text.get(..text.len() - 1)?, 30),
        _ => (text, 0),
    };
    number(digits)?.checked_mul(1 << shift)
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A list without a heap, because the command line is read before there is one.
#[derive(Clone, Copy, Debug)]
struct List<T, const N: usize> {
    items: [Option<T>; N],
    len: usize,
}

impl<T: Copy, const N: usize> List<T, N> {
    const fn new() -> Self {
        Self { items: [None; N], len: 0 }
    }

    fn push(&mut self, item: T) -> Option<()> {
        *self.items.get_mut(self.len)? = Some(item);
        self.len += 1;
        Some(())
    }

    fn iter(&self) -> impl Iterator<Item = T> {
        self.items.iter().copied().flatten()
    }
}
