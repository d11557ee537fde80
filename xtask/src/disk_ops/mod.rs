//! `test --fs-ops` and `test --fs-kill`: random operations on the guest's disk and on a [`model`] of it.
//!
//! What is done follows from the seed alone. Many operations go in one line; those that fail for want of space are no fault. What is
//! read on the way must be what the model has, and afterwards the host's own tools [`inspect`] the image. [`kill`] ends
//! QEMU in the middle of it.

pub mod generate;
pub mod inspect;
pub mod kill;
pub mod model;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use indicatif::ProgressBar;

use crate::disk::Disk;
use crate::donation::{Donation, Kind};
use crate::guest::{Guest, Limit, Record};
use crate::host::{self, Install, Tool};
use crate::machine::Machine;
use crate::outcome::Ending;
use crate::places::WorkDir;
use crate::session::Session;
use crate::size::Size;
use crate::workshop::Workshop;
use crate::wrong::Wrong;
use generate::{DISK, Effect, Generator, Operation};
use model::Model;

const MEMORY: Size = Size::mib(24);
const DONATION: Donation = Donation { kind: Kind::CarveOut, size: Size::mib(4) };
/// How long the boot, or one line, may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// The disk of a short run, and of one of more operations than that: smaller than what is written to it, so that it is full again and
/// again.
const SMALL: (u32, u64) = (1_000, 3 << 20);
const LARGE: u64 = 8 << 20;
/// Bytes in a line, below the shell's 4096.
const LINE: usize = 3_600;
/// Operations that may not fit before a line goes out.
const TRIES: u32 = 12;

/// What a run was.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// What everything follows from.
    pub seed: u64,
    /// Operations, or kills.
    pub count: u32,
    /// The file system's block size.
    pub block_size: u32,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, block size {}", self.seed, self.block_size)
    }
}

/// Does random operations; `Ok(Err(_))` is what was found to be wrong.
pub fn operate(workshop: &Workshop, name: &str, run: Run) -> Result<Result<String, String>> {
    let work = workshop.places.work_dir(name)?;
    let image = work.join("disk.img");
    let bytes = if run.count <= SMALL.0 { SMALL.1 } else { LARGE };
    make_disk(&image, run.block_size, bytes, workshop.install)?;
    let log = workshop.places.log(name)?;
    let session = Session::start(machine(workshop, &work, &image).command()?, &log)?;
    let guest = match Guest::boot(session, &mut Record::default(), Limit::new(PATIENCE)) {
        Ok((guest, _)) => guest,
        Err(ending) => return Ok(Err(Wrong::Ending(ending).report(workshop, &run.to_string(), &log))),
    };
    let mut bench = Bench::new(guest, Generator::new(run.seed, false));
    let done = bench.go_on(run.count);
    let (refused, total) = (bench.refused, bench.done);
    let model = bench.model;
    let ended = done.and_then(|()| match bench.guest.power_off(&mut Record::default(), Limit::new(PATIENCE)) {
        Ending::Clean => Ok(()),
        other => Err(Wrong::Ending(other)),
    });
    if let Err(wrong) = ended {
        return Ok(Err(wrong.report(workshop, &run.to_string(), &log)));
    }
    let found = |what: String| Ok(Err(Wrong::Found(what).report(workshop, &run.to_string(), &log)));
    let (status, said) = inspect::e2fsck(&image, "-fn", workshop.install)?;
    if status != 0 {
        return found(format!("e2fsck -fn ends with {status}: {said}"));
    }
    let tree = inspect::tree(&image, &work.join("out"), workshop.install)?;
    match inspect::difference(&model, &tree) {
        Some(difference) => found(format!("after {total} operations: {difference}")),
        None => Ok(Ok(format!("{total} operations, {refused} for which there was no space"))),
    }
}

fn make_disk(image: &Path, block_size: u32, bytes: u64, install: Install) -> Result<()> {
    let mut mke2fs = Command::new(Tool::Mke2fs.find(install)?);
    mke2fs.args(["-q", "-F", "-t", "ext2", "-m", "0", "-b", &block_size.to_string(), "-N", "1200"]);
    mke2fs.arg(image).arg(format!("{}k", bytes >> 10));
    host::output_of(&mut mke2fs).map(drop)
}

fn machine(workshop: &Workshop, work: &WorkDir, image: &Path) -> Machine {
    Machine {
        memory: MEMORY,
        donations: vec![DONATION],
        disk: Some(Disk { keep: true, ..Disk::sound(PathBuf::from(image)) }),
        ..workshop.machine_in(work)
    }
}

/// A guest, and what its disk should hold.
struct Bench {
    guest: Guest,
    generator: Generator,
    model: Model,
    done: u32,
    /// Operations that failed for want of space.
    refused: u32,
}

impl Bench {
    fn new(guest: Guest, generator: Generator) -> Bench {
        Bench { guest, generator, model: Model::default(), done: 0, refused: 0 }
    }

    fn go_on(&mut self, count: u32) -> Result<(), Wrong> {
        let bar = ProgressBar::new(count.into());
        bar.enable_steady_tick(Duration::from_millis(200));
        while self.done < count {
            let batch = self.batch((count - self.done) as usize);
            self.done += batch.len() as u32;
            self.line(&batch, "", Limit::new(PATIENCE))?;
            self.disturb()?;
            bar.set_position(self.done.into());
        }
        bar.finish_and_clear();
        self.whole_tree()
    }

    /// Operations for one line.
    fn batch(&mut self, most: usize) -> Vec<Operation> {
        let (mut batch, mut tries, mut len): (Vec<Operation>, _, _) = (Vec::new(), 0, 0);
        while batch.len() < most && tries < TRIES && len < LINE {
            let operation = self.generator.next(&self.model);
            if len + operation.command.len() < LINE && batch.iter().all(|other| operation.is_apart_from(other)) {
                len += operation.command.len() + 2;
                batch.push(operation);
            } else {
                tries += 1;
            }
        }
        batch
    }

    /// Has the guest do them, with `last` at the end, and the model as well.
    fn line(&mut self, batch: &[Operation], last: &str, limit: Limit) -> Result<(), Wrong> {
        let mut commands: Vec<&str> = batch.iter().map(|operation| &*operation.command).collect();
        commands.extend((!last.is_empty()).then_some(last));
        let mut said = Record::default();
        self.guest.command(&commands.join("; "), &mut said, limit).map_err(Wrong::Ending)?;
        let output = String::from_utf8_lossy(&said.output).into_owned();
        let mut spoilt = Vec::new();
        let mut errors = said.errors.iter().collect::<Vec<_>>();
        for operation in batch {
            let about = |line: &&String| operation.paths.iter().any(|path| line.contains(&format!(": {DISK}{path}: ")));
            match errors.iter().position(about).map(|at| errors.remove(at)) {
                None => {
                    if let Effect::Says { line } = &operation.effect
                        && !output.lines().any(|said| said == line)
                    {
                        return Err(Wrong::Found(format!("{}: no {line:?} in {output:?}", operation.command)));
                    }
                    operation.effect.happen(&mut self.model);
                }
                Some(error) if error.contains("no space left") => {
                    self.refused += 1;
                    self.generator.refused(&self.model);
                    spoilt.extend(operation.effect.spoilt(&self.model));
                }
                Some(error) => return Err(Wrong::Found(format!("{}: {error}", operation.command))),
            }
        }
        if let Some(error) = errors.first() {
            return Err(Wrong::Found(format!("{}: {error}", commands.join("; "))));
        }
        for names in spoilt.chunks(8) {
            let paths: Vec<String> = names.iter().map(|name| format!("{DISK}{name}")).collect();
            self.succeed(&format!("rm -f {}", paths.join(" ")), limit)?;
            names.iter().for_each(|name| self.model.remove(name));
        }
        Ok(())
    }

    /// What makes the caches work: now and then everything is written, dropped, taken back or mounted anew.
    fn disturb(&mut self) -> Result<(), Wrong> {
        let command = match self.generator.below(40) {
            0..4 => "drop_caches 1",
            4..8 => "sync",
            8..10 => "umount /disk; mount vda /disk",
            10..12 => "takeback 40",
            12 => "kexec",
            13..15 => return self.whole_tree(),
            _ => return Ok(()),
        };
        let mut said = Record::default();
        let done = self.guest.command(command, &mut said, Limit::new(PATIENCE)).map_err(Wrong::Ending)?;
        // There may be fewer frames left to take back.
        match done.failed && !command.starts_with("takeback") {
            true => Err(Wrong::Found(format!("{command}: {}", said.errors.join("; ")))),
            false => Ok(()),
        }
    }

    /// Every file of the disk has the model's sum.
    fn whole_tree(&mut self) -> Result<(), Wrong> {
        let mut expected: Vec<String> = Vec::new();
        for (path, node) in &self.model.names {
            if let model::Node::File(file) = node {
                let bytes = self.model.files.get(file).map_or(&[][..], |file| &file.bytes);
                expected.push(format!("{}  {DISK}{path}", crate::tree::sum_of(bytes)));
            }
        }
        expected.sort();
        let output = self.succeed(&format!("sha256sum -r {DISK}"), Limit::new(PATIENCE))?;
        let mut found: Vec<&str> = output.lines().collect();
        found.sort_unstable();
        match expected.iter().zip(&found).find(|(expected, found)| expected != *found) {
            Some((expected, found)) => Err(Wrong::Found(format!("{expected:?} expected, {found:?} found"))),
            None if expected.len() != found.len() => {
                Err(Wrong::Found(format!("{} files expected, {} found", expected.len(), found.len())))
            }
            None => Ok(()),
        }
    }

    /// A command that has to succeed; its output.
    fn succeed(&mut self, command: &str, limit: Limit) -> Result<String, Wrong> {
        let mut said = Record::default();
        match self.guest.command(command, &mut said, limit).map_err(Wrong::Ending)?.failed {
            true => Err(Wrong::Found(format!("{command}: {}", said.errors.join("; ")))),
            false => Ok(String::from_utf8_lossy(&said.output).into_owned()),
        }
    }
}
