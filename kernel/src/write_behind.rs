//! What is written to the disks without being asked for: pages that are dirty for long or too many, and filesystems' commits.
//!
//! At safe points only, as it takes the locks of the page cache and of filesystems and waits for disks; and not at every one that
//! comes along, as they may be close together.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cache::PageCache;
use fs::vfs::Vfs;
use log::warn;

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
    /// Does some of it if it is time to; whether there is more to do at once. Failures are told to those who sync, and said in
    /// the log when they begin.
    pub fn go_on(&self, cache: &PageCache, vfs: &Vfs) -> bool {
        let now = time::uptime_micros();
        let due = now.saturating_sub(self.looked.load(Ordering::Relaxed)) >= LOOK_MICROS;
        if !due && !self.more.load(Ordering::Relaxed) {
            return false;
        }
        self.looked.store(now, Ordering::Relaxed);
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
