//! A file read when no cache has any of it, by the clock on the wall: to compare with another kernel on the same machine.

use alloc::vec::Vec;

use cache::DropWhat;
use frames::{FRAME_SIZE, Frame, Zones};
use fs::Error;
use fs::block::{BlockDevice, ReadRequest, SECTOR_SIZE};
use fs::vfs::File;

use super::fill::order;
use crate::arch::tsc;
use crate::shell::failure::At;
use crate::shell::{Failure, Outcome, Session};
use crate::time;

/// For the list of measurements.
pub const ABOUT: &str = "read FILE, pages of it at random, and of the disk with 16 in flight, all cold: microseconds";

/// Bytes that one read has that follows another.
const PART: usize = 64 << 10;
/// Reads at random.
const READS: usize = 4096;
/// How many of them are in flight at once.
const IN_FLIGHT: usize = 16;

/// Reads the file at `path`, then single pages of it; then single pages of the disk, past the caches.
pub fn run(session: &mut Session<'_>, path: &[u8]) -> Outcome {
    let disk = session.system.disk.clone().ok_or_else(|| Failure::other(path, "there is no disk"))?;
    let mut part = Vec::new();
    part.try_reserve_exact(PART).map_err(|_| Error::NoMemory).at(path)?;
    part.resize(PART, 0);
    let mut frames = Vec::new();
    for _ in 0..IN_FLIGHT {
        frames.push(session.system.cache.allocate(Zones::Ephemeral).map_err(|_| Error::NoMemory).at(path)?);
    }
    let mut file = cold(session, path)?;
    let bytes = file.stat().at(path)?.size;
    let pages = bytes / FRAME_SIZE as u64;
    let start = time::uptime_micros();
    for position in (0..bytes).step_by(PART) {
        session.check()?;
        file.read_at(position, &mut part).at(path)?;
    }
    report(session, "seqread", bytes, start);

    let mut file = cold(session, path)?;
    let picks: Vec<u64> = order(pages, true).at(path)?.take(READS).collect();
    let page = part.get_mut(..FRAME_SIZE).unwrap_or_default();
    let mut took: Vec<u64> = Vec::new();
    took.try_reserve_exact(picks.len()).map_err(|_| Error::NoMemory).at(path)?;
    let start = time::uptime_micros();
    for (read, index) in picks.iter().enumerate() {
        if read.is_multiple_of(IN_FLIGHT) {
            session.check()?;
        }
        let before = tsc::now();
        file.read_at(index * FRAME_SIZE as u64, page).at(path)?;
        took.push(tsc::now().wrapping_sub(before));
    }
    report(session, "randread", picks.len() as u64, start);
    report_latencies(session, &mut took);

    let picks: Vec<u64> = order(disk.sectors() / SECTORS, true).at(path)?.take(READS).collect();
    let start = time::uptime_micros();
    for picks in picks.chunks(IN_FLIGHT) {
        session.check()?;
        read_together(&*disk, picks, &mut frames).at(path)?;
    }
    report(session, "inflight", picks.len() as u64, start);
    Ok(())
}

/// Sectors in a page.
const SECTORS: u64 = (FRAME_SIZE / SECTOR_SIZE) as u64;

/// Opens a file that no cache has any page of.
fn cold(session: &mut Session<'_>, path: &[u8]) -> Outcome<File> {
    session.system.cache.drop_caches(DropWhat::All);
    session.open(path)
}

/// Reads these pages of the disk, all in flight at once.
fn read_together(disk: &dyn BlockDevice, picks: &[u64], frames: &mut [Frame]) -> Result<(), Error> {
    let (mut segments, mut requests) = (Vec::new(), Vec::new());
    segments.try_reserve_exact(picks.len()).map_err(|_| Error::NoMemory)?;
    requests.try_reserve_exact(picks.len()).map_err(|_| Error::NoMemory)?;
    segments.extend(frames.iter_mut().take(picks.len()).map(|frame| [&mut frame.bytes_mut()[..]]));
    for (index, segments) in picks.iter().zip(&mut segments) {
        requests.push(ReadRequest { sector: index * SECTORS, segments });
    }
    disk.read(&mut requests).map_err(Error::Device)
}

/// The median of what reads took, in ticks, and what 99 of 100 did not exceed.
fn report_latencies(session: &mut Session<'_>, took: &mut [u64]) {
    took.sort_unstable();
    for (name, at) in [("latency-p50", took.len() / 2), ("latency-p99", took.len() / 100 * 99)] {
        let ticks = took.get(at).copied().unwrap_or(0);
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(time::frequency().max(1));
        session.out.print(format_args!("{name} of {} nanoseconds {nanos}\n", took.len()));
    }
}

fn report(session: &mut Session<'_>, name: &str, amount: u64, start: u64) {
    let micros = time::uptime_micros() - start;
    session.out.print(format_args!("{name} of {amount} microseconds {micros}\n"));
}
