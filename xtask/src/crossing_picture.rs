//! A guest that is given another kernel, as a picture: how much it read, command by command, and the gap; below it the gap alone.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use crate::chart::{BLUE, Drawn, GREEN, GREY, Panel, RED, chart, drawn, key, text};

/// The picture, and the lower ends of its title and of the upper panel.
const SIZE: (u32, u32) = (1000, 700);
const ENDS: [i32; 2] = [56, 376];
/// Seconds around the gap that the lower panel shows.
const AROUND: f64 = 0.25;

/// Where a command read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In /tmp.
    Tmpfs,
    /// On the disk.
    Disk,
}

/// One command.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub kind: Kind,
    /// Seconds since the first command.
    pub start: f64,
    pub end: f64,
    /// What it read.
    pub bytes: u64,
}

impl Stretch {
    /// MiB in a second.
    fn rate(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20) / (self.end - self.start).max(1e-6)
    }
}

/// The kexec. Seconds since the first command.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// From when to when the other kernel was loaded, and checksums were taken.
    pub loaded: (f64, f64),
    /// The command was given, and the next prompt came.
    pub start: f64,
    pub end: f64,
    /// What the guest counts as its downtime.
    pub downtime_us: u64,
}

/// Writes the picture.
pub fn draw(path: &Path, stretches: &[Stretch], gap: &Gap) -> Result<()> {
    drawn(path, picture(path, stretches, gap))
}

fn picture(path: &Path, stretches: &[Stretch], gap: &Gap) -> Drawn<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (title, rest) = root.split_vertically(ENDS[0]);
    title.draw_text("A busy guest goes on in another kernel", &text(22), (28, 22))?;
    let (whole, close) = rest.split_vertically(ENDS[1] - ENDS[0]);
    let from = stretches.first().map_or(0.0, |first| first.start);
    let to = stretches.last().map_or(1.0, |last| last.end);
    panel(&whole, "Read and compared, MiB a second", from..to, stretches, gap)?;
    let colours = [("files in /tmp", GREEN), ("files on disk", BLUE), ("load, work ahead", GREY), ("kexec", RED)];
    key(&whole, &colours)?;
    let title = format!("The gap: downtime {:.1} ms", gap.downtime_us as f64 / 1e3);
    panel(&close, &title, gap.start - AROUND..gap.end + AROUND, stretches, gap)?;
    root.present()?;
    Ok(())
}

fn panel(area: &Panel<'_>, title: &str, seconds: Range<f64>, stretches: &[Stretch], gap: &Gap) -> Drawn<()> {
    let within = |stretch: &&Stretch| stretch.end > seconds.start && stretch.start < seconds.end;
    let most = stretches.iter().filter(within).map(Stretch::rate).fold(1.0, f64::max) * 1.08;
    let mut chart = chart(area, title, &seconds, most, "seconds")?;
    let clip = |at: f64| at.clamp(seconds.start, seconds.end);
    chart.draw_series(stretches.iter().filter(within).map(|stretch| {
        let colour = match stretch.kind {
            Kind::Tmpfs => GREEN,
            Kind::Disk => BLUE,
        };
        let corners = [(clip(stretch.start), 0.0), (clip(stretch.end), stretch.rate())];
        Rectangle::new(corners, colour.mix(0.6).filled())
    }))?;
    let band = [(clip(gap.start), 0.0), (clip(gap.end), most)];
    chart.draw_series([Rectangle::new(band, RED.mix(0.35).filled())])?;
    let (begun, loaded) = gap.loaded;
    if seconds.contains(&begun) {
        let band = [(begun, 0.0), (clip(loaded), most)];
        chart.draw_series([Rectangle::new(band, GREY.mix(0.35).filled())])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_its_words_as_text() {
        let path = std::env::temp_dir().join(format!("xtask-crossing-{}.svg", std::process::id()));
        let gap = Gap { loaded: (1.0, 1.2), start: 2.0, end: 2.1, downtime_us: 12_345 };
        let stretch = |kind, start| Stretch { kind, start, end: start + 0.05, bytes: 1 << 20 };
        for stretches in [vec![], vec![stretch(Kind::Tmpfs, 0.0), stretch(Kind::Disk, 3.0)]] {
            draw(&path, &stretches, &gap).unwrap();
            let picture = std::fs::read_to_string(&path).unwrap();
            for word in ["downtime 12.3 ms", "files on disk", "<text", "</svg>"] {
                assert!(picture.contains(word), "{word}");
            }
        }
        std::fs::remove_file(path).unwrap();
    }
}
