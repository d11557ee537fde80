//! Writing the grammar: the kernel's end of the line.
//!
//! Every function writes whole lines, `\n` included, and allocates nothing, so that the panic
//! path may use them. Who writes to a shared port holds its lock for the length of one call;
//! lines of different origin may then follow each other in any order without mixing.
//!
//! ```
//! use protocol::{Level, emit};
//! let mut port = String::new();
//! emit::log_line(&mut port, 12_345, Level::Info, "mm", format_args!("64 MiB"))?;
//! emit::event(&mut port, "done").field("status", 0).end()?;
//! assert_eq!(port, "[    0.012345] INFO  mm: 64 MiB\n@done status=0\n");
//! # Ok::<(), core::fmt::Error>(())
//! ```

use core::fmt::{self, Display, Write};

use crate::escape::{self, Place, Text};
use crate::{Level, TAG_ERROR, TAG_EVENT, TAG_LOG, TAG_OUTPUT, TAG_PIECE};

/// Writes one log line. `micros` is the time since boot in microseconds, `target` the part of the
/// kernel that speaks; a newline in the text is escaped, so one call is one line.
pub fn log_line(
    out: &mut (impl Write + ?Sized),
    micros: u64,
    level: Level,
    target: &str,
    text: fmt::Arguments<'_>,
) -> fmt::Result {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    write!(out, "{TAG_LOG}{seconds:5}.{micros:06}] {level:5} ")?;
    write_word(out, target, |c| c.is_ascii_graphic() && c != '\\')?;
    out.write_str(": ")?;
    write_body(out, text)
}

/// Writes one line of a command's error output, such as `cat: /disk/none: not found`.
pub fn error_line(out: &mut (impl Write + ?Sized), text: fmt::Arguments<'_>) -> fmt::Result {
    out.write_char(TAG_ERROR)?;
    write_body(out, text)
}

/// Begins an event; see [`Event`].
pub fn event<'w, W: Write + ?Sized>(out: &'w mut W, name: &str) -> Event<'w, W> {
    let started = out.write_char(TAG_EVENT).and_then(|()| write_word(out, name, is_word));
    Event { out, result: started }
}

/// An event that is being written; [`Event::end`] finishes its line.
///
/// Names and keys are words of `[A-Za-z0-9_-]`; any other character is written as `_`, so that
/// what is sent can always be parsed.
#[must_use = "the line ends with `end`"]
pub struct Event<'w, W: Write + ?Sized> {
    out: &'w mut W,
    result: fmt::Result,
}

impl<W: Write + ?Sized> Event<'_, W> {
    /// Adds `key=value`, quoted where the value needs it. The value is formatted twice, first to
    /// see whether it does.
    pub fn field(mut self, key: &str, value: impl Display) -> Self {
        self.result = self.result.and_then(|()| {
            self.out.write_char(' ')?;
            write_word(self.out, key, is_word)?;
            self.out.write_char('=')?;
            if is_bare(&value) {
                return write!(self.out, "{value}");
            }
            self.out.write_char('"')?;
            Text { out: self.out, place: Place::Quoted }.write_fmt(format_args!("{value}"))?;
            self.out.write_char('"')
        });
        self
    }

    /// Ends the line and says whether all of it could be written.
    pub fn end(self) -> fmt::Result {
        self.result?;
        self.out.write_char('\n')
    }
}

/// How many bytes of an unfinished line an [`Output`] holds back.
pub const OUTPUT_BUFFER: usize = 240;

/// Cuts a command's output into tagged lines.
///
/// A line is sent when its newline comes, a piece of it when the buffer is full or on
/// [`Output::flush`]. The buffer, not the port, is what a command owns while it runs, so a log
/// line may be sent between any two calls.
#[derive(Debug)]
pub struct Output {
    buffer: [u8; OUTPUT_BUFFER],
    used: usize,
}

impl Output {
    /// An output with nothing in it.
    pub const fn new() -> Self {
        Output { buffer: [0; OUTPUT_BUFFER], used: 0 }
    }

    /// Takes any bytes, and sends every line that they complete.
    pub fn write(&mut self, out: &mut (impl Write + ?Sized), bytes: &[u8]) -> fmt::Result {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            match part.split_last() {
                Some((b'\n', line)) => {
                    self.hold(out, line)?;
                    self.send(out, TAG_OUTPUT)?;
                }
                _ => self.hold(out, part)?,
            }
        }
        Ok(())
    }

    /// Sends what is held back, as a piece. Call it when a command ends.
    pub fn flush(&mut self, out: &mut (impl Write + ?Sized)) -> fmt::Result {
        if self.used == 0 {
            return Ok(());
        }
        self.send(out, TAG_PIECE)
    }

    /// Appends bytes of one line; sends pieces while they do not fit.
    fn hold(&mut self, out: &mut (impl Write + ?Sized), mut bytes: &[u8]) -> fmt::Result {
        while !bytes.is_empty() {
            let room = self.buffer.get_mut(self.used..).unwrap_or_default();
            if room.is_empty() {
                self.send(out, TAG_PIECE)?;
                continue;
            }
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            for (to, from) in room.iter_mut().zip(now) {
                *to = *from;
            }
            self.used += now.len();
            bytes = later;
        }
        Ok(())
    }

    /// Sends the buffer as one line. It is empty afterwards even if the port failed.
    fn send(&mut self, out: &mut (impl Write + ?Sized), tag: char) -> fmt::Result {
        let held = core::mem::take(&mut self.used);
        out.write_char(tag)?;
        escape::write_bytes(out, self.buffer.get(..held).unwrap_or_default())?;
        out.write_char('\n')
    }
}

impl Default for Output {
    fn default() -> Self {
        Output::new()
    }
}

fn write_body(out: &mut (impl Write + ?Sized), text: fmt::Arguments<'_>) -> fmt::Result {
    Text { out, place: Place::Body }.write_fmt(text)?;
    out.write_char('\n')
}

fn write_word(out: &mut (impl Write + ?Sized), word: &str, allowed: impl Fn(char) -> bool) -> fmt::Result {
    if word.is_empty() {
        return out.write_char('_');
    }
    word.chars().try_for_each(|c| out.write_char(if allowed(c) { c } else { '_' }))
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// What may stand in a value without quotes.
pub(crate) fn is_bare_char(c: char) -> bool {
    is_word(c) || matches!(c, '.' | ':' | '/' | '+' | '%' | ',')
}

/// Whether a value is a non-empty run of [`is_bare_char`].
fn is_bare(value: &impl Display) -> bool {
    struct Check {
        seen: bool,
    }
    impl Write for Check {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            self.seen |= !s.is_empty();
            if s.chars().all(is_bare_char) { Ok(()) } else { Err(fmt::Error) }
        }
    }
    let mut check = Check { seen: false };
    write!(check, "{value}").is_ok() && check.seen
}
