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

/// An entry: tag and working-set bit, and the low bits of the clock. `None` in an `Option` would cost as much again; a tag of
/// 0 stands for it.
#[derive(Clone, Copy, Debug, Default)]
struct Ghost {
    tag: u32,
    clock: u32,
}

/// The bit of `tag` that says whether the page was part of the working set.
const WORKINGSET: u32 = 1;

#[derive(Debug)]
pub(crate) struct Ghosts {
    sets: Box<[[Ghost; WAYS]]>,
    shift: u32,
}

/// What is remembered of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The clock, modulo 2^32, when it was evicted.
    pub(crate) clock: u32,
    /// Whether it was part of the working set.
    pub(crate) workingset: bool,
}

impl Ghosts {
    /// Room to remember about `pages` pages.
    pub(crate) fn new(pages: usize) -> Self {
        let sets = (pages / WAYS).next_power_of_two().clamp(2, MAX_SETS);
        Self { sets: vec![[Ghost::default(); WAYS]; sets].into_boxed_slice(), shift: u64::BITS - sets.trailing_zeros() }
    }

    pub(crate) fn remember(&mut self, key: Key, clock: u32, workingset: bool) {
        let (set, tag) = self.place(key);
        let set = &mut self.sets[set];
        let same = set.iter().position(|ghost| ghost.tag & !WORKINGSET == tag);
        let way = same.unwrap_or_else(|| {
            let age = |ghost: &Ghost| if ghost.tag == 0 { u32::MAX } else { clock.wrapping_sub(ghost.clock) };
            (0..WAYS).max_by_key(|&way| age(&set[way])).unwrap_or(0)
        });
        set[way] = Ghost { tag: tag | u32::from(workingset), clock };
    }

    /// What is remembered of a page, which is then forgotten: it has come back.
    pub(crate) fn recall(&mut self, key: Key) -> Option<Memory> {
        let (set, tag) = self.place(key);
        let ghost = self.sets[set].iter_mut().find(|ghost| ghost.tag & !WORKINGSET == tag)?;
        let found = core::mem::take(ghost);
        Some(Memory { clock: found.clock, workingset: found.tag & WORKINGSET != 0 })
    }

    fn place(&self, key: Key) -> (usize, u32) {
        let wide = u64::from(key.file) << 32 | u64::from(key.index);
        // The high bits of the product choose the set, others make the tag; bit 1 keeps the tag from being 0.
        let hash = wide.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let tag = (hash ^ hash >> 29) as u32;
        ((hash >> self.shift) as usize, (tag | 2) & !WORKINGSET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_evicted_is_recalled_once() {
        let mut ghosts = Ghosts::new(64);
        let key = Key { file: 3, index: 7 };
        ghosts.remember(key, 10, false);
        ghosts.remember(key, 11, true);
        assert_eq!(ghosts.recall(key), Some(Memory { clock: 11, workingset: true }));
        assert_eq!(ghosts.recall(key), None);
    }

    #[test]
    fn a_full_table_forgets_the_oldest_of_a_set() {
        let mut ghosts = Ghosts::new(1);
        let keys: alloc::vec::Vec<Key> = (0..100).map(|index| Key { file: 0, index }).collect();
        for (clock, &key) in keys.iter().enumerate() {
            ghosts.remember(key, clock as u32, false);
        }
        let recalled = keys.iter().filter(|&&key| ghosts.recall(key).is_some()).count();
        assert_eq!(recalled, 2 * WAYS);
        assert!(keys.len() > recalled);
    }
}
