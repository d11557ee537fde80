//! Inherited pages: what the previous kernel had cached, the last place to look before the disk.
//!
//! They are not put into the caches at boot, which would take time with every page. They stay set aside, in the frames in which
//! they were left, and one is [claimed](frames::Memory::claim) when somebody wants to read it. Invariants:
//! - nothing is read from an [estate] before its filesystem has proved that nobody changed it, and [accepted](
//!   crate::PageCache::accept) it;
//! - a frame can be claimed once, and that alone says whether a page is still here: a page that was read, dropped or overwritten
//!   is gone for good, so it is here or in one of the caches, never in two of them;
//! - a page enters the page cache only if it has the checksum that it was handed over with; any other is a miss;
//! - a frame that holds nothing any more goes to its [home]: the pool that lent it, or else free memory.
//!
//! May touch: `frames`, and `cleancache` for the pools. Everything here happens under the page cache's lock.

mod api;
mod estate;
mod going;
mod home;

pub(crate) use estate::Estate;
use home::Homes;

use crate::Cleancache;
use alloc::string::String;
use alloc::vec::Vec;
use cleancache::FsId;
use frames::checksum::crc32c;
use frames::{Frame, FrameRun, Memory, Pfn, PfnRange};
use log::warn;

/// What a filesystem is told by. One that was mounted for writing since, by whomever, differs in some of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The filesystem's own.
    pub uuid: [u8; 16],
    /// Sectors of the disk.
    pub sectors: u64,
    /// CRC-32C of the superblock.
    pub superblock: u32,
    /// How often it was mounted.
    pub mounts: u16,
    /// The state that it was left in.
    pub state: u16,
    /// When it was mounted last, in seconds since 1970.
    pub mounted: u32,
    /// When it was written last, likewise.
    pub written: u32,
}

/// What an inode is told by, beside its number and generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Last change of the inode, in seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanos: u32,
    /// CRC-32C of the inode as it lies on the disk.
    pub inode: u32,
}

/// A file of which pages were inherited, and which has to be as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InheritedFile {
    /// The inode's number.
    pub ino: u64,
    /// Which of the files that had this number.
    pub generation: u32,
    /// What the inode was told by.
    pub stamp: Stamp,
}

/// Consecutive pages of a file in consecutive frames, as they were handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InheritedPages {
    /// The first page of the file.
    pub index: u32,
    /// The first frame.
    pub start: Pfn,
    /// They were in cleancache, not in the page cache.
    pub cold: bool,
}

/// What became of inherited pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InheritedStats {
    /// Pages that the previous kernel handed over.
    pub handed_over: u64,
    /// Pages that were read, and were what had been handed over.
    pub taken: u64,
    /// Pages that were wanted and had changed on the way: misses.
    pub failed: u64,
    /// Pages dropped unread.
    pub dropped: u64,
    /// Pages still here.
    pub left: u64,
    /// Those of them that were in cleancache.
    pub cold: u64,
    /// Why those of a filesystem were dropped, the last time that this happened.
    pub why: Option<String>,
}

/// Which file of which estate a file of the page cache continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heir {
    pub(crate) estate: usize,
    pub(crate) file: usize,
}

/// What inherited pages are kept for, which says where their frames go and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// In a range that a pool lends: the frames are that pool's.
    Lodged,
    /// They were in cleancache; a pool whose frames are all alike may have a claim to as many.
    Cold,
    /// They were in the page cache.
    Warm,
}

/// All that was inherited.
pub(crate) struct Inherited {
    memory: &'static Memory,
    pub(crate) estates: Vec<Estate>,
    homes: Homes,
    stats: InheritedStats,
}

impl Inherited {
    pub(crate) fn new(memory: &'static Memory) -> Self {
        Self { memory, estates: Vec::new(), homes: Homes::default(), stats: InheritedStats::default() }
    }

    /// Whether nothing is left. Then no other function here does anything.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.estates.iter().all(|estate| estate.left() == 0)
    }

    /// How many pages of a class are left.
    fn left_of(&self, class: Class) -> u64 {
        self.estates.iter().map(|estate| estate.left_of(class)).sum()
    }

    pub(crate) fn stats(&self) -> InheritedStats {
        let sum = |of: fn(&Estate) -> u64| self.estates.iter().map(of).sum();
        InheritedStats { left: sum(Estate::left), cold: sum(Estate::cold), ..self.stats.clone() }
    }

    /// The file that a file of the page cache continues, if its filesystem has accepted what was inherited.
    pub(crate) fn heir(&self, fs: FsId, ino: u64, generation: u32) -> Option<Heir> {
        let accepted = |estate: &Estate| estate.heir == Some(fs) && estate.left() > 0;
        let estate = self.estates.iter().position(accepted)?;
        let file = self.estates.get(estate)?.find(ino, generation)?;
        Some(Heir { estate, file })
    }

    /// Whether page `index` of `heir` is here and sound; it is in `frame` then, perhaps by exchange.
    pub(crate) fn restore(&mut self, heir: Heir, index: u32, frame: &mut Frame, cleancache: &Cleancache) -> bool {
        let Some(estate) = self.estates.get_mut(heir.estate) else { return false };
        let Some(page) = estate.page(heir.file, index) else { return false };
        let Ok(run) = self.memory.claim(PfnRange { start: page.frame, count: 1 }) else { return false };
        estate.count_gone(page.class, 1);
        let Ok(mut kept) = run.into_frame() else { return false };
        let sound = crc32c(0, kept.bytes()) == page.sum;
        if sound && self.homes.may_exchange(self.memory, page.class, frame) {
            core::mem::swap(frame, &mut kept);
        } else if sound {
            frame.copy_frame(&kept);
        }
        self.homes.release(cleancache, page.class, kept.into());
        match sound {
            true => self.stats.taken += 1,
            false => self.complain(heir, index),
        }
        sound
    }

    #[cold]
    fn complain(&mut self, heir: Heir, index: u32) {
        self.stats.failed += 1;
        // A whole cache may be damaged; the log is to stay readable.
        if self.stats.failed.is_power_of_two() {
            let ino =
                self.estates.get(heir.estate).and_then(|estate| estate.file(heir.file)).map_or(0, |file| file.ino);
            let failed = self.stats.failed;
            warn!(target: "cache", "page {index} of inode {ino} is not what was handed over: a miss, the {failed}th");
        }
    }

    /// Claim what is still here of `range`, which is of this class; says how many frames that were, and what became of them.
    fn give_up(&mut self, cleancache: &Cleancache, class: Class, range: PfnRange) -> u64 {
        let mut count = 0;
        let mut part = |homes: &mut Homes, run: FrameRun| {
            count += run.len() as u64;
            homes.release(cleancache, class, run);
        };
        match self.memory.claim(range) {
            Ok(run) => part(&mut self.homes, run),
            // Some were read or dropped before.
            Err(_) => {
                for at in 0..range.count {
                    if let Ok(run) = self.memory.claim(PfnRange { start: range.start.offset(at), count: 1 }) {
                        part(&mut self.homes, run);
                    }
                }
            }
        }
        self.stats.dropped += count;
        count
    }
}
