//! What the guest's `cleancache` and `free` say, read back into numbers.
//!
//! Numbers are found by the words before them, so that the guest may say more than is asked here.

use anyhow::{Context, Result};

/// A pool of donated frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Frames donated.
    pub donated: u64,
    /// Those that hold nothing.
    pub free: u64,
    /// Those that hold a page.
    pub cached: u64,
    /// Those on their way.
    pub in_transit: u64,
    /// Those that hold a page of the kernel before, and come to the pool afterwards.
    pub inherited: u64,
}

impl Pool {
    /// Whether every frame is somewhere, and only there.
    pub fn is_whole(&self) -> bool {
        let others = [self.cached, self.in_transit, self.inherited];
        others.into_iter().try_fold(self.free, u64::checked_add) == Some(self.donated)
    }
}

/// Counters of the page cache and cleancache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pages read from a disk, so far.
    pub from_disk: u64,
    /// Pages that cleancache had, so far.
    pub from_cleancache: u64,
    /// The pools.
    pub pools: Vec<Pool>,
}

impl Counters {
    /// Reads the output of `cleancache`.
    pub fn parse(text: &str) -> Result<Counters> {
        let mut counters = Counters {
            from_disk: after(text, "from disk ").context("no 'from disk N' in what cleancache says")?,
            from_cleancache: after(text, "from cleancache ")
                .context("no 'from cleancache N' in what cleancache says")?,
            pools: Vec::new(),
        };
        for line in text.lines() {
            if let Some((name, rest)) = line.strip_prefix("pool ").and_then(|line| line.split_once(": donated ")) {
                let number = |word| after(rest, word).with_context(|| format!("no '{word}N' in {line:?}"));
                counters.pools.push(Pool {
                    name: name.to_owned(),
                    donated: leading(rest).with_context(|| format!("no number donated in {line:?}"))?,
                    free: number("free ")?,
                    cached: number("cached ")?,
                    in_transit: number("in transit ")?,
                    inherited: number("inherited ")?,
                });
            }
        }
        Ok(counters)
    }

    /// Frames donated, in all pools.
    pub fn donated(&self) -> u64 {
        self.pools.iter().map(|pool| pool.donated).sum()
    }

    /// Frames with a page in them, in all pools.
    pub fn cached(&self) -> u64 {
        self.pools.iter().map(|pool| pool.cached).sum()
    }
}

/// What crossed the last kexec, as `kho` says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crossing {
    /// The build that runs, and the one before it.
    pub build: String,
    pub previous: String,
    /// Frames of tmpfs content that were handed over, how many of them were claimed since, and how many are left as they are.
    pub frames: u64,
    pub claimed: u64,
    pub left: u64,
    /// Windows of content that were compared with their checksum, and how many were not what they should be.
    pub verified: u64,
    pub failed: u64,
    /// Bytes of metadata.
    pub metadata: u64,
    /// Pages of caches that were handed over, and how many of them were used since.
    pub cached: u64,
    pub taken: u64,
    /// From the beginning of the kexec to a tree in which files can be opened, in microseconds.
    pub downtime: u64,
}

impl Crossing {
    /// Reads the output of `kho`.
    pub fn parse(text: &str) -> Result<Crossing> {
        let line = |name: &str| {
            let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name));
            line.with_context(|| format!("no '{name}' in what kho says"))
        };
        let number = |of: &str, word: &str| {
            after(line(of)?, word).with_context(|| format!("no '{word}N' in the line '{of}' of what kho says"))
        };
        Ok(Crossing {
            build: line("build ")?.to_owned(),
            previous: line("previous build ")?.to_owned(),
            frames: number("handed over: ", "frames ")?,
            metadata: number("handed over: ", "metadata ")?,
            claimed: number("tmpfs: ", "claimed ")?,
            left: number("tmpfs: ", "left ")?,
            verified: number("tmpfs: ", "verified ")?,
            failed: number("tmpfs: ", "failed ")?,
            cached: number("caches: ", "handed over ")?,
            taken: number("caches: ", "taken ")?,
            downtime: number("downtime", " ")?,
        })
    }
}

/// The first number of frames in the row with this name, in the output of `free`.
pub fn row(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| leading(line.strip_prefix(name)?.trim_start()))
}

/// The number that follows a word.
fn after(text: &str, word: &str) -> Option<u64> {
    leading(text.split_once(word)?.1)
}

fn leading(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "page cache: 3 pages = 3 inactive + 0 active + 0 dirty
  found 3  missed 3  refaults 0
  from disk 30  from cleancache 12  evicted 0
pool carveout: donated 4096 = free 4000 + cached 5 + in transit 1 + inherited 90
  stores 7  hits 0  evictions 0
pool balloon: donated 10 = free 0 + cached 9 + in transit 0 + inherited 0
filesystem vda: cached 9
";

    #[test]
    fn counters_are_read_and_a_lost_frame_shows() {
        let counters = Counters::parse(SAID).unwrap();
        assert_eq!((counters.from_disk, counters.from_cleancache), (30, 12));
        assert_eq!((counters.donated(), counters.cached()), (4106, 14));
        let whole: Vec<_> = counters.pools.iter().map(|pool| (&*pool.name, pool.is_whole())).collect();
        assert_eq!(whole, [("carveout", true), ("balloon", false)]);
        assert!(Counters::parse("").is_err());
        assert!(Counters::parse(&SAID.replace("free 4000", "free x")).is_err());
    }

    #[test]
    fn what_crossed_is_read() {
        let text = "generation 1\nbuild b\nprevious build a\n\
                    handed over: inodes 3, extents 2, frames 700; metadata 350 bytes in 1 frames, version 2\n\
                    tmpfs: claimed 64, left 636; verified 1 windows, failed 0\nquarantined 0\n\
                    caches: handed over 40, taken 5, left 35, failed 0, dropped 0\ndowntime 1234 us\n";
        let crossing = Crossing::parse(text).unwrap();
        assert_eq!((&*crossing.build, &*crossing.previous), ("b", "a"));
        assert_eq!((crossing.frames, crossing.metadata, crossing.claimed, crossing.left), (700, 350, 64, 636));
        assert_eq!((crossing.verified, crossing.failed), (1, 0));
        assert_eq!((crossing.cached, crossing.taken, crossing.downtime), (40, 5, 1234));
        assert!(Crossing::parse("generation 0\n").is_err());
    }

    #[test]
    fn rows_are_found_by_their_whole_name() {
        let text = "                               frames\nfree                 5   20\nall memory    7   28\n";
        assert_eq!(row(text, "all memory"), Some(7));
        assert_eq!(row(text, "free"), Some(5));
        assert_eq!(row(text, "sum"), None);
    }
}
