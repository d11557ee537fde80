//! Windows of a file's content: what of it the previous kernel left is claimed by the window, and verified then; and checksums are
//! taken by the window, ahead of the next kexec.
//!
//! A window is [`SUM_PAGES`] pages, aligned to their number. Its checksum is over the whole pages of it that hold data.
//!
//! Invariants:
//! - A checksum is true of what the previous kernel left, or, once that is claimed, of what is there: whoever changes data, or lets
//!   some of a window's go, asks here first, and the checksum is forgotten. Nobody else need care, readers least of all.
//! - A window with a checksum is claimed as a whole, or not at all. So no byte of it is seen before all are proved.
//! - `plain` content has no checksums and is known to want some: the usual state of a file that is written to, which has to ask one
//!   question only. `settled` content wants none: each window with data has one, or all is lost. It is counted how many are not.

use super::casualty::Fault;
use super::content::Content;
use super::extent::{Extent, Store};
use super::extents::PAGE;
use crate::error::{Error, Result};
use core::ops::Range;
use frames::FrameRun;
use frames::checksum::crc32c;
use handover::SUM_PAGES;
use log::error;

/// The window of a page.
fn window_of(index: u64) -> u32 {
    (index / u64::from(SUM_PAGES)) as u32
}

/// The pages of a window.
fn pages_of(window: u32) -> Range<u64> {
    let first = u64::from(window) * u64::from(SUM_PAGES);
    first..first + u64::from(SUM_PAGES)
}

impl Content {
    /// Claim what the previous kernel left in the window of page `index`, and verify it if there is a checksum.
    pub(super) fn claim(&mut self, index: u32) -> Result<()> {
        let window = window_of(u64::from(index));
        let pages = pages_of(window);
        let mut claimed = false;
        let next = |content: &Self| {
            let mut unclaimed = content.extents.data(pages.clone()).filter(|(_, extent)| extent.is_unclaimed());
            unclaimed.next().map(|(part, _)| part)
        };
        while let Some(part) = next(self) {
            let first = part.start as u32;
            let run = self.detach(first, (part.end - part.start) as u32)?;
            self.extents.insert(first, Extent { store: Store::Owned(run), preallocated: false });
            claimed = true;
        }
        match self.sums.get(window).filter(|_| claimed) {
            Some(sum) => self.verify(window, sum),
            None => Ok(()),
        }
    }

    fn verify(&mut self, window: u32, sum: u32) -> Result<()> {
        let (pages, found) = self.hash(window);
        if found != sum {
            return Err(self.lose(Fault::Sum { window }));
        }
        self.space.claims.verified(pages);
        Ok(())
    }

    /// How many pages of a window hold data, and their checksum. All of them are this kernel's.
    fn hash(&self, window: u32) -> (u64, u32) {
        self.extents.data(pages_of(window)).fold((0, 0), |(pages, sum), (part, extent)| {
            (pages + part.end - part.start, extent.bytes(&part).map_or(sum, |bytes| crc32c(sum, bytes)))
        })
    }

    /// Take `pages` pages at `index`, all of them in one extent, out of the file, and claim them.
    pub(super) fn detach(&mut self, index: u32, pages: u32) -> Result<FrameRun> {
        let extent = self.extents.take(index, pages);
        let was_unclaimed = extent.as_ref().is_some_and(Extent::is_unclaimed);
        match extent.map(Extent::into_run) {
            Some(Ok(run)) => {
                if was_unclaimed {
                    self.space.claims.claimed(u64::from(pages));
                }
                Ok(run)
            }
            _ => {
                self.space.release_frames(u64::from(pages));
                Err(self.lose(Fault::Frames))
            }
        }
    }

    /// The content is not what it was.
    fn lose(&mut self, fault: Fault) -> Error {
        error!(target: "tmpfs", "inode {}: {fault}", self.ino);
        self.space.claims.lost();
        self.quarantine(fault);
        Error::Quarantined
    }

    /// The bytes `from..to` are about to change, or to come into being: claim and verify what is in their windows, and forget the
    /// checksums. For content that is not `plain`.
    #[cold]
    pub(super) fn disturb(&mut self, from: u64, to: u64) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        if !self.sums.is_empty() {
            for window in window_of(from / PAGE)..=window_of((to - 1) / PAGE) {
                self.disturb_window(window)?;
            }
        }
        self.want_sums();
        Ok(())
    }

    fn disturb_window(&mut self, window: u32) -> Result<()> {
        if self.sums.get(window).is_some() {
            self.claim(pages_of(window).start as u32)?;
            self.sums.forget(window..window + 1);
            self.want_sums();
        }
        Ok(())
    }

    /// The pages `first..end` are about to go. Windows that go as a whole, or all data of which does, are not looked at.
    #[cold]
    pub(super) fn abandon(&mut self, first: u64, end: u64) -> Result<()> {
        if first >= end {
            return Ok(());
        }
        let whole = window_of(first.next_multiple_of(u64::from(SUM_PAGES)))..window_of(end);
        for window in [window_of(first), window_of(end)] {
            if !whole.contains(&window) {
                self.abandon_some(window, first..end)?;
            }
        }
        self.sums.forget(whole);
        self.plain = !self.settled && self.sums.is_empty();
        Ok(())
    }

    /// Some pages of `window` may be among those that go.
    fn abandon_some(&mut self, window: u32, gone: Range<u64>) -> Result<()> {
        let all = pages_of(window);
        let has_data = |pages: Range<u64>| !pages.is_empty() && self.extents.data(pages).next().is_some();
        if !has_data(gone.start.max(all.start)..gone.end.min(all.end)) {
            return Ok(());
        }
        if has_data(all.start..gone.start.min(all.end)) || has_data(gone.end.max(all.start)..all.end) {
            return self.disturb_window(window);
        }
        self.sums.forget(window..window + 1);
        Ok(())
    }

    /// Some window with data has no checksum, as far as is known.
    pub(super) fn want_sums(&mut self) {
        if self.settled {
            self.settled = false;
            self.space.unsettled();
        }
        self.plain = self.sums.is_empty();
    }

    /// No window with data is without a checksum, or it would be of no use.
    pub(super) fn settle(&mut self) {
        if !self.settled {
            self.settled = true;
            self.space.settled();
        }
        self.plain = false;
    }

    /// Everything that a handover says of the content has been said.
    pub(super) fn arrived(&mut self) {
        if self.quarantined.is_some() || self.next_unsummed(0).is_none() {
            self.settle();
        } else {
            self.want_sums();
        }
    }

    /// The first window from page `at` on that has data and no checksum.
    fn next_unsummed(&self, mut at: u64) -> Option<u32> {
        loop {
            let (part, _) = self.extents.data(at..1 << 32).next()?;
            let window = window_of(part.start);
            match self.sums.next_unknown(window) {
                unknown if unknown == window => return Some(window),
                // Those before it have theirs.
                unknown => at = pages_of(unknown).start,
            }
        }
    }

    /// How many windows hold data.
    pub(super) fn windows(&self) -> u64 {
        let mut before = None;
        let mut windows = 0;
        for (part, _) in self.extents.data(0..1 << 32) {
            let (first, last) = (window_of(part.start), window_of(part.end - 1));
            windows += u64::from(last - first) + u64::from(before != Some(first));
            before = Some(last);
        }
        windows
    }

    /// Take checksums of about as many pages as `most`, and of one window at least where there is one to take. Returns how many pages
    /// that were.
    pub(super) fn take_sums(&mut self, most: u64) -> u64 {
        let (mut hashed, mut at) = (0, 0);
        while self.quarantined.is_none() {
            let Some(window) = self.next_unsummed(at) else { break };
            if hashed > 0 && hashed + u64::from(SUM_PAGES) > most {
                return hashed;
            }
            if self.claim(pages_of(window).start as u32).is_err() {
                break;
            }
            let (pages, sum) = self.hash(window);
            self.sums.set(window, sum);
            self.plain = false;
            (hashed, at) = (hashed + pages, pages_of(window).end);
        }
        self.settle();
        hashed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_pages_agree() {
        assert_eq!((window_of(63), window_of(64), pages_of(1)), (0, 1, 64..128));
        assert_eq!(pages_of(window_of((1 << 32) - 1)).end, 1 << 32);
    }
}
