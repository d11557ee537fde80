//! Values of extended attributes as `setfattr` reads and `getfattr` prints them: text, `0x` and hexadecimal digits, `0s` and base64.

use alloc::vec::Vec;
use core::fmt;

/// Why a word is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueError;

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid value (wanted: text, 0x and pairs of hexadecimal digits, or 0s and base64)")
    }
}

impl core::error::Error for ValueError {}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The value that `word` stands for. Text in double quotes, as [`Value`] shows it, is taken out of them.
pub fn parse(word: &[u8]) -> Result<Vec<u8>, ValueError> {
    match word {
        [b'0', b'x' | b'X', digits @ ..] => hexadecimal(digits),
        [b'0', b's' | b'S', text @ ..] => base64(text),
        [b'"', text @ .., b'"'] => unescaped(text),
        text => Ok(text.to_vec()),
    }
}

fn hexadecimal(digits: &[u8]) -> Result<Vec<u8>, ValueError> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).ok_or(ValueError);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Ok((digit(high)? << 4 | digit(low)?) as u8),
        _ => Err(ValueError),
    };
    digits.chunks(2).map(pair).collect()
}

fn base64(text: &[u8]) -> Result<Vec<u8>, ValueError> {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let (digits, padding) = text.split_at(end);
    if !text.len().is_multiple_of(4) || padding.len() > 2 {
        return Err(ValueError);
    }
    let mut value = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for byte in group {
            let digit = BASE64.iter().position(|known| known == byte).ok_or(ValueError)?;
            bits = bits << 6 | digit as u32;
        }
        let bytes = group.len() * 6 / 8;
        bits <<= 6 * (4 - group.len());
        value.extend(bits.to_be_bytes().iter().skip(1).take(bytes));
    }
    Ok(value)
}

fn unescaped(text: &[u8]) -> Result<Vec<u8>, ValueError> {
    let mut value = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        match rest {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] => {
                value.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
            [] => return Err(ValueError),
        }
    }
    Ok(value)
}

/// Shows a value as `getfattr` does: text in double quotes if all of it can be printed, base64 if not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a>(pub &'a [u8]);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            f.write_str("\"")?;
            for &byte in self.0 {
                if matches!(byte, b'"' | b'\\') {
                    f.write_str("\\")?;
                }
                write!(f, "{}", char::from(byte))?;
            }
            return f.write_str("\"");
        }
        f.write_str("0s")?;
        for group in self.0.chunks(3) {
            let byte = |at: usize| group.get(at).map_or(0, |byte| u32::from(*byte));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for at in 0..4 {
                let digit = if at <= group.len() { BASE64[(bits >> (18 - 6 * at) & 63) as usize] } else { b'=' };
                write!(f, "{}", char::from(digit))?;
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
    fn values_are_read() {
        for (word, value) in [
            ("plain", &b"plain"[..]),
            ("0x00ffAb", &[0, 0xff, 0xab]),
            ("0s", b""),
            ("0sAA==", &[0]),
            ("0s/+8=", &[0xff, 0xef]),
            ("0sYWJj", b"abc"),
            (r#""a\"b\\\101\n""#, br#"a"b\An"#),
            ("\"", b"\""),
            ("", b""),
        ] {
            assert_eq!(parse(word.as_bytes()).as_deref(), Ok(value), "{word}");
        }
        for word in ["0x0", "0x0g", "0sA", "0sA===", "0sA*==", r#""\""#] {
            assert_eq!(parse(word.as_bytes()), Err(ValueError), "{word}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        assert_eq!(Value(b"say \"hi\" \\").to_string(), r#""say \"hi\" \\""#);
        assert_eq!(Value(b"\n").to_string(), "0sCg==");
        for length in 0..20 {
            let value: Vec<u8> = (0..length).map(|at: u8| at.wrapping_mul(89) ^ 0x80).collect();
            assert_eq!(parse(Value(&value).to_string().as_bytes()), Ok(value));
        }
    }
}
