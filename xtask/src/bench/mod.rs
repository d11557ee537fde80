//! `bench`: what things cost.
//!
//! A [`figure`] is one cost with its limit; [`counted`] measures in instructions. [`table`] shows figures, and
//! [`baseline`] compares them with what they were.

mod baseline;
mod counted;
mod figure;
mod table;

use anyhow::Result;
use serde::Serialize;

use crate::args::{Bench, Profile};
use crate::host::Install;
use crate::machine::Board;
use crate::outcome::Exit;
use crate::places::Places;
use crate::workshop::Workshop;
use baseline::Baseline;
use figure::Figure;
pub use table::number;

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Report {
    build: String,
    figures: Vec<Figure>,
}

/// Measures, and prints.
pub fn bench(places: Places, install: Install, args: &Bench) -> Result<Exit> {
    let workshop = Workshop::open(places, install, Profile::Release)?;
    let boards = args.machine.map_or(vec![Board::Q35, Board::Microvm], |board| vec![board]);
    let measure = || counted::measure(&workshop, &boards, args.large);
    let report = Report { build: workshop.built.id.clone(), figures: measure()? };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", table::table(&report));
    }
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
    Ok(Exit::Success)
}
