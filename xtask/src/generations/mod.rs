//! `test --generations N`: one guest through N kexecs, alternately into the image that is running and into the one on the disk, with a
//! tree in /tmp that changes in between.
//!
//! After each kexec every frame must be accounted for and some of the tree must be what the host knows, all of it by turns. What
//! the handover takes, and for how long nobody can open a file, must not grow from the first generations to the last. Time
//! is counted instructions, so that a busy host changes nothing. What is done follows from the seed.

mod figures;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;

use crate::counters;
use crate::guest::{Guest, Limit, Record};
use crate::machine::{Accel, Machine};
use crate::outcome::Ending;
use crate::session::Session;
use crate::soak::model::{Disk, TMP, Tmp};
use crate::tree::Random;
use crate::workshop::Workshop;
use crate::wrong::Wrong;
use crate::{image, tree};
use figures::{Crossing, Figures, Into};

/// How long the boot, or one command, may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Changes before the first kexec, so that the tree is grown up by then, and between two.
const CHANGES_FIRST: u32 = 60;
const CHANGES: u32 = 3;
/// Bytes that /tmp may have, and one file of it.
const MOST_IN_TMP: usize = 1 << 20;
const MOST_IN_FILE: usize = 100 << 10;
/// Directories that may be there, each a copy of one of the disk's.
const DIRECTORIES: u64 = 4;
/// All sums are compared each time that so many kexecs have passed, at other times one file's.
const ALL_SUMS: u32 = 10;

/// Lives through `count` kexecs; the log is called `name`. `Ok(Err(_))` is what was found to be wrong.
pub fn live(workshop: &Workshop, name: &str, seed: u64, count: u32) -> Result<Result<Figures, String>> {
    let work = workshop.places.work_dir(name)?;
    let (top, image) = (work.join("tree"), work.join("disk.img"));
    tree::sample(&top, &workshop.built.bootable)?;
    image::from_directory(&top, &image, 4096, workshop.install)?;
    let machine = Machine { accel: Accel::Counted, disk: Workshop::disk(image), ..workshop.machine() };
    let log = workshop.places.log(name)?;
    let run = |generation: u32| format!("seed {seed}, generation {generation}");
    let disk = Disk::of_tree(&top)?;
    let session = Session::start(machine.command()?, &log)?;
    let guest = match Guest::boot(session, &mut Record::default(), Limit::new(PATIENCE)) {
        Ok((guest, _)) => guest,
        Err(ending) => return Ok(Err(Wrong::Ending(ending).report(workshop, &run(0), &log))),
    };
    let mut line = Line {
        guest,
        random: Random::new(seed),
        disk,
        tmp: Tmp::default(),
        directories: BTreeSet::new(),
        generation: 0,
        figures: Figures::default(),
    };
    let outcome = line.go_on(count);
    let generation = line.generation;
    let ended = outcome.and_then(|()| match line.guest.power_off(&mut Record::default(), Limit::new(PATIENCE)) {
        Ending::Clean => line.figures.judge().map_err(Wrong::Found),
        other => Err(Wrong::Ending(other)),
    });
    Ok(match ended {
        Ok(()) => Ok(line.figures),
        Err(wrong) => Err(wrong.report(workshop, &run(generation), &log)),
    })
}

/// A line of kernels.
struct Line {
    guest: Guest,
    random: Random,
    disk: Disk,
    tmp: Tmp,
    directories: BTreeSet<String>,
    generation: u32,
    figures: Figures,
}

impl Line {
    fn go_on(&mut self, count: u32) -> Result<(), Wrong> {
        // All of the disk is cached from the beginning, so that there is as much to hand over of that each time.
        self.sums("sha256sum -r /disk", self.disk.sums("/disk"))?;
        // What is free, or would be without caches, with nothing in /tmp, by way of either image.
        let mut free = Vec::new();
        for into in [Into::Running, Into::File] {
            self.kexec(into)?;
            free.push((into, self.frames()?));
        }
        self.figures = Figures::default();
        self.change(CHANGES_FIRST)?;
        for at in 0..count {
            if at > 0 {
                self.change(CHANGES)?;
            }
            let into = if at % 2 == 0 { Into::Running } else { Into::File };
            self.kexec(into)?;
            self.frames()?;
            if at % ALL_SUMS == ALL_SUMS - 1 || at + 1 == count {
                self.sums(&format!("sha256sum -r {TMP}"), self.tmp.sums())?;
            } else if let Some(path) = self.tmp.existing(&mut self.random) {
                self.sums(&format!("sha256sum {path}"), self.tmp.sum(&path))?;
            }
        }
        self.remove_everything()?;
        for (into, before) in free {
            self.kexec(into)?;
            let after = self.frames()?;
            if after != before {
                return Err(Wrong::Found(format!("with nothing in /tmp {before} frames were free, and {after} are")));
            }
        }
        Ok(())
    }

    /// A kexec, and what the kernel after it says of it.
    fn kexec(&mut self, into: Into) -> Result<(), Wrong> {
        let command = match into {
            Into::Running => "kexec",
            Into::File => "kexec /disk/boot/holdover",
        };
        self.run(command)?;
        self.generation += 1;
        let said = self.run("kho")?;
        let crossing = Crossing::parse(into, &said).ok_or_else(|| Wrong::Found(format!("kho: {said}")))?;
        if crossing.generation != self.generation || crossing.casualties != 0 {
            return Err(Wrong::Found(format!("generation {}: kho: {said}", self.generation)));
        }
        self.figures.add(crossing);
        Ok(())
    }

    /// Everybody's frames together are all frames, and what is set aside or tmpfs's is what the tree takes. Gives what is free, or
    /// would be without caches, those of the kernel before among them.
    fn frames(&mut self) -> Result<u64, Wrong> {
        let (said, kho) = (self.run("free")?, self.run("kho")?);
        let row = |name| counters::row(&said, name);
        let preserved = figures::within(&kho, "preserved now: ", "frames ");
        match (
            row("sum"),
            row("all memory"),
            row("tmpfs"),
            row("handed over or set aside"),
            row("can hold cached pages"),
            preserved,
        ) {
            (Some(sum), Some(all), Some(owned), Some(aside), Some(free), Some(preserved))
                if sum == all && owned + aside == preserved =>
            {
                Ok(free)
            }
            _ => Err(Wrong::Found(format!("frames are lost:\n{said}{kho}"))),
        }
    }

    /// Some changes, in one line.
    fn change(&mut self, changes: u32) -> Result<(), Wrong> {
        for _ in 0..changes {
            let command = self.one_change()?;
            self.run(&command)?;
        }
        Ok(())
    }

    /// One change, done to the model, and the command that does it in the guest.
    fn one_change(&mut self) -> Result<String, Wrong> {
        let path = Tmp::path(&mut self.random);
        Ok(match self.random.below(8) {
            0 | 1 => {
                let text = format!("{:x} ", self.random.below(u64::MAX)).repeat(1 + self.random.below(12) as usize);
                let text = text.trim_end();
                let line = format!("{text}\n").into_bytes();
                if self.random.below(2) == 0 {
                    self.tmp.append(&path, &line);
                    format!("write -a {path} {text}")
                } else {
                    self.tmp.set(&path, line);
                    format!("write {path} {text}")
                }
            }
            2 | 3 => {
                let (from, _) = self.disk.file(&mut self.random).clone();
                let bytes = self.bytes(&from)?;
                if bytes.len() > MOST_IN_FILE || self.tmp.len() + bytes.len() > MOST_IN_TMP {
                    return Ok(self.remove());
                }
                self.tmp.set(&path, bytes);
                format!("cp '{from}' {path}")
            }
            4 => {
                let len = self.random.below(MOST_IN_FILE as u64) as usize;
                if self.tmp.len() + len > MOST_IN_TMP {
                    return Ok(self.remove());
                }
                self.tmp.truncate(&path, len);
                format!("truncate -s {len} {path}")
            }
            5 => {
                let number = self.random.below(DIRECTORIES);
                let (from, to) = (format!("/disk/docs/chapter-{number}"), format!("{TMP}/d{number}"));
                if !self.directories.insert(to.clone()) {
                    self.directories.remove(&to);
                    let inside: Vec<String> = self.tmp.below(&to);
                    inside.iter().for_each(|path| self.tmp.remove(path));
                    return Ok(format!("rm -r {to}"));
                }
                let files = self.disk.sums(&from);
                for path in files.iter().filter_map(|line| line.split_once("  ")).map(|(_, path)| path) {
                    let bytes = self.bytes(path)?;
                    self.tmp.set(&path.replacen(&from, &to, 1), bytes);
                }
                format!("cp -r {from} {to}")
            }
            6 => {
                let Some(from) = self.tmp.existing(&mut self.random) else { return Ok("pwd".to_owned()) };
                if from != path {
                    self.tmp.rename(&from, &path);
                    format!("mv {from} {path}")
                } else {
                    self.remove()
                }
            }
            _ => self.remove(),
        })
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>, Wrong> {
        self.disk.bytes(path).map_err(|error| Wrong::Found(format!("{error:#}")))
    }

    fn remove(&mut self) -> String {
        let Some(path) = self.tmp.existing(&mut self.random) else { return "pwd".to_owned() };
        self.tmp.remove(&path);
        format!("rm {path}")
    }

    fn remove_everything(&mut self) -> Result<(), Wrong> {
        for directory in std::mem::take(&mut self.directories) {
            self.run(&format!("rm -r {directory}"))?;
            self.tmp.below(&directory).iter().for_each(|path| self.tmp.remove(path));
        }
        for path in self.tmp.below(TMP) {
            self.run(&format!("rm {path}"))?;
            self.tmp.remove(&path);
        }
        self.sums(&format!("sha256sum -r {TMP}"), Vec::new())
    }

    /// A command that prints sums, which must be these.
    fn sums(&mut self, command: &str, expected: Vec<String>) -> Result<(), Wrong> {
        let said = self.run(command)?;
        let mut found: Vec<&str> = said.lines().collect();
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
        let mut said = Record::default();
        let done = self.guest.command(command, &mut said, Limit::new(PATIENCE)).map_err(Wrong::Ending)?;
        if done.failed {
            return Err(Wrong::Found(format!("{command}: {}", said.errors.join("; "))));
        }
        Ok(String::from_utf8_lossy(&said.output).into_owned())
    }
}
