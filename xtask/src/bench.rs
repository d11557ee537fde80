//! `bench`: costs in counted instructions.
//!
//! QEMU counts one instruction as one nanosecond and the time-stamp counter follows, so every
//! figure is a number of instructions and a run repeats. The guest measures what happens inside it
//! and says so in `@bench` events; what spans a boot is read off the counter at the prompts.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use protocol::event;
use protocol::parse::Event;
use serde::Serialize;

use crate::args::{Bench, Profile};
use crate::donation::{self, Donation};
use crate::guest::{Guest, Limit, Listener};
use crate::host::Install;
use crate::machine::{Accel, Board, Machine};
use crate::outcome::{Ending, Exit};
use crate::places::Places;
use crate::session::Session;
use crate::size::Size;
use crate::workshop::{DONATION, Workshop};
use crate::{image, tree};

const PATIENCE: Duration = Duration::from_secs(180);
/// What a guest with a disk is told.
const WITH_DISK: &[&str] = &["bench"];
/// What a guest without one is told, for what spans a boot: while a guest waits for a disk, or for
/// a line, its clock runs ahead, by less or more each time. So there is no disk, and the kexec and
/// what follows it are one line.
const ACROSS_BOOTS: &[&str] = &["write /tmp/probe hello", "kexec; bench first-byte"];

/// What a guest without a disk is told to measure a kexec with much in its tmpfs, and how much memory it has: what Linux had.
const SIZES: [u32; 2] = [16, 256];
const SIZES_MEMORY: Size = Size::mib(1 << 10);
/// How much more than the least of [`SIZES`] the most may cost, in percent.
const SIZE_GROWTH: u64 = 10;

/// What a figure should not exceed. Linux 7.2 needs 1,599 for a pread of 4 KiB that hits,
/// 1,320 million from kexec to the first byte, and 223 (q35) or 160 (microvm) million to init.
const TARGETS: [(&str, Option<Board>, u64); 13] = [
    ("cache-hit", None, 900),
    ("cleancache-store", None, 800),
    ("cleancache-restore", None, 800),
    ("cleancache-store-x", None, 250),
    ("cleancache-restore-x", None, 250),
    ("cleancache-invalidate", None, 200),
    ("cleancache-miss", None, 120),
    ("cleancache-take-back", None, 250),
    ("cleancache-take-back-worst", None, 2_000),
    ("boot-to-prompt", Some(Board::Q35), 60_000_000),
    ("boot-to-prompt", Some(Board::Microvm), 30_000_000),
    ("first-byte", None, 40_000_000),
    ("first-byte-16M", None, 40_000_000),
];

/// What a guest with room for 1,000,000 pages in cleancache is told, and how much memory it has.
const LARGE: &str =
    "bench large-store-full-x large-restore-x large-invalidate large-miss large-take-back large-take-back-worst";
const LARGE_MEMORY: Size = Size::mib(6 << 10);
/// By how many percent an operation may cost more there.
const GROWTH: u64 = 10;

/// What a guest with a large carve-out is told, and how large it is.
const RANGES: &str = "bench range-1 range-1-worst range-512 range-512-worst range-1024 range-1024-worst range-32000 \
                      range-32000-worst";
const RANGES_DONATION: Donation = Donation { kind: donation::Kind::CarveOut, size: Size::mib(128) };
/// What was published of contiguous allocation under load, average microseconds: CMA, and GCMA, which lends its memory to
/// cleancache. 1,000 instructions take a microsecond on a processor that does one in a nanosecond.
const PUBLISHED: [(&str, &str); 4] = [
    ("range-1", "published: CMA 684 us, GCMA 26 us"),
    ("range-512", "published: CMA 1,162 us, GCMA 2,002 us"),
    ("range-1024", "published: CMA 12,303 us, GCMA 3,495 us"),
    ("range-32000", "published: CMA 641,340 us, GCMA 44,675 us"),
];

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Figure {
    board: String,
    name: String,
    /// Instructions for all operations together.
    instructions: u64,
    operations: u64,
    /// Instructions for one.
    each: u64,
    /// What `each` should not exceed.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<u64>,
}

impl Figure {
    fn new(board: Board, name: &str, instructions: u64, operations: u64) -> Figure {
        let target =
            TARGETS.iter().find(|(of, on, _)| *of == name && on.is_none_or(|on| on == board)).map(|&(.., limit)| limit);
        Figure {
            board: board.to_string(),
            name: name.to_owned(),
            instructions,
            operations,
            each: instructions / operations.max(1),
            target,
        }
    }
}

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
    let mut report = Report { build: workshop.built.id.clone(), figures: Vec::new() };
    for board in boards {
        report.figures.extend(measure(&workshop, board)?);
    }
    report.figures.extend(measure_sizes(&workshop)?);
    report.figures.extend(measure_ranges(&workshop)?);
    if args.large {
        let large = measure_large(&workshop, &report.figures)?;
        report.figures.extend(large);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", table(&report));
    }
    Ok(Exit::Success)
}

/// Everything on one board.
fn measure(workshop: &Workshop, board: Board) -> Result<Vec<Figure>> {
    let work = workshop.places.work_dir(&format!("bench-{board}"))?;
    let (top, image) = (work.join("tree"), work.join("disk.img"));
    tree::sample(&top, &workshop.built.bootable)?;
    image::from_directory(&top, &image, 4096, workshop.install)?;
    let bare = Machine { board, accel: Accel::Counted, donations: vec![DONATION], ..workshop.machine() };
    let with_disk = Machine { disk: Workshop::disk(image), ..bare.clone() };
    let mut figures = Figures { board, figures: Vec::new(), errors: Vec::new() };
    let booted = converse(workshop, &bare, &format!("bench-{board}-boot"), ACROSS_BOOTS, &mut figures)?;
    figures.figures.insert(0, Figure::new(board, "boot-to-prompt", booted, 1));
    converse(workshop, &with_disk, &format!("bench-{board}"), WITH_DISK, &mut figures)?;
    Ok(figures.figures)
}

/// A kexec with little and with much in the tmpfs. Linux 7.2 takes 1,320 and 1,484 million.
fn measure_sizes(workshop: &Workshop) -> Result<Vec<Figure>> {
    let machine = Machine { accel: Accel::Counted, memory: SIZES_MEMORY, ..workshop.machine() };
    let mut all: Vec<Figure> = Vec::new();
    for size in SIZES {
        let fill = format!("bench fill /tmp/data {size}M");
        let mut figures = Figures { board: machine.board, figures: Vec::new(), errors: Vec::new() };
        let commands = [&fill, "kexec; bench first-byte"];
        converse(workshop, &machine, &format!("bench-kexec-{size}M"), &commands, &mut figures)?;
        for figure in figures.figures {
            let name = format!("{}-{size}M", figure.name);
            all.push(Figure::new(machine.board, &name, figure.instructions, figure.operations));
        }
    }
    if let [little, .., much] = &mut all[..] {
        much.target = Some(little.each + little.each * SIZE_GROWTH / 100);
    }
    Ok(all)
}

/// Memory in one piece out of a carve-out that is full of pages.
fn measure_ranges(workshop: &Workshop) -> Result<Vec<Figure>> {
    let machine = Machine { accel: Accel::Counted, donations: vec![RANGES_DONATION], ..workshop.machine() };
    let mut figures = Figures { board: machine.board, figures: Vec::new(), errors: Vec::new() };
    converse(workshop, &machine, "bench-ranges", &[RANGES], &mut figures)?;
    Ok(figures.figures)
}

/// Cleancache with many pages; what it should not exceed follows from what it costs with few.
fn measure_large(workshop: &Workshop, few: &[Figure]) -> Result<Vec<Figure>> {
    let machine = Machine { accel: Accel::Counted, memory: LARGE_MEMORY, ..workshop.machine() };
    let board = machine.board;
    let mut figures = Figures { board, figures: Vec::new(), errors: Vec::new() };
    converse(workshop, &machine, "bench-large", &[LARGE], &mut figures)?;
    for figure in &mut figures.figures {
        let of_few = figure.name.replacen("large-", "cleancache-", 1);
        let of_few = few.iter().find(|few| few.name == of_few && few.board == board.to_string());
        figure.target = of_few.map(|few| few.each + few.each * GROWTH / 100);
    }
    Ok(figures.figures)
}

/// Boots, gives the commands, and powers off; gives the time-stamp counter at the first prompt.
fn converse(
    workshop: &Workshop,
    machine: &Machine,
    name: &str,
    commands: &[&str],
    figures: &mut Figures,
) -> Result<u64> {
    let log = workshop.places.log(name)?;
    let session = Session::start(machine.command()?, &log)?;
    let unfit = |ending: Ending| {
        let lines = [vec![format!("{name}: {ending}")], workshop.backtrace(&ending)].concat();
        anyhow!("{}\nserial log: {}", lines.join("\n"), log.display())
    };
    let (mut guest, booted) = Guest::boot(session, figures, Limit::new(PATIENCE)).map_err(unfit)?;
    for command in commands {
        let done = guest.command(command, figures, Limit::new(PATIENCE)).map_err(unfit)?;
        if done.failed {
            bail!("{command}: {}", figures.errors.join("; "));
        }
    }
    match guest.power_off(figures, Limit::new(PATIENCE)) {
        Ending::Clean => Ok(booted),
        other => Err(unfit(other)),
    }
}

/// Collects `@bench` events.
struct Figures {
    board: Board,
    figures: Vec<Figure>,
    errors: Vec<String>,
}

impl Figures {
    fn add(&mut self, name: &str, instructions: u64, operations: u64) {
        self.figures.push(Figure::new(self.board, name, instructions, operations));
    }
}

impl Listener for Figures {
    fn output(&mut self, _: &[u8]) {}

    fn error(&mut self, line: &str) {
        self.errors.push(line.to_owned());
    }

    fn log(&mut self, _: &str) {}

    fn event(&mut self, event: Event<'_>) {
        if event.name() != event::BENCH {
            return;
        }
        let numbers = (event.number("instructions"), event.number("ops"));
        if let (Some(name), (Some(instructions), Some(operations))) = (event.get("name"), numbers) {
            let name: Vec<u8> = name.bytes().collect();
            self.add(&String::from_utf8_lossy(&name), instructions, operations);
        }
    }
}

/// The report for people.
fn table(report: &Report) -> String {
    let mut text = format!("Holdover {}: instructions per operation\n\n", report.build);
    let width = report.figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
    for figure in &report.figures {
        let verdict = match figure.target {
            Some(target) if figure.each <= target => format!("within {}", grouped(target)),
            Some(target) => format!("above {}", grouped(target)),
            None => PUBLISHED
                .iter()
                .find(|(name, _)| *name == figure.name)
                .map_or(String::new(), |(_, published)| (*published).to_owned()),
        };
        let line = format!("{:7}  {:width$}  {:>13}  {verdict}", figure.board, figure.name, grouped(figure.each));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
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

    #[test]
    fn figures_are_compared_with_the_targets_of_their_board() {
        let report = Report {
            build: "0.1.0".to_owned(),
            figures: vec![
                Figure::new(Board::Q35, "boot-to-prompt", 40_000_000, 1),
                Figure::new(Board::Microvm, "boot-to-prompt", 40_000_000, 1),
                Figure::new(Board::Q35, "cache-hit", 8_000, 10),
                Figure::new(Board::Q35, "tmpfs-read", 7_000, 10),
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
                "q35      tmpfs-read                700",
            ]
        );
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
