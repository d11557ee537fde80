//! A file written from its beginning to its end and brought to the disk, by the clock on the wall: to compare with another kernel on
//! the same machine.

use alloc::vec::Vec;

use fs::Error;
use prompt::size::parse_size;

use crate::shell::failure::At;
use crate::shell::files::write_all;
use crate::shell::{Failure, Outcome, Session};
use crate::time;

/// For the list of measurements.
pub const ABOUT: &str = "write SIZE bytes to FILE from its beginning, sync it: microseconds";

/// Bytes that one write has.
const PART: usize = 64 << 10;

/// Writes the file at `path`.
pub fn run(session: &mut Session<'_>, path: &[u8], size: &[u8]) -> Outcome {
    let bytes = parse_size(size).map_err(|error| Failure::other(size, error))?;
    let mut part = Vec::new();
    part.try_reserve_exact(PART).map_err(|_| Error::NoMemory).at(path)?;
    part.extend((0..PART).map(|at| at as u8));
    let start = time::uptime_micros();
    let mut file = session.create(path, 0o644, true)?;
    let mut position = 0;
    while position < bytes {
        session.check()?;
        let len = (bytes - position).min(PART as u64);
        write_all(&mut file, position, part.get(..len as usize).unwrap_or_default()).at(path)?;
        position += len;
    }
    session.system.vfs.fsync(&session.absolute(path)).at(path)?;
    let micros = time::uptime_micros() - start;
    session.out.print(format_args!("seqwrite bytes {bytes} microseconds {micros}\n"));
    Ok(())
}
