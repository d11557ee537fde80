//! What is written to the disks without being asked for: pages that are dirty for long or too many, and filesystems' commits.
//!
//! By a processor that has nothing else to do; where there is none, at safe points of the boot processor, as it takes the locks of
//! the page cache and of filesystems and waits for disks; and not at every one that comes along, as they may be close together.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cache::PageCache;
use fs::vfs::Vfs;
use log::warn;

use crate::smp::chores::{self, Chore};
use crate::time;

/// Between two looks.
const LOOK_MICROS: u64 = 50_000;

/// When it was looked last, and how that went.
#[derive(Debug, Default)]
pub struct WriteBehind {
    looked: AtomicU64,
    more: AtomicBool,
    failed: AtomicBool,
}

impl WriteBehind {
    /// Does some of it if it is time to, or lets somebody do it; whether there is more to do at once.
    pub fn go_on(&self, cache: &PageCache, vfs: &Vfs) -> bool {
        let waited = time::uptime_micros().saturating_sub(self.looked.load(Ordering::Relaxed));
        let due = waited >= LOOK_MICROS || self.more.load(Ordering::Relaxed);
        due && !chores::ask(Chore::WriteBehind) && self.step(cache, vfs)
    }

    /// Does some of it; whether there is more to do at once. Failures are told to those who sync, and said in the log when they
    /// begin.
    pub fn step(&self, cache: &PageCache, vfs: &Vfs) -> bool {
        self.looked.store(time::uptime_micros(), Ordering::Relaxed);
        match vfs.commit_aged(time::uptime()) {
            Ok(false) => {}
            Ok(true) => self.failed.store(false, Ordering::Relaxed),
            Err(error) => {
                if !self.failed.swap(true, Ordering::Relaxed) {
                    warn!(target: "fs", "changes wait to be written: {error}");
                }
            }
        }
        let more = cache.write_back_some(time::uptime());
        self.more.store(more, Ordering::Relaxed);
        more
    }
}
