//! What lies between a key and a command: [`keys`] turns bytes into keys, [`editor`] keys into a line, [`words`] a line into
//! commands, and [`options`], [`size`], [`mode`], [`xattr`] and [`pattern`] give the words their meaning.
//!
//! Pure: it reads and writes nothing but its arguments, so all of it is tested on the host. Lines, words and names are bytes,
//! because file names are. Whatever is typed ends in a value or an error, never in a panic.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod date;
pub mod editor;
pub mod keys;
pub mod mode;
pub mod options;
pub mod pattern;
pub mod size;
pub mod text;
pub mod words;
pub mod xattr;
