//! Write-back: a run of neighbours goes to the disk, and whoever has to waits until it is there.
//!
//! One run at a time is on its way, from copies in memory that is set aside when the cache is made; so writing back asks for no
//! memory, and no page has two writes under way that could overtake each other. No lock is held meanwhile. Pages that are on
//! their way are not dropped: [truncation](PageCache::truncate), [forgetting](PageCache::forget) and the like wait for them, since
//! the place on the disk may be another file's soon. Reclaim that finds nothing clean, and writers when too much is dirty, wait for
//! what another processor has on its way; never for their own, as it may be the filesystem that asks, in the midst of a write.

use crate::PageCache;
use crate::State;
use crate::backing::FillError;
use crate::dirty::{Landing, MOST, Next, Run};
use crate::files::{Files, Source};
use alloc::boxed::Box;
use alloc::vec;
use cleancache::FileId;
use frames::lock::LockGuard;
use frames::{FRAME_SIZE, Page, cpu};
use log::warn;

/// The part of its memory that is set aside for copies of pages on their way, and the least: 64 KiB.
const SHARE: usize = 512;
const LEAST: usize = 16;

/// What is on its way to a disk.
pub(crate) struct Air {
    /// Room for the copies; whoever has a run on its way has it.
    copies: Option<Box<[Page]>>,
    pub(crate) run: Option<Run>,
    /// Which processor has it on its way.
    pilot: usize,
}

/// What became of an attempt to write something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flown {
    /// A run went out; the error of the first page that did not arrive.
    Landed(Result<(), FillError>),
    /// There is nothing to write.
    Nothing,
    /// Another processor has a run on its way; it can be [waited for](PageCache::wait_out).
    Busy(Flight),
    /// This processor has, and it is that run's way that leads here: nobody may wait for himself.
    Within,
}

/// A run that is on its way, told by how many have landed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flight(u64);

impl Air {
    pub(crate) fn new(frames: usize) -> Self {
        let pages = (frames / SHARE).clamp(LEAST, MOST);
        Self { copies: Some(vec![[0; FRAME_SIZE]; pages].into_boxed_slice()), run: None, pilot: 0 }
    }
}

impl PageCache {
    /// Write one run, which holds no lock on its way.
    pub(crate) fn fly(&self, mut state: LockGuard<'_, State>, next: Next) -> Flown {
        let State { pages, files, air, .. } = &mut *state;
        let Some(mut copies) = air.copies.take() else {
            let ours = air.pilot == cpu::number();
            return if ours { Flown::Within } else { Flown::Busy(Flight(pages.counters.runs)) };
        };
        let Some(run) = pages.begin_run(next, &mut copies) else {
            air.copies = Some(copies);
            return Flown::Nothing;
        };
        (air.run, air.pilot) = (Some(run), cpu::number());
        let file = files.at(run.file);
        let source = file.ok_or(FillError::Unmounted).and_then(|file| files.source(file));
        drop(state);
        let (landing, outcome) = send(source, run, &copies);
        let mut state = self.state.lock();
        let State { pages, files, air, .. } = &mut *state;
        pages.end_run(run, landing);
        (air.copies, air.run) = (Some(copies), None);
        let news = match (file, outcome) {
            (Some(file), Err(error)) => files.note_failure(file, error).map(|ino| (ino, error)),
            _ => None,
        };
        drop(state);
        if let Some((ino, error)) = news {
            warn!(target: "cache", "changes of inode {ino} are not on the disk: {error}");
        }
        Flown::Landed(outcome)
    }

    /// Wait until a run of another processor has landed. The disk answers or is given up, so it does.
    #[cold]
    pub(crate) fn wait_out(&self, Flight(landed): Flight) {
        while self.state.lock().pages.counters.runs == landed {
            relax();
        }
    }

    /// The cache, locked, at a moment when no run is on its way that `hits` says yes to.
    pub(crate) fn landed(&self, hits: impl Fn(Run, &Files) -> bool) -> LockGuard<'_, State> {
        loop {
            let state = self.state.lock();
            if !state.air.run.is_some_and(|run| hits(run, &state.files)) {
                return state;
            }
            drop(state);
            relax();
        }
    }

    /// As [`PageCache::landed`], for pages from `first` on of a file.
    pub(crate) fn landed_from(&self, file: FileId, first: u32) -> LockGuard<'_, State> {
        self.landed(|run, _| run.file == file.slot() && run.first.saturating_add(run.count) > first)
    }

    /// Write everything dirty of `file` (of all files, at `None`) to the disk; returns when all that was dirty at the call is there,
    /// and all that was on its way. It is not the disk's own cache that is meant: flushing that is the filesystem's business.
    ///
    /// # Errors
    /// The last failure of these pages, during the call or since `sync` was called for this file (or for everything) before: each
    /// is told once. A page that was not written stays dirty, and was tried once.
    pub fn sync(&self, file: Option<FileId>) -> Result<(), FillError> {
        self.write_all(file, true)
    }

    /// As [`PageCache::sync`], on somebody else's behalf: what failed is kept for the next `sync` as well.
    ///
    /// # Errors
    /// The last failure of these pages during the call.
    pub fn write_out(&self, file: Option<FileId>) -> Result<(), FillError> {
        self.write_all(file, false)
    }

    fn write_all(&self, of: Option<FileId>, tell: bool) -> Result<(), FillError> {
        let mut state = self.state.lock();
        let since = state.files.failures();
        let State { pages, files, air, .. } = &mut *state;
        if of.is_some_and(|file| !files.knows(file)) {
            return Ok(());
        }
        pages.owe(of, air.run);
        drop(state);
        loop {
            let state = self.state.lock();
            let in_the_air = state.air.run.is_some_and(|run| of.is_none_or(|file| file.slot() == run.file));
            if !in_the_air && !state.pages.owes(of) {
                break;
            }
            if let Flown::Busy(flight) = self.fly(state, Next::Owed(of)) {
                self.wait_out(flight);
            }
        }
        self.state.lock().files.failure(of, since, tell).map_or(Ok(()), Err)
    }
}

/// Give the pages of a run to the filesystem. Where one of several may be to blame, each is tried alone.
fn send(source: Result<Source, FillError>, run: Run, copies: &[Page]) -> (Landing, Result<(), FillError>) {
    let all = u64::MAX >> (u64::BITS - run.count.clamp(1, u64::BITS));
    let lost = |error| (Landing { lost: all, blameless: error == FillError::NoMemory }, Err(error));
    let Some(first) = copies.first() else { return lost(FillError::NoMemory) };
    let mut pages = [first; MOST];
    pages.iter_mut().zip(copies).for_each(|(page, copy)| *page = copy);
    let (pages, _) = pages.split_at((run.count as usize).min(MOST));
    let Source { backing, ino, .. } = match source {
        Ok(source) => source,
        Err(error) => return lost(error),
    };
    match backing.write(ino, run.first, pages) {
        Ok(()) => (Landing::default(), Ok(())),
        Err(FillError::Device { .. } | FillError::Corrupt { .. }) if pages.len() > 1 => {
            let mut landing = Landing::default();
            let mut outcome = Ok(());
            for ((index, page), place) in (run.first..=u32::MAX).zip(pages).zip(0..u64::BITS) {
                if let Err(error) = backing.write(ino, index, &[page]) {
                    landing.lost |= 1 << place;
                    outcome = outcome.and(Err(error));
                }
            }
            (landing, outcome)
        }
        Err(error) => lost(error),
    }
}

/// Let others go on, as it is them who are waited for.
fn relax() {
    #[cfg(feature = "shuttle")]
    shuttle::thread::yield_now();
    #[cfg(not(feature = "shuttle"))]
    core::hint::spin_loop();
}
