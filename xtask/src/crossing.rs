//! `demo kexec`: a busy guest goes on in another build of the kernel.
//!
//! The guest reads parts of a tree in /tmp and of a tree on the disk in turn, and each sum is compared with the host's. In
//! the middle the other build is loaded, the work goes on, and then the kernel is exchanged under it. A table says what crossed, and
//! a [picture](crate::crossing_picture) has the gap in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::args::{MachineFlags, Profile};
use crate::build::build;
use crate::counters::{Counters, Crossing};
use crate::crossing_picture::{self, Gap, Kind, Stretch};
use crate::guest::{Guest, Limit, Record};
use crate::machine::Machine;
use crate::outcome::{Ending, Exit};
use crate::places::WorkDir;
use crate::session::Session;
use crate::size::Size;
use crate::toolchain::{Need, Toolchain};
use crate::tree::Random;
use crate::workshop::Workshop;
use crate::wrong::Problem;
use crate::{image, tree};

const MEMORY: Size = Size::mib(96);
/// Bytes and files of the tree; sixteen files are a directory, and a command reads one.
const TREE: (u64, u32) = (32 << 20, 512);
const DIRECTORIES: u64 = 32;
/// Directories that are copied to /tmp.
const COPIED: u64 = 16;
/// Commands before the other build is loaded, between that and the jump, and after it.
const COMMANDS: [u32; 3] = [60, 20, 80];
const WHERE: &str = "demo-kexec.svg";

/// Shows it, and leaves the picture.
pub fn demo(workshop: &Workshop, flags: &MachineFlags) -> Result<Exit> {
    let work = workshop.places.work_dir("demo-kexec")?;
    let image = disk(workshop, &work)?;
    let machine = Machine { disk: Workshop::disk(image), ..workshop.machine_for(flags, MEMORY, &work)? };
    let log = workshop.places.log("demo-kexec")?;
    let session = Session::start(machine.command()?, &log)?;
    let told = |problem: Problem| problem.told(workshop, &log);
    let mut said = Record::default();
    let (guest, _) =
        Guest::boot(session, &mut said, Limit::new(flags.timeout)).map_err(|ending| told(ending.into()))?;
    let mut show = Show {
        guest,
        flags,
        tree: work.join("tree/tree"),
        started: Instant::now(),
        random: Random::new(8),
        stretches: Vec::new(),
    };
    let seen = show.all().map_err(told)?;
    match show.guest.power_off(&mut said, Limit::new(flags.timeout)) {
        Ending::Clean => {}
        other => return Err(told(other.into())),
    }
    print!("{}", table(&seen));
    let path = workshop.places.result(WHERE)?;
    crossing_picture::draw(&path, &show.stretches, &seen.gap)?;
    println!("the picture is in {}", path.display());
    Ok(Exit::Success)
}

/// A disk with the tree, and with the other build in /boot: the same source, with the assertions left in or out.
fn disk(workshop: &Workshop, work: &WorkDir) -> Result<PathBuf> {
    let running = fs::read(&workshop.built.bootable).context("cannot read what was built")?;
    let toolchain = Toolchain::find(&workshop.places, Need::Build, workshop.install)?;
    let others = [Profile::Dev, Profile::Release].map(|profile| build(&workshop.places, &toolchain, profile));
    let mut other = None;
    for built in others {
        let bytes = fs::read(&built?.bootable).context("cannot read what was built")?;
        other = Some(bytes).filter(|bytes| *bytes != running).or(other);
    }
    let (top, image) = (work.join("tree"), work.join("disk.img"));
    tree::bulk(&top.join("tree"), TREE.0, TREE.1)?;
    let boot = top.join("boot");
    fs::create_dir_all(&boot).with_context(|| format!("cannot make {boot:?}"))?;
    fs::write(boot.join("other"), other.context("both builds are the same")?)
        .context("cannot write the other build")?;
    image::from_directory(&top, &image, 4096, workshop.install)?;
    Ok(image)
}

/// What was seen in all.
struct Seen {
    crossing: Crossing,
    gap: Gap,
    /// Pages that were read from the disk by as many commands before the kexec as came after it, and by those.
    disk_reads: (u64, u64),
    /// Bytes whose sums were compared, before and after.
    bytes: (u64, u64),
}

struct Show<'a> {
    guest: Guest,
    flags: &'a MachineFlags,
    /// The tree on the host.
    tree: PathBuf,
    started: Instant,
    random: Random,
    stretches: Vec<Stretch>,
}

impl Show<'_> {
    fn all(&mut self) -> Result<Seen, Problem> {
        self.run("mkdir /tmp/tree")?;
        for at in 0..COPIED {
            let (outer, inner) = directory(at);
            self.run(&format!(
                "mkdir -p /tmp/tree/{outer}; cp -r /disk/tree/{outer}/{inner} /tmp/tree/{outer}/{inner}"
            ))?;
        }
        let before = self.disk_reads()?;
        self.work(COMMANDS[0])?;
        let begun = self.seconds();
        print!("{}", self.run("kexec load /disk/boot/other")?);
        let loaded = (begun, self.seconds());
        self.work(COMMANDS[1])?;
        let read_before = self.disk_reads()?.saturating_sub(before);
        let bytes_before = self.bytes();

        let start = self.seconds();
        self.run("kexec exec")?;
        let end = self.seconds();
        let at_first = self.disk_reads()?;
        self.work(COMMANDS[2])?;
        let read_after = self.disk_reads()?.saturating_sub(at_first);
        let crossing = Crossing::parse(&self.run("kho")?)?;
        let gap = Gap { loaded, start, end, downtime_us: crossing.downtime };
        let bytes = (bytes_before, self.bytes() - bytes_before);
        Ok(Seen { crossing, gap, disk_reads: (read_before, read_after), bytes })
    }

    fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn bytes(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.bytes).sum()
    }

    fn disk_reads(&mut self) -> Result<u64, Problem> {
        Ok(Counters::parse(&self.run("cleancache")?)?.from_disk)
    }

    /// Reads directories, one in /tmp and one on the disk in turn.
    fn work(&mut self, commands: u32) -> Result<(), Problem> {
        for command in 0..commands {
            let (kind, top, among) = match command % 2 {
                0 => (Kind::Tmpfs, "/tmp/tree", COPIED),
                _ => (Kind::Disk, "/disk/tree", DIRECTORIES),
            };
            let (outer, inner) = directory(self.random.below(among));
            let name = format!("{top}/{outer}/{inner}");
            let on_host = self.tree.join(outer).join(inner);
            let (expected, bytes) = (tree::sums(&on_host, &name)?, bytes_in(&on_host)?);
            let start = self.seconds();
            let said = self.run(&format!("sha256sum -r {name}"))?;
            let end = self.seconds();
            let mut found: Vec<&str> = said.lines().collect();
            found.sort_unstable();
            if found != expected {
                return Err(anyhow!("{name} is not what the host has").into());
            }
            self.stretches.push(Stretch { kind, start, end, bytes });
        }
        Ok(())
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

/// The directory with this number, as the tree has them.
fn directory(number: u64) -> (String, String) {
    (format!("d{:02}", number / 4), format!("e{}", number % 4))
}

fn bytes_in(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {directory:?}"))? {
        bytes += entry?.metadata()?.len();
    }
    if bytes == 0 {
        bail!("{directory:?} is empty");
    }
    Ok(bytes)
}

fn table(seen: &Seen) -> String {
    let Seen { crossing, gap, disk_reads, bytes } = seen;
    let before: u32 = COMMANDS[..2].iter().sum();
    let rows = [
        ("", "before".to_owned(), "after".to_owned()),
        ("build", crossing.previous.clone(), crossing.build.clone()),
        ("commands", before.to_string(), COMMANDS[2].to_string()),
        ("bytes compared", bytes.0.to_string(), bytes.1.to_string()),
        ("pages read from disk", disk_reads.0.to_string(), disk_reads.1.to_string()),
        ("tmpfs frames handed over, claimed since", crossing.frames.to_string(), crossing.claimed.to_string()),
        ("  checksums verified, failed", crossing.verified.to_string(), crossing.failed.to_string()),
        ("  bytes of metadata", crossing.metadata.to_string(), String::new()),
        ("cached pages handed over, taken since", crossing.cached.to_string(), crossing.taken.to_string()),
    ];
    let mut text = String::new();
    for (name, before, after) in rows {
        text += format!("{name:42} {before:>26} {after:>26}").trim_end();
        text.push('\n');
    }
    let pause = (gap.end - gap.start) * 1e3;
    text + &format!("downtime {} us as the guest counts it, {pause:.0} ms from prompt to prompt\n", crossing.downtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_exists() {
        let top = std::env::temp_dir().join(format!("xtask-crossing-{}", std::process::id()));
        tree::bulk(&top, 1 << 20, TREE.1).unwrap();
        for number in 0..DIRECTORIES {
            let (outer, inner) = directory(number);
            assert!(bytes_in(&top.join(outer).join(inner)).is_ok());
        }
        std::fs::remove_dir_all(top).unwrap();
    }
}
