//! Remembering evicted pages, so that one that comes back soon is known for a part of the working set.
//!
//! For each evicted page the value of a clock at its eviction is kept: the clock counts evictions and activations, so the
//! difference at the page's return, its *refault distance*, says how many more pages memory would have had to hold for it to
//! have stayed (Linux, mm/workingset.c). The table has a fixed size, eight bytes an entry, four entries a set; a full
//! set forgets its oldest. A page is told by a 31-bit tag, so one in some hundred million strangers is taken for an acquaintance,
//! which costs a wrong guess and nothing else.

use alloc::boxed::Box;
use alloc::vec;
use frames::Key;

const WAYS: usize = 4;
/// The most sets: 4 MiB of them, which is the largest block that there is.
const MAX_SETS: usize = 1 << 17;

/// An entry: tag, and the clock with the note in its low byte. `None` in an `Option` would cost as much again; a tag of 0 stands
/// for it.
#[derive(Clone, Copy, Debug, Default)]
struct Ghost {
    tag: u32,
    clock_and_note: u32,
}

/// Bits of the note.
const NOTE: u32 = 8;
/// The bits of the clock that are kept.
const CLOCK: u32 = u32::MAX >> NOTE;

/// The table. In each set the ghosts are in order, the youngest first, perhaps with gaps.
#[derive(Debug)]
pub struct Ghosts {
    sets: Box<[[Ghost; WAYS]]>,
    shift: u32,
}

/// What is remembered of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The clock, modulo 2^24, when it was evicted.
    pub clock: u32,
    /// What was noted of it.
    pub note: u8,
}

impl Memory {
    /// How far the clock has gone since, which is `now`.
    #[inline]
    pub fn age(self, now: u32) -> u32 {
        now.wrapping_sub(self.clock) & CLOCK
    }
}

impl Ghosts {
    /// Room to remember about `pages` pages.
    pub fn new(pages: usize) -> Self {
        let sets = (pages / WAYS).next_power_of_two().clamp(2, MAX_SETS);
        Self { sets: vec![[Ghost::default(); WAYS]; sets].into_boxed_slice(), shift: u64::BITS - sets.trailing_zeros() }
    }

    /// A page was evicted; `note` is the caller's.
    #[inline]
    pub fn remember(&mut self, key: Key, clock: u32, note: u8) {
        let (set, tag) = self.place(key);
        let set = &mut self.sets[set];
        let mut ghost = Ghost { tag, clock_and_note: clock << NOTE | u32::from(note) };
        // The others move up, until one of them fills a gap or the oldest falls out.
        for way in set {
            ghost = core::mem::replace(way, ghost);
            if ghost.tag == 0 || ghost.tag == tag {
                break;
            }
        }
    }

    /// What is remembered of a page, which is then forgotten: it has come back.
    #[inline]
    pub fn recall(&mut self, key: Key) -> Option<Memory> {
        let (set, tag) = self.place(key);
        let ghost = self.sets[set].iter_mut().find(|ghost| ghost.tag == tag)?;
        let Ghost { clock_and_note, .. } = core::mem::take(ghost);
        Some(Memory { clock: clock_and_note >> NOTE, note: clock_and_note as u8 })
    }

    #[inline]
    fn place(&self, key: Key) -> (usize, u32) {
        let wide = u64::from(key.file) << 32 | u64::from(key.index);
        // The high bits of the product choose the set, others make the tag; bit 0 keeps it from being 0.
        let hash = wide.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((hash >> self.shift) as usize, (hash >> 16) as u32 | 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_evicted_is_recalled_once() {
        let mut ghosts = Ghosts::new(64);
        let key = Key { file: 3, index: 7 };
        ghosts.remember(key, 10, 0);
        ghosts.remember(key, 11, 5);
        assert_eq!(ghosts.recall(key), Some(Memory { clock: 11, note: 5 }));
        assert_eq!(ghosts.recall(key), None);
    }

    #[test]
    fn ages_are_right_when_the_clock_comes_round() {
        let mut ghosts = Ghosts::new(64);
        let key = Key { file: 3, index: 7 };
        ghosts.remember(key, u32::MAX - 4, 0);
        assert_eq!(ghosts.recall(key).map(|ghost| ghost.age(5)), Some(10));
    }

    #[test]
    fn a_full_table_forgets_the_oldest_of_a_set() {
        let mut ghosts = Ghosts::new(1);
        let keys: alloc::vec::Vec<Key> = (0..100).map(|index| Key { file: 0, index }).collect();
        for (clock, &key) in keys.iter().enumerate() {
            ghosts.remember(key, clock as u32, 0);
        }
        let recalled = keys.iter().filter(|&&key| ghosts.recall(key).is_some()).count();
        assert_eq!(recalled, 2 * WAYS);
        assert!(keys.len() > recalled);
    }
}
