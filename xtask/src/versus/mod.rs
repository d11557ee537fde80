//! `bench --vs linux`: Debian's own kernel and Holdover do the same in the same QEMU, with as much memory and the same disk options,
//! in turn.
//!
//! Debian's package is fetched and unpacked below the target directory, and nothing is installed. Its kernel gets an initramfs made
//! on the spot, with the modules it needs and one program; [`cpio`] makes it.

mod cpio;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::args::Profile;
use crate::disk::Disk;
use crate::guest::{Guest, Limit, Record};
use crate::host::{self, Install, Tool};
use crate::machine::Machine;
use crate::outcome::{Ending, Exit};
use crate::places::{Places, WorkDir, make_dir};
use crate::session::{Next, Session};
use crate::size::Size;
use crate::workshop::Workshop;

/// What names Debian's smallest kernel.
const PACKAGE: &str = "linux-image-cloud-amd64";
const MODULES: [&str; 6] = [
    "virtio/virtio_ring.ko",
    "virtio/virtio.ko",
    "virtio/virtio_pci_legacy_dev.ko",
    "virtio/virtio_pci_modern_dev.ko",
    "virtio/virtio_pci.ko",
    "block/virtio_blk.ko",
];
const PROGRAM: &str = include_str!("init.c");
/// What is written, and onto what.
const BYTES: u64 = 64 << 20;
const DISK: u64 = 160 << 20;
const MEMORY: Size = Size::mib(192);
/// Runs of each; an odd number, for the median.
const RUNS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(180);

/// Compares, and prints.
pub fn versus(places: Places, install: Install) -> Result<Exit> {
    let workshop = Workshop::open(places, install, Profile::Release)?;
    let linux = Linux::prepare(&workshop)?;
    let work = workshop.places.work_dir("versus")?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    println!("sequential write of {} MiB with fsync, q35, TCG, {MEMORY}, MB a second", BYTES >> 20);
    for run in 1..=RUNS {
        ours.push(holdover(&workshop, &work)?);
        theirs.push(linux.run(&workshop, &work)?);
        let speed = |micros: &[u64]| BYTES as f64 / micros.last().copied().unwrap_or(1) as f64;
        println!("run {run}: holdover {:.1}, linux {:.1}", speed(&ours), speed(&theirs));
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = theirs as f64 / ours as f64;
    println!(
        "median: holdover {:.1}, linux {:.1} ({}); ratio {ratio:.2}, which should be at least 1",
        BYTES as f64 / ours as f64,
        BYTES as f64 / theirs as f64,
        linux.version,
    );
    Ok(if ratio >= 1.0 { Exit::Success } else { Exit::Failed })
}

fn median(mut micros: Vec<u64>) -> u64 {
    micros.sort_unstable();
    micros.get(micros.len() / 2).copied().unwrap_or(1).max(1)
}

/// A machine with a new disk.
fn machine(workshop: &Workshop, work: &WorkDir) -> Result<Machine> {
    let image = work.join("disk.img");
    if image.exists() {
        fs::remove_file(&image).with_context(|| format!("cannot remove {image:?}"))?;
    }
    let mut mke2fs = Command::new(Tool::Mke2fs.find(workshop.install)?);
    mke2fs.args(["-q", "-F", "-t", "ext2", "-m", "0", "-b", "4096"]).arg(&image).arg(format!("{}k", DISK >> 10));
    host::output_of(&mut mke2fs)?;
    Ok(Machine { memory: MEMORY, disk: Some(Disk { keep: true, ..Disk::sound(image) }), ..workshop.machine() })
}

fn holdover(workshop: &Workshop, work: &WorkDir) -> Result<u64> {
    let machine = machine(workshop, work)?;
    let session = Session::start(machine.command()?, &workshop.places.log("versus-holdover")?)?;
    let limit = Limit::new(PATIENCE);
    let mut said = Record::default();
    let ended = |ending: Ending| anyhow::anyhow!("holdover: {ending}");
    let (mut guest, _) = Guest::boot(session, &mut said, limit).map_err(ended)?;
    let done = guest.command(&format!("bench seqwrite /disk/seqwrite {BYTES}"), &mut said, limit).map_err(ended)?;
    if done.failed {
        bail!("holdover: {}", said.errors.join("; "));
    }
    match guest.power_off(&mut Record::default(), limit) {
        Ending::Clean => micros(&String::from_utf8_lossy(&said.output)).context("holdover says no time"),
        other => Err(ended(other)),
    }
}

/// `… microseconds N`
fn micros(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("seqwrite "))?;
    line.trim().rsplit(' ').next()?.parse().ok()
}

/// Debian's kernel, and what it is started with.
struct Linux {
    version: String,
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Linux {
    fn prepare(workshop: &Workshop) -> Result<Linux> {
        if !host::has_apt() {
            bail!("the kernel to compare with comes from Debian, by apt-get, which is not here");
        }
        let home = workshop.places.result("linux")?;
        make_dir(&home)?;
        let depends = host::output_of(Command::new("apt-cache").args(["depends", PACKAGE]))?;
        let package = depends
            .split_whitespace()
            .find_map(|word| {
                word.strip_prefix("linux-image-").filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            })
            .with_context(|| format!("{PACKAGE} is not known; try apt-get update"))?
            .to_owned();
        let root = home.join(&package);
        if !root.exists() {
            fetch(&home, &package, &root)?;
        }
        let drivers = root.join("lib/modules").join(&package).join("kernel/drivers");
        let mut files = vec![("init", build_program(&home)?)];
        for module in MODULES {
            let path = drivers.join(module);
            let name = module.rsplit('/').next().unwrap_or(module);
            files.push((name, fs::read(&path).with_context(|| format!("cannot read {path:?}"))?));
        }
        let initramfs = home.join("initramfs");
        fs::write(&initramfs, cpio::archive(&files)).with_context(|| format!("cannot write {initramfs:?}"))?;
        Ok(Linux { kernel: root.join("boot").join(format!("vmlinuz-{package}")), version: package, initramfs })
    }

    /// Boots it; how long it took to write.
    fn run(&self, workshop: &Workshop, work: &WorkDir) -> Result<u64> {
        let machine = machine(workshop, work)?;
        let command = machine.command_for(&self.kernel, "console=ttyS0 quiet panic=-1", Some(&self.initramfs))?;
        let mut session = Session::start(command, &workshop.places.log("versus-linux")?)?;
        let limit = Limit::new(PATIENCE);
        let mut said = String::new();
        loop {
            match session.line(limit.deadline) {
                Next::Line(line) => {
                    said += &String::from_utf8_lossy(&line);
                    said.push('\n');
                }
                Next::Closed => break,
                Next::Late => bail!("linux does not end; it said: {said}"),
            }
        }
        micros(&said).with_context(|| format!("linux says no time, but: {said}"))
    }
}

fn fetch(home: &Path, package: &str, root: &Path) -> Result<()> {
    eprintln!("setup: fetching linux-image-{package} to compare with; it is not installed");
    let mut apt = Command::new("apt-get");
    apt.args(["-q", "download", &format!("linux-image-{package}")])
        .current_dir(home)
        .stdout(Stdio::from(std::io::stderr()));
    host::run(&mut apt)?;
    let archive = fs::read_dir(home)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left nothing")?;
    // Half of it is not taken for all of it the next time.
    let part = root.with_extension("part");
    host::run(Command::new("dpkg-deb").arg("-x").args([&archive, &part]))?;
    fs::rename(&part, root).with_context(|| format!("cannot rename {part:?}"))?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {archive:?}"))
}

/// Compiles the program, for no libraries.
fn build_program(home: &Path) -> Result<Vec<u8>> {
    let (source, program) = (home.join("init.c"), home.join("init"));
    fs::write(&source, PROGRAM).with_context(|| format!("cannot write {source:?}"))?;
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O2", "-o"]).args([&program, &source]).arg(format!("-DSIZE=\"{BYTES}\""));
    host::run(&mut cc).context("a C compiler that links statically is needed (Debian: gcc, libc6-dev)")?;
    fs::read(&program).with_context(|| format!("cannot read {program:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_found_and_the_median_taken() {
        assert_eq!(micros("boot\nseqwrite bytes 5 microseconds 77\r\n"), Some(77));
        assert_eq!(micros("nothing"), None);
        assert_eq!(median(vec![9, 1, 5]), 5);
    }
}
