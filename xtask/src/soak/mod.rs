//! `test --soak`: random operations for a long time, on a guest with all four kinds of donated memory.
//!
//! What is done follows from the seed alone, and never from how fast the guest is, so that a seed repeats a run up to its
//! length. After each operation every pool must have all of its frames, and from time to time the machine must. Whatever
//! is read is compared with a [`model`] on the host. The first thing that is wrong ends it.

pub mod model;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use indicatif::ProgressBar;

use crate::counters::{self, Counters};
use crate::donation::{Donation, Kind};
use crate::guest::{Guest, Limit, Record};
use crate::machine::Machine;
use crate::outcome::Ending;
use crate::scenario::action::{Action, Shared};
use crate::scenario::host::Host;
use crate::session::Session;
use crate::size::{Amount, Size};
use crate::tree::Random;
use crate::workshop::Workshop;
use crate::wrong::Wrong;
use crate::{image, tree};
use model::{Disk, TMP, Tmp};

const MEMORY: Size = Size::mib(40);
const BALLOON: Size = Size::mib(16);
const MEM: Size = Size::mib(16);
const DONATIONS: [Donation; 4] = [
    Donation { kind: Kind::CarveOut, size: Size::mib(8) },
    Donation { kind: Kind::Balloon, size: BALLOON },
    Donation { kind: Kind::Mem, size: MEM },
    Donation { kind: Kind::Ivshmem, size: Size::mib(8) },
];
/// The disk: more than all memory together.
const TREE: (u64, u32) = (120 << 20, 1600);
/// How long the boot, or one command, may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// Bytes that /tmp may have, and one file of it.
const MOST_IN_TMP: usize = 6 << 20;
const MOST_IN_FILE: usize = 1 << 20;
/// Most frames that are taken back at a time.
const MOST_TAKEN: u64 = 200;
/// After so many steps the whole machine is counted.
const STEPS_A_COUNT: u64 = 20;
/// While the guest follows the host, a count may fall into the middle of a move; a frame that is lost stays lost.
const COUNTS: u32 = 5;

/// Soaks a guest for so long. `Ok(Err(_))` is what was found to be wrong.
pub fn soak(workshop: &Workshop, seed: Option<u64>, minutes: u32) -> Result<Result<(), String>> {
    let seed = seed.map_or_else(seed_from_clock, Ok)?;
    println!("soak: seed {seed}, {minutes} minutes");
    let work = workshop.places.work_dir("soak")?;
    let (top, image) = (work.join("tree"), work.join("disk.img"));
    let (bytes, files) = TREE;
    tree::sample(&top, &workshop.built.bootable)?;
    tree::bulk(&top.join("bulk"), bytes, files)?;
    image::from_directory(&top, &image, 4096, workshop.install)?;
    let machine = Machine {
        memory: MEMORY,
        donations: DONATIONS.to_vec(),
        disk: Workshop::disk(image),
        ..workshop.machine_in(&work)
    };
    let log = workshop.places.log("soak")?;
    let run = |step: u64| format!("soak: seed {seed}, step {step}");
    let disk = Disk::of_tree(&top)?;
    let session = Session::start(machine.command()?, &log)?;
    let guest = match Guest::boot(session, &mut Record::default(), Limit::new(PATIENCE)) {
        Ok((guest, _)) => guest,
        Err(ending) => return Ok(Err(Wrong::Ending(ending).report(workshop, &run(0), &log))),
    };
    let host = Host::new(work.socket(), work.join("ivshmem"));
    let mut soak = Soak { guest, host, random: Random::new(seed), disk, tmp: Tmp::default(), steps: 0, kexecs: 0 };
    match soak.go_on(Duration::from_secs(60 * u64::from(minutes))) {
        Err(wrong) => Ok(Err(wrong.report(workshop, &run(soak.steps), &log))),
        Ok(()) => match soak.guest.power_off(&mut Record::default(), Limit::new(PATIENCE)) {
            Ending::Clean => {
                println!("soak: {} operations, {} kexecs, no wrong byte, no frame lost", soak.steps, soak.kexecs);
                Ok(Ok(()))
            }
            other => Ok(Err(Wrong::Ending(other).report(workshop, &run(soak.steps), &log))),
        },
    }
}

/// A seed that nobody chose.
pub fn seed_from_clock() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs())
}

struct Soak {
    guest: Guest,
    host: Host,
    random: Random,
    disk: Disk,
    tmp: Tmp,
    steps: u64,
    kexecs: u64,
}

impl Soak {
    fn go_on(&mut self, length: Duration) -> Result<(), Wrong> {
        let started = Instant::now();
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        while started.elapsed() < length {
            self.steps += 1;
            bar.set_message(format!("step {}, {} kexecs", self.steps, self.kexecs));
            self.step()?;
            self.pools_are_whole()?;
            if self.steps.is_multiple_of(STEPS_A_COUNT) {
                self.no_frame_is_lost()?;
            }
        }
        // What nobody has looked at since is looked at now.
        self.all_of_tmp()?;
        bar.finish_and_clear();
        Ok(())
    }

    /// One operation.
    fn step(&mut self) -> Result<(), Wrong> {
        // What empties the caches is rare, so that they are full most of the time.
        match self.random.below(1000) {
            0..250 => {
                let (path, sum) = self.disk.file(&mut self.random);
                let expected = vec![format!("{sum}  {path}")];
                let command = format!("sha256sum '{path}'");
                self.sums(&command, expected, &[])
            }
            250..500 => self.directory(&[]),
            500..720 => {
                let action = self.action();
                self.directory(&[action])
            }
            720..770 => self.write(),
            770..830 => self.copy(),
            830..870 => self.truncate(),
            870..895 => self.remove(),
            895..920 => self.all_of_tmp(),
            920..926 => self.run("umount /disk; mount vda /disk").map(drop),
            926..945 => {
                let frames = 1 + self.random.below(MOST_TAKEN);
                // Fails when there are fewer left, which is no fault.
                self.try_to_run(&format!("takeback {frames}"), &[]).map(drop)
            }
            945..960 => self.run("drop_caches 1").map(drop),
            960..995 => self.read_from_tmp(),
            _ => {
                self.run("kexec")?;
                self.kexecs += 1;
                self.all_of_tmp()
            }
        }
    }

    /// Sums of a directory of the disk, while the host does something.
    fn directory(&mut self, actions: &[Action]) -> Result<(), Wrong> {
        let directory = self.disk.directory(&mut self.random).to_owned();
        let expected = self.disk.sums(&directory);
        let mut actions = actions.to_vec();
        for action in &mut actions {
            action.after_lines = self.random.below(expected.len() as u64);
        }
        self.sums(&format!("sha256sum -r '{directory}'"), expected, &actions)
    }

    /// Something that the host may do at any moment.
    fn action(&mut self) -> Action {
        let mut action = Action::default();
        match self.random.below(5) {
            0 | 1 => action.balloon = Some(Amount::new(self.random.below((BALLOON.bytes() >> 20) + 1) << 20)),
            2 | 3 => action.mem = Some(Amount::new(self.random.below((MEM.bytes() >> 21) + 1) << 21)),
            _ => action.scribble = Some(Shared::Ivshmem),
        }
        action
    }

    fn write(&mut self) -> Result<(), Wrong> {
        let path = Tmp::path(&mut self.random);
        let text = format!("{:x} ", self.random.below(u64::MAX)).repeat(1 + self.random.below(20) as usize);
        let text = text.trim_end();
        let append = self.random.below(2) == 0;
        let line = format!("{text}\n").into_bytes();
        if append {
            self.run(&format!("write -a {path} {text}"))?;
            self.tmp.append(&path, &line);
        } else {
            self.run(&format!("write {path} {text}"))?;
            self.tmp.set(&path, line);
        }
        Ok(())
    }

    fn copy(&mut self) -> Result<(), Wrong> {
        let (from, _) = self.disk.file(&mut self.random).clone();
        let to = Tmp::path(&mut self.random);
        let bytes = self.disk.bytes(&from).map_err(|error| Wrong::Found(format!("{error:#}")))?;
        if bytes.len() > MOST_IN_FILE || self.tmp.len() + bytes.len() > MOST_IN_TMP {
            return self.remove();
        }
        self.run(&format!("cp '{from}' {to}"))?;
        self.tmp.set(&to, bytes);
        Ok(())
    }

    fn truncate(&mut self) -> Result<(), Wrong> {
        let path = Tmp::path(&mut self.random);
        let len = self.random.below(MOST_IN_FILE as u64) as usize;
        if self.tmp.len() + len > MOST_IN_TMP {
            return self.remove();
        }
        self.run(&format!("truncate -s {len} {path}"))?;
        self.tmp.truncate(&path, len);
        Ok(())
    }

    fn remove(&mut self) -> Result<(), Wrong> {
        let Some(path) = self.tmp.existing(&mut self.random) else { return Ok(()) };
        self.run(&format!("rm {path}"))?;
        self.tmp.remove(&path);
        Ok(())
    }

    fn read_from_tmp(&mut self) -> Result<(), Wrong> {
        let Some(path) = self.tmp.existing(&mut self.random) else { return Ok(()) };
        self.sums(&format!("sha256sum {path}"), self.tmp.sum(&path), &[])
    }

    fn all_of_tmp(&mut self) -> Result<(), Wrong> {
        self.sums(&format!("sha256sum -r {TMP}"), self.tmp.sums(), &[])
    }

    /// A command that prints sums, which must be these.
    fn sums(&mut self, command: &str, expected: Vec<String>, actions: &[Action]) -> Result<(), Wrong> {
        let (failed, said) = self.try_to_run(command, actions)?;
        if failed {
            return Err(Wrong::Found(format!("{command}: {}", said.errors.join("; "))));
        }
        let output = String::from_utf8_lossy(&said.output);
        let mut found: Vec<&str> = output.lines().collect();
        found.sort_unstable();
        if found == expected {
            return Ok(());
        }
        let differs = expected.iter().zip(&found).find(|(expected, found)| expected != *found);
        Err(Wrong::Found(match differs {
            Some((expected, found)) => format!("{command}: {expected:?} expected, {found:?} found"),
            None => format!("{command}: {} sums expected, {} found", expected.len(), found.len()),
        }))
    }

    /// A command that has to succeed; gives its output.
    fn run(&mut self, command: &str) -> Result<String, Wrong> {
        let (failed, said) = self.try_to_run(command, &[])?;
        if failed {
            return Err(Wrong::Found(format!("{command}: {}", said.errors.join("; "))));
        }
        Ok(String::from_utf8_lossy(&said.output).into_owned())
    }

    fn try_to_run(&mut self, command: &str, actions: &[Action]) -> Result<(bool, Record), Wrong> {
        let mut said = Record::default();
        let (done, acted) = self.host.command(&mut self.guest, command, actions, &mut said, Limit::new(PATIENCE));
        let done = done.map_err(Wrong::Ending)?;
        acted.map_err(|error| Wrong::Found(format!("{command}: host: {error:#}")))?;
        Ok((done.failed, said))
    }

    /// Every pool has each of its frames in one place.
    fn pools_are_whole(&mut self) -> Result<(), Wrong> {
        let counters = Counters::parse(&self.run("cleancache")?).map_err(|error| Wrong::Found(format!("{error:#}")))?;
        match counters.pools.iter().find(|pool| !pool.is_whole()) {
            None => Ok(()),
            Some(pool) => Err(Wrong::Found(format!("frames of a pool are lost: {pool:?}"))),
        }
    }

    /// Everybody's frames together are all frames.
    fn no_frame_is_lost(&mut self) -> Result<(), Wrong> {
        let mut counted = (None, None);
        for _ in 0..COUNTS {
            let said = self.run("free")?;
            counted = (counters::row(&said, "sum"), counters::row(&said, "all memory"));
            if counted.0.is_some() && counted.0 == counted.1 {
                return Ok(());
            }
        }
        Err(Wrong::Found(format!("frames of the machine are lost: sum and all memory are {counted:?}")))
    }
}
