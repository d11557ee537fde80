//! Pages that the disk does not have yet: in which orders they are, and which go out together.
//!
//! A page that was changed is in *dirty*, the one that has been there longest at the front; changing it again does not move it. What
//! somebody waits for, or what has waited too long, is in *owed*, and goes first. A page on its way to the disk is in *write-back*
//! from a copy, so that it may change meanwhile, which a bit tells: it is dirty again then. A page that the disk did not take is
//! in *failed*, where nothing but a sync or the next round of age finds it: so nobody tries it for ever.
//!
//! Invariant: cleancache and what was inherited have no copy of a page in any of these orders.

use crate::pages::{ACTIVE, INACTIVE};
use crate::pages::{DIRTY_BITS, FIRST_DIRTY, ORDERS, Pages, REFERENCED};
use cleancache::FileId;
use frames::{Frame, FrameRef, Key, Page};

const DIRTY: u16 = FIRST_DIRTY;
const OWED: u16 = FIRST_DIRTY + 1;
pub(crate) const FAILED: u16 = FIRST_DIRTY + 2;
const WRITE_BACK: u16 = FIRST_DIRTY + 3;
const _: () = assert!(WRITE_BACK + 1 == ORDERS);

/// Changed while it is on its way to disk: it has to go there again, and only when it has arrived.
const CHANGED: u16 = DIRTY_BITS[0];
/// Has been dirty for a round of age.
const OLD: u16 = DIRTY_BITS[1];
/// Is owed again when it has arrived.
const OWED_AGAIN: u16 = DIRTY_BITS[2];
const ALL_BITS: u16 = CHANGED | OLD | OWED_AGAIN;

/// The most pages that go out together.
pub(crate) const MOST: usize = 64;

/// What became of a page that was to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is not here.
    Absent,
    /// It was dirty already.
    Again,
    /// It was as the disk has it.
    Anew,
}

/// Which page is to be written next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Of those that are owed, the oldest, of this file if there is one named.
    Owed(Option<FileId>),
    /// The oldest of all, but what is owed first.
    Any,
}

/// Neighbours of a file that are on their way to the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) file: u32,
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// What became of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Landing {
    /// A bit for each page that the disk does not have now.
    pub(crate) lost: u64,
    /// Those may as well be tried again at once.
    pub(crate) blameless: bool,
}

impl Pages {
    /// How many pages the disk does not have.
    pub(crate) fn dirty_len(&self) -> usize {
        (FIRST_DIRTY..ORDERS).map(|order| self.map.order_len(order)).sum()
    }

    /// How many of these it did not take.
    pub(crate) fn failed_len(&self) -> usize {
        self.map.order_len(FAILED)
    }

    /// How many are owed.
    pub(crate) fn owed_len(&self) -> usize {
        self.map.order_len(OWED)
    }

    /// Whether anything is owed, of this file if there is one named.
    pub(crate) fn owes(&self, of: Option<FileId>) -> bool {
        match of {
            Some(file) => self.map.in_order(OWED).any(|page| page.key().file == file.slot()),
            None => self.owed_len() > 0,
        }
    }

    /// A new page comes in that the disk does not have.
    pub(crate) fn insert_dirty(&mut self, key: Key, frame: Frame) -> bool {
        self.map.insert(key, frame, DIRTY, REFERENCED).is_ok()
    }

    /// Change bytes of a page that is here, which makes it dirty.
    #[inline]
    pub(crate) fn modify(&mut self, key: Key, within: usize, data: &[u8]) -> Change {
        let Some(mut page) = self.map.get_mut(key) else { return Change::Absent };
        page.bytes_mut()[within..within + data.len()].copy_from_slice(data);
        let order = page.order();
        // One on its way stays there, or a second writer could overtake the first.
        if order == WRITE_BACK {
            page.set_private(page.private() | CHANGED);
        }
        drop(page);
        match order {
            INACTIVE | ACTIVE => {
                self.map.move_to_back(key, DIRTY);
                Change::Anew
            }
            _ => Change::Again,
        }
    }

    /// Set the bytes of a page from `within` on to zero, if it is here and not on its way. It stays as clean or dirty as it was.
    pub(crate) fn zero_tail(&mut self, key: Key, within: usize) {
        if let Some(mut page) = self.map.get_mut(key) {
            page.bytes_mut()[within..].fill(0);
        }
    }

    /// What is dirty of a file, or all that is, is owed from now on, what the disk did not take before as well. Of a file it
    /// becomes the first that is.
    pub(crate) fn owe(&mut self, of: Option<FileId>, in_the_air: Option<Run>) {
        let ours = |key: Key| of.is_none_or(|file| file.slot() == key.file);
        for key in in_the_air.iter().flat_map(Run::keys).filter(|&key| ours(key)) {
            if let Some(page) = self.map.get(key).filter(|page| page.private() & CHANGED != 0) {
                page.set_private(page.private() | OWED_AGAIN);
            }
        }
        let few = of.filter(|file| self.map.file_len(file.slot()) <= MOST);
        if let Some(file) = few {
            let mut keys = [None; MOST];
            let waiting = self.map.of_file(file.slot()).filter(is_waiting);
            keys.iter_mut().zip(waiting).for_each(|(key, page)| *key = Some(page.key()));
            for key in keys.into_iter().flatten() {
                self.map.move_to_front(key, OWED);
            }
            return;
        }
        // From the back of each order to the front, so that the pages keep their order in both places.
        for (from, to) in [(OWED, DIRTY), (FAILED, DIRTY), (DIRTY, OWED)] {
            for _ in 0..self.map.order_len(from) {
                let Some(key) = self.map.back(from).map(|page| page.key()) else { break };
                self.map.move_to_front(key, if ours(key) { to } else { from });
            }
        }
    }

    /// A round of age is over: what has been dirty for all of it is owed, and what the disk did not take gets another try.
    pub(crate) fn grow_old(&mut self) {
        for order in [FAILED, DIRTY] {
            for _ in 0..self.map.order_len(order) {
                let Some(page) = self.map.front(order) else { break };
                let (key, bits) = (page.key(), page.private());
                page.set_private(bits | OLD);
                let due = order == FAILED || bits & OLD != 0;
                self.map.move_to_back(key, if due { OWED } else { DIRTY });
            }
        }
    }

    /// A page is about to be written, and its neighbours that are dirty too, at most as many as there is room for in `copies`, which
    /// get their bytes.
    pub(crate) fn begin_run(&mut self, next: Next, copies: &mut [Page]) -> Option<Run> {
        let most = copies.len().clamp(1, MOST) as u32;
        let lead = match next {
            Next::Owed(None) => self.map.front(OWED),
            Next::Owed(Some(file)) => self.map.in_order(OWED).find(|page| page.key().file == file.slot()),
            Next::Any => self.map.front(OWED).or_else(|| self.map.front(DIRTY)),
        };
        let Key { file, index } = lead?.key();
        let goes = |index: &u32| {
            let page = self.map.get(Key { file, index: *index });
            page.is_some_and(|page| matches!(page.order(), DIRTY | OWED))
        };
        // Not past a multiple of the longest run, so that where all is dirty no short ones are left over.
        let before = (0..index).rev().take((index % most) as usize).take_while(goes).count() as u32;
        let first = index - before;
        let mut run = Run { file, first, count: 0 };
        for (index, copy) in (first..=u32::MAX).zip(copies.iter_mut().take(most as usize)) {
            let key = Key { file, index };
            let Some(page) = self.map.get(key).filter(|page| matches!(page.order(), DIRTY | OWED)) else { break };
            copy.copy_from_slice(page.bytes());
            page.set_private(page.private() & !ALL_BITS);
            self.map.move_to_back(key, WRITE_BACK);
            run.count += 1;
        }
        Some(run)
    }

    /// The run has come to its end. A page that was changed meanwhile is dirty again.
    pub(crate) fn end_run(&mut self, run: Run, landing: Landing) {
        for (place, key) in run.keys().enumerate() {
            let Some(page) = self.map.get(key).filter(|page| page.order() == WRITE_BACK) else { continue };
            let bits = page.private();
            page.set_private(bits & !ALL_BITS);
            let lost = landing.lost >> place & 1 != 0;
            let order = match lost {
                true if !landing.blameless => FAILED,
                _ if bits & OWED_AGAIN != 0 => OWED,
                false if bits & CHANGED == 0 => INACTIVE,
                _ => DIRTY,
            };
            self.map.move_to_back(key, order);
            self.counters.written += u64::from(!lost);
        }
        self.counters.runs += 1;
    }
}

impl Run {
    fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        let Self { file, first, count } = *self;
        (first..=u32::MAX).take(count as usize).map(move |index| Key { file, index })
    }
}

/// Whether a page is dirty and not on its way.
fn is_waiting(page: &FrameRef<'_>) -> bool {
    matches!(page.order(), DIRTY | OWED | FAILED)
}
