//! Figures as a picture: each beside its limit.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::Report;
use super::figure::Figure;
use super::table::{KINDS, number};
use crate::chart::{Drawn, GREEN, GREY, PALE, RED, drawn, text};

const WIDTH: u32 = 1000;
const HEAD: i32 = 56;
const ROW: i32 = 18;
/// Where names, bars and numbers begin.
const COLUMNS: [i32; 3] = [28, 300, 760];
/// So many times its limit is as long as a bar gets.
const MOST: f64 = 2.0;

/// Writes the picture.
pub fn draw(path: &Path, report: &Report) -> Result<()> {
    drawn(path, picture(path, report))
}

/// A row of the picture.
enum Row<'a> {
    Title(&'a str),
    Bar(&'a Figure, f64),
}

/// What there is to show: of each kind the figures that have a limit.
fn rows(report: &Report) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for (kind, title) in KINDS {
        let of_kind = report.figures.iter().filter(|figure| figure.kind == kind);
        let bars: Vec<_> = of_kind.filter_map(|figure| Some(Row::Bar(figure, figure.limit?))).collect();
        if !bars.is_empty() {
            rows.push(Row::Title(title));
            rows.extend(bars);
        }
    }
    rows
}

fn picture(path: &Path, report: &Report) -> Drawn<()> {
    let [names, bars, numbers] = COLUMNS;
    let rows = rows(report);
    let height = HEAD + (rows.len() as i32 + 2) * ROW;
    let root = SVGBackend::new(path, (WIDTH, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw_text(&format!("Holdover {}: figures beside their limits", report.build), &text(20), (names, 18))?;
    let limit_at = bars + (f64::from(numbers - bars - 20) / MOST) as i32;
    for (row, at) in rows.iter().zip((HEAD..).step_by(ROW as usize)) {
        let Row::Bar(figure, limit) = row else {
            let Row::Title(title) = row else { continue };
            root.draw_text(title, &text(14), (names, at))?;
            continue;
        };
        let colour = if figure.keeps() { GREEN } else { RED };
        let part = (figure.each / limit).clamp(0.0, MOST);
        let end = bars + (part * f64::from(limit_at - bars)) as i32;
        root.draw_text(&format!("{} {}", figure.board, figure.name), &text(12), (names + 12, at))?;
        root.draw(&Rectangle::new([(bars, at + 2), (numbers - 20, at + ROW - 4)], PALE.filled()))?;
        root.draw(&Rectangle::new([(bars, at + 2), (end, at + ROW - 4)], colour.mix(0.7).filled()))?;
        root.draw(&PathElement::new(vec![(limit_at, at), (limit_at, at + ROW - 2)], GREY.stroke_width(2)))?;
        root.draw_text(&format!("{} of {}", number(figure.each), number(*limit)), &text(12), (numbers, at))?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::figure::Kind;
    use super::*;
    use crate::machine::Board;

    #[test]
    fn the_picture_has_what_has_a_limit() {
        let path = std::env::temp_dir().join(format!("xtask-bench-{}.svg", std::process::id()));
        let figures = vec![
            Figure::counted(Board::Q35, "cache-hit", 8_000, 10),
            Figure::counted(Board::Q35, "frame", 188, 1),
            Figure::ratio(Kind::Versus, Board::Microvm, "boot", 10, 100, Some(4.0)),
        ];
        draw(&path, &Report { build: "x".to_owned(), figures }).unwrap();
        let picture = std::fs::read_to_string(&path).unwrap();
        for word in ["q35 cache-hit", "800 of 640", "microvm boot", "10 of 4", "</svg>"] {
            assert!(picture.contains(word), "{word}");
        }
        assert!(!picture.contains("frame"));
        std::fs::remove_file(path).unwrap();
    }
}
