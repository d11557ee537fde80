//! Read-ahead: how much more to fetch than was asked for.
//!
//! Reads that follow one another double the window, up to the cache's largest; a read elsewhere fetches what it asks for and
//! closes the window.

/// The first window of a sequential reader, in pages: 16 KiB.
const FIRST_WINDOW: u32 = 4;

/// An open file's memory of how it has been read. It belongs to one file of one cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadAhead {
    /// Where the last read ended.
    end: u64,
    window: u32,
    /// The page that the last read touched last, plus one.
    page: u64,
    sequential: bool,
    off: bool,
    /// The era of the page cache in which the file was known to it; 0 before.
    pub(crate) era: u64,
}

impl ReadAhead {
    /// For a reader who never wants more than it asks for.
    pub fn off() -> Self {
        Self { off: true, ..Self::default() }
    }

    /// For another reader of the same file, who has not read yet.
    pub fn anew(&self) -> Self {
        Self { era: self.era, ..Self::default() }
    }

    /// A read begins at `pos`.
    #[inline]
    pub(crate) fn begin(&mut self, pos: u64) {
        self.sequential = pos == self.end;
    }

    /// The read ended at `pos`.
    #[inline]
    pub(crate) fn finish(&mut self, pos: u64) {
        self.end = pos;
    }

    /// The read touches page `index`: whether that is another page than the last time. A page read in many small pieces is read
    /// once.
    #[inline]
    pub(crate) fn enters(&mut self, index: u32) -> bool {
        let page = u64::from(index) + 1;
        let entered = page != self.page;
        self.page = page;
        entered
    }

    /// The read missed, and needs `needed` pages from there on: how many to fetch, of at most `max`.
    pub(crate) fn fetch(&mut self, needed: u32, max: u32) -> u32 {
        self.window =
            if self.sequential && !self.off { (self.window * 2).clamp(FIRST_WINDOW.min(max), max) } else { 0 };
        self.window.max(needed.min(max)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_doubles_while_reads_follow_one_another() {
        let mut ahead = ReadAhead::default();
        let mut fetched = alloc::vec::Vec::new();
        for read in 0..5 {
            ahead.begin(read * 100);
            fetched.push(ahead.fetch(1, 32));
            ahead.finish((read + 1) * 100);
        }
        assert_eq!(fetched, [4, 8, 16, 32, 32]);
        ahead.begin(7);
        assert_eq!(ahead.fetch(1, 32), 1, "a read elsewhere closes the window");
        let mut off = ReadAhead::off();
        off.begin(0);
        assert_eq!(off.fetch(1, 32), 1, "a reader who wants no more");
    }
}
