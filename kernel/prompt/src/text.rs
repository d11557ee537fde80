//! Bytes of unknown origin, shown to a person: what would move the cursor or spoil the line is escaped.

use core::fmt;

/// Shows bytes: UTF-8 without control characters as it is, everything else as `\xNN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c.is_control() {
                    false => fmt::Write::write_char(f, c)?,
                    true if c.is_ascii() => write!(f, "\\x{:02x}", u32::from(c))?,
                    true => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn only_what_could_do_harm_is_escaped() {
        assert_eq!(Shown("/disk/Grüße 1".as_bytes()).to_string(), "/disk/Grüße 1");
        assert_eq!(Shown(b"a\x1b[2Jb\n\xff").to_string(), "a\\x1b[2Jb\\x0a\\xff");
        assert_eq!(Shown("\u{9b}".as_bytes()).to_string(), "\\u{9b}");
    }
}
