//! Remembering evicted pages, so that one that comes back soon is known for a part of the working set.
//!
//! For each evicted page the value of a clock at its eviction is kept: the clock counts evictions and activations, so the
//! difference at the page's return, its *refault distance*, says how many more pages memory would have had to hold for it to
//! have stayed (Linux, mm/workingset.c). The table has a fixed size, eight bytes an entry, four entries a set; a full
//! set forgets its oldest. A page is told by a 24-bit tag, so one in some million strangers is taken for an acquaintance,
//! which costs a wrong guess and nothing else.

use alloc::boxed::Box;
use alloc::vec;
use frames::Key;

const WAYS: usize = 4;
/// The most sets: 4 MiB of them, which is the largest block that there is.
const MAX_SETS: usize = 1 << 17;

/// An entry: tag and note, and the low bits of the clock. `None` in an `Option` would cost as much again; a tag of 0 stands for
/// it.
#[derive(Clone, Copy, Debug, Default)]
struct Ghost {
    tag: u32,
    clock: u32,
}

/// The bits of `tag` that are the note.
const NOTE: u32 = 0xff;

/// The table.
#[derive(Debug)]
pub struct Ghosts {
    sets: Box<[[Ghost; WAYS]]>,
    shift: u32,
}

/// What is remembered of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The clock, modulo 2^32, when it was evicted.
    pub clock: u32,
    /// What was noted of it.
    pub note: u8,
}

impl Ghosts {
    /// Room to remember about `pages` pages.
    pub fn new(pages: usize) -> Self {
        let sets = (pages / WAYS).next_power_of_two().clamp(2, MAX_SETS);
        Self { sets: vec![[Ghost::default(); WAYS]; sets].into_boxed_slice(), shift: u64::BITS - sets.trailing_zeros() }
    }

    /// A page was evicted; `note` is the caller's.
    pub fn remember(&mut self, key: Key, clock: u32, note: u8) {
        let (set, tag) = self.place(key);
        let set = &mut self.sets[set];
        let same = set.iter().position(|ghost| ghost.tag & !NOTE == tag);
        let way = same.unwrap_or_else(|| {
            let age = |ghost: &Ghost| if ghost.tag == 0 { u32::MAX } else { clock.wrapping_sub(ghost.clock) };
            (0..WAYS).max_by_key(|&way| age(&set[way])).unwrap_or(0)
        });
        set[way] = Ghost { tag: tag | u32::from(note), clock };
    }

    /// What is remembered of a page, which is then forgotten: it has come back.
    pub fn recall(&mut self, key: Key) -> Option<Memory> {
        let (set, tag) = self.place(key);
        let ghost = self.sets[set].iter_mut().find(|ghost| ghost.tag & !NOTE == tag)?;
        let found = core::mem::take(ghost);
        Some(Memory { clock: found.clock, note: (found.tag & NOTE) as u8 })
    }

    fn place(&self, key: Key) -> (usize, u32) {
        let wide = u64::from(key.file) << 32 | u64::from(key.index);
        // The high bits of the product choose the set, others make the tag; bit 8 keeps the tag from being 0.
        let hash = wide.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let tag = (hash ^ hash >> 29) as u32;
        ((hash >> self.shift) as usize, (tag | (NOTE + 1)) & !NOTE)
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
