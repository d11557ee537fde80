//! ARC (Megiddo and Modha, FAST 2003): pages seen once and pages seen again, each in order of last use; the ghosts of both say which of
//! the two should have been larger, and the share moves that way.
//!
//! A ghost is known by the number of evictions of its kind since it left: it is on its list while they are fewer than the list
//! is long.

use super::{Arrival, End, Entry, Keepsake, Place, Policy, Queues};
use crate::ghost::Ghosts;
use frames::Key;

/// Pages seen once: the paper's T1.
const ONCE: u16 = 0;
/// Pages seen again: T2.
const AGAIN: u16 = 1;

const STRANGER: Keepsake = Keepsake(0);
const PROVEN: Keepsake = Keepsake(1);

/// The policy.
#[derive(Debug)]
pub struct Arc {
    ghosts: Ghosts,
    /// Evictions so far, of pages seen once and of pages seen again.
    clocks: [u32; 2],
    /// The lengths of the ghost lists.
    lens: [u32; 2],
    frames: u32,
    /// The share of pages seen once, in frames: the paper's p.
    share: u32,
    /// Pages seen once at the last eviction.
    once: u32,
}

impl Arc {
    /// For up to `frames` frames.
    pub fn new(frames: usize) -> Self {
        let ghosts = Ghosts::new(frames * 2);
        Self { ghosts, clocks: [0; 2], lens: [0; 2], frames: frames as u32, share: 0, once: 0 }
    }

    /// The most ghosts of each kind: |T1| + |B1| are at most the frames, all together at most twice that.
    fn limit(&self, kind: usize) -> u32 {
        match kind {
            0 => self.frames.saturating_sub(self.once),
            _ => (self.frames + self.once).saturating_sub(self.lens[0]).min(self.frames),
        }
    }
}

impl Policy for Arc {
    fn name(&self) -> &'static str {
        "arc"
    }

    fn admit(&mut self, _: Key, arrival: Arrival, _: &Queues<'_>, _: bool) -> Option<Place> {
        let queue = if arrival.keepsake == STRANGER { ONCE } else { AGAIN };
        Some(Place { queue, end: End::Young, bits: 0 })
    }

    fn keepsake(&self, _: u16, _: u16) -> Keepsake {
        PROVEN
    }

    fn stay(&mut self, _: u16, _: u16) -> Place {
        Place { queue: AGAIN, end: End::Young, bits: 0 }
    }

    fn miss(&mut self, key: Key) -> Keepsake {
        let Some(ghost) = self.ghosts.recall(key) else { return STRANGER };
        let kind = usize::from(ghost.note & 1);
        if ghost.age(self.clocks[kind]) > self.lens[kind] {
            return STRANGER;
        }
        let (own, other) = (self.lens[kind].max(1), self.lens[1 - kind]);
        let step = (other / own).max(1);
        self.share = match kind {
            0 => (self.share + step).min(self.frames),
            _ => self.share.saturating_sub(step),
        };
        self.lens[kind] -= self.lens[kind].min(1);
        PROVEN
    }

    fn victim(&mut self, queues: &mut Queues<'_>) -> Option<Entry> {
        self.once = queues.len(ONCE) as u32;
        self.frames = queues.frames() as u32;
        let kind = usize::from(self.once <= self.share && queues.len(AGAIN) > 0 || self.once == 0);
        let entry = queues.front(kind as u16)?;
        self.clocks[kind] = self.clocks[kind].wrapping_add(1);
        self.ghosts.remember(entry.key, self.clocks[kind], kind as u8);
        self.lens[kind] = (self.lens[kind] + 1).min(self.limit(kind));
        self.lens[1 - kind] = self.lens[1 - kind].min(self.limit(1 - kind));
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_scan_does_not_push_out_what_was_seen_again() {
        let mut trial = Trial::new(Arc::new(64), 64);
        trial.touch_all((0..40).chain(0..40));
        trial.touch_all(1000..2000);
        assert_eq!(trial.touch_all(0..40), 40);
    }

    #[test]
    fn ghosts_of_either_kind_move_the_share_their_way() {
        let mut trial = Trial::new(Arc::new(64), 64);
        trial.touch_all((0..40).chain(0..40));
        trial.touch_all(100..140);
        assert_eq!(trial.policy.share, 0);
        // Pages seen once that left a moment ago.
        assert_eq!(trial.touch_all(100..110), 0);
        let share = trial.policy.share;
        assert!(share >= 10, "{share}");
        // More pages seen again than there is room for beside that share: the oldest of them go, and are missed.
        trial.touch_all((0..64).chain(0..64).map(|index| 500 + index));
        trial.touch_all(1000..1100);
        let gone: Vec<u32> = (500..564).filter(|&index| !trial.has(index)).collect();
        assert!(!gone.is_empty());
        let share = trial.policy.share;
        gone.into_iter().for_each(|index| {
            trial.read(index);
        });
        assert!(trial.policy.share < share, "{} of {share}", trial.policy.share);
    }
}
