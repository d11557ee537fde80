//! Figures for people.

use std::fmt::Write;

use super::Report;

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
    let mut text = format!("Holdover {}: instructions per operation\n\n", report.build);
    let width = report.figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
    for figure in &report.figures {
        let verdict = match figure.limit {
            Some(limit) if figure.keeps() => format!("within {}", number(limit)),
            Some(limit) => format!("above {}", number(limit)),
            None => PUBLISHED
                .iter()
                .find(|(name, _)| *name == figure.name)
                .map_or(String::new(), |(_, published)| (*published).to_owned()),
        };
        let line = format!("{:7}  {:width$}  {:>13}  {verdict}", figure.board, figure.name, number(figure.each));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// A number as people read it: `1,234,567`, `773.2`; a tenth is shown where it says something.
pub fn number(number: f64) -> String {
    let tenths = (number.abs() * 10.0).round();
    if !tenths.is_finite() {
        return "nothing".to_owned();
    }
    match tenths as u64 {
        few @ ..10_000 if few % 10 > 0 => format!("{}.{}", few / 10, few % 10),
        ..10_000 => grouped(tenths as u64 / 10),
        _ => grouped(number.abs().round() as u64),
    }
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
    use super::super::figure::Figure;
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
            ],
        };
        let text = table(&report);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "q35      boot-to-prompt     40,000,000  within 60,000,000",
                "microvm  boot-to-prompt     40,000,000  above 30,000,000",
                "q35      cache-hit                 800  within 900",
                "q35      tmpfs-read              700.1",
            ]
        );
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (is, text) in [(0.0, "0"), (999.0, "999"), (999.96, "1,000"), (86.04, "86"), (86.06, "86.1")] {
            assert_eq!(number(is), text);
        }
        assert_eq!(number(1_234_567.4), "1,234,567");
    }
}
