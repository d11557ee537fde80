//! Escaping: how any sequence of bytes fits into one line of text, and how it comes out again.
//!
//! Invariant: what [`write_bytes`] and [`Text`] write holds no control character, and
//! [`Unescape`] gives back exactly the bytes that went in.

use core::fmt::{self, Write};

/// Where the text will stand, which decides about `"`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// To the end of the line.
    Body,
    /// Between quotes.
    Quoted,
}

fn write_char(out: &mut (impl Write + ?Sized), place: Place, c: char) -> fmt::Result {
    match c {
        '\\' => out.write_str("\\\\"),
        '"' if place == Place::Quoted => out.write_str("\\\""),
        ' '..='~' => out.write_char(c),
        c if c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c)),
        c => out.write_char(c),
    }
}

/// Writes any bytes, escaped. Bytes that are no UTF-8 are written as `\xNN`.
pub(crate) fn write_bytes(out: &mut (impl Write + ?Sized), bytes: &[u8]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            write_char(out, Place::Body, c)?;
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// A [`Write`] that escapes what passes through it.
pub(crate) struct Text<'w, W: Write + ?Sized> {
    pub(crate) out: &'w mut W,
    pub(crate) place: Place,
}

impl<W: Write + ?Sized> Write for Text<'_, W> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        s.chars().try_for_each(|c| write_char(self.out, self.place, c))
    }
}

/// An escape that no emitter writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadEscape {
    /// Offset of the backslash, or of a byte that should have been escaped.
    pub(crate) at: usize,
}

/// Iterates over the bytes that an escaped text stands for; an error ends the iteration.
#[derive(Clone, Debug)]
pub(crate) struct Unescape<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Unescape<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Unescape { text, at: 0 }
    }

    fn hex(&self, offset: usize) -> Option<u8> {
        let digit = char::from(*self.text.get(self.at + offset)?).to_digit(16)?;
        u8::try_from(digit).ok()
    }

    /// The escape that begins at `self.at`: the byte and how long it is written.
    fn escape(&self) -> Option<(u8, usize)> {
        match self.text.get(self.at + 1)? {
            b'\\' => Some((b'\\', 2)),
            b'"' => Some((b'"', 2)),
            b'x' => Some(((self.hex(2)? << 4) | self.hex(3)?, 4)),
            _ => None,
        }
    }
}

impl Iterator for Unescape<'_> {
    type Item = Result<u8, BadEscape>;

    fn next(&mut self) -> Option<Self::Item> {
        let byte = *self.text.get(self.at)?;
        let taken = match byte {
            b'\\' => self.escape(),
            0x00..=0x1f | 0x7f => None,
            _ => Some((byte, 1)),
        };
        match taken {
            Some((byte, len)) => {
                self.at += len;
                Some(Ok(byte))
            }
            None => {
                let at = self.at;
                self.at = self.text.len();
                Some(Err(BadEscape { at }))
            }
        }
    }
}
