//! Sizes of memory as people write them: `64M`, `512K`, `1G`.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::str::FromStr;

use serde::Deserialize;

/// A number of bytes, a multiple of 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(u64);

const UNITS: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];
const GRAIN: u64 = 4096;

impl Size {
    /// So many mebibytes.
    pub const fn mib(count: u32) -> Size {
        Size((count as u64) << 20)
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// A number of bytes that may also be none: what a host wants to have back, for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Written")]
pub struct Amount(u64);

/// An amount as a file may have it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Bytes(u64),
    Text(String),
}

impl Amount {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Amount {
        Amount(bytes)
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Amount {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        match text {
            "0" | "0K" | "0M" | "0G" => Ok(Amount(0)),
            _ => text.parse::<Size>().map(Amount::from),
        }
    }
}

impl From<Size> for Amount {
    fn from(size: Size) -> Amount {
        Amount(size.bytes())
    }
}

impl TryFrom<Written> for Amount {
    type Error = SizeError;

    fn try_from(written: Written) -> Result<Self, SizeError> {
        match written {
            Written::Bytes(bytes) => Ok(Amount(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

/// Why a text is no [`Size`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// Not digits and a unit.
    Form(String),
    /// Zero, beyond 64 bits, or no multiple of 4 KiB.
    Range(String),
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SizeError::Form(text) => write!(f, "'{text}' is no size such as 64M, 512K or 1G"),
            SizeError::Range(text) => write!(f, "'{text}' is not a positive multiple of 4K"),
        }
    }
}

impl std::error::Error for SizeError {}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let unit = text.chars().last().and_then(|last| UNITS.iter().find(|(c, _)| c.eq_ignore_ascii_case(&last)));
        let (digits, unit) = match unit {
            Some((_, unit)) => (&text[..text.len() - 1], *unit),
            None => (text, 1),
        };
        let count: u64 = digits.parse().map_err(|_| SizeError::Form(text.to_owned()))?;
        match count.checked_mul(unit) {
            Some(bytes) if bytes > 0 && bytes.is_multiple_of(GRAIN) => Ok(Size(bytes)),
            _ => Err(SizeError::Range(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0.is_multiple_of(*unit)) {
            Some((c, unit)) => write!(f, "{}{c}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Add for Size {
    type Output = Size;

    fn add(self, other: Size) -> Size {
        Size(self.0.saturating_add(other.0))
    }
}

impl Sum for Size {
    fn sum<I: Iterator<Item = Size>>(sizes: I) -> Size {
        sizes.fold(Size(0), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print_alike() {
        for text in ["64M", "1G", "20K", "16M"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("4096".parse::<Size>().unwrap().to_string(), "4K");
        assert_eq!("64m".parse::<Size>().unwrap(), Size::mib(64));
        assert_eq!((Size::mib(64) + Size::mib(16)).to_string(), "80M");
    }

    #[test]
    fn only_an_amount_can_be_none() {
        assert_eq!("0M".parse::<Amount>().unwrap().bytes(), 0);
        assert_eq!("16M".parse::<Amount>().unwrap(), Amount::from(Size::mib(16)));
        assert!("0M".parse::<Size>().is_err());
        assert!("0T".parse::<Amount>().is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "M", "-1M", "64MB", "ü", "1.5G"] {
            assert_eq!(text.parse::<Size>(), Err(SizeError::Form(text.to_owned())));
        }
        for text in ["0", "0M", "5", "99999999999G"] {
            assert_eq!(text.parse::<Size>(), Err(SizeError::Range(text.to_owned())));
        }
    }
}
