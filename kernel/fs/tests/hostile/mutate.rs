//! Changes that know what a handover is made of: numbers where numbers are, records moved, doubled and left out, lengths that
//! are put right again, so that what is changed is reached.

use super::{CONTENT, FRAMES, Forgery, MOST, SCRATCH};
use frames::arena::BASE;
use handover::Caches;

/// Xorshift, by Marsaglia.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end.max(1)
    }
}

/// Sizes of records: an entry, an extent or a section's header, a filesystem's, a cache's, an inode's.
const RECORDS: [usize; 5] = [9, 16, 40, 56, 80];

/// Change a few things; `other` lends records.
pub fn mutate(forgery: &mut Forgery, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(5) {
        let at = random.below(forgery.payload.len());
        step(forgery, at, other, random);
    }
    forgery.payload.truncate(MOST);
    if random.below(4) > 0 {
        mend(&mut forgery.payload);
    }
}

fn step(forgery: &mut Forgery, at: usize, other: &[u8], random: &mut Random) {
    let payload = &mut forgery.payload;
    match random.below(12) {
        0 | 1 => {
            if let Some(byte) = payload.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = payload.get_mut(at) {
                *byte = [0, 1, 2, 3, 4, 16, 0x7f, 0x80, 0xfe, 0xff][random.below(10)];
            }
        }
        3 | 4 => {
            let width = [2, 4, 8][random.below(3)];
            let value = number(random).to_le_bytes();
            if let Some(field) = payload.get_mut(at..at + width) {
                field.copy_from_slice(&value[..width]);
            }
        }
        5 => {
            // A number from elsewhere: two things that are the same.
            let (from, width) = (random.below(payload.len()), [4, 8][random.below(2)]);
            if from + width <= payload.len() && at + width <= payload.len() {
                payload.copy_within(from..from + width, at);
            }
        }
        6 => {
            let size = RECORDS[random.below(RECORDS.len())];
            let record: Vec<u8> = payload.iter().skip(at).take(size).copied().collect();
            let to = random.below(payload.len() + 1).min(payload.len());
            payload.splice(to..to, record);
        }
        7 => {
            let size = RECORDS[random.below(RECORDS.len())];
            payload.drain(at.min(payload.len())..(at + size).min(payload.len()));
        }
        8 => {
            let from = random.below(other.len());
            let size = RECORDS[random.below(RECORDS.len())] * (1 + random.below(3));
            let record: Vec<u8> = other.iter().skip(from).take(size).copied().collect();
            payload.splice(at..at, record);
        }
        9 => payload.truncate(at),
        10 => forgery.version = [0, 1, 2, 2, 2, 3][random.below(6)],
        _ => match random.below(3) {
            0 => forgery.min_reader = [0, 1, 2, 3][random.below(4)],
            1 => forgery.caches = [Caches::Keep, Caches::Ignore][random.below(2)],
            _ => payload.extend(std::iter::repeat_n(random.next() as u8, random.below(200))),
        },
    }
}

/// A number that means something somewhere.
fn number(random: &mut Random) -> u64 {
    let frame = BASE.offset(random.below(FRAMES as usize) as u64).get();
    match random.below(8) {
        0 => random.below(20) as u64,
        1 => frame,
        2 => frame | 1 << 52,
        3 => frame | 1 << 53,
        4 => BASE.get() + SCRATCH + random.below((CONTENT - SCRATCH) as usize) as u64,
        5 => [u64::MAX, 1 << 62, 1 << 44, (1 << 44) + 1, u64::from(u32::MAX), 1 << 31][random.below(6)],
        6 => (random.below(200) as u64) * 4096,
        _ => random.next(),
    }
}

/// Make the last section end where the payload does.
fn mend(payload: &mut [u8]) {
    let mut start = 0;
    loop {
        let Some(header) = payload.get(start..start + 16) else { return };
        let length = u64::from_le_bytes(header[8..].try_into().expect("eight bytes"));
        let end = usize::try_from(length).ok().and_then(|length| length.checked_add(start + 16));
        match end.filter(|&end| end < payload.len()) {
            // Only what begins like a section is one.
            Some(end) if payload.get(end..end + 4).is_some_and(|kind| matches!(kind, [1..=3, 0, 0, 0])) => start = end,
            _ => break,
        }
    }
    let length = (payload.len() - start - 16) as u64;
    payload[start + 8..start + 16].copy_from_slice(&length.to_le_bytes());
}
