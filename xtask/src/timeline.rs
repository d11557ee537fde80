//! A guest under a squeeze, as a picture: memory, hit rate and disk reads over time, one below the other.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use crate::chart::{AMBER, BLUE, Drawn, GREEN, GREY, Panel, RED, chart, drawn, key, text};

const FRAME: u64 = 4096;
/// The picture, and the lower ends of its title and panels.
const SIZE: (u32, u32) = (1000, 760);
const ENDS: [i32; 3] = [56, 366, 566];
/// The hit rate is that of so many samples together, since one alone may read nothing.
const WINDOW: usize = 10;

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

/// Writes the picture.
pub fn draw(path: &Path, samples: &[Sample]) -> Result<()> {
    drawn(path, picture(path, samples))
}

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
    chart.draw_series(AreaSeries::new(donated, 0.0, GREY.mix(0.45)))?;
    let cached = samples.iter().map(|sample| (sample.seconds, mib(sample.cached * FRAME)));
    chart.draw_series(AreaSeries::new(cached, 0.0, BLUE.mix(0.55)).border_style(BLUE.stroke_width(2)))?;
    // The host's wish changes at once, so it is drawn with steps.
    let steps = samples.windows(2).flat_map(|pair| {
        let [before, after] = pair else { return Vec::new() };
        vec![
            (before.seconds, mib(before.offered)),
            (before.seconds, mib(after.offered)),
            (after.seconds, mib(after.offered)),
        ]
    });
    chart.draw_series(LineSeries::new(steps, RED.stroke_width(2)))?;
    key(panel, &[("what the host leaves", RED), ("donated", GREY), ("holding a page", BLUE)])
}

fn draw_rate(panel: &Panel<'_>, seconds: &Range<f64>, samples: &[Sample]) -> Drawn<()> {
    let mut chart = chart(panel, "Found in cleancache, % of what the page cache missed", seconds, 104.0, "")?;
    let rates = (0..samples.len()).filter_map(|at| {
        let window = &samples[(at + 1).saturating_sub(WINDOW)..=at];
        Some((samples[at].seconds, rate(window)? * 100.0))
    });
    chart.draw_series(AreaSeries::new(rates, 0.0, GREEN.mix(0.15)).border_style(GREEN.stroke_width(2)))?;
    Ok(())
}

fn draw_disk(panel: &Panel<'_>, seconds: &Range<f64>, samples: &[Sample]) -> Drawn<()> {
    let most = samples.iter().map(|sample| sample.from_disk).max().unwrap_or(0).max(1) as f64;
    let mut chart = chart(panel, "Read from disk, pages a command", seconds, most * 1.08, "seconds")?;
    let bars = samples.iter().map(|sample| {
        let line = vec![(sample.seconds, 0.0), (sample.seconds, sample.from_disk as f64)];
        PathElement::new(line, AMBER.stroke_width(2))
    });
    chart.draw_series(bars)?;
    Ok(())
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
