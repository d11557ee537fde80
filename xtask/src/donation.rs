//! Memory lent to the guest: of what kind, and how much.
//!
//! A [`Donation`] that exists is one that its device accepts: sizes are checked when it is read.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::size::{Size, SizeError};

/// How memory is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A range of ordinary memory that the guest sets apart at boot.
    CarveOut,
    /// Ordinary memory that the host may ask back by virtio-balloon.
    Balloon,
    /// Memory that virtio-mem plugs and unplugs.
    Mem,
    /// A file of the host, which others can write, by ivshmem.
    Ivshmem,
}

/// All of them.
const KINDS: [Kind; 4] = [Kind::CarveOut, Kind::Balloon, Kind::Mem, Kind::Ivshmem];
/// virtio-mem plugs blocks of this size.
const MEM_BLOCK: Size = Size::mib(2);

impl Kind {
    /// Whether it is part of the memory that the guest has when it starts.
    pub fn is_inside(self) -> bool {
        matches!(self, Kind::CarveOut | Kind::Balloon)
    }

    /// Whether it comes by a device that there is for PCI only.
    pub fn needs_pci(self) -> bool {
        matches!(self, Kind::Mem | Kind::Ivshmem)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::CarveOut => "carveout",
            Kind::Balloon => "balloon",
            Kind::Mem => "mem",
            Kind::Ivshmem => "ivshmem",
        })
    }
}

/// Memory lent to the guest on top of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Donation {
    /// How.
    pub kind: Kind,
    /// How much.
    pub size: Size,
}

/// Why a text is no [`Donation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DonationError {
    /// Not KIND=SIZE with a kind that there is.
    Form(String),
    /// The size is none.
    Size(SizeError),
    /// The device plugs whole blocks.
    Blocks(Size),
    /// The device has a PCI region, whose size is a power of two.
    PowerOfTwo(Size),
}

impl fmt::Display for DonationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DonationError::Form(text) => {
                write!(f, "'{text}' is not KIND=SIZE, with carveout, balloon, mem or ivshmem for KIND")
            }
            DonationError::Size(error) => error.fmt(f),
            DonationError::Blocks(size) => write!(f, "mem={size}: not a multiple of {MEM_BLOCK}"),
            DonationError::PowerOfTwo(size) => write!(f, "ivshmem={size}: not a power of two"),
        }
    }
}

impl std::error::Error for DonationError {}

impl FromStr for Donation {
    type Err = DonationError;

    fn from_str(text: &str) -> Result<Self, DonationError> {
        let form = || DonationError::Form(text.to_owned());
        let (kind, size) = text.split_once('=').ok_or_else(form)?;
        let kind = KINDS.into_iter().find(|known| known.to_string() == kind).ok_or_else(form)?;
        let size: Size = size.parse().map_err(DonationError::Size)?;
        match kind {
            Kind::Mem if !size.bytes().is_multiple_of(MEM_BLOCK.bytes()) => Err(DonationError::Blocks(size)),
            Kind::Ivshmem if !size.bytes().is_power_of_two() => Err(DonationError::PowerOfTwo(size)),
            _ => Ok(Donation { kind, size }),
        }
    }
}

impl TryFrom<String> for Donation {
    type Error = DonationError;

    fn try_from(text: String) -> Result<Self, DonationError> {
        text.parse()
    }
}

/// As the kernel's command line has it.
impl fmt::Display for Donation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_and_prints() {
        for (text, words) in [
            ("carveout=16M", "carveout:16M"),
            ("balloon=20K", "balloon:20K"),
            ("mem=6M", "mem:6M"),
            ("ivshmem=64M", "ivshmem:64M"),
        ] {
            assert_eq!(text.parse::<Donation>().unwrap().to_string(), words);
        }
    }

    #[test]
    fn what_no_device_accepts_is_refused() {
        for (text, complaint) in [
            ("carveout", "KIND=SIZE"),
            ("cravat=1M", "KIND=SIZE"),
            ("=1M", "KIND=SIZE"),
            ("balloon=x", "no size"),
            ("mem=3M", "multiple of 2M"),
            ("ivshmem=48M", "power of two"),
        ] {
            let error = text.parse::<Donation>().unwrap_err().to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
