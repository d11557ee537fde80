//! What the kexecs of a line of kernels cost, and whether that stays the same.

use std::fmt;

/// Generations at the beginning and at the end that are compared.
const COMPARED: usize = 20;
/// Fewer of one kind at each end say nothing.
const ENOUGH: usize = 4;
/// By how many percent the last may cost more than the first.
const GROWTH: u64 = 10;
/// What an inode takes at least, an extent, and a page that was cached.
const INODE: u64 = 80;
const EXTENT: u64 = 16;
const CACHED: u64 = 4;
/// Rows of what depends on how large the tree happens to be end so.
const BYTES: &str = ", bytes";

/// Where a kexec goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// Into the image that is running.
    Running,
    /// Into one from the disk.
    File,
}

/// One kexec, as the kernel after it tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Where it went.
    pub into: Into,
    /// The generation after it.
    pub generation: u32,
    /// What did not survive.
    pub casualties: u64,
    /// Bytes of metadata of files, and what of.
    pub metadata: u64,
    inodes: u64,
    extents: u64,
    /// Bytes of metadata of caches, and pages in them.
    cache_metadata: u64,
    cached: u64,
    /// Thousands of instructions without a file that could be opened.
    pub downtime: u64,
}

impl Crossing {
    /// Reads what `kho` says.
    pub fn parse(into: Into, said: &str) -> Option<Crossing> {
        Some(Crossing {
            into,
            generation: after(said, "generation ")?.try_into().ok()?,
            casualties: after(said, "casualties: ")?,
            metadata: within(said, "handed over: ", "metadata ")?,
            inodes: within(said, "handed over: ", "inodes ")?,
            extents: within(said, "handed over: ", "extents ")?,
            cache_metadata: within(said, "handed over: ", "caches' ")?,
            cached: after(said, "caches: handed over ")?,
            downtime: after(said, "downtime ")?,
        })
    }

    /// Hundredths of what the tree cannot do without.
    fn weight(&self) -> u64 {
        self.metadata * 100 / (INODE * self.inodes + EXTENT * self.extents).max(1)
    }

    /// Hundredths of what the caches cannot do without.
    fn cache_weight(&self) -> u64 {
        self.cache_metadata * 100 / (CACHED * self.cached).max(1)
    }
}

/// The number after a word that begins a line.
fn after(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.trim_start().strip_prefix(word)).and_then(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}

/// The number after a word, in a line that begins with others.
pub fn within(text: &str, line: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|found| found.strip_prefix(line))?;
    let rest = line.split_once(word)?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// All kexecs of a run.
#[derive(Debug, Default)]
pub struct Figures {
    crossings: Vec<Crossing>,
}

/// What one kind of figure was, in the middle of the first, of all, and of the last.
struct Row {
    name: String,
    first: u64,
    median: u64,
    last: u64,
}

impl Row {
    fn new(name: &str, figures: &[u64], ends: usize) -> Row {
        let last = figures.len() - ends;
        Row {
            name: name.to_owned(),
            first: median(&figures[..ends]),
            median: median(figures),
            last: median(&figures[last..]),
        }
    }

    fn grew(&self) -> bool {
        self.last * 100 > self.first * (100 + GROWTH)
    }
}

fn median(figures: &[u64]) -> u64 {
    let mut figures = figures.to_vec();
    figures.sort_unstable();
    figures.get(figures.len() / 2).copied().unwrap_or(0)
}

impl Figures {
    /// One more.
    pub fn add(&mut self, crossing: Crossing) {
        self.crossings.push(crossing);
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (into, name) in [(Into::Running, "the running image"), (Into::File, "an image from the disk")] {
            let of: Vec<&Crossing> = self.crossings.iter().filter(|crossing| crossing.into == into).collect();
            // Each kind is one in two, and the last two have nothing to hand over.
            let ends = (COMPARED / 2).min(of.len() / 3);
            if ends < ENOUGH {
                continue;
            }
            let of = &of[..of.len() - 1];
            let figures = |figure: fn(&Crossing) -> u64| of.iter().map(|crossing| figure(crossing)).collect::<Vec<_>>();
            rows.push(Row::new(&format!("downtime into {name}, 1,000 instructions"), &figures(|c| c.downtime), ends));
            rows.push(Row::new("  metadata of files, percent of the least", &figures(Crossing::weight), ends));
            rows.push(Row::new("  metadata of files, bytes", &figures(|c| c.metadata), ends));
            rows.push(Row::new("  metadata of caches, percent of the least", &figures(Crossing::cache_weight), ends));
            rows.push(Row::new("  metadata of caches, bytes", &figures(|c| c.cache_metadata), ends));
        }
        rows
    }

    /// Whether the last were as good as the first.
    pub fn judge(&self) -> Result<(), String> {
        match self.rows().iter().find(|row| row.grew() && !row.name.ends_with(BYTES)) {
            None => Ok(()),
            Some(_) => Err(format!("the last generations cost more than the first by over {GROWTH} %:\n{self}")),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} kexecs; medians of the first and of the last {COMPARED}:", self.crossings.len())?;
        writeln!(f, "{:56} {:>9} {:>9} {:>9}", "", "first", "median", "last")?;
        for Row { name, first, median, last } in self.rows() {
            writeln!(f, "{name:56} {first:>9} {median:>9} {last:>9}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "generation 7
build 0.1.0
preserved now: inodes 12, extents 9, frames 100
previous build 0.1.0
handed over: inodes 12, extents 9, frames 101 (404K); metadata 1500 bytes, version 2; caches' 300 bytes; 1 frames for both
caches: handed over 50, taken 3, left 47, failed 0, dropped 0
casualties: 0
downtime 17000 us
";

    #[test]
    fn what_kho_says_is_read() {
        let crossing = Crossing::parse(Into::File, SAID).unwrap();
        assert_eq!((crossing.generation, crossing.metadata, crossing.downtime), (7, 1500, 17_000));
        assert_eq!((crossing.inodes, crossing.extents, crossing.casualties), (12, 9, 0));
        assert_eq!((crossing.cache_metadata, crossing.cached, crossing.cache_weight()), (300, 50, 150));
        assert_eq!(within(SAID, "preserved now: ", "frames "), Some(100));
        assert_eq!(Crossing::parse(Into::File, &SAID.replace("downtime", "up")), None);
    }

    #[test]
    fn what_grows_is_noticed() {
        let crossing = Crossing::parse(Into::Running, SAID).unwrap();
        let run = |growth: fn(&mut Crossing, u64)| {
            let mut figures = Figures::default();
            for at in 0..100 {
                let mut crossing = Crossing { into: [Into::Running, Into::File][at as usize % 2], ..crossing };
                growth(&mut crossing, at);
                figures.add(crossing);
            }
            figures.judge()
        };
        assert_eq!(run(|_, _| ()), Ok(()));
        assert_eq!(run(|crossing, at| crossing.downtime += at * 10), Ok(()));
        assert!(run(|crossing, at| crossing.downtime += at * 30).is_err());
        assert!(run(|crossing, at| crossing.metadata += at * 3).is_err());
        assert!(run(|crossing, at| crossing.cache_metadata += at).is_err());
        // A larger tree may take more.
        assert_eq!(run(|c, at| (c.metadata, c.inodes) = (c.metadata + at * 80, c.inodes + at)), Ok(()));
    }
}
