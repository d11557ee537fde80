//! The table, for people and for programs.

use crate::table::{ABOVE_LRU, Column, MARGIN, Row, Verdict, default_policy};
use crate::trace::Trace;
use std::fmt::Write as _;

/// The widest row's name.
const NAME: usize = 18;
/// A number and the space before it.
const CELL: usize = 11;

/// What was measured: the rows, and for each trace what it came to.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The traces.
    pub traces: &'a [Trace],
    /// The rows.
    pub rows: &'a [Row],
    /// For each trace a column.
    pub columns: &'a [Column],
}

impl Report<'_> {
    fn verdicts(&self) -> Vec<Option<Verdict>> {
        self.columns.iter().map(|column| Verdict::new(self.rows, column)).collect()
    }

    /// The table as text.
    pub fn text(&self) -> String {
        let mut out = String::from("pages read from disk\n\n");
        self.line(&mut out, "", |at| self.traces[at].name.clone());
        self.line(&mut out, "reads and writes", |at| self.traces[at].counted().to_string());
        self.line(&mut out, "different pages", |at| self.traces[at].distinct().to_string());
        self.line(&mut out, "memory, pages", |at| self.traces[at].size.memory.to_string());
        self.line(&mut out, "donated, pages", |at| self.traces[at].size.donated.to_string());
        out.push('\n');
        self.line(&mut out, "no cleancache", |at| self.columns[at].none.to_string());
        self.line(&mut out, "LRU, memory", |at| self.columns[at].lru_alone.to_string());
        self.line(&mut out, "LRU, memory + don.", |at| self.columns[at].lru.to_string());
        self.line(&mut out, "Belady, the same", |at| self.columns[at].belady.to_string());
        let mut mode = "";
        for (number, row) in self.rows.iter().enumerate() {
            if row.mode() != mode {
                mode = row.mode();
                let _ = write!(out, "\n{mode}\n");
            }
            let mark = if row.is_default() { "* " } else { "  " };
            self.line(&mut out, &format!("{mark}{}", row.name), |at| self.columns[at].rows[number].to_string());
        }
        self.verdict_text(&mut out);
        out
    }

    fn verdict_text(&self, out: &mut String) {
        let verdicts = self.verdicts();
        let ratio = |of: fn(&Verdict) -> (u64, u64)| {
            move |verdict: &Option<Verdict>| {
                verdict.as_ref().map_or_else(String::new, |verdict| {
                    let (ours, theirs) = of(verdict);
                    format!("{:.3}", ours as f64 / theirs.max(1) as f64)
                })
            }
        };
        let (best, lru) =
            (ratio(|verdict| (verdict.default, verdict.best_misses)), ratio(|verdict| (verdict.default, verdict.lru)));
        let _ = write!(out, "\nthe default, *, against\n");
        self.line(out, "  best of others", |at| best(&verdicts[at]));
        self.line(out, "  which is", |at| verdicts[at].map_or("", |verdict| verdict.best.name).into());
        self.line(out, "  LRU, all memory", |at| lru(&verdicts[at]));
        let missed = |met: fn(&Verdict) -> bool| {
            let all = self.traces.iter().zip(&verdicts);
            let missed: Vec<&str> = all
                .filter(|(_, verdict)| !verdict.as_ref().is_some_and(met))
                .map(|(trace, _)| trace.name.as_str())
                .collect();
            if missed.is_empty() { "met on every trace".into() } else { format!("NOT MET on {}", missed.join(", ")) }
        };
        let _ = write!(
            out,
            "\nthe default is {}\naim: nothing beats it by more than {MARGIN} %: {}\naim: at most {ABOVE_LRU} % above LRU over \
             all memory: {}\n",
            default_policy(),
            missed(Verdict::near_best),
            missed(Verdict::near_lru)
        );
    }

    fn line(&self, out: &mut String, name: &str, cell: impl Fn(usize) -> String) {
        let _ = write!(out, "{name:NAME$}");
        for at in 0..self.traces.len() {
            let _ = write!(out, " {:>width$}", cell(at), width = CELL - 1);
        }
        out.push('\n');
    }

    /// The table as JSON.
    pub fn json(&self) -> String {
        let verdicts = self.verdicts();
        let mut traces = Vec::new();
        for ((trace, column), verdict) in self.traces.iter().zip(self.columns).zip(&verdicts) {
            let rows = self.rows.iter().zip(&column.rows).map(|(row, misses)| {
                format!("{{{},\"default\":{},\"misses\":{misses}}}", self.row_json(row), row.is_default())
            });
            let verdict = verdict.map_or_else(
                || "null".into(),
                |verdict| {
                    format!(
                        "{{\"misses\":{},\"best\":{{{},\"misses\":{}}},\"near_best\":{},\"near_lru\":{}}}",
                        verdict.default,
                        self.row_json(&verdict.best),
                        verdict.best_misses,
                        verdict.near_best(),
                        verdict.near_lru()
                    )
                },
            );
            traces.push(format!(
                "{{\"name\":{},\"accesses\":{},\"distinct\":{},\"memory\":{},\"donated\":{},\"none\":{},\"lru_memory\":{},\
                 \"lru_all\":{},\"belady\":{},\"rows\":[{}],\"default\":{verdict}}}",
                quoted(&trace.name),
                trace.counted(),
                trace.distinct(),
                trace.size.memory,
                trace.size.donated,
                column.none,
                column.lru_alone,
                column.lru,
                column.belady,
                rows.collect::<Vec<_>>().join(","),
            ));
        }
        format!("{{\"policy\":{},\"traces\":[{}]}}\n", quoted(default_policy()), traces.join(","))
    }

    fn row_json(&self, row: &Row) -> String {
        let (exclusive, gate) = (row.config.exclusive, row.config.gate);
        format!("\"policy\":{},\"exclusive\":{exclusive},\"gate\":{gate}", quoted(row.name))
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::rows;
    use crate::trace::{Access, Page, Size};

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quoted("a \"b\"\\\n"), r#""a \"b\"\\\u000a""#);
    }

    #[test]
    fn the_default_is_marked_and_an_aim_that_is_missed_is_named() {
        let rows = rows();
        let page = Access::Read(Page { file: 0, index: 0 });
        let size = Size { memory: 2, donated: 1 };
        let trace = Trace { name: "t\"".into(), accesses: vec![page], warm_up: 0, size };
        let misses = |row: &Row| if row.is_default() { 110 } else { 100 };
        let column = Column { lru: 120, rows: rows.iter().map(misses).collect(), ..Column::default() };
        let report = Report { traces: &[trace], rows: &rows, columns: &[column] };
        let text = report.text();
        assert!(text.contains(&format!("* {:16} {:>10}", default_policy(), 110)), "{text}");
        assert!(text.contains("more than 3 %: NOT MET on t\"\n"), "{text}");
        assert!(text.contains("over all memory: met on every trace\n"), "{text}");
        let json = report.json();
        assert!(json.contains(r#""name":"t\"","accesses":1,"distinct":1,"memory":2,"donated":1,"#), "{json}");
        assert!(
            json.contains(r#""default":{"misses":110,"best":{"policy":"seed","exclusive":true,"gate":false,"#),
            "{json}"
        );
        assert!(json.contains(r#""misses":100},"near_best":false,"near_lru":true}"#), "{json}");
    }
}
