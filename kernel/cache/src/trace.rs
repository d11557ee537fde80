//! A record of which pages were read, in order, for the simulator to play again.

use frames::chunks::{Chunks, piece};

/// A page that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The inode's number.
    pub ino: u64,
    /// The page of its file.
    pub index: u32,
}

/// The record. Room for all of it is set aside at the start; what comes when that is full is not noted.
#[derive(Debug)]
pub(crate) struct Trace {
    reads: Chunks<Read, { piece::<Read>() }>,
    len: usize,
    on: bool,
}

impl Trace {
    pub(crate) fn new(most: usize) -> Self {
        let mut reads = Chunks::new();
        if let Some(last) = most.checked_sub(1) {
            reads.grow(last, |_| Read::default());
        }
        Self { reads, len: 0, on: true }
    }

    pub(crate) fn stop(&mut self) {
        self.on = false;
    }

    pub(crate) fn note(&mut self, ino: u64, index: u32) {
        if self.on
            && let Some(read) = self.reads.get_mut(self.len)
        {
            *read = Read { ino, index };
            self.len += 1;
        }
    }

    pub(crate) fn get(&self, at: usize) -> Option<Read> {
        self.reads.get(at).filter(|_| at < self.len).copied()
    }
}
