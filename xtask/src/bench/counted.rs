//! Costs in counted instructions.
//!
//! QEMU counts one instruction as one nanosecond and the time-stamp counter follows, so every
//! figure is a number of instructions and a run repeats. The guest measures what happens inside it
//! and says so in `@bench` events; what spans a boot is read off the counter at the prompts.

use anyhow::Result;

use super::figure::Figure;
use crate::donation::{self, Donation};
use crate::guest::Measured;
use crate::machine::{Accel, Board, Machine};
use crate::size::Size;
use crate::visit::Visit;
use crate::workshop::{DONATION, Workshop};
use crate::{image, tree};

/// What a guest with a disk is told.
const WITH_DISK: &[&str] = &["bench"];
/// What a guest without one is told, for what spans a boot: while a guest waits for a disk, or for
/// a line, its clock runs ahead, by less or more each time. So there is no disk, and the kexec and
/// what follows it are one line.
const ACROSS_BOOTS: &[&str] = &["write /tmp/probe hello", "kexec; bench first-byte"];

/// What a guest without a disk is told to measure a kexec with much in its tmpfs, and how much memory it has: what Linux had.
const SIZES: [u32; 2] = [16, 256];
pub const SIZES_MEMORY: Size = Size::mib(1 << 10);
/// How much more than the least of [`SIZES`] the most may cost, in percent; likewise a boot with [`LARGE_MEMORY`].
const SIZE_GROWTH: f64 = 10.0;

/// What a guest with room for 1,000,000 pages in cleancache is told, and how much memory it has.
const LARGE: &str =
    "bench large-store-full-x large-restore-x large-invalidate large-miss large-take-back large-take-back-worst";
const LARGE_MEMORY: Size = Size::mib(6 << 10);
/// By how many percent an operation may cost more there.
const GROWTH: f64 = 10.0;

/// What a guest with a large carve-out is told, and how large it is.
const RANGES: &str = "bench range-1 range-1-worst range-512 range-512-worst range-1024 range-1024-worst range-32000 \
                      range-32000-worst";
const RANGES_DONATION: Donation = Donation { kind: donation::Kind::CarveOut, size: Size::mib(128) };
/// Measures on the boards, and what is measured on one only.
pub fn measure(workshop: &Workshop, boards: &[Board], large: bool) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for &board in boards {
        figures.extend(measure_board(workshop, board)?);
    }
    figures.extend(measure_sizes(workshop)?);
    figures.push(measure_large_boot(workshop)?);
    figures.extend(measure_ranges(workshop)?);
    if large {
        let large = measure_large(workshop, &figures)?;
        figures.extend(large);
    }
    Ok(figures)
}

/// Everything on one board.
fn measure_board(workshop: &Workshop, board: Board) -> Result<Vec<Figure>> {
    let work = workshop.places.work_dir(&format!("bench-{board}"))?;
    let (top, image) = (work.join("tree"), work.join("disk.img"));
    tree::sample(&top, &workshop.built.bootable)?;
    image::from_directory(&top, &image, 4096, workshop.install)?;
    let bare = Machine { board, accel: Accel::Counted, donations: vec![DONATION], ..workshop.machine() };
    let with_disk = Machine { disk: Workshop::disk(image), ..bare.clone() };
    let (booted, across) = converse(workshop, &bare, &format!("bench-{board}-boot"), ACROSS_BOOTS)?;
    let (_, others) = converse(workshop, &with_disk, &format!("bench-{board}"), WITH_DISK)?;
    Ok([vec![Figure::counted(board, "boot-to-prompt", booted, 1)], across, others].concat())
}

/// A kexec with little and with much in the tmpfs. Linux 7.2 takes 1,320 and 1,484 million.
fn measure_sizes(workshop: &Workshop) -> Result<Vec<Figure>> {
    let machine = Machine { accel: Accel::Counted, memory: SIZES_MEMORY, ..workshop.machine() };
    let mut all: Vec<Figure> = Vec::new();
    for size in SIZES {
        let fill = format!("bench fill /tmp/data {size}M");
        let commands = [&fill, "kexec; bench first-byte"];
        for figure in converse(workshop, &machine, &format!("bench-kexec-{size}M"), &commands)?.1 {
            let name = format!("{}-{size}M", figure.name);
            all.push(Figure::counted(machine.board, &name, figure.each as u64, 1));
        }
    }
    if let [little, .., much] = &mut all[..] {
        much.limit = Some(little.each * (1.0 + SIZE_GROWTH / 100.0));
    }
    Ok(all)
}

/// A boot with much memory, nothing of which is touched.
fn measure_large_boot(workshop: &Workshop) -> Result<Figure> {
    let machine = Machine { accel: Accel::Counted, ..workshop.machine() };
    let boot = |memory| {
        let machine = Machine { memory, ..machine.clone() };
        converse(workshop, &machine, &format!("bench-boot-{memory}"), &[]).map(|(booted, _)| booted)
    };
    let (little, much) = (boot(machine.memory)?, boot(LARGE_MEMORY)?);
    let mut figure = Figure::counted(machine.board, "boot-to-prompt-6G", much, 1);
    figure.limit = Some(little as f64 * (1.0 + SIZE_GROWTH / 100.0));
    Ok(figure)
}

/// Memory in one piece out of a carve-out that is full of pages.
fn measure_ranges(workshop: &Workshop) -> Result<Vec<Figure>> {
    let machine = Machine { accel: Accel::Counted, donations: vec![RANGES_DONATION], ..workshop.machine() };
    Ok(converse(workshop, &machine, "bench-ranges", &[RANGES])?.1)
}

/// Cleancache with many pages; what it should not exceed follows from what it costs with few.
fn measure_large(workshop: &Workshop, few: &[Figure]) -> Result<Vec<Figure>> {
    let machine = Machine { accel: Accel::Counted, memory: LARGE_MEMORY, ..workshop.machine() };
    let board = machine.board;
    let (_, mut figures) = converse(workshop, &machine, "bench-large", &[LARGE])?;
    for figure in &mut figures {
        let of_few = figure.name.replacen("large-", "cleancache-", 1);
        let of_few = few.iter().find(|few| few.name == of_few && few.board == board.to_string());
        figure.limit = of_few.map(|few| few.each * (1.0 + GROWTH / 100.0));
    }
    Ok(figures)
}

/// The time-stamp counter at the first prompt, and what the guest measured when it was told these lines.
fn converse(workshop: &Workshop, machine: &Machine, name: &str, lines: &[&str]) -> Result<(u64, Vec<Figure>)> {
    let mut visit = Visit::begin(workshop, machine.command()?, name)?;
    let booted = visit.booted;
    let mut figures = Vec::new();
    for line in lines {
        let measured = visit.tell(line)?.measured;
        let figure = |measured: Measured| {
            Figure::counted(machine.board, &measured.name, measured.instructions, measured.operations)
        };
        figures.extend(measured.into_iter().map(figure));
    }
    visit.end()?;
    Ok((booted, figures))
}
