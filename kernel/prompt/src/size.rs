//! Sizes as people write and read them.

use core::fmt;

/// Why a word is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// It does not begin with a digit.
    NotANumber,
    /// What follows the number is none of K, M, G, T, P, E.
    Unit,
    /// It is 2^64 or more.
    TooLarge,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotANumber => "not a number",
            Self::Unit => "unknown unit (K, M, G, T, P and E are known)",
            Self::TooLarge => "number too large",
        })
    }
}

impl core::error::Error for SizeError {}

/// A decimal number, nothing before or after it.
pub fn parse_number(word: &[u8]) -> Result<u64, SizeError> {
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        return Err(SizeError::NotANumber);
    }
    word.iter()
        .try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or(SizeError::TooLarge)
}

/// A size in bytes: `4096`, `4K`, `4KiB` (1024 each), `4KB` (1000 each); units as in coreutils, in either case.
pub fn parse_size(word: &[u8]) -> Result<u64, SizeError> {
    let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = word.split_at(digits);
    let number = parse_number(number)?;
    let Some((letter, base)) = unit.split_first() else { return Ok(number) };
    let power = b"KMGTPE".iter().position(|known| *known == letter.to_ascii_uppercase()).ok_or(SizeError::Unit)?;
    let base: u64 = match base {
        b"" | b"iB" => 1024,
        b"B" => 1000,
        _ => return Err(SizeError::Unit),
    };
    let factor = base.checked_pow(power as u32 + 1).ok_or(SizeError::TooLarge)?;
    number.checked_mul(factor).ok_or(SizeError::TooLarge)
}

/// Shows a size in bytes with at most four characters, rounded up, as `ls -h` and `df -h` do: `0`, `1.5K`, `16M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Human(pub u64);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return f.pad_integral(true, "", decimal(self.0, &mut [0; 24]));
        }
        let mut unit = 1024u64;
        let mut letters = "KMGTPE".chars();
        let mut letter = letters.next().unwrap_or('K');
        // 1023.5 of a unit would be shown as 1024, so it takes the next one.
        for next in letters {
            if self.0.div_ceil(unit) < 1024 {
                break;
            }
            unit = unit.saturating_mul(1024);
            letter = next;
        }
        let tenths = (u128::from(self.0) * 10).div_ceil(u128::from(unit));
        let mut text = [0; 24];
        let mut line = Line { text: &mut text, used: 0 };
        if tenths < 100 {
            fmt::Write::write_fmt(&mut line, format_args!("{}.{}{letter}", tenths / 10, tenths % 10))?;
        } else {
            fmt::Write::write_fmt(&mut line, format_args!("{}{letter}", self.0.div_ceil(unit)))?;
        }
        let used = line.used;
        // `pad_integral` fills on the left, as numbers in columns want it.
        f.pad_integral(true, "", core::str::from_utf8(text.get(..used).unwrap_or_default()).unwrap_or_default())
    }
}

fn decimal(number: u64, text: &mut [u8; 24]) -> &str {
    let mut line = Line { text, used: 0 };
    // 24 bytes hold every 64-bit number.
    let _ = fmt::Write::write_fmt(&mut line, format_args!("{number}"));
    let used = line.used;
    core::str::from_utf8(text.get(..used).unwrap_or_default()).unwrap_or_default()
}

/// A few characters on the stack.
struct Line<'a> {
    text: &'a mut [u8; 24],
    used: usize,
}

impl fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        self.text.get_mut(self.used..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn sizes_are_read() {
        for (word, size) in [
            ("0", 0),
            ("4096", 4096),
            ("4K", 4096),
            ("4k", 4096),
            ("4KiB", 4096),
            ("4KB", 4000),
            ("16M", 16 << 20),
            ("1G", 1 << 30),
            ("15E", 15 << 60),
        ] {
            assert_eq!(parse_size(word.as_bytes()), Ok(size), "{word}");
        }
        for (word, error) in [
            ("", SizeError::NotANumber),
            ("-1", SizeError::NotANumber),
            ("K", SizeError::NotANumber),
            ("4X", SizeError::Unit),
            ("4KK", SizeError::Unit),
            ("4 K", SizeError::Unit),
            ("16E", SizeError::TooLarge),
            ("18446744073709551616", SizeError::TooLarge),
        ] {
            assert_eq!(parse_size(word.as_bytes()), Err(error), "{word}");
        }
    }

    #[test]
    fn sizes_are_shown_as_ls_does() {
        for (size, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (10_137, "9.9K"),
            (10_138, "10K"),
            (1 << 20, "1.0M"),
            ((1 << 20) - 1, "1.0M"),
            (64 << 20, "64M"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(format!("{}", Human(size)), text, "{size}");
        }
        assert_eq!(format!("{:>6}|", Human(2048)), "  2.0K|");
    }
}
