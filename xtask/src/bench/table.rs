//! Figures for people.

use super::Report;
use super::figure::{Figure, Kind};

/// The kinds, and what their parts of the table are called.
pub const KINDS: [(Kind, &str); 4] = [
    (Kind::Counted, "instructions for one operation"),
    (Kind::Memory, "bytes of the kernel's own for one thing"),
    (Kind::Scaling, "times as fast as one CPU of the same guest; medians of 5, in microseconds"),
    (
        Kind::Versus,
        "times as good as Debian's Linux in the same QEMU; medians of 5, in microseconds, nanoseconds or pages",
    ),
];

/// What was published of contiguous allocation under load, average microseconds: CMA, and GCMA, which lends its memory to
/// cleancache. 1,000 instructions take a microsecond on a processor that does one in a nanosecond.
const PUBLISHED: [(&str, &str); 4] = [
    ("range-1", "published: CMA 684 us, GCMA 26 us"),
    ("range-512", "published: CMA 1,162 us, GCMA 2,002 us"),
    ("range-1024", "published: CMA 12,303 us, GCMA 3,495 us"),
    ("range-32000", "published: CMA 641,340 us, GCMA 44,675 us"),
];

/// The report as a table.
pub fn table(report: &Report) -> String {
    let mut text = format!("Holdover {}\n", report.build);
    let width = report.figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
    for (kind, title) in KINDS {
        let mut lines = report.figures.iter().filter(|figure| figure.kind == kind).peekable();
        if lines.peek().is_some() {
            text += &format!("\n{title}\n");
        }
        for figure in lines {
            let (board, name, each) = (&figure.board, &figure.name, number(figure.each));
            let line = format!("{board:7}  {name:width$}  {each:>13}  {}", remarks(figure).join("; "));
            text += line.trim_end();
            text.push('\n');
        }
    }
    text
}

/// How a figure stands to what it should be, and what else is known.
fn remarks(figure: &Figure) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(limit) = figure.limit {
        let words = match (figure.kind.is_ratio(), figure.keeps()) {
            (true, true) => "at least",
            (true, false) => "below",
            (_, true) => "within",
            (_, false) => "above",
        };
        remarks.push(format!("{words} {}", number(limit)));
    }
    let published = PUBLISHED.iter().find(|(name, _)| *name == figure.name);
    remarks.extend(published.map(|(_, published)| (*published).to_owned()));
    if let Some(medians) = figure.medians {
        let [ours, theirs] = medians.map(|median| number(median as f64));
        remarks.push(format!("{ours} and {theirs}"));
    }
    remarks
}

/// A number as people read it: `1,234,567`, `773.2`, `3.77`; of a small one some places say something.
pub fn number(number: f64) -> String {
    let number = number.abs();
    if !number.is_finite() {
        return "nothing".to_owned();
    }
    let text = match number {
        ..9.995 => format!("{number:.2}"),
        ..999.95 => format!("{number:.1}"),
        _ => return grouped(number.round() as u64),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Board;

    #[test]
    fn figures_are_compared_with_the_limits_of_their_board() {
        let report = Report {
            build: "0.1.0".to_owned(),
            figures: vec![
                Figure::counted(Board::Q35, "boot-to-prompt", 40_000_000, 1),
                Figure::counted(Board::Microvm, "boot-to-prompt", 40_000_000, 1),
                Figure::counted(Board::Q35, "cache-hit", 8_000, 10),
                Figure::counted(Board::Q35, "tmpfs-read", 7_001, 10),
                Figure::ratio(Kind::Versus, Board::Q35, "seqread", 2_000, 2_600, Some(1.5)),
                Figure::ratio(Kind::Versus, Board::Q35, "seqwrite", 2_000, 7_000, Some(1.0)),
                Figure::memory(Board::Q35, "handed-over-page", 1_200, 1_000),
            ],
        };
        let text = table(&report);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "",
                "instructions for one operation",
                "q35      boot-to-prompt       40,000,000  within 60,000,000",
                "microvm  boot-to-prompt       40,000,000  above 30,000,000",
                "q35      cache-hit                   800  above 640",
                "q35      tmpfs-read                700.1",
                "",
                "bytes of the kernel's own for one thing",
                "q35      handed-over-page            1.2  above 0.82",
                "",
                "times as good as Debian's Linux in the same QEMU; medians of 5, in microseconds, nanoseconds or pages",
                "q35      seqread                     1.3  below 1.5; 2,000 and 2,600",
                "q35      seqwrite                    3.5  at least 1; 2,000 and 7,000",
            ]
        );
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (is, text) in
            [(0.0, "0"), (999.0, "999"), (999.96, "1,000"), (86.04, "86"), (3.774, "3.77"), (0.8192, "0.82")]
        {
            assert_eq!(number(is), text);
        }
        assert_eq!(number(1_234_567.4), "1,234,567");
    }
}
