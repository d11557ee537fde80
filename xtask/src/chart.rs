//! What pictures have in common: colours, axes, text.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub const INK: RGBColor = RGBColor(38, 50, 56);
pub const PALE: RGBColor = RGBColor(225, 230, 233);
pub const GREY: RGBColor = RGBColor(176, 190, 197);
pub const BLUE: RGBColor = RGBColor(38, 128, 194);
pub const RED: RGBColor = RGBColor(205, 68, 44);
pub const GREEN: RGBColor = RGBColor(46, 134, 90);
pub const AMBER: RGBColor = RGBColor(214, 137, 16);

/// A part of a picture.
pub type Panel<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
/// A panel with axes.
pub type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
/// What drawing gives.
pub type Drawn<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Says of which picture an error is.
pub fn drawn(path: &std::path::Path, picture: Drawn<()>) -> Result<()> {
    picture.map_err(|error| anyhow!("cannot draw {path:?}: {error}"))
}

/// A panel's title, axes and grid.
pub fn chart<'a, 'b>(
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
        .axis_style(GREY)
        .label_style(text(12))
        .axis_desc_style(text(13))
        .x_desc(below)
        .x_labels(10)
        .y_labels(5)
        .x_label_formatter(&|seconds| {
            if seconds.fract() == 0.0 { format!("{seconds:.0}") } else { format!("{seconds:.2}") }
        })
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    Ok(chart)
}

/// What the colours mean, at the panel's upper right.
pub fn key(panel: &Panel<'_>, entries: &[(&str, RGBColor)]) -> Drawn<()> {
    const WIDTH: i32 = 160;
    let right = panel.dim_in_pixel().0 as i32 - 28;
    for (at, (name, colour)) in entries.iter().enumerate() {
        let left = right - WIDTH * (entries.len() - at) as i32 + 20;
        panel.draw(&Rectangle::new([(left, 8), (left + 12, 18)], colour.filled()))?;
        panel.draw_text(name, &text(13), (left + 18, 6))?;
    }
    Ok(())
}

pub fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Top))
}
