//! `sha256sum`, and the same on all processors.

use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fs::filesystem::FileType;
use log::info;
use prompt::options::{Args, UsageError};
use sha2::{Digest, Sha256};
use spin::Once;

use super::commands::Command;
use super::content::Reader;
use super::walk::{Step, Walk};
use super::{Failure, Outcome, Session};
use crate::arch::local::MOST;
use crate::smp;

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "sha256sum",
        usage: "[-r] PATH...",
        help: "SHA-256 sums of files; -r: of all files below a directory, in the order of their paths",
        run: sha256sum,
    },
    Command {
        name: "par",
        usage: "[-a] sha256sum [-r] PATH...",
        help: "the same, the files divided among all CPUs; -a: every CPU reads all of them, and all must agree",
        run: par,
    },
];

fn sha256sum(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "r")?;
    let recursive = args.has('r');
    session.each(args.some("file")?, |session, path| {
        if recursive {
            return sum_tree(session, path);
        }
        let sum = sum_file(session, path, u64::MAX)?;
        print_sum(session, &sum, path);
        Ok(())
    })
}

/// Runs what can be divided on all processors.
fn par(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let command = words.iter().position(|word| word == b"sha256sum");
    let (options, words) = words.split_at(command.unwrap_or(0));
    let everybody = Args::parse(options, "a")?.has('a');
    let words = words.split_first().filter(|_| command.is_some()).map(|(_, words)| words);
    let args = Args::parse(words.ok_or(UsageError::Missing("sha256sum"))?, "r")?;
    let mut files = Vec::new();
    let gathered = session.each(args.some("file")?, |session, path| match args.has('r') {
        true => gather(session, path, &mut files),
        false => {
            files.push(path.to_vec());
            Ok(())
        }
    });
    let summed = if everybody { agree(session, &files) } else { divide(session, &files) };
    gathered.and(summed)
}

/// The paths of the regular files of a tree.
fn gather(session: &mut Session<'_>, root: &[u8], files: &mut Vec<Vec<u8>>) -> Outcome {
    let mut walk = Walk::new(session, root, true)?;
    let mut failed = false;
    loop {
        let outcome = walk.step(session);
        match session.tolerate(outcome)? {
            None => failed = true,
            Some(None) => break,
            Some(Some(Step::Node(FileType::Regular))) => files.push(walk.path().to_vec()),
            Some(Some(_)) => {}
        }
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

/// Prints the sums of `files`, each computed by the processor that comes to it first.
fn divide(session: &mut Session<'_>, files: &[Vec<u8>]) -> Outcome {
    let sums: Vec<Once<Outcome<Sum>>> = files.iter().map(|_| Once::new()).collect();
    let shares = [const { AtomicUsize::new(0) }; MOST];
    // Who is interrupted says so to the others, who go no further than their file.
    let interrupted = AtomicBool::new(false);
    let shared = &*session;
    smp::each(files.len(), &|index, this| {
        if interrupted.load(Ordering::Relaxed) {
            return;
        }
        if let (Some(file), Some(sum), Some(share)) = (files.get(index), sums.get(index), shares.get(this)) {
            let sum = sum.call_once(|| sum_file(shared, file, u64::MAX));
            interrupted.fetch_or(matches!(sum, Err(Failure::Interrupted)), Ordering::Relaxed);
            share.fetch_add(1, Ordering::Relaxed);
        }
    });
    let shares: Vec<usize> =
        smp::online().filter_map(|number| Some(shares.get(number)?.load(Ordering::Relaxed))).collect();
    info!(target: "smp", "files summed by each CPU: {shares:?}");
    let mut failed = false;
    for (file, sum) in files.iter().zip(sums) {
        let sum = sum.try_into_inner().unwrap_or(Err(Failure::Interrupted));
        match session.tolerate(sum)? {
            Some(sum) => print_sum(session, &sum, file),
            None => failed = true,
        }
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

/// Prints the sums of `files`, each of which every processor computes.
fn agree(session: &mut Session<'_>, files: &[Vec<u8>]) -> Outcome {
    let sums: Vec<Once<Sum>> = files.iter().map(|_| Once::new()).collect();
    let wrong = Once::new();
    let shared = &*session;
    smp::spread(&|this| {
        for (file, first) in files.iter().zip(&sums) {
            if wrong.is_completed() {
                return;
            }
            match sum_file(shared, file, u64::MAX) {
                Ok(sum) if *first.call_once(|| sum) == sum => {}
                Ok(sum) => {
                    let what = || Failure::other(file, format_args!("CPU {this} reads something else: {}", sum.digest));
                    wrong.call_once(what);
                }
                Err(failure) => {
                    wrong.call_once(|| failure);
                }
            }
        }
    });
    if let Some(failure) = wrong.try_into_inner() {
        return Err(failure);
    }
    for (file, sum) in files.iter().zip(&sums) {
        if let Some(sum) = sum.get() {
            print_sum(session, sum, file);
        }
    }
    Ok(())
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
            Some(Some(sum)) => print_sum(session, &sum, walk.path()),
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
fn print_sum(session: &mut Session<'_>, sum: &Sum, path: &[u8]) {
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
