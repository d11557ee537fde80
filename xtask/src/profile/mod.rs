//! `profile`: where the instructions of a measurement go, as a flame graph and a table in the guest's own symbols.
//!
//! No sampling: QEMU's translator executes one instruction at a time and writes down the address of each ([`trace`] reads them
//! and follows calls and returns), so a profile has every instruction, its callers too, and repeats like the counts of `bench`. Whoever
//! was inlined is told apart by the kernel's debug information ([`stacks`]). [`flame`] draws.

mod flame;
mod stacks;
mod trace;

use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;

use crate::args;
use crate::bench::{SIZES_MEMORY, number};
use crate::guest::Measured;
use crate::host::{self, Install};
use crate::machine::{Accel, Board, Machine};
use crate::outcome::Exit;
use crate::places::Places;
use crate::qmp::Qmp;
use crate::visit::Visit;
use crate::workshop::{DONATION, Workshop};
use crate::{image, tree};
use stacks::{Stacks, Symbols};
use trace::{Code, Walk};

const PATIENCE: Duration = Duration::from_secs(600);
/// Lines of the table.
const FUNCTIONS: usize = 30;
/// What measures, as the debug information calls it: what it calls is what was counted.
const COUNTED: &str = "bench::Count>::add";
/// What every measurement is inside of.
const BENCHES: &str = "kernel::bench::run";
/// What spans a kexec is measured by the kernel after it.
const ACROSS: &str = "first-byte";

/// Traces one measurement, prints the table, and leaves the picture.
pub fn profile(places: Places, install: Install, args: &args::Profiled) -> Result<Exit> {
    let workshop = Workshop::open(places, install, args::Profile::Release)?;
    let work = workshop.places.work_dir("profile")?;
    let (top, disk) = (work.join("tree"), work.join("disk.img"));
    tree::sample(&top, &workshop.built.bootable)?;
    image::from_directory(&top, &disk, 4096, workshop.install)?;
    let bench = Bench::named(&args.bench);
    let board = args.machine.unwrap_or(if bench.fill.is_some() { Board::Q35 } else { Board::Microvm });
    let machine = Machine {
        board,
        accel: Accel::Counted,
        donations: vec![DONATION],
        disk: Workshop::disk(disk).filter(|_| !bench.is_across()),
        qmp: Some(work.socket().to_owned()),
        ..workshop.machine()
    };
    // As `bench` measures it.
    let filled = Machine { memory: SIZES_MEMORY, donations: Vec::new(), ..machine.clone() };
    let machine = if bench.fill.is_some() { filled } else { machine };
    let fifo = work.join("trace");
    host::run(Command::new("mkfifo").arg(&fifo))?;
    let kernel = fs::read(&workshop.built.kernel).with_context(|| format!("{:?}", workshop.built.kernel))?;
    let mut walk = Walk::new(Code::of(&kernel)?);
    let from = fifo.clone();
    let reader = thread::spawn(move || -> Result<Walk> {
        let file = fs::File::open(&from).with_context(|| format!("{from:?}"))?;
        walk.follow(BufReader::with_capacity(1 << 20, file))?;
        Ok(walk)
    });
    let measured = converse(&workshop, &machine, &fifo, work.socket(), bench)?;
    let walk = reader.join().map_err(|_| anyhow!("the trace could not be read"))??;
    let symbols = Symbols::load(&workshop.built.kernel)?;
    let all = Stacks::new(&walk, &symbols);
    let (stacks, operations) = part_of(all, bench, &measured);
    let svg = match &args.svg {
        Some(path) => path.clone(),
        None => workshop.places.result(&format!("profile-{}.svg", args.bench))?,
    };
    let title = format!("{} on {board}: {}", args.bench, summary(&stacks, &measured));
    fs::write(&svg, flame::draw(&title, &stacks, operations)).with_context(|| format!("cannot write {svg:?}"))?;
    println!("{title}\n\n{}", table(&stacks, operations));
    println!("flame graph: {}", svg.display());
    Ok(Exit::Success)
}

/// What is measured: a measurement of the guest's, or the first byte after a kexec with so many MiB in the tmpfs.
#[derive(Clone, Copy)]
struct Bench<'a> {
    name: &'a str,
    fill: Option<u32>,
}

impl<'a> Bench<'a> {
    /// By the name that it has in the table of `bench`.
    fn named(name: &'a str) -> Bench<'a> {
        let fill = name.strip_prefix(ACROSS).and_then(|rest| rest.strip_prefix('-')?.strip_suffix('M')?.parse().ok());
        Bench { name: if fill.is_some() { ACROSS } else { name }, fill }
    }

    /// Whether it is measured by the next kernel.
    fn is_across(self) -> bool {
        self.name == ACROSS
    }

    /// What is done before a kexec, if this needs one.
    fn before(self) -> Option<String> {
        let fill = self.fill.map(|size| format!("bench fill /tmp/data {size}M"));
        self.is_across().then(|| fill.unwrap_or("write /tmp/probe hello".to_owned()))
    }
}

/// The part of a trace that was measured, and how many operations that is. What is set up between two operations is not measured,
/// if there is such a thing; what is done to have everything warm may look just like it, so the operations follow from what one costs.
fn part_of(all: Stacks, bench: Bench<'_>, measured: &Measured) -> (Stacks, f64) {
    let operations = measured.operations.max(1) as f64;
    if bench.is_across() {
        return (all, operations);
    }
    let counted = all.below(COUNTED);
    if counted.total() > 0 {
        let rounds = counted.total() as f64 / measured.instructions.max(1) as f64;
        return (counted, operations * rounds);
    }
    (all.below(BENCHES), operations)
}

fn summary(stacks: &Stacks, measured: &Measured) -> String {
    format!(
        "{} instructions traced; the guest counts {} for {} operations",
        number(stacks.total() as f64),
        number(measured.instructions as f64),
        number(measured.operations as f64)
    )
}

/// What every function does itself for one operation, what part of all that is, and what part it is with all that it calls.
fn table(stacks: &Stacks, operations: f64) -> String {
    let total = stacks.total().max(1) as f64;
    let mut text = format!("{:>12} {:>7} {:>7}  function\n", "an operation", "own", "whole");
    for function in stacks.functions().into_iter().take(FUNCTIONS) {
        let percent = |instructions: u64| instructions as f64 * 100.0 / total;
        text += &format!(
            "{:>12} {:>5.1} % {:>5.1} %  {}\n",
            number(function.own as f64 / operations),
            percent(function.own),
            percent(function.whole),
            function.name
        );
    }
    text
}

/// Boots, has the measurement made while QEMU traces, and powers off.
fn converse(workshop: &Workshop, machine: &Machine, fifo: &Path, socket: &Path, bench: Bench<'_>) -> Result<Measured> {
    let mut command = machine.command()?;
    command.arg("-D").arg(fifo);
    let mut visit = Visit::patient(workshop, command, "profile", PATIENCE)?;
    let mut qmp = Qmp::connect(socket)?;
    let mut line = format!("bench {}", bench.name);
    if let Some(fill) = bench.before() {
        visit.tell(&fill)?;
        // What is done ahead of the jump does not count.
        visit.tell("kexec load")?;
        line = format!("kexec exec; {line}");
    }
    // The first is what newer versions of QEMU call the second.
    if !monitor(&mut qmp, "one-insn-per-tb on")?.is_empty() {
        demand(&mut qmp, "singlestep on")?;
    }
    demand(&mut qmp, "log exec,nochain")?;
    let said = visit.tell(&line)?;
    demand(&mut qmp, "log none")?;
    visit.end()?;
    said.measured.into_iter().next_back().with_context(|| format!("{}: the guest gives no figure", bench.name))
}

/// Has QEMU's monitor for people do something, and gives its answer, which is empty if all is well.
fn monitor(qmp: &mut Qmp, line: &str) -> Result<String> {
    let answer = qmp.execute("human-monitor-command", json!({ "command-line": line }))?;
    Ok(answer.as_str().unwrap_or_default().trim().to_owned())
}

fn demand(qmp: &mut Qmp, line: &str) -> Result<()> {
    match monitor(qmp, line)? {
        answer if answer.is_empty() => Ok(()),
        answer => bail!("QEMU's monitor says of '{line}': {answer}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_before_the_count_is_not_taken_for_more_work() {
        let all = Stacks::made_of(&[
            (&["kernel::bench::run", "set up"], 700),
            (&["kernel::bench::run", "<kernel::bench::Count>::add", "work"], 90),
        ]);
        let measured = Measured { name: "x".to_owned(), instructions: 80, operations: 8 };
        let (counted, operations) = part_of(all.clone(), Bench::named("x"), &measured);
        assert_eq!((counted.total(), operations), (90, 9.0));
        assert!(table(&counted, operations).contains("          10 100.0 % 100.0 %  work"), "{}", table(&counted, 9.0));
        assert_eq!(part_of(all, Bench::named(ACROSS), &measured).0.total(), 790);
        let all = Stacks::made_of(&[(&["kernel::bench::run", "work"], 70), (&["shell"], 9)]);
        assert_eq!(part_of(all, Bench::named("x"), &measured).0.total(), 70);
    }

    #[test]
    fn the_first_byte_has_a_size_or_none() {
        let before = |name| Bench::named(name).before();
        assert_eq!(before("first-byte").as_deref(), Some("write /tmp/probe hello"));
        assert_eq!(before("first-byte-256M").as_deref(), Some("bench fill /tmp/data 256M"));
        for name in ["first-bytes", "first-byte-M", "first-byte-256", "cache-hit"] {
            assert_eq!((before(name), Bench::named(name).name), (None, name));
        }
    }
}
