//! What the page cache's side of writing costs, on a file of a filesystem of its own that has no disk: so the real one is neither
//! needed nor written to.

use alloc::sync::Arc;
use core::hint::black_box;

use cache::{Backing, FileId, FillError, PageCache};
use frames::{FRAME_SIZE, Frame, Page};

use super::{BATCH, Bench, Count, OPERATIONS, WARM_UP};
use crate::shell::failure::At;
use crate::shell::{Outcome, Session};

/// All of them.
pub const BENCHES: [Bench; 3] = [
    Bench {
        name: "cache-write",
        about: "overwrite 4 KiB that the page cache holds and the disk does not have yet",
        usual: true,
        run: overwrite,
    },
    Bench { name: "cache-append", about: "append 4 KiB in the page cache", usual: true, run: append },
    Bench {
        name: "write-back",
        about: "write 4 KiB back, in runs, to a disk that costs nothing",
        usual: true,
        run: write_back,
    },
];

/// A disk that has zeros and takes everything.
struct Nowhere;

impl Backing for Nowhere {
    fn fill(&self, _ino: u64, _first: u32, pages: &mut [Frame]) -> Result<(), FillError> {
        pages.iter_mut().for_each(Frame::zero);
        Ok(())
    }

    fn write(&self, _ino: u64, _first: u32, pages: &[&Page]) -> Result<(), FillError> {
        black_box(pages);
        Ok(())
    }
}

/// Measures something with an empty file.
fn with_file(
    session: &Session<'_>,
    operation: impl FnOnce(&PageCache, FileId, &Page) -> Result<Count, FillError>,
) -> Outcome<Count> {
    let cache = &session.system.cache;
    let fs = cache.add_fs("bench", Arc::new(Nowhere));
    let count = cache.open(fs, 1, 0).and_then(|file| operation(cache, file, &[0x5a; FRAME_SIZE]));
    cache.remove_fs(fs);
    count.map_err(fs::Error::from).at(b"page cache")
}

/// Writes `count` pages one after the other.
fn write(cache: &PageCache, file: FileId, page: &Page, pages: usize) -> Result<(), FillError> {
    let mut positions = (0..pages as u64).map(|index| index * FRAME_SIZE as u64);
    positions.try_for_each(|position| cache.write(file, position, position, black_box(page)).map(drop))
}

fn overwrite(session: &mut Session<'_>) -> Outcome<Count> {
    with_file(session, |cache, file, page| {
        let size = FRAME_SIZE as u64;
        let again =
            |operations: usize| (0..operations).try_for_each(|_| cache.write(file, size, 0, black_box(page)).map(drop));
        again(WARM_UP)?;
        let mut count = Count::default();
        count.add(OPERATIONS, || again(OPERATIONS))?;
        Ok(count)
    })
}

fn append(session: &mut Session<'_>) -> Outcome<Count> {
    with_file(session, |cache, file, page| {
        let mut count = Count::default();
        for _ in 0..OPERATIONS / BATCH {
            cache.truncate(file, 0);
            count.add(BATCH, || write(cache, file, page, BATCH))?;
        }
        Ok(count)
    })
}

fn write_back(session: &mut Session<'_>) -> Outcome<Count> {
    with_file(session, |cache, file, page| {
        let mut count = Count::default();
        for _ in 0..OPERATIONS / BATCH {
            cache.truncate(file, 0);
            write(cache, file, page, BATCH)?;
            count.add(BATCH, || cache.sync(Some(file)))?;
        }
        Ok(count)
    })
}
