//! A file that does not fit into memory, read at random: how many pages come from disk is what the caches are worth.

use frames::FRAME_SIZE;
use fs::block::SECTOR_SIZE;

use crate::random::Xorshift;
use crate::shell::content::Reader;
use crate::shell::failure::At;
use crate::shell::{Failure, Outcome, Session};

/// For the list of measurements.
pub const ABOUT: &str = "read FILE once, then 100,000 single pages, most from its first fifth: pages from disk";

const READS: u64 = 100_000;
/// In so many reads one is from anywhere, the others from the first part.
const ANYWHERE: u64 = 5;
/// The part of the file that is read most: one in so many pages.
const HOT: u64 = 5;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Reads the file at `path` from its beginning to its end, then at random.
pub fn run(session: &mut Session<'_>, path: &[u8]) -> Outcome {
    let disk = session.system.disk.clone().ok_or_else(|| Failure::other(path, "there is no disk"))?;
    let mut reader = Reader::open(session, path)?;
    while reader.next(session)?.is_some() {}
    drop(reader);

    let mut file = session.open(path)?;
    file.read_no_further();
    let pages = file.stat().at(path)?.size / FRAME_SIZE as u64;
    if pages < HOT {
        return Err(Failure::other(path, "too small"));
    }
    let mut random = Xorshift::new(SEED);
    let mut page = [0; FRAME_SIZE];
    let before = (disk.stats().sectors_read, session.system.cache.stats());
    for read in 0..READS {
        if read.is_multiple_of(1024) {
            session.check()?;
        }
        let among = if random.below(ANYWHERE) == 0 { pages } else { pages / HOT };
        file.read_at(random.below(among) * FRAME_SIZE as u64, &mut page).at(path)?;
    }
    let (sectors, stats) = (disk.stats().sectors_read - before.0, session.system.cache.stats());
    let from_disk = sectors * SECTOR_SIZE as u64 / FRAME_SIZE as u64;
    let restored = stats.restored - before.1.restored;
    session.out.print(format_args!("{READS} reads of {pages} pages\n"));
    session.out.print(format_args!("cleancache pages {restored}\ndisk pages {from_disk}\n"));
    Ok(())
}
