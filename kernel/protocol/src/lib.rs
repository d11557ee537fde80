//! The grammar of the serial line, in one place for both ends.
//!
//! The kernel started with `console=tagged` speaks lines; the first byte of each says what it is:
//!
//! | tag | the rest of the line                                                        |
//! |-----|-----------------------------------------------------------------------------|
//! | `[` | a log line, whole: <code>[    0.012345] INFO  mm: text</code>               |
//! | `\|` | output of a command, up to a newline that was there                        |
//! | `/` | output of a command whose line goes on in the next `/` or `\|`              |
//! | `!` | one line that a command has to say about a failure                          |
//! | `@` | an event for programs: `@name key=value key="quoted value"`                 |
//!
//! A line ends in `\n`; a `\r` before it does not count. Inside a line printable ASCII and UTF-8
//! above it stand for themselves, a backslash is doubled, and every other byte is written `\xNN`,
//! so that any file may be sent to the host and arrive byte for byte.
//!
//! Both directions live here: [`emit`] needs nothing but a [`core::fmt::Write`] and never
//! allocates, because the kernel uses it in its panic path; [`parse`] borrows from the line it is
//! given. The words that both sides must agree on are constants in [`event`], and [`exit`] says
//! what QEMU's exit status means.
#![no_std]
#![forbid(unsafe_code)]

pub mod emit;
mod escape;
pub mod event;
pub mod exit;
mod level;
pub mod parse;

pub use level::Level;

/// First byte of a log line.
pub const TAG_LOG: char = '[';
/// First byte of a finished line of output.
pub const TAG_OUTPUT: char = '|';
/// First byte of output whose line is not finished.
pub const TAG_PIECE: char = '/';
/// First byte of a line of error output.
pub const TAG_ERROR: char = '!';
/// First byte of an event.
pub const TAG_EVENT: char = '@';
