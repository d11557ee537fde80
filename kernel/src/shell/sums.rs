//! `sha256sum`.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use fs::filesystem::FileType;
use prompt::options::Args;
use sha2::{Digest, Sha256};

use super::commands::Command;
use super::content::Reader;
use super::walk::{Step, Walk};
use super::{Failure, Outcome, Session};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[Command {
    name: "sha256sum",
    usage: "[-r] PATH...",
    help: "SHA-256 sums of files; -r: of all files below a directory, in the order of their paths",
    run: sha256sum,
}];

fn sha256sum(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "r")?;
    let recursive = args.has('r');
    session.each(args.some("file")?, |session, path| {
        if recursive {
            return sum_tree(session, path);
        }
        let sum = sum_file(session, path, u64::MAX)?;
        print_sum(session, sum, path);
        Ok(())
    })
}

/// Prints the sum of every regular file of the tree at `root`. What cannot be read is reported and passed over.
fn sum_tree(session: &mut Session<'_>, root: &[u8]) -> Outcome {
    let mut walk = Walk::new(session, root, true)?;
    let mut failed = false;
    loop {
        let outcome = match walk.step(session) {
            Ok(None) => break,
            Ok(Some(Step::Node(FileType::Regular))) => sum_file(session, walk.path(), u64::MAX).map(Some),
            Ok(Some(_)) => Ok(None),
            Err(failure) => Err(failure),
        };
        match session.tolerate(outcome)? {
            Some(Some(sum)) => print_sum(session, sum, walk.path()),
            Some(None) => {}
            None => failed = true,
        }
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

/// The sum of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// SHA-256 of the content.
    pub digest: Digest256,
    /// Bytes of content.
    pub bytes: u64,
}

/// A SHA-256 sum, shown in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest256(pub [u8; 32]);

impl fmt::Display for Digest256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Reads the file at `path`, up to `most` bytes of it, with one buffer of fixed size.
pub fn sum_file(session: &Session<'_>, path: &[u8], most: u64) -> Outcome<Sum> {
    let mut reader = Reader::open(session, path)?;
    let mut hash = Sha256::new();
    let mut bytes = 0u64;
    while bytes < most
        && let Some(part) = reader.next(session)?
    {
        hash.update(part);
        bytes += part.len() as u64;
    }
    Ok(Sum { digest: Digest256(hash.finalize().into()), bytes })
}

/// A line as GNU sha256sum writes it: a name with a backslash, newline or carriage return in it is escaped, and a backslash at the
/// start of the line says so.
pub fn print_sum(session: &mut Session<'_>, sum: Sum, path: &[u8]) {
    let mut line = Vec::with_capacity(path.len() + 70);
    let escaped = path.iter().any(|byte| b"\\\n\r".contains(byte));
    if escaped {
        line.push(b'\\');
    }
    // A vector takes all that is written.
    let _ = write!(Ascii(&mut line), "{}  ", sum.digest);
    for &byte in path {
        match byte {
            b'\\' if escaped => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            byte => line.push(byte),
        }
    }
    line.push(b'\n');
    session.out.line(&line);
}

/// Formatted text at the end of bytes.
struct Ascii<'a>(&'a mut Vec<u8>);

impl Write for Ascii<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
