//! Files of noise, to measure with: written in order, or page by page at random so that no two pages lie together.

use alloc::vec::Vec;

use frames::FRAME_SIZE;
use prompt::size::parse_size;

use crate::random::Xorshift;
use crate::shell::failure::At;
use crate::shell::{Failure, Outcome, Session};

/// For the list of measurements.
pub const ABOUT: &str = "make a file of SIZE bytes of noise";
/// Likewise.
pub const ABOUT_SCATTER: &str = "the same, page by page in an order without order";

const SEED: u64 = 0x2545_f491_4f6c_dd1d;

/// Makes the file at `path`, `size` bytes long: from its beginning to its end, or `scattered`.
pub fn run(session: &mut Session<'_>, path: &[u8], size: &[u8], scattered: bool) -> Outcome {
    let bytes = parse_size(size).map_err(|error| Failure::other(size, error))?;
    let mut file = session.create(path, 0o644, true)?;
    let mut random = Xorshift::new(SEED);
    let pages = bytes.div_ceil(FRAME_SIZE as u64);
    for (done, index) in order(pages, scattered).at(path)?.enumerate() {
        if done.is_multiple_of(1024) {
            session.check()?;
        }
        let mut page = [0; FRAME_SIZE];
        page.as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = random.next().to_le_bytes());
        let at = index * FRAME_SIZE as u64;
        let part = page.get(..(bytes - at).min(FRAME_SIZE as u64) as usize).unwrap_or_default();
        file.write_at(at, part).at(path)?;
    }
    Ok(())
}

/// Pages in the order in which they are written, or read: Fisher and Yates' shuffle, if they are to be `scattered`.
pub fn order(pages: u64, scattered: bool) -> Result<impl Iterator<Item = u64>, fs::Error> {
    let mut shuffled: Vec<u32> = Vec::new();
    if scattered {
        let count = u32::try_from(pages).map_err(|_| fs::Error::FileTooLarge { limit: u64::from(u32::MAX) })?;
        shuffled.try_reserve_exact(count as usize).map_err(|_| fs::Error::NoMemory)?;
        shuffled.extend(0..count);
        let mut random = Xorshift::new(!SEED);
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, random.below(at as u64 + 1) as usize);
        }
    }
    Ok((0..pages).map(move |at| shuffled.get(at as usize).map_or(at, |&index| u64::from(index))))
}
