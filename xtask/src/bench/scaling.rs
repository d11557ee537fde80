//! How much faster two CPUs are than one at what they should not meet at, in the same guest and by the clock on the wall; and how much
//! faster the host lets them be at what they cannot meet at, without which the former says little.

use anyhow::{Context, Result};

use super::figure::{Figure, Kind};
use crate::donation::{self, Donation};
use crate::guest::Record;
use crate::machine::Machine;
use crate::size::Size;
use crate::versus::{last_number, median};
use crate::visit::visit;
use crate::workshop::Workshop;
use crate::{image, tree};

const CPUS: u32 = 2;
/// What cleancache has, so that it is in two shards and has room for all that is evicted.
const DONATION: Donation = Donation { kind: donation::Kind::CarveOut, size: Size::mib(16) };
/// What is done by all, by the words that its line begins with, and by one; and how many times as fast as one they should be.
const WORKS: [(&str, &str, Option<f64>); 4] = [
    ("copies", "copies-alone", None),
    ("hits-different", "hits-alone", Some(1.8)),
    ("hits-same", "hits-alone", Some(1.8)),
    ("restores", "restores-alone", None),
];
/// Runs of each, in turn; an odd number, for the median.
const RUNS: usize = 5;

/// Measures everything.
pub fn measure(workshop: &Workshop) -> Result<Vec<Figure>> {
    let work = workshop.places.work_dir("bench-scaling")?;
    let (top, image) = (work.join("tree"), work.join("disk.img"));
    tree::sample(&top, &workshop.built.bootable)?;
    image::from_directory(&top, &image, 4096, workshop.install)?;
    let disk = Workshop::disk(image);
    let machine = Machine { processors: CPUS, donations: vec![DONATION], disk, ..workshop.machine() };
    let said = visit(workshop, &machine, "bench-scaling", &["bench scaling"; RUNS])?;
    let micros = |name: &str| -> Result<Vec<u64>> {
        let number = |text: String| last_number(&text, name).with_context(|| format!("no time of {name}, but: {text}"));
        said.iter().map(Record::text).map(number).collect()
    };
    let figure = |(all, alone, least): (&str, &str, Option<f64>)| {
        // One CPU would take so many times as long for what all of them do.
        let alone = median(micros(alone)?) * u64::from(CPUS);
        let name = format!("{all}-{CPUS}cpus");
        Ok(Figure::ratio(Kind::Scaling, machine.board, &name, median(micros(all)?), alone, least))
    };
    WORKS.into_iter().map(figure).collect()
}
