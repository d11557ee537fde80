//! Handing over: which clean pages the next kernel could use, where they lie, and their checksums.
//!
//! What takes long is done [ahead](PageCache::prepare_handover) of the kexec, a bounded piece at a time, and may be done again at
//! any moment: pages in the scratch area, where nothing outlives a kexec, move to other frames, and pages are hashed. A checksum
//! is noted for a frame together with the page's index and its file's epoch. No other file ever has that epoch, and this one has
//! another as soon as anything in it changes; so a checksum that is out of date is told by that, and nobody has to take it back.
//! Nothing is evicted for any of this.

use crate::files::Files;
use crate::inherited::{Heir, Identity, Inherited, InheritedFile};
use crate::{PageCache, State};
use alloc::string::String;
use alloc::vec::Vec;
use cleancache::{FileId, FsId};
use frames::checksum::crc32c;
use frames::chunks::{Chunks, piece};
use frames::{FrameRef, Key, Pfn, Zone, Zones};

/// Frames that are looked at in one hold of the lock.
const BATCH: usize = 256;
/// Frames that are looked at for each page that may be worked on.
const LOOKS_A_PAGE: usize = 16;

/// A filesystem whose clean pages can be handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heritage {
    /// The filesystem.
    pub fs: FsId,
    /// What it was mounted from.
    pub label: String,
    /// What it is told by.
    pub identity: Identity,
}

/// A file that has pages to hand over, perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedFile {
    /// What it is told by.
    pub file: InheritedFile,
    id: Option<FileId>,
    heir: Option<Heir>,
}

/// A page to hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedPage {
    /// Which page of its file.
    pub index: u32,
    /// Its checksum.
    pub sum: u32,
    /// The frame.
    pub frame: Pfn,
    /// It was in cleancache, not in the page cache.
    pub cold: bool,
}

/// How far preparing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pages that were hashed.
    pub hashed: usize,
    /// Pages that were moved out of the scratch area.
    pub moved: usize,
    /// All frames were looked at since [`PageCache::prepare_again`].
    pub done: bool,
}

/// A checksum, and of what.
#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    sum: u32,
    epoch: u32,
    index: u32,
}

/// Checksums taken ahead, one for each frame.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    noted: Chunks<Noted, { piece::<Noted>() }>,
    /// The frame to look at next, counted from the first.
    next: u64,
}

impl Sums {
    fn get(&self, slot: u64, epoch: u32, index: u32) -> Option<u32> {
        let noted = self.noted.get(slot as usize)?;
        (noted.epoch == epoch && noted.index == index).then_some(noted.sum)
    }

    fn note(&mut self, slot: u64, epoch: u32, page: &FrameRef<'_>) -> u32 {
        let sum = crc32c(0, page.bytes());
        self.noted.grow(slot as usize, |_| Noted::default());
        if let Some(noted) = self.noted.get_mut(slot as usize) {
            *noted = Noted { sum, epoch, index: page.key().index };
        }
        sum
    }

    /// Frames that noting something of this frame takes, at most.
    fn growth(&self, slot: u64) -> u64 {
        let missing = (slot + 1).saturating_sub(self.noted.len() as u64);
        missing.div_ceil(piece::<Noted>() as u64)
    }
}

impl PageCache {
    /// Begin with the first frame again: pages may have come to frames that were looked at.
    pub fn prepare_again(&self) {
        self.state.lock().sums.next = 0;
    }

    /// Move and hash up to `most` pages ahead of a handover, and look at some times as many frames. What was prepared before is not
    /// prepared again.
    pub fn prepare_handover(&self, most: usize) -> Progress {
        let mut progress = Progress::default();
        for _ in 0..most.saturating_mul(LOOKS_A_PAGE).div_ceil(BATCH) {
            if progress.done || progress.hashed.max(progress.moved) >= most {
                break;
            }
            self.prepare_batch(&mut self.state.lock(), most, &mut progress);
        }
        progress
    }

    /// The last moment before a handover: up to `most` pages that came to the scratch area since are moved out of it.
    pub fn prepare_at_last(&self, most: usize) -> Progress {
        let mut progress = Progress::default();
        let scratch = self.memory.scratch();
        if self.state.lock().pages.len() == 0 {
            progress.done = true;
            return progress;
        }
        for first in (0..scratch.count).step_by(BATCH) {
            let mut state = self.state.lock();
            for at in first..scratch.count.min(first + BATCH as u64) {
                if progress.moved >= most {
                    return progress;
                }
                self.move_out(&mut state, scratch.start.offset(at), &mut progress);
            }
        }
        progress.done = true;
        progress
    }

    fn prepare_batch(&self, state: &mut State, most: usize, progress: &mut Progress) {
        let span = self.memory.span();
        for _ in 0..BATCH {
            if progress.hashed.max(progress.moved) >= most {
                return;
            }
            if state.sums.next >= span.count {
                progress.done = true;
                return;
            }
            let pfn = span.start.offset(state.sums.next);
            state.sums.next += 1;
            match self.memory.zone_of(pfn) {
                Zone::Scratch => self.move_out(state, pfn, progress),
                Zone::Normal => self.hash_at(state, pfn, progress),
                Zone::Annex => {}
            }
        }
    }

    /// The page in a frame of the scratch area moves to another, if there is one to spare.
    fn move_out(&self, state: &mut State, pfn: Pfn, progress: &mut Progress) {
        let State { pages, files, sums, .. } = state;
        let Some(page) = pages.clean_at(pfn) else { return };
        let key = page.key();
        let Some(epoch) = epoch_of(files, key) else { return };
        if self.memory.free_frames(Zones::Preservable) <= self.memory.watermarks().min {
            return;
        }
        let Some(mut frame) = self.memory.allocate(Zones::Preservable) else { return };
        page.copy_to(&mut frame);
        let slot = frame.pfn().get() - self.memory.span().start.get();
        pages.move_to(key, frame);
        progress.moved += 1;
        if let Some(page) = pages.get(key)
            && self.may_note(sums, slot)
        {
            sums.note(slot, epoch, &page);
            progress.hashed += 1;
        }
    }

    /// The page in a frame is hashed, whichever cache it is in.
    fn hash_at(&self, state: &mut State, pfn: Pfn, progress: &mut Progress) {
        let State { pages, files, sums, .. } = state;
        let slot = pfn.get() - self.memory.span().start.get();
        let mut hash = |page: &FrameRef<'_>| {
            if let Some(epoch) = epoch_of(files, page.key())
                && sums.get(slot, epoch, page.key().index).is_none()
                && self.may_note(sums, slot)
            {
                sums.note(slot, epoch, page);
                progress.hashed += 1;
            }
        };
        match pages.clean_at(pfn) {
            Some(page) => hash(&page),
            None => self.cleancache.look_at(pfn, |page| hash(&page)),
        }
    }

    /// The table of checksums never grows from the last frames: nothing can be evicted for it here.
    fn may_note(&self, sums: &Sums, slot: u64) -> bool {
        let growth = sums.growth(slot);
        let spare = self.memory.free_frames(Zones::Ephemeral).saturating_sub(self.memory.watermarks().low);
        growth == 0 || growth < u64::from(spare)
    }

    /// The filesystems whose clean pages can be handed over.
    pub fn heritages(&self) -> Vec<Heritage> {
        self.state.lock().files.heritages()
    }

    /// The files of `fs` that have pages to hand over, perhaps, in the order of their numbers.
    pub fn handed_files(&self, fs: FsId) -> Vec<HandedFile> {
        let state = self.state.lock();
        let State { pages, files, inherited, .. } = &*state;
        let has_pages = |file: FileId| pages.file_len(file) > 0 || self.cleancache.file_len(file) > 0;
        let mut handed: Vec<HandedFile> = Vec::new();
        let mut add = |file: HandedFile| {
            if handed.try_reserve(1).is_ok() {
                handed.push(file);
            }
        };
        for (id, file, heir) in files.stamped(fs).filter(|&(id, _, heir)| heir.is_some() || has_pages(id)) {
            add(HandedFile { file, id: Some(id), heir });
        }
        for (heir, file) in inherited.files_of(fs) {
            if !files.is_known(fs, file.ino, file.generation) {
                add(HandedFile { file, id: None, heir: Some(heir) });
            }
        }
        handed.sort_unstable_by_key(|handed| (handed.file.ino, handed.file.generation));
        // One number has one file; an older life of it has nothing to hand on.
        handed.dedup_by(|later, earlier| {
            let same = later.file.ino == earlier.file.ino;
            if same {
                *earlier = *later;
            }
            same
        });
        handed
    }

    /// The pages of a file that can be handed over, into `out`, in order. Those that were not hashed ahead are hashed now, each for
    /// one of `hashes`. Says how many had to be left out: those that there was no time to hash, those in frames that do not
    /// outlive a kexec, all if there is no memory for the list.
    pub fn handed_pages(&self, of: &HandedFile, hashes: &mut usize, out: &mut Vec<HandedPage>) -> u64 {
        let mut state = self.state.lock();
        let State { pages, files, inherited, sums, .. } = &mut *state;
        out.clear();
        let most = of.id.map_or(0, |id| pages.file_len(id) + self.cleancache.file_len(id))
            + of.heir.map_or(0, |heir| inherited.count(heir));
        if out.try_reserve(most).is_err() {
            return most as u64;
        }
        let start = self.memory.span().start.get();
        let mut left_out = 0;
        if let Some((id, epoch)) = of.id.and_then(|id| Some((id, files.epoch(id)?))) {
            let mut add = |page: FrameRef<'_>, cold: bool| {
                let (pfn, index) = (page.pfn(), page.key().index);
                let slot = pfn.get().wrapping_sub(start);
                let ordinary = self.memory.zone_of(pfn) == Zone::Normal;
                let sum = if ordinary { sums.get(slot, epoch, index) } else { None };
                let sum = sum.or_else(|| {
                    *hashes = hashes.checked_sub(1).filter(|_| ordinary)?;
                    Some(crc32c(0, page.bytes()))
                });
                match sum {
                    Some(sum) => out.push(HandedPage { index, sum, frame: pfn, cold }),
                    None => left_out += 1,
                }
            };
            pages.clean_of(id).for_each(|page| add(page, false));
            self.cleancache.each_page(id, |page| add(page, true));
        }
        // They come the youngest first, and mostly were read in order.
        out.reverse();
        if let Some(heir) = of.heir {
            let here = |page: &HandedPage| self.memory.peek(page.frame, |_| ()).is_some();
            out.extend(inherited.pages_of(heir).filter(here).take(most));
        }
        put_in_order(out);
        out.dedup_by_key(|page| page.index);
        left_out
    }
}

/// The most turns that are tried before everything is sorted.
const MOST_TURNS: usize = 64;

/// Sort pages that consist of some runs in order, as they do that were read in order, or moved: where a whole run has its place between two
/// pages of what is in order before it, turning it in there is much cheaper than to sort.
fn put_in_order(pages: &mut [HandedPage]) {
    // The one in the page cache counts, should there be another.
    let key = |page: &HandedPage| u64::from(page.index) << 1 | u64::from(page.cold);
    let run = |pages: &[HandedPage]| pages.windows(2).take_while(|pair| key(&pair[0]) <= key(&pair[1])).count() + 1;
    let mut sorted = run(pages);
    for _ in 0..MOST_TURNS {
        let Some((first, last)) = pages.get(sorted).map(|first| (key(first), sorted + run(&pages[sorted..]))) else {
            return;
        };
        let place = pages[..sorted].partition_point(|page| key(page) <= first);
        if place < sorted && key(&pages[place]) < key(&pages[last - 1]) {
            break;
        }
        pages[place..last].rotate_left(sorted - place);
        sorted = last;
    }
    if sorted < pages.len() {
        pages.sort_unstable_by_key(key);
    }
}

/// The epoch of a page's file, if that can be handed over.
fn epoch_of(files: &Files, key: Key) -> Option<u32> {
    files.at(key.file).filter(|&file| files.is_stamped(file)).and_then(|file| files.epoch(file))
}

impl Inherited {
    /// The files of the estate that `fs` has accepted.
    fn files_of(&self, fs: FsId) -> impl Iterator<Item = (Heir, InheritedFile)> {
        let estates = self.estates.iter().enumerate().filter(move |(_, estate)| estate.heir == Some(fs));
        estates.flat_map(|(at, estate)| {
            (0..estate.files()).filter_map(move |file| Some((Heir { estate: at, file }, estate.file(file)?)))
        })
    }

    fn pages_of(&self, heir: Heir) -> impl Iterator<Item = HandedPage> {
        self.estates
            .get(heir.estate)
            .into_iter()
            .flat_map(move |estate| estate.pages(heir.file))
            .map(|page| HandedPage { index: page.index, sum: page.sum, frame: page.frame, cold: page.cold })
    }

    fn count(&self, heir: Heir) -> usize {
        self.estates.get(heir.estate).map_or(0, |estate| estate.count(heir.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pages_come_in_order_whatever_order_they_were_in(
            runs in proptest::collection::vec((0..400u32, 0..12u32, any::<bool>(), 1..3u32), 0..80),
        ) {
            let run = |&(from, count, cold, step): &(u32, u32, bool, u32)| {
                (0..count).map(move |at| HandedPage {
                    index: from + at * step,
                    sum: 0,
                    frame: Pfn::new(at.into()),
                    cold,
                })
            };
            let mut pages: Vec<HandedPage> = runs.iter().flat_map(run).collect();
            let keys = |pages: &[HandedPage]| pages.iter().map(|page| (page.index, page.cold)).collect::<Vec<_>>();
            let mut expected = keys(&pages);
            expected.sort_unstable();
            put_in_order(&mut pages);
            prop_assert_eq!(keys(&pages), expected);
        }
    }
}
