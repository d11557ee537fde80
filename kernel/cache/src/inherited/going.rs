//! How inherited pages go unread: overwritten, given up for want of memory or for a pool, dropped with their filesystem.

use super::{Class, Heir, Inherited};
use crate::Cleancache;
use alloc::string::String;
use cleancache::FsId;
use frames::PfnRange;
use log::warn;

impl Inherited {
    /// Pages `first..=last` of a file have changed, or are gone.
    pub(crate) fn invalidate(&mut self, heir: Heir, first: u32, last: u32, cleancache: &Cleancache) {
        let mut from = first;
        // A part at a time, since giving it up changes the estate.
        while let Some(estate) = self.estates.get(heir.estate).filter(|estate| estate.left() > 0) {
            let Some((class, range, next)) = estate.part(heir.file, from, last) else { return };
            let gone = self.give_up(cleancache, class, range);
            if let Some(estate) = self.estates.get_mut(heir.estate) {
                estate.count_gone(class, gone);
            }
            match next {
                Some(next) => from = next,
                None => return,
            }
        }
    }

    /// Make up to `want` frames free: pages that were in cleancache, but for those that a pool has a claim to, then those that
    /// were in the page cache; first those of filesystems that nobody has mounted. Each page and each run is looked at once in all
    /// calls together. Takes no lock but by trying.
    pub(crate) fn reclaim(&mut self, want: usize) -> usize {
        let mut freed = 0;
        for class in [Class::Cold, Class::Warm] {
            for mounted in [false, true] {
                for at in 0..self.estates.len() {
                    while freed < want && self.has_spare(class) && self.estates[at].heir.is_some() == mounted {
                        let Some((run, range)) = self.next_of(at, class) else { break };
                        // Not waiting: the caller may hold that lock.
                        let Some(claimed) = self.memory.try_claim(range) else { return freed };
                        self.estates[at].shorten(run);
                        if let Ok(run) = claimed {
                            drop(run);
                            self.estates[at].count_gone(class, 1);
                            self.stats.dropped += 1;
                            freed += 1;
                        }
                    }
                }
            }
        }
        freed
    }

    /// Whether pages of a class may become free memory.
    fn has_spare(&self, class: Class) -> bool {
        class == Class::Warm || self.homes.owed() == 0 || self.left_of(class) > self.homes.owed()
    }

    /// Whether pools have a claim to frames that are here.
    #[inline]
    pub(crate) fn owes(&self) -> bool {
        self.homes.owed() > 0 || self.left_of(Class::Lodged) > 0
    }

    /// Let the pool that has a claim to frames of this class have up to `want`; how many it got.
    pub(crate) fn settle(&mut self, class: Class, want: usize, cleancache: &Cleancache) -> usize {
        let mut settled = 0;
        for at in 0..self.estates.len() {
            while settled < want && (class == Class::Lodged || self.homes.owed() > 0) {
                let Some((run, range)) = self.next_of(at, class) else { break };
                self.estates[at].shorten(run);
                let gone = self.give_up(cleancache, class, range);
                self.estates[at].count_gone(class, gone);
                settled += gone as usize;
            }
        }
        settled
    }

    /// Give up what lies in `range`, which a pool lends.
    pub(crate) fn vacate(&mut self, range: PfnRange, cleancache: &Cleancache) -> u64 {
        let mut gone = 0;
        for at in 0..self.estates.len() {
            if self.estates[at].left_of(Class::Lodged) == 0 {
                continue;
            }
            let mut run = 0;
            while let Some((next, part)) = self.estates[at].lodged(run, range) {
                run = next;
                let count = self.give_up(cleancache, Class::Lodged, part);
                self.estates[at].count_gone(Class::Lodged, count);
                gone += count;
            }
        }
        gone
    }

    /// The page of `class` that goes next in an estate: its run, which is then to be shortened, and its frame.
    fn next_of(&mut self, estate: usize, class: Class) -> Option<(usize, PfnRange)> {
        let estate = self.estates.get_mut(estate).filter(|estate| estate.left_of(class) > 0)?;
        while let Some((at, run)) = estate.run_of(class) {
            // From the end of a run, so that what is set aside shrinks and is not cut in two.
            match run.count.checked_sub(1).filter(|_| run.class == class) {
                Some(last) => return Some((at, PfnRange { start: run.start.offset(last.into()), count: 1 })),
                None => estate.pass(class),
            }
        }
        // There is none, whatever the count says.
        estate.count_gone(class, u64::MAX);
        None
    }

    /// Everything of an estate goes.
    pub(crate) fn drop_estate(&mut self, at: usize, cleancache: &Cleancache) -> u64 {
        let mut gone = 0;
        let mut run = 0;
        while let Some((class, range)) = self.estates.get(at).and_then(|estate| estate.run_at(run)) {
            gone += self.give_up(cleancache, class, range);
            run += 1;
        }
        if let Some(estate) = self.estates.get_mut(at) {
            estate.clear();
        }
        gone
    }

    /// The filesystem is not what it was.
    pub(crate) fn disinherit(&mut self, label: &str, why: &str, cleancache: &Cleancache) -> u64 {
        let mut gone = 0;
        for at in 0..self.estates.len() {
            let waiting = self.estates[at].label == label && self.estates[at].heir.is_none();
            if waiting && self.estates[at].left() > 0 {
                gone += self.drop_estate(at, cleancache);
            }
        }
        if gone > 0 {
            warn!(target: "cache", "{label}: {gone} inherited pages dropped: {why}");
            self.stats.why = Some(String::from(why));
        }
        gone
    }

    /// A filesystem is unmounted.
    pub(crate) fn remove_fs(&mut self, fs: FsId, cleancache: &Cleancache) {
        for at in 0..self.estates.len() {
            if self.estates[at].heir == Some(fs) {
                self.drop_estate(at, cleancache);
            }
        }
    }

    /// Everything goes.
    pub(crate) fn clear(&mut self, cleancache: &Cleancache) -> u64 {
        (0..self.estates.len()).map(|at| self.drop_estate(at, cleancache)).sum()
    }
}
