//! Reading the grammar: the host's end of the line.
//!
//! A [`Line`] borrows from the bytes it was parsed from. All checks are made by [`parse_line`];
//! what it returns can be taken apart without further errors. Bytes of any origin are allowed,
//! for firmware writes to the same port: what is no line of ours is an [`Error`] and no more.

use core::fmt;

use crate::emit::{is_bare_char, is_word};
use crate::escape::{BadEscape, Unescape};
use crate::{Level, TAG_ERROR, TAG_EVENT, TAG_LOG, TAG_OUTPUT, TAG_PIECE};

/// One line from the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line of the kernel's log.
    Log(Log<'a>),
    /// The last, or only, part of a line of output; a newline belongs after it.
    Output(Text<'a>),
    /// Output without a newline after it.
    Piece(Text<'a>),
    /// A line of error output.
    Error(Text<'a>),
    /// Something a program may want to know.
    Event(Event<'a>),
}

/// A line of the kernel's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log<'a> {
    /// Microseconds since boot.
    pub micros: u64,
    /// How grave it is.
    pub level: Level,
    /// Which part of the kernel speaks.
    pub target: &'a str,
    /// What it says.
    pub text: Text<'a>,
}

/// Text that is known to be well escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn parse(escaped: &'a [u8]) -> Result<Self, Error> {
        match Unescape::new(escaped).find_map(Result::err) {
            Some(BadEscape { at }) => Err(Error::Escape { at }),
            None => Ok(Text(escaped)),
        }
    }

    /// The bytes that were sent.
    pub fn bytes(self) -> impl Iterator<Item = u8> + 'a {
        Unescape::new(self.0).map_while(Result::ok)
    }

    /// The text as a number: decimal, or hexadecimal after `0x`.
    pub fn number(self) -> Option<u64> {
        let text = core::str::from_utf8(self.0).ok()?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    }

    /// Whether the bytes that were sent are those of `text`.
    pub fn is(self, text: &str) -> bool {
        self.bytes().eq(text.bytes())
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// An event and its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    name: &'a str,
    fields: &'a [u8],
}

impl<'a> Event<'a> {
    /// What happened; [`crate::event`] has the names in use.
    pub fn name(self) -> &'a str {
        self.name
    }

    /// The fields in the order in which they were sent.
    pub fn fields(self) -> impl Iterator<Item = (&'a str, Text<'a>)> {
        Fields { rest: self.fields }.map_while(Result::ok)
    }

    /// The first field with this key.
    pub fn get(self, key: &str) -> Option<Text<'a>> {
        self.fields().find_map(|(found, value)| (found == key).then_some(value))
    }

    /// The first field with this key, if it is a number.
    pub fn number(self, key: &str) -> Option<u64> {
        self.get(key)?.number()
    }
}

/// Why some bytes are no line of this grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The first byte is none of the tags, or there is none.
    Tag(Option<u8>),
    /// The byte at this offset of the text should have been escaped, or begins no escape.
    Escape {
        /// Offset from the start of the text in question.
        at: usize,
    },
    /// A `[` line without time, level and target.
    Log,
    /// An event without a name.
    Name,
    /// A field that is not `key=value`.
    Field,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Tag(None) => f.write_str("empty line"),
            Error::Tag(Some(byte)) => write!(f, "unknown tag '{}'", byte.escape_ascii()),
            Error::Escape { at } => write!(f, "bad escape at byte {at}"),
            Error::Log => f.write_str("log line without time, level and target"),
            Error::Name => f.write_str("event without a name"),
            Error::Field => f.write_str("event with a field that is not key=value"),
        }
    }
}

impl core::error::Error for Error {}

/// Parses one line, with or without its line ending.
///
/// # Errors
/// See [`Error`]; the bytes are then no line of this grammar.
pub fn parse_line(line: &[u8]) -> Result<Line<'_>, Error> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (&tag, body) = line.split_first().ok_or(Error::Tag(None))?;
    match char::from(tag) {
        TAG_LOG => log(body).map(Line::Log),
        TAG_OUTPUT => Text::parse(body).map(Line::Output),
        TAG_PIECE => Text::parse(body).map(Line::Piece),
        TAG_ERROR => Text::parse(body).map(Line::Error),
        TAG_EVENT => event(body).map(Line::Event),
        _ => Err(Error::Tag(Some(tag))),
    }
}

/// `    0.012345] INFO  mm: text`
fn log(body: &[u8]) -> Result<Log<'_>, Error> {
    let (head, text) = cut(body, b": ").ok_or(Error::Log)?;
    let head = core::str::from_utf8(head).map_err(|_| Error::Log)?;
    let (time, head) = head.split_once("] ").ok_or(Error::Log)?;
    let (level, target) = head.split_once(' ').ok_or(Error::Log)?;
    Ok(Log {
        micros: micros(time.trim_start()).ok_or(Error::Log)?,
        level: Level::from_word(level).ok_or(Error::Log)?,
        target: target.trim_start(),
        text: Text::parse(text)?,
    })
}

/// `0.012345`
fn micros(time: &str) -> Option<u64> {
    let (seconds, micros) = time.split_once('.')?;
    if micros.len() != 6 {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(micros.parse().ok()?)
}

/// `name key=value key="value"`
fn event(body: &[u8]) -> Result<Event<'_>, Error> {
    let (name, fields) = word(body).ok_or(Error::Name)?;
    let event = Event { name, fields };
    match (Fields { rest: fields }).find_map(Result::err) {
        Some(error) => Err(error),
        None => Ok(event),
    }
}

/// The word at the start of `bytes`, and what follows it.
fn word(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (word, rest) = run(bytes, is_word);
    let word = core::str::from_utf8(word).ok()?;
    (!word.is_empty()).then_some((word, rest))
}

/// Splits off the longest run of ASCII characters that are `allowed`.
fn run(bytes: &[u8], allowed: fn(char) -> bool) -> (&[u8], &[u8]) {
    let len = bytes.iter().take_while(|&&byte| allowed(char::from(byte))).count();
    bytes.split_at(len)
}

fn cut<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + separator.len()..)?))
}

/// Iterates over fields; an error ends the iteration.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(&'a str, Text<'a>), Error> {
        let rest = self.rest.strip_prefix(b" ").ok_or(Error::Field)?;
        let (key, rest) = word(rest).ok_or(Error::Field)?;
        let rest = rest.strip_prefix(b"=").ok_or(Error::Field)?;
        let (value, rest) = match rest.strip_prefix(b"\"") {
            Some(quoted) => {
                let close = closing_quote(quoted).ok_or(Error::Field)?;
                let (value, rest) = quoted.split_at(close);
                (value, rest.strip_prefix(b"\"").ok_or(Error::Field)?)
            }
            None => run(rest, is_bare_char),
        };
        self.rest = rest;
        Ok((key, Text::parse(value)?))
    }
}

/// Where the first quote stands that no backslash precedes.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|&byte| {
        let close = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        close
    })
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(&'a str, Text<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}
