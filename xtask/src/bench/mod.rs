//! `bench`: what things cost.
//!
//! A [`figure`] is one cost with its limit: in instructions ([`counted`]), in bytes ([`memory`]), or by the clock on the wall, beside
//! one CPU of the same guest ([`scaling`]) or another kernel ([`crate::versus`]). [`table`] and [`picture`] show figures, and [`baseline`] compares those that repeat with
//! what they were.

mod baseline;
mod counted;
mod figure;
mod memory;
mod picture;
mod scaling;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::args::{Bench, Profile};
use crate::host::Install;
use crate::machine::Board;
use crate::outcome::Exit;
use crate::places::Places;
use crate::versus;
use crate::workshop::Workshop;
use baseline::Baseline;
pub use counted::SIZES_MEMORY;
pub use figure::{Figure, Kind};
pub use table::number;

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Report {
    build: String,
    figures: Vec<Figure>,
}

/// Measures, and shows.
pub fn bench(places: Places, install: Install, args: &Bench) -> Result<Exit> {
    let workshop = Workshop::open(places, install, Profile::Release)?;
    let boards = args.machine.map_or(vec![Board::Q35, Board::Microvm], |board| vec![board]);
    let measure = || -> Result<Vec<Figure>> {
        let counted = counted::measure(&workshop, &boards, args.large)?;
        Ok([counted, memory::measure(&workshop)?].concat())
    };
    let mut report = Report { build: workshop.built.id.clone(), figures: Vec::new() };
    if !args.only {
        report.figures = measure()?;
        // What does not repeat is not compared.
        if !args.check && !args.bless {
            report.figures.extend(scaling::measure(&workshop)?);
        }
    }
    if args.vs.is_some() {
        report.figures.extend(versus::versus(&workshop)?);
    }
    show(&report, args)?;
    let path = workshop.places.bench_baseline();
    if args.bless {
        let old = if path.exists() { Baseline::load(&path)? } else { Baseline::default() };
        old.blessed(&report.figures).save(&path)?;
    }
    if args.check {
        let findings = Baseline::load(&path)?.check(&report.figures, &measure()?);
        findings.iter().for_each(|finding| eprintln!("bench: {finding}"));
        eprintln!("bench: {} figures, {} findings", report.figures.len(), findings.len());
        return Ok(if findings.is_empty() { Exit::Success } else { Exit::Failed });
    }
    // A ratio that is missed is missed at once: there is nothing to compare it with but its peer.
    let missed = report.figures.iter().any(|figure| figure.kind.is_ratio() && !figure.keeps());
    Ok(if missed { Exit::Failed } else { Exit::Success })
}

/// As a table, or as JSON in its place; and what else was asked for.
fn show(report: &Report, args: &Bench) -> Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    match args.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{json}"),
        path => {
            print!("{}", table::table(report));
            if let Some(path) = path {
                fs::write(path, json + "\n").with_context(|| format!("cannot write {path:?}"))?;
            }
        }
    }
    args.svg.as_deref().map_or(Ok(()), |path| picture::draw(path, report))
}
