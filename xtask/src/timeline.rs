//! A guest under a squeeze, as a picture: memory, hit rate and disk reads over time, one below the other.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const FRAME: u64 = 4096;
/// The picture, and the lower ends of its title and panels.
const SIZE: (u32, u32) = (1000, 760);
const ENDS: [i32; 3] = [56, 366, 566];
/// The hit rate is that of so many samples together, since one alone may read nothing.
const WINDOW: usize = 10;

const INK: RGBColor = RGBColor(38, 50, 56);
const PALE: RGBColor = RGBColor(225, 230, 233);
const LENT: RGBColor = RGBColor(176, 190, 197);
const CACHED: RGBColor = RGBColor(38, 128, 194);
const TARGET: RGBColor = RGBColor(205, 68, 44);
const RATE: RGBColor = RGBColor(46, 134, 90);
const DISK: RGBColor = RGBColor(214, 137, 16);

/// What was seen after one command.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Since the first command.
    pub seconds: f64,
    /// Bytes that the host leaves to the guest.
    pub offered: u64,
    /// Frames that the guest's pools have.
    pub donated: u64,
    /// Those with a page in them.
    pub cached: u64,
    /// Pages that this command read from disk.
    pub from_disk: u64,
    /// Pages that it found in cleancache.
    pub from_cleancache: u64,
}

impl Sample {
    /// The part of what the page cache did not have that cleancache had.
    pub fn rate(&self) -> Option<f64> {
        rate(std::slice::from_ref(self))
    }
}

fn rate(samples: &[Sample]) -> Option<f64> {
    let hits: u64 = samples.iter().map(|sample| sample.from_cleancache).sum();
    let all = hits + samples.iter().map(|sample| sample.from_disk).sum::<u64>();
    (all > 0).then(|| hits as f64 / all as f64)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

type Panel<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Writes the picture.
pub fn draw(path: &Path, samples: &[Sample]) -> Result<()> {
    picture(path, samples).map_err(|error| anyhow!("cannot draw {path:?}: {error}"))
}

type Drawn<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn picture(path: &Path, samples: &[Sample]) -> Drawn<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (title, rest) = root.split_vertically(ENDS[0]);
    title.draw_text("A guest squeezed by its host, and released", &text(22), (28, 22))?;
    let (memory, rest) = rest.split_vertically(ENDS[1] - ENDS[0]);
    let (rates, disk) = rest.split_vertically(ENDS[2] - ENDS[1]);
    let seconds = samples.first().map_or(0.0, |first| first.seconds)..samples.last().map_or(1.0, |last| last.seconds);
    draw_memory(&memory, &seconds, samples)?;
    draw_rate(&rates, &seconds, samples)?;
    draw_disk(&disk, &seconds, samples)?;
    root.present()?;
    Ok(())
}

fn draw_memory(panel: &Panel<'_>, seconds: &Range<f64>, samples: &[Sample]) -> Drawn<()> {
    let amounts = samples.iter().map(|sample| mib(sample.offered.max(sample.donated * FRAME)));
    let mut chart = chart(panel, "Donated memory, MiB", seconds, amounts.fold(1.0, f64::max) * 1.08, "")?;
    let donated = samples.iter().map(|sample| (sample.seconds, mib(sample.donated * FRAME)));
    chart.draw_series(AreaSeries::new(donated, 0.0, LENT.mix(0.45)))?;
    let cached = samples.iter().map(|sample| (sample.seconds, mib(sample.cached * FRAME)));
    chart.draw_series(AreaSeries::new(cached, 0.0, CACHED.mix(0.55)).border_style(CACHED.stroke_width(2)))?;
    // The host's wish changes at once, so it is drawn with steps.
    let steps = samples.windows(2).flat_map(|pair| {
        let [before, after] = pair else { return Vec::new() };
        vec![
            (before.seconds, mib(before.offered)),
            (before.seconds, mib(after.offered)),
            (after.seconds, mib(after.offered)),
        ]
    });
    chart.draw_series(LineSeries::new(steps, TARGET.stroke_width(2)))?;
    key(panel, &[("what the host leaves", TARGET), ("donated", LENT), ("holding a page", CACHED)])
}

fn draw_rate(panel: &Panel<'_>, seconds: &Range<f64>, samples: &[Sample]) -> Drawn<()> {
    let mut chart = chart(panel, "Found in cleancache, % of what the page cache missed", seconds, 104.0, "")?;
    let rates = (0..samples.len()).filter_map(|at| {
        let window = &samples[(at + 1).saturating_sub(WINDOW)..=at];
        Some((samples[at].seconds, rate(window)? * 100.0))
    });
    chart.draw_series(AreaSeries::new(rates, 0.0, RATE.mix(0.15)).border_style(RATE.stroke_width(2)))?;
    Ok(())
}

fn draw_disk(panel: &Panel<'_>, seconds: &Range<f64>, samples: &[Sample]) -> Drawn<()> {
    let most = samples.iter().map(|sample| sample.from_disk).max().unwrap_or(0).max(1) as f64;
    let mut chart = chart(panel, "Read from disk, pages a command", seconds, most * 1.08, "seconds")?;
    let bars = samples.iter().map(|sample| {
        let line = vec![(sample.seconds, 0.0), (sample.seconds, sample.from_disk as f64)];
        PathElement::new(line, DISK.stroke_width(2))
    });
    chart.draw_series(bars)?;
    Ok(())
}

/// A panel's title, axes and grid.
fn chart<'a, 'b>(
    panel: &'a Panel<'b>,
    title: &str,
    seconds: &Range<f64>,
    most: f64,
    below: &str,
) -> Drawn<Chart<'a, 'b>> {
    panel.draw_text(title, &text(15), (28, 4))?;
    let mut chart = ChartBuilder::on(panel)
        .margin_left(20)
        .margin_right(28)
        .margin_top(30)
        .x_label_area_size(if below.is_empty() { 22 } else { 44 })
        .y_label_area_size(48)
        .build_cartesian_2d(seconds.clone(), 0.0..most)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(PALE)
        .light_line_style(TRANSPARENT)
        .axis_style(LENT)
        .label_style(text(12))
        .axis_desc_style(text(13))
        .x_desc(below)
        .x_labels(10)
        .y_labels(5)
        .x_label_formatter(&|seconds| format!("{seconds:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    Ok(chart)
}

/// What the colours mean, at the panel's upper right.
fn key(panel: &Panel<'_>, entries: &[(&str, RGBColor)]) -> Drawn<()> {
    const WIDTH: i32 = 160;
    let right = SIZE.0 as i32 - 28;
    for (at, (name, colour)) in entries.iter().enumerate() {
        let left = right - WIDTH * (entries.len() - at) as i32 + 20;
        panel.draw(&Rectangle::new([(left, 8), (left + 12, 18)], colour.filled()))?;
        panel.draw_text(name, &text(13), (left + 18, 6))?;
    }
    Ok(())
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Top))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: f64, from_disk: u64, from_cleancache: u64) -> Sample {
        Sample { seconds, offered: 16 << 20, donated: 4096, cached: 1000, from_disk, from_cleancache }
    }

    #[test]
    fn the_rate_is_that_of_what_was_missed() {
        assert_eq!(sample(0.0, 1, 3).rate(), Some(0.75));
        assert_eq!(sample(0.0, 0, 0).rate(), None);
        assert_eq!(rate(&[sample(0.0, 4, 0), sample(1.0, 0, 4)]), Some(0.5));
    }

    #[test]
    fn the_picture_has_its_words_as_text() {
        let path = std::env::temp_dir().join(format!("xtask-timeline-{}.svg", std::process::id()));
        for samples in [vec![], vec![sample(1.0, 3, 0)], vec![sample(1.0, 3, 0), sample(2.0, 0, 9)]] {
            draw(&path, &samples).unwrap();
            let picture = std::fs::read_to_string(&path).unwrap();
            for word in ["what the host leaves", "Read from disk", "<text", "</svg>"] {
                assert!(picture.contains(word), "{word}");
            }
        }
        std::fs::remove_file(path).unwrap();
    }
}
