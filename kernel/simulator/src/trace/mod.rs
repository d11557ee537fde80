//! Traces: which pages are read and written, in order, and in how much memory. Each generator is a pure function of the
//! [`Size`], so every run sees the same accesses.

mod compile;
mod recorded;
mod synthetic;

pub use recorded::{ParseError, recorded};

use std::collections::HashMap;

/// A page, by file and place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Page {
    /// The file's number.
    pub file: u32,
    /// The page of the file, from 0.
    pub index: u32,
}

/// What is done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read, from disk if it is nowhere else.
    Read(Page),
    /// It is written as a whole, which needs nothing from disk.
    Write(Page),
}

impl Access {
    /// The page.
    pub fn page(self) -> Page {
        match self {
            Self::Read(page) | Self::Write(page) => page,
        }
    }
}

/// How many pages there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pages that the page cache can hold.
    pub memory: usize,
    /// Frames donated to cleancache.
    pub donated: usize,
}

impl Size {
    /// What the synthetic traces run in: 16 MiB, and 8 MiB donated.
    pub const DEFAULT: Self = Self { memory: 4096, donated: 2048 };

    /// Pages that both hold.
    pub fn sum(self) -> usize {
        self.memory + self.donated
    }
}

/// A trace.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its name.
    pub name: String,
    /// What happens.
    pub accesses: Vec<Access>,
    /// How many of the first accesses are not counted.
    pub warm_up: usize,
    /// What it runs in.
    pub size: Size,
}

impl Trace {
    fn new(name: &str, size: Size, accesses: Vec<Access>) -> Self {
        Self { name: name.into(), accesses, warm_up: 0, size }
    }

    /// Accesses that count.
    pub fn counted(&self) -> usize {
        self.accesses.len() - self.warm_up
    }

    /// Different pages.
    pub fn distinct(&self) -> usize {
        numbered(&self.accesses).1
    }
}

/// The page of each access as a number below the second value, equal pages with equal numbers.
pub fn numbered(accesses: &[Access]) -> (Vec<u32>, usize) {
    let mut numbers: HashMap<Page, u32> = HashMap::new();
    let pages = accesses
        .iter()
        .map(|access| {
            let next = numbers.len() as u32;
            *numbers.entry(access.page()).or_insert(next)
        })
        .collect();
    (pages, numbers.len())
}

/// The traces that are made here, in `size`; `thrash` has the size of the machine that it stands for.
pub fn synthetic(size: Size) -> Vec<Trace> {
    vec![
        synthetic::zipf("zipf-0.8", size, 0.8),
        synthetic::zipf("zipf-1.0", size, 1.0),
        synthetic::scan_and_hot("scan+hot", size),
        synthetic::looping("loop-large", size, size.sum() * 3 / 2),
        synthetic::looping("loop-huge", size, size.sum() * 3),
        synthetic::looping("loop-small", size, size.memory + size.donated / 2),
        compile::compile("compile", size),
        synthetic::phases("phases", size),
        synthetic::thrash("thrash"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_the_same_every_time_and_of_the_stated_length() {
        let (one, two) = (synthetic(Size::DEFAULT), synthetic(Size::DEFAULT));
        for (one, two) in one.iter().zip(&two) {
            assert_eq!(one.accesses, two.accesses, "{}", one.name);
            assert!((100_000..=400_000).contains(&one.counted()), "{}: {}", one.name, one.counted());
            assert!(one.distinct() > one.size.memory, "{}", one.name);
        }
    }
}
