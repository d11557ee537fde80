//! What the kernel needs of memory for itself, by what `free` and `kho` say in the guest.

use anyhow::{Context, Result, bail};

use super::figure::Figure;
use crate::counters::{Crossing, row};
use crate::donation::{Donation, Kind};
use crate::image;
use crate::machine::{Accel, Board, Machine};
use crate::size::Size;
use crate::visit::visit;
use crate::workshop::Workshop;

const FRAME: u64 = 4096;
/// What is donated, to see what that takes.
const DONATION: Donation = Donation { kind: Kind::CarveOut, size: Size::mib(64) };
/// What more memory takes of the kernel's own is seen in a guest that has so much, beside the usual one.
const LARGER: Size = Size::mib(256);
/// Memory of the guest that hands much over, and the commands: a file in one piece, and one of which no two pages lie together.
const HANDING: Size = Size::mib(256);
const HANDED: [(&str, &str); 2] = [
    ("handed-over-page", "bench fill /tmp/file 64M; kexec; kho"),
    ("handed-over-page-scattered", "bench scatter /tmp/file 64M; kexec; kho"),
];

/// Measures everything.
pub fn measure(workshop: &Workshop) -> Result<Vec<Figure>> {
    let work = workshop.places.work_dir("bench-memory")?;
    let (tree, disk) = (work.join("tree"), work.join("disk.img"));
    crate::tree::sample(&tree, &workshop.built.bootable)?;
    std::fs::write(tree.join("bulk"), vec![0x5a; 32 << 20]).context("cannot write a file for the disk")?;
    image::from_directory(&tree, &disk, FRAME as u32, workshop.install)?;
    let machine = Machine { accel: Accel::Counted, disk: Workshop::disk(disk), ..workshop.machine() };
    let (board, frames) = (machine.board, machine.memory.bytes() / FRAME);

    let [before, after] = around_reading(workshop, &machine)?;
    let [_, larger] = around_reading(workshop, &Machine { memory: LARGER, ..machine.clone() })?;
    let lending = Machine { donations: vec![DONATION], ..machine.clone() };
    let lent = tables(workshop, &lending, &["free"])?;
    let lent = Account::parse(lent.first().context("the guest gives no account")?)?;
    let mut figures = vec![
        Figure::memory(board, "whole-own-use", before.own * FRAME, 1),
        Figure::memory(board, "frame-record", before.records * FRAME, frames),
        cached_page(board, &before, &after, &larger),
        Figure::memory(board, "donated-frame", lent.own.saturating_sub(before.own) * FRAME, lent.donated),
    ];
    let handing = Machine { memory: HANDING, disk: None, ..machine };
    for (name, line) in HANDED {
        let said = tables(workshop, &handing, &[line])?;
        let crossing = Crossing::parse(said.first().context("the guest says nothing of a kexec")?)?;
        figures.push(Figure::memory(board, name, crossing.metadata, crossing.frames));
    }
    Ok(figures)
}

/// The account before and after a file was read into the page cache.
fn around_reading(workshop: &Workshop, machine: &Machine) -> Result<[Account; 2]> {
    match &tables(workshop, machine, &["free", "sha256sum /disk/bulk", "free"])?[..] {
        [before, after] => Ok([Account::parse(before)?, Account::parse(after)?]),
        _ => bail!("the guest gives no account"),
    }
}

/// What a cached page takes beside the record of its frame: what grew while pages came, and what a frame more took at boot, when
/// tables are made that have room for as many pages as there are frames. They grow by doubling, so that guest is far larger.
fn cached_page(board: Board, before: &Account, after: &Account, larger: &Account) -> Figure {
    let (pages, frames) = (after.cached.saturating_sub(before.cached), larger.all.saturating_sub(after.all));
    let came = after.own.saturating_sub(before.own) * FRAME;
    let tables = larger.tables.saturating_sub(after.tables) * FRAME;
    Figure::memory(board, "cached-page", came + tables * pages / frames.max(1), pages)
}

/// Frames, by what `free` says.
struct Account {
    /// All of them.
    all: u64,
    /// What the kernel needs, whatever it is for.
    own: u64,
    /// Records of frames.
    records: u64,
    /// What is the kernel's own and neither records nor a filesystem's buffer, which is as large as memory allows up to a point.
    tables: u64,
    /// Cached pages.
    cached: u64,
    /// Frames that are lent to cleancache.
    donated: u64,
}

impl Account {
    fn parse(text: &str) -> Result<Account> {
        let row = |name| row(text, name).with_context(|| format!("no '{name}' in what free says: {text}"));
        let (donated, cached) = (row("donated to cleancache")?, row("page cache")?);
        let others = [donated, row("can hold cached pages")?, row("tmpfs")?, row("given to the host")?];
        let (all, records) = (row("all memory")?, row("records of frames")?);
        let own = all.checked_sub(others.iter().sum()).context("what free shows does not add up")?;
        let tables =
            own.checked_sub(records + row("buffers of filesystems")?).context("the kernel's own does not add up")?;
        Ok(Account { all, own, records, tables, cached, donated })
    }
}

/// What those lines print that print a table of this sort.
fn tables(workshop: &Workshop, machine: &Machine, lines: &[&str]) -> Result<Vec<String>> {
    let said = visit(workshop, machine, "bench-memory", lines)?;
    let printed = lines.iter().zip(said).filter(|(line, _)| ["free", "kho"].iter().any(|word| line.ends_with(word)));
    Ok(printed.map(|(_, said)| said.text()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_for_others_is_the_kernels_own() {
        let text = "records of frames 128 512\npage cache 7 28\ntmpfs 2 8\ndonated to cleancache 30 0\nbuffers of filesystems 9 0\ngiven to the host 1 0\n\
                    all memory 1000 4000\ncan hold cached pages 600 2400\n";
        let account = Account::parse(text).unwrap();
        assert_eq!(
            (account.own, account.records, account.tables, account.cached, account.donated),
            (367, 128, 230, 7, 30)
        );
        assert!(Account::parse(&text.replace("all memory 1000", "all memory 100")).is_err());
        assert!(Account::parse("").is_err());
    }

    #[test]
    fn tables_that_grow_with_memory_are_part_of_what_a_page_takes() {
        let account =
            |all, own, tables, cached| Account { all, own, records: own - tables, tables, cached, donated: 0 };
        let (before, after) = (account(1000, 100, 50, 0), account(1000, 101, 51, 500));
        // One frame for 500 pages, and of twice the memory ten for tables.
        let figure = cached_page(Board::Q35, &before, &after, &account(2000, 191, 61, 500));
        assert_eq!(figure.each, 4096.0 / 500.0 + 4096.0 * 10.0 / 1000.0);
        assert_eq!(cached_page(Board::Q35, &before, &before, &before).each, 0.0);
    }
}
