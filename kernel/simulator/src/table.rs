//! Every policy, in every mode, over every trace.

use crate::machine::{self, Broken};
use crate::reference;
use crate::trace::Trace;
use cleancache::Config;
use cleancache::policy::{self, BUILT_IN};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Another row may miss so much less than the default, in percent.
pub const MARGIN: u64 = 3;
/// The default may miss so much more than plain LRU over all memory, in percent.
pub const ABOVE_LRU: u64 = 2;

/// One way to run cleancache.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What decides which page goes.
    pub name: &'static str,
    /// All of its behaviour.
    pub config: Config,
}

impl Row {
    /// Whether this is how cleancache runs when nobody says otherwise.
    pub fn is_default(&self) -> bool {
        let (this, default) = (self.config, Config::default());
        let modes = |config: Config| (config.gate, config.exclusive, config.evict);
        modes(this) == modes(default) && self.name == default_policy()
    }

    /// How it differs from others of its name.
    pub fn mode(&self) -> &'static str {
        match (self.config.exclusive, self.config.gate) {
            (true, false) => "exclusive",
            (true, true) => "exclusive, gate",
            (false, false) => "inclusive",
            (false, true) => "inclusive, gate",
        }
    }
}

/// The name of the policy that is used when nobody says otherwise.
pub fn default_policy() -> &'static str {
    policy::DEFAULT(1).name()
}

/// All rows, mode by mode. `seed` is what the seed patches do: they evict nothing.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (exclusive, gate) in [(true, false), (true, true), (false, false), (false, true)] {
        let config = Config { exclusive, gate, ..Config::default() };
        rows.push(Row { name: "seed", config: Config { evict: false, ..config } });
        rows.extend(BUILT_IN.iter().map(|&(name, policy)| Row { name, config: Config { policy, ..config } }));
    }
    rows
}

/// What one trace came to, in pages read from disk.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// No frame donated.
    pub none: u64,
    /// One LRU list over the page cache's memory alone.
    pub lru_alone: u64,
    /// One LRU list over all memory.
    pub lru: u64,
    /// The optimum over all memory.
    pub belady: u64,
    /// Each row.
    pub rows: Vec<u64>,
}

/// What is asked of one thread at a time.
#[derive(Clone, Copy)]
enum Job {
    None,
    LruAlone,
    Lru,
    Belady,
    Row(usize),
}

impl Job {
    fn run(self, trace: &Trace, rows: &[Row]) -> Result<u64, Broken> {
        Ok(match self {
            Self::None => machine::run(trace, None)?,
            Self::LruAlone => reference::lru(trace, trace.size.memory),
            Self::Lru => reference::lru(trace, trace.size.sum()),
            Self::Belady => reference::belady(trace, trace.size.sum()),
            Self::Row(at) => machine::run(trace, Some(rows[at].config))?,
        })
    }

    fn put(self, misses: u64, column: &mut Column) {
        *match self {
            Self::None => &mut column.none,
            Self::LruAlone => &mut column.lru_alone,
            Self::Lru => &mut column.lru,
            Self::Belady => &mut column.belady,
            Self::Row(at) => &mut column.rows[at],
        } = misses;
    }
}

/// Run `rows` over `traces`, on all processors; a column for each trace.
///
/// # Errors
/// [`Broken`], and the trace over which it came about.
pub fn measure<'a>(traces: &'a [Trace], rows: &[Row]) -> Result<Vec<Column>, (Broken, &'a str)> {
    let of_trace =
        || [Job::None, Job::LruAlone, Job::Lru, Job::Belady].into_iter().chain((0..rows.len()).map(Job::Row));
    let jobs: Vec<(usize, Job)> = (0..traces.len()).flat_map(|at| of_trace().map(move |job| (at, job))).collect();
    let next = AtomicUsize::new(0);
    let columns = Mutex::new(vec![Column { rows: vec![0; rows.len()], ..Column::default() }; traces.len()]);
    let broken = Mutex::new(None);
    let work = || {
        while let Some(&(at, job)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            match job.run(&traces[at], rows) {
                Ok(misses) => {
                    job.put(misses, &mut columns.lock().unwrap_or_else(PoisonError::into_inner)[at]);
                }
                Err(error) => {
                    *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some((error, traces[at].name.as_str()));
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    match broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(broken) => Err(broken),
        None => Ok(columns.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// The default beside the others on one trace.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// What the default misses.
    pub default: u64,
    /// The row that misses least, the default left out.
    pub best: Row,
    /// What that misses.
    pub best_misses: u64,
    /// What plain LRU over all memory misses.
    pub lru: u64,
}

impl Verdict {
    /// On the trace of `column`; `None` when `rows` has no default, or nothing else.
    pub fn new(rows: &[Row], column: &Column) -> Option<Self> {
        let all = || rows.iter().zip(&column.rows);
        let (_, &default) = all().find(|(row, _)| row.is_default())?;
        let (&best, &best_misses) = all().filter(|(row, _)| !row.is_default()).min_by_key(|&(_, misses)| misses)?;
        Some(Self { default, best, best_misses, lru: column.lru })
    }

    /// Whether no row beats the default by more than [`MARGIN`] percent.
    pub fn near_best(&self) -> bool {
        self.default * 100 <= self.best_misses * (100 + MARGIN)
    }

    /// Whether the default is within [`ABOVE_LRU`] percent of plain LRU.
    pub fn near_lru(&self) -> bool {
        self.default * 100 <= self.lru * (100 + ABOVE_LRU)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Access, Page, Size};

    #[test]
    fn there_is_one_default_and_every_mode_of_every_policy() {
        let rows = rows();
        assert_eq!(rows.iter().filter(|row| row.is_default()).count(), 1);
        assert_eq!(rows.len(), 4 * (BUILT_IN.len() + 1));
    }

    #[test]
    fn a_table_over_two_small_traces_is_in_its_bounds() {
        let trace = |name: &str, length: u32| Trace {
            name: name.into(),
            accesses: (0..3000).map(|at| Access::Read(Page { file: 0, index: at % length })).collect(),
            warm_up: 100,
            size: Size { memory: 200, donated: 100 },
        };
        let (traces, rows) = ([trace("fits", 250), trace("does not", 400)], rows());
        let columns = measure(&traces, &rows).expect("whole caches");
        for (trace, column) in traces.iter().zip(&columns) {
            for (row, &misses) in rows.iter().zip(&column.rows) {
                assert!((column.belady..=2900).contains(&misses), "{} {} {}", trace.name, row.name, row.mode());
            }
        }
        assert_eq!((columns[0].lru, columns[1].lru), (150, 2900));
        let verdict = Verdict::new(&rows, &columns[0]).expect("a default");
        assert!(verdict.near_lru() && verdict.near_best(), "{verdict:?}");
    }

    #[test]
    fn the_aims_are_kept_to_the_page() {
        let best = rows()[0];
        let verdict = |default, best_misses, lru| Verdict { default, best, best_misses, lru };
        assert!(verdict(103, 100, 200).near_best() && !verdict(104, 100, 200).near_best());
        assert!(verdict(102, 200, 100).near_lru() && !verdict(103, 200, 100).near_lru());
    }
}
