//! `fill`: content that says where it belongs, so that a test can tell from any sector of a disk whose bytes it has.

use alloc::format;
use alloc::vec::Vec;

use fs::Error;
use prompt::options::{Args, UsageError};
use prompt::size::parse_size;

use super::commands::Command;
use super::failure::At;
use super::files::write_all;
use super::{Failure, Outcome, Session};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[Command {
    name: "fill",
    usage: "[-o OFFSET] -l LENGTH PATH TAG",
    help: "write LENGTH bytes at OFFSET, which repeat TAG and the number of their 512 bytes in the file",
    run: fill,
}];

/// Bytes that say the same: a sector.
const RECORD: u64 = 512;
/// Bytes written at a time.
const PART: u64 = 32 << 10;

fn fill(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "o:l:")?;
    let length = size(args.value('l').ok_or(UsageError::Missing("-l LENGTH"))?)?;
    let offset = args.value('o').map_or(Ok(0), size)?;
    let [path, tag] = args.exactly(["file", "tag"])?;
    fill_file(session, path, tag, offset, length)
}

/// A size that was typed.
pub fn size(word: &[u8]) -> Outcome<u64> {
    parse_size(word).map_err(|error| Failure::other(word, error))
}

/// Fills one file from `offset` on.
pub fn fill_file(session: &Session<'_>, path: &[u8], tag: &[u8], offset: u64, length: u64) -> Outcome {
    let end = offset.checked_add(length).ok_or_else(|| Failure::other(path, "too large"))?;
    let mut file = session.create(path, 0o644, false)?;
    let mut part = Vec::new();
    part.try_reserve_exact(PART.min(length) as usize).map_err(|_| Error::NoMemory).at(path)?;
    let mut position = offset;
    while position < end {
        session.check()?;
        part.clear();
        let stop = end.min(position.saturating_add(PART));
        let mut at = position;
        while at < stop {
            let record = at / RECORD;
            let said = format!("{} {record}\n", tag.escape_ascii());
            let (from, to) = (at % RECORD, (stop - record * RECORD).min(RECORD));
            part.extend(said.bytes().cycle().skip(from as usize).take((to - from) as usize));
            at = record * RECORD + to;
        }
        write_all(&mut file, position, &part).at(path)?;
        position = stop;
    }
    Ok(())
}
