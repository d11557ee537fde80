//! Write-backs that failed, until those were told who have to know.

use crate::backing::FillError;
use crate::files::Files;
use cleancache::FileId;

/// The last failure of a file, or of all files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    error: FillError,
    /// Failures before it.
    serial: u64,
    told: bool,
}

/// The failures of all files.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    count: u64,
    last: Option<Failure>,
}

impl Failure {
    /// The error, if it came after the first `since` failures, or if nobody was told of it and `tell` says to.
    fn report(&mut self, since: u64, tell: bool) -> Option<FillError> {
        let untold = tell && !self.told;
        self.told |= tell;
        (untold || self.serial >= since).then_some(self.error)
    }
}

impl Files {
    /// How often writing back has failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.count
    }

    /// Pages of `file` could not be written. The inode's number, if that is news, and not the same again.
    pub(crate) fn note_failure(&mut self, file: FileId, error: FillError) -> Option<u64> {
        let failure = Failure { error, serial: self.failures.count, told: false };
        self.failures.count += 1;
        self.failures.last = Some(failure);
        let file = self.get_mut(file)?;
        let before = file.failure.replace(failure);
        before.is_none_or(|before| before.error != error).then(|| file.ino())
    }

    /// The last failure of `file`, or of all files, after the first `since`; and, if `tell` says so, one that was not told yet.
    pub(crate) fn failure(&mut self, file: Option<FileId>, since: u64, tell: bool) -> Option<FillError> {
        let failure = match file {
            Some(file) => self.get_mut(file)?.failure.as_mut(),
            None => self.failures.last.as_mut(),
        };
        failure?.report(since, tell)
    }

    /// The last failure of all.
    pub(crate) fn last_failure(&self) -> Option<FillError> {
        self.failures.last.map(|failure| failure.error)
    }
}
