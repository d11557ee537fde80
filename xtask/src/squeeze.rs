//! `demo balloon`: the host squeezes a guest that is busy, and lets go of it again.
//!
//! The guest reads one part of a tree after the other, some parts more often than others. The tree fits into memory
//! and the balloon's memory together, but not into memory alone. Between commands the host changes what it wants;
//! after each the guest's counters are read. What was seen becomes a [`timeline`].

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use crate::args::MachineFlags;
use crate::counters::Counters;
use crate::donation::{Donation, Kind};
use crate::guest::{Guest, Limit, Record};
use crate::machine::Machine;
use crate::outcome::{Ending, Exit};
use crate::places::WorkDir;
use crate::qmp::Qmp;
use crate::session::Session;
use crate::size::Size;
use crate::timeline::{self, Sample};
use crate::tree::Random;
use crate::workshop::Workshop;
use crate::wrong::Problem;
use crate::{image, tree};

const MEMORY: Size = Size::mib(48);
const LENT: Donation = Donation { kind: Kind::Balloon, size: Size::mib(64) };
/// Bytes and files of the tree. Sixteen files are a directory, and one command reads a few directories.
const TREE: (u64, u32) = (90 << 20, 1440);
const FILES_IN_DIRECTORY: u32 = 16;
const DIRECTORIES_A_COMMAND: usize = 3;
/// What the host does: for so many commands it wants so many quarters of the balloon's memory.
const SCHEDULE: [(u32, u64); 6] = [(100, 0), (30, 1), (30, 2), (30, 3), (60, 4), (100, 0)];
const QUARTERS: u64 = 4;
const WHERE: &str = "demo-balloon.svg";

/// Shows it, and leaves the timeline.
pub fn demo(workshop: &Workshop, flags: &MachineFlags) -> Result<Exit> {
    let mut flags = flags.clone();
    if flags.donate.is_empty() {
        flags.donate = vec![LENT];
    }
    let Some(lent) = flags.donate.iter().find(|donation| donation.kind == Kind::Balloon) else {
        bail!("there is nothing to squeeze without --donate balloon=SIZE");
    };
    let lent = lent.size;
    let work = workshop.places.work_dir("demo-balloon")?;
    let machine =
        Machine { disk: Workshop::disk(disk(workshop, &work)?), ..workshop.machine_for(&flags, MEMORY, &work)? };
    let log = workshop.places.log("demo-balloon")?;
    let session = Session::start(machine.command()?, &log)?;
    let told = |problem: Problem| problem.told(workshop, &log);
    let mut said = Record::default();
    let (guest, _) =
        Guest::boot(session, &mut said, Limit::new(flags.timeout)).map_err(|ending| told(ending.into()))?;
    let mut show = Show { guest, qmp: Qmp::connect(work.socket())?, flags: &flags, lent, before: Counters::default() };
    let samples = show.all().map_err(told)?;
    match show.guest.power_off(&mut said, Limit::new(flags.timeout)) {
        Ending::Clean => {}
        other => return Err(told(other.into())),
    }
    let path = workshop.places.result(WHERE)?;
    timeline::draw(&path, &samples)?;
    println!("the timeline is in {}", path.display());
    Ok(Exit::Success)
}

fn disk(workshop: &Workshop, work: &WorkDir) -> Result<PathBuf> {
    let (top, image) = (work.join("tree"), work.join("disk.img"));
    let (bytes, files) = TREE;
    tree::bulk(&top, bytes, files)?;
    image::from_directory(&top, &image, 4096, workshop.install)?;
    Ok(image)
}

struct Show<'a> {
    guest: Guest,
    qmp: Qmp,
    flags: &'a MachineFlags,
    lent: Size,
    before: Counters,
}

impl Show<'_> {
    /// Everything on the schedule.
    fn all(&mut self) -> Result<Vec<Sample>, Problem> {
        let started = Instant::now();
        let mut samples = Vec::new();
        let mut random = Random::new(7);
        self.before = Counters::parse(&self.run("cleancache")?)?;
        println!("    time   host takes   donated    cached   disk reads   from cleancache");
        for (commands, quarters) in SCHEDULE {
            let taken = self.lent.bytes() / QUARTERS * quarters;
            self.qmp.set_balloon(taken)?;
            for _ in 0..commands {
                let directories: [String; DIRECTORIES_A_COMMAND] = std::array::from_fn(|_| directory(&mut random));
                self.run(&format!("sha256sum -r {}", directories.join(" ")))?;
                let now = Counters::parse(&self.run("cleancache")?)?;
                let sample = Sample {
                    seconds: started.elapsed().as_secs_f64(),
                    offered: self.lent.bytes() - taken,
                    donated: now.donated(),
                    cached: now.cached(),
                    from_disk: now.from_disk.saturating_sub(self.before.from_disk),
                    from_cleancache: now.from_cleancache.saturating_sub(self.before.from_cleancache),
                };
                self.before = now;
                println!("{}", line(&sample, taken));
                samples.push(sample);
            }
        }
        Ok(samples)
    }

    /// What a command prints.
    fn run(&mut self, command: &str) -> Result<String, Problem> {
        let mut said = Record::default();
        let done = self.guest.command(command, &mut said, Limit::new(self.flags.timeout))?;
        if done.failed {
            return Err(anyhow!("{command}: {}", said.errors.join("; ")).into());
        }
        Ok(String::from_utf8_lossy(&said.output).into_owned())
    }
}

/// A directory of the tree: half of the time one of the first third.
fn directory(random: &mut Random) -> String {
    let directories = u64::from(TREE.1 / FILES_IN_DIRECTORY);
    let choice = if random.below(2) == 0 { directories } else { directories / 3 };
    let number = random.below(choice);
    format!("/disk/d{:02}/e{}", number / 4, number % 4)
}

fn line(sample: &Sample, taken: u64) -> String {
    let rate = sample.rate().map_or("-".to_owned(), |rate| format!("{:.0} %", rate * 100.0));
    format!(
        "{:6.1} s   {:>10}   {:>7}   {:>7}   {:>10}   {:>7}  {rate:>5}",
        sample.seconds,
        format!("{}M", taken >> 20),
        sample.donated,
        sample.cached,
        sample.from_disk,
        sample.from_cleancache,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_exists() {
        let mut random = Random::new(1);
        let top = std::env::temp_dir().join(format!("xtask-squeeze-{}", std::process::id()));
        tree::bulk(&top, 1 << 20, TREE.1).unwrap();
        for _ in 0..1000 {
            let path = directory(&mut random);
            let path = top.join(path.strip_prefix("/disk/").unwrap());
            assert!(path.is_dir(), "{path:?}");
        }
        std::fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn the_host_takes_everything_and_gives_it_back() {
        assert!(SCHEDULE.iter().any(|(_, quarters)| *quarters == QUARTERS));
        assert_eq!(SCHEDULE.last().map(|(_, quarters)| *quarters), Some(0));
    }
}
