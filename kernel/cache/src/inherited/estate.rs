//! An estate: what was inherited of one filesystem. Files in the order of their numbers, of each its pages in runs, a checksum a page.
//!
//! It is made once, in that order, by pieces of a frame, and afterwards it only shrinks. Which pages are still here it does not
//! know: that says the frame, which can be claimed once.

use super::{Class, Identity, InheritedFile};
use alloc::string::String;
use cleancache::FsId;
use frames::chunks::{Chunks, piece};
use frames::{Pfn, PfnRange};

/// A file, and which of the runs are its own.
#[derive(Clone, Copy, Debug)]
struct File {
    file: InheritedFile,
    first: u32,
    runs: u32,
}

/// Consecutive pages in consecutive frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) start: Pfn,
    /// Where the checksums of its pages begin.
    first_sum: u32,
    pub(crate) class: Class,
    pub(crate) cold: bool,
}

impl Run {
    fn end(&self) -> u64 {
        u64::from(self.index) + u64::from(self.count)
    }

    /// Its frames.
    pub(crate) fn frames(&self) -> PfnRange {
        PfnRange { start: self.start, count: u64::from(self.count) }
    }
}

/// A page that may be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) index: u32,
    pub(crate) frame: Pfn,
    pub(crate) class: Class,
    pub(crate) cold: bool,
    pub(crate) sum: u32,
}

/// A vector in pieces, with a length.
#[derive(Debug)]
struct Listed<T, const N: usize> {
    chunks: Chunks<T, N>,
    len: usize,
}

impl<T: Copy, const N: usize> Listed<T, N> {
    const fn new() -> Self {
        Self { chunks: Chunks::new(), len: 0 }
    }

    fn push(&mut self, value: T) {
        self.chunks.grow(self.len, |_| value);
        if let Some(place) = self.chunks.get_mut(self.len) {
            *place = value;
            self.len += 1;
        }
    }

    fn extend(&mut self, mut values: &[T]) {
        while let Some(&first) = values.first() {
            self.chunks.grow(self.len, |_| first);
            let room = self.chunks.rest_mut(self.len);
            // A piece that could not be had ends it; what is not there is found nowhere.
            let count = room.len().min(values.len());
            let (now, later) = values.split_at(count);
            room[..count].copy_from_slice(now);
            self.len += count;
            values = if count == 0 { &[] } else { later };
        }
    }

    #[inline]
    fn get(&self, at: usize) -> Option<&T> {
        self.chunks.get(at).filter(|_| at < self.len)
    }

    fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.chunks.get_mut(at).filter(|_| at < self.len)
    }

    /// The first place from `from` to `to` of which `after` is true; those for which it is come last.
    fn partition(&self, from: usize, to: usize, after: impl Fn(&T) -> bool) -> usize {
        let (mut low, mut high) = (from, to);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).is_none_or(&after) {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        low
    }
}

/// What was inherited of one filesystem.
#[derive(Debug)]
pub(crate) struct Estate {
    /// What it was mounted from.
    pub(crate) label: String,
    pub(crate) identity: Identity,
    /// The filesystem that has proved to be the same.
    pub(crate) heir: Option<FsId>,
    files: Listed<File, { piece::<File>() }>,
    runs: Listed<Run, { piece::<Run>() }>,
    sums: Listed<u32, { piece::<u32>() }>,
    /// Pages that are still here, by class.
    left: [u64; 3],
    /// Of each class: the first run that may have pages still, as reclaim knows.
    next: [usize; 3],
    /// The file that was begun last was refused, and what follows is not of the one before.
    refused: bool,
}

impl Estate {
    pub(crate) fn new(label: &str, identity: Identity) -> Self {
        Self {
            label: String::from(label),
            identity,
            heir: None,
            files: Listed::new(),
            runs: Listed::new(),
            sums: Listed::new(),
            left: [0; 3],
            next: [0; 3],
            refused: true,
        }
    }

    pub(crate) fn left(&self) -> u64 {
        self.left.iter().sum()
    }

    /// Pages of a class that are still here.
    pub(crate) fn left_of(&self, class: Class) -> u64 {
        self.left[class as usize]
    }

    /// Pages still here that are not the first to be wanted.
    pub(crate) fn cold(&self) -> u64 {
        self.left_of(Class::Lodged) + self.left_of(Class::Cold)
    }

    /// Begin a file. `false` when its number is not greater than that of the one before.
    pub(crate) fn push_file(&mut self, file: InheritedFile) -> bool {
        let last = self.files.len.checked_sub(1).and_then(|last| self.files.get(last));
        self.refused = last.is_some_and(|last| last.file.ino >= file.ino);
        if self.refused {
            return false;
        }
        self.files.push(File { file, first: self.runs.len as u32, runs: 0 });
        true
    }

    /// More of the file that was begun last. `false` when it does not come after what is there.
    pub(crate) fn push_run(&mut self, index: u32, frames: PfnRange, class: Class, cold: bool, sums: &[u32]) -> bool {
        let Some(last) = self.files.len.checked_sub(1).filter(|_| !self.refused) else { return false };
        let (first_sum, next_run) = (self.sums.len as u32, self.runs.len as u32);
        let before = self.runs.len.checked_sub(1).and_then(|at| self.runs.get(at)).copied();
        let Some(file) = self.files.get_mut(last) else { return false };
        let before = before.filter(|_| file.first < next_run);
        if frames.count != sums.len() as u64 || before.is_some_and(|before| before.end() > u64::from(index)) {
            return false;
        }
        file.runs += 1;
        let count = frames.count as u32;
        self.runs.push(Run { index, count, start: frames.start, first_sum, class, cold });
        self.sums.extend(sums);
        self.left[class as usize] += frames.count;
        true
    }

    /// Pages are not here any more.
    #[inline]
    pub(crate) fn count_gone(&mut self, class: Class, pages: u64) {
        let left = &mut self.left[class as usize];
        *left = left.saturating_sub(pages);
    }

    /// How many files there are.
    pub(crate) fn files(&self) -> usize {
        self.files.len
    }

    pub(crate) fn file(&self, at: usize) -> Option<InheritedFile> {
        self.files.get(at).map(|file| file.file)
    }

    /// The place of a file.
    pub(crate) fn find(&self, ino: u64, generation: u32) -> Option<usize> {
        let at = self.files.partition(0, self.files.len, |file| file.file.ino >= ino);
        let file = self.files.get(at)?.file;
        (file.ino == ino && file.generation == generation).then_some(at)
    }

    /// Page `index` of a file, which may be here.
    #[inline]
    pub(crate) fn page(&self, file: usize, index: u32) -> Option<Page> {
        let file = self.files.get(file)?;
        let (first, end) = (file.first as usize, file.first as usize + file.runs as usize);
        let at = self.runs.partition(first, end, |run| run.end() > u64::from(index));
        let run = self.runs.get(at).filter(|_| at < end)?;
        self.page_of(run, index.checked_sub(run.index)?)
    }

    fn page_of(&self, run: &Run, at: u32) -> Option<Page> {
        Some(Page {
            index: run.index + at,
            frame: run.start.offset(u64::from(at)),
            class: run.class,
            cold: run.cold,
            sum: *self.sums.get(run.first_sum as usize + at as usize)?,
        })
    }

    /// The pages of a file that may be here, in order.
    pub(crate) fn pages(&self, file: usize) -> impl Iterator<Item = Page> {
        let (first, runs) = self.files.get(file).map_or((0, 0), |file| (file.first as usize, file.runs as usize));
        (first..first + runs)
            .filter_map(|at| self.runs.get(at))
            .flat_map(|run| (0..run.count).filter_map(|at| self.page_of(run, at)))
    }

    /// How many pages of a file may be here.
    pub(crate) fn count(&self, file: usize) -> usize {
        let (first, runs) = self.files.get(file).map_or((0, 0), |file| (file.first as usize, file.runs as usize));
        (first..first + runs).filter_map(|at| self.runs.get(at)).map(|run| run.count as usize).sum()
    }

    /// The first part of a file's runs that has some of the pages `first..=last`: its class, its frames, and from which page on there
    /// may be more.
    pub(crate) fn part(&self, file: usize, first: u32, last: u32) -> Option<(Class, PfnRange, Option<u32>)> {
        let file = self.files.get(file)?;
        let (from, end) = (file.first as usize, file.first as usize + file.runs as usize);
        let at = self.runs.partition(from, end, |run| run.end() > u64::from(first));
        let run = self.runs.get(at).filter(|run| at < end && run.index <= last)?;
        let skip = first.saturating_sub(run.index);
        let behind = run.end().min(u64::from(last) + 1);
        let count = behind - u64::from(run.index) - u64::from(skip);
        let next = u32::try_from(run.end()).ok().filter(|&next| next <= last);
        Some((run.class, PfnRange { start: run.start.offset(skip.into()), count }, next))
    }

    /// From run `from` on: the first that is lodged and has frames in `range`, which those are, and the run after it.
    pub(crate) fn lodged(&self, from: usize, range: PfnRange) -> Option<(usize, PfnRange)> {
        (from..self.runs.len).find_map(|at| {
            let run = self.runs.get(at).filter(|run| run.class == Class::Lodged)?;
            let part = run.frames().intersect(range);
            (!part.is_empty()).then_some((at + 1, part))
        })
    }

    /// The class and the frames of a run.
    pub(crate) fn run_at(&self, at: usize) -> Option<(Class, PfnRange)> {
        self.runs.get(at).map(|run| (run.class, run.frames()))
    }

    /// The run, of any class, that reclaim of this class has come to.
    pub(crate) fn run_of(&self, class: Class) -> Option<(usize, Run)> {
        let at = self.next[class as usize];
        self.runs.get(at).map(|run| (at, *run))
    }

    /// Reclaim of this class has done with the run that it has come to.
    pub(crate) fn pass(&mut self, class: Class) {
        self.next[class as usize] += 1;
    }

    /// The last page of a run is gone.
    pub(crate) fn shorten(&mut self, at: usize) {
        if let Some(run) = self.runs.get_mut(at) {
            run.count = run.count.saturating_sub(1);
        }
    }

    /// Nothing is here any more.
    pub(crate) fn clear(&mut self) {
        let emptied = Self { heir: self.heir, ..Self::new("", self.identity) };
        *self = Self { label: core::mem::take(&mut self.label), ..emptied };
    }
}
