//! What the figures were when somebody last looked at them, in a file that is committed: `bench --check` compares, `--bless` writes.
//!
//! Only figures that repeat can be compared like this, and whether they do is looked at each time.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::figure::Figure;
use super::table::number;

/// By how many percent a figure may be worse than it was.
const WORSE: f64 = 3.0;
/// By how many percent it may differ between two runs of the same.
const REPEATS: f64 = 1.0;
/// Figures with such names are not measured each time.
const AT_TIMES: &str = "large-";
const HEAD: &str =
    "# What `cargo xtask bench` measured when `--bless` was last given: instructions for one operation, on one
# processor, and bytes for one thing. `--check` fails for what is more than 3 % worse. To be written by `--bless` only.
";

/// Figures by board and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline(BTreeMap<String, BTreeMap<String, f64>>);

/// What is wrong with a figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// It is worse than it was.
    Worse { was: f64, is: f64 },
    /// It exceeds its limit.
    Beyond { limit: f64, is: f64 },
    /// It was another in another run.
    Unsteady { first: f64, second: f64 },
    /// There is nothing to compare it with.
    New,
    /// There was one, and it was not measured now.
    Gone,
}

/// A figure with which something is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    board: String,
    name: String,
    fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.board, self.name)?;
        match self.fault {
            Fault::Worse { was, is } => {
                let percent = (is / was - 1.0) * 100.0;
                write!(f, "{} is {percent:.1} % worse than {}", number(is), number(was))
            }
            Fault::Beyond { limit, is } => write!(f, "{} is above its limit, {}", number(is), number(limit)),
            Fault::Unsteady { first, second } => {
                write!(f, "it does not repeat: {}, then {}", number(first), number(second))
            }
            Fault::New => f.write_str("not in the baseline; --bless adds it"),
            Fault::Gone => f.write_str("in the baseline, and not measured"),
        }
    }
}

impl Baseline {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Baseline> {
        let text = fs::read_to_string(path).with_context(|| format!("no baseline in {path:?}; --bless makes it"))?;
        toml::from_str(&text).map(Baseline).with_context(|| format!("{path:?}"))
    }

    /// Writes it.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tables = toml::to_string(&self.0)?;
        fs::write(path, format!("{HEAD}\n{tables}")).with_context(|| format!("cannot write {path:?}"))
    }

    /// What `figures` would be as a baseline. Of those that are not measured each time it keeps what it had.
    pub fn blessed(&self, figures: &[Figure]) -> Baseline {
        let mut new = self.clone();
        new.0.values_mut().for_each(|board| board.retain(|name, _| name.starts_with(AT_TIMES)));
        for figure in figures {
            // Two places are enough to see a percent of anything.
            let each = (figure.each * 100.0).round() / 100.0;
            new.0.entry(figure.board.clone()).or_default().insert(figure.name.clone(), each);
        }
        new
    }

    /// All that is wrong with the figures of two runs.
    pub fn check(&self, first: &[Figure], second: &[Figure]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |board: &str, name: &str, fault| {
            findings.push(Finding { board: board.to_owned(), name: name.to_owned(), fault });
        };
        for figure in first {
            let Figure { board, name, each: is, .. } = figure;
            let is = *is;
            match self.0.get(board).and_then(|board| board.get(name)) {
                Some(&was) if is > was * (1.0 + WORSE / 100.0) => find(board, name, Fault::Worse { was, is }),
                Some(_) => {}
                None => find(board, name, Fault::New),
            }
            if let Some(limit) = figure.limit.filter(|_| !figure.keeps()) {
                find(board, name, Fault::Beyond { limit, is });
            }
            let again = second.iter().find(|again| again.name == *name && again.board == *board);
            let again = again.map_or(f64::INFINITY, |again| again.each);
            if (is - again).abs() > is.min(again) * REPEATS / 100.0 {
                find(board, name, Fault::Unsteady { first: is, second: again });
            }
        }
        for (board, names) in &self.0 {
            for name in names.keys().filter(|name| !name.starts_with(AT_TIMES)) {
                if !first.iter().any(|figure| figure.name == *name && figure.board == *board) {
                    find(board, name, Fault::Gone);
                }
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Board;

    fn figure(name: &str, each: u64) -> Figure {
        Figure::counted(Board::Q35, name, each * 10, 10)
    }

    fn faults(baseline: &[Figure], first: &[Figure], second: &[Figure]) -> Vec<Fault> {
        let found = Baseline::default().blessed(baseline).check(first, second);
        found.into_iter().map(|finding| finding.fault).collect()
    }

    fn same(was: Figure, is: Figure) -> Vec<Fault> {
        faults(&[was], std::slice::from_ref(&is), std::slice::from_ref(&is))
    }

    #[test]
    fn three_percent_worse_is_let_pass_and_no_more() {
        assert_eq!(same(figure("frame", 1000), figure("frame", 1030)), []);
        assert_eq!(same(figure("frame", 1000), figure("frame", 500)), []);
        assert_eq!(same(figure("frame", 1000), figure("frame", 1031)), [Fault::Worse { was: 1000.0, is: 1031.0 }]);
    }

    #[test]
    fn what_exceeds_its_limit_is_found_whatever_it_was() {
        assert_eq!(same(figure("cache-hit", 640), figure("cache-hit", 640)), []);
        let beyond = Fault::Beyond { limit: 640.0, is: 641.0 };
        assert_eq!(same(figure("cache-hit", 641), figure("cache-hit", 641)), [beyond]);
    }

    #[test]
    fn two_runs_differ_by_a_percent_and_no_more() {
        let was = [figure("frame", 1000)];
        assert_eq!(faults(&was, &was, &[figure("frame", 1010)]), []);
        let unsteady = |second| Fault::Unsteady { first: 1000.0, second };
        assert_eq!(faults(&was, &was, &[figure("frame", 1011)]), [unsteady(1011.0)]);
        assert_eq!(faults(&was, &was, &[figure("frame", 989)]), [unsteady(989.0)]);
        assert_eq!(faults(&was, &was, &[]), [unsteady(f64::INFINITY)]);
    }

    #[test]
    fn what_comes_and_what_goes_is_found() {
        assert_eq!(same(figure("frame", 1), figure("other", 1)), [Fault::New, Fault::Gone]);
        assert_eq!(faults(&[figure("large-miss", 9)], &[], &[]), []);
    }

    #[test]
    fn a_finding_names_its_figure() {
        let baseline = Baseline::default().blessed(&[figure("frame", 2000)]);
        let now = [figure("frame", 2200)];
        let text: Vec<_> = baseline.check(&now, &now).iter().map(Finding::to_string).collect();
        assert_eq!(text, ["q35 frame: 2,200 is 10.0 % worse than 2,000"]);
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_keeps_what_was_not_measured() {
        let path = std::env::temp_dir().join(format!("xtask-baseline-{}.toml", std::process::id()));
        let old = Baseline::default().blessed(&[figure("large-miss", 90), figure("gone", 1)]);
        let new = old.blessed(&[figure("frame", 188)]);
        new.save(&path).unwrap();
        assert_eq!(Baseline::load(&path).unwrap(), new);
        assert_eq!(new.check(&[figure("frame", 188)], &[figure("frame", 188)]), []);
        assert!(new.0["q35"].contains_key("large-miss"));
        std::fs::remove_file(&path).unwrap();
        assert!(Baseline::load(&path).is_err());
    }
}
