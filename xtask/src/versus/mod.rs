//! `bench --vs linux`: Debian's own kernel and Holdover do the same in the same QEMU, with as much memory and the same disk options,
//! in turn, and both are entered by PVH.
//!
//! Debian's package is fetched and unpacked below the target directory, and nothing is installed. Its kernel is taken out of what
//! it is packed in by [`vmlinuz`], and gets an initramfs made on the spot, with the modules it needs and one program; [`cpio`]
//! makes it. What counts is the quotient of the medians: both are measured by the clock on the wall, which says nothing by itself.

mod cpio;
mod vmlinuz;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::{Figure, Kind};
use crate::disk::Disk;
use crate::donation::{self, Donation};
use crate::host::{self, Tool};
use crate::machine::{Board, Machine};
use crate::places::{WorkDir, make_dir};
use crate::session::{Next, Session};
use crate::size::Size;
use crate::visit::Visit;
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
/// What the program says first.
const UP: &str = "init";
/// What is written and read, and on what disk.
const BYTES: u64 = 64 << 20;
const DISK: u64 = 320 << 20;
const MEMORY: Size = Size::mib(192);
/// What Holdover has of that as its own for skewed reads, what is donated to it, and the size of the file that is read.
const SKEWED_MEMORY: Size = Size::mib(144);
const SKEWED_DONATION: Donation = Donation { kind: donation::Kind::CarveOut, size: Size::mib(48) };
const SKEWED: u64 = 192 << 20;
/// The guest for a kexec, and what lies in its tmpfs.
const KEXEC_MEMORY: Size = Size::mib(1 << 10);
const KEXEC: u64 = 256 << 20;
/// Linux's command line; with another word its program only does a kexec, before which it says that word. A timer that is late on a
/// busy host would be taken for a broken one.
const WORDS: &str = "console=ttyS0 quiet panic=-1 no_timer_check";
const KEXEC_WORD: &str = "kexec";
/// How many times as fast as Linux's a kexec should be, to the prompt and to init.
const KEXEC_LEAST: f64 = 40.0;
/// Runs of each; an odd number, for the median.
const RUNS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(180);

/// From the start of QEMU to the prompt, or to init.
const BOOT: &str = "boot";
/// The one work of which not the time is looked at, as its line begins.
const PAGES: &str = "disk pages";
/// What is done, and how many times as good as Linux it should be: the boot, a file written with fsync; it read from its beginning,
/// single pages of it, one after the other, with the median and the 99th percentile of what one takes, and single pages of the disk,
/// 16 in flight, all of them cold; how many pages come from the disk of skewed reads in a file as large as memory.
const WORKS: [(&str, f64); 8] = [
    (BOOT, 4.0),
    ("seqwrite", 1.0),
    ("seqread", 1.5),
    ("randread", 1.5),
    ("latency-p50", 1.0),
    ("latency-p99", 1.0),
    ("inflight", 1.5),
    (PAGES, 2.5),
];

/// What each of [`WORKS`] took: microseconds, nanoseconds, or pages.
type Times = [u64; WORKS.len()];

/// Has both do everything in turn.
pub fn versus(workshop: &Workshop) -> Result<Vec<Figure>> {
    let linux = Linux::prepare(workshop)?;
    let work = workshop.places.work_dir("versus")?;
    eprintln!("bench: {RUNS} times in turn with Linux {}, TCG, {MEMORY}, both by PVH", linux.version);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut our_kexecs, mut their_kexecs) = (Vec::new(), Vec::new());
    let large = Machine { memory: KEXEC_MEMORY, ..workshop.machine() };
    for run in 1..=RUNS {
        ours.push(holdover(workshop, &machine(workshop, &work)?)?);
        theirs.push(linux.run(workshop, &machine(workshop, &work)?)?);
        our_kexecs.push(kexec(workshop, &large)?);
        their_kexecs.push(linux.kexec(workshop, &large)?);
        eprintln!("bench: run {run}: {:?}, linux {:?}", ours.last(), theirs.last());
    }
    let mut figures = Vec::new();
    for (at, (name, least)) in WORKS.into_iter().enumerate() {
        let of = |times: &[Times]| median(times.iter().map(|times| times[at]).collect());
        figures.push(Figure::ratio(Kind::Versus, Board::Q35, name, of(&ours), of(&theirs), Some(least)));
    }
    figures.push(Figure::ratio(
        Kind::Versus,
        large.board,
        "kexec",
        median(our_kexecs),
        median(their_kexecs),
        Some(KEXEC_LEAST),
    ));
    Ok(figures)
}

/// The one in the middle; 1 at least, so that it can be divided by.
pub fn median(mut micros: Vec<u64>) -> u64 {
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

/// Boots Holdover; the guest, and how long it took.
fn start<'a>(workshop: &'a Workshop, machine: &Machine) -> Result<(Visit<'a>, u64)> {
    let began = Instant::now();
    let guest = Visit::begin(workshop, machine.command()?, "versus-holdover")?;
    Ok((guest, began.elapsed().as_micros() as u64))
}

fn holdover(workshop: &Workshop, machine: &Machine) -> Result<Times> {
    let (mut guest, booted) = start(workshop, machine)?;
    let mut said = tell(&mut guest, &[&format!("bench seqwrite /disk/seqwrite {BYTES}"), "bench cold /disk/seqwrite"])?;
    guest.end()?;
    let machine = Machine { memory: SKEWED_MEMORY, donations: vec![SKEWED_DONATION], ..machine.clone() };
    let (mut guest, _) = start(workshop, &machine)?;
    let lines = [&format!("bench seqwrite /disk/skewed {SKEWED}"), "drop_caches", "bench thrash /disk/skewed"];
    said += &tell(&mut guest, &lines)?;
    guest.end()?;
    times(booted, &said).context("holdover")
}

/// From the command to the prompt of the next kernel, which has the whole tmpfs.
fn kexec(workshop: &Workshop, machine: &Machine) -> Result<u64> {
    let (mut guest, _) = start(workshop, machine)?;
    tell(&mut guest, &[&format!("bench fill /tmp/data {KEXEC}"), "kexec load"])?;
    let began = Instant::now();
    tell(&mut guest, &["kexec exec"])?;
    let micros = began.elapsed().as_micros() as u64;
    guest.end()?;
    Ok(micros)
}

/// Gives lines, and what all of them print.
fn tell(guest: &mut Visit<'_>, lines: &[&str]) -> Result<String> {
    lines.iter().map(|line| Ok(guest.tell(line).context("holdover")?.text())).collect()
}

/// How long each of [`WORKS`] took, by a guest's lines: `NAME … N`.
fn times(booted: u64, text: &str) -> Result<Times> {
    let mut times = Times::default();
    for (time, (name, _)) in times.iter_mut().zip(WORKS) {
        *time = match name {
            BOOT => booted,
            _ => last_number(text, name).with_context(|| format!("no time of {name}, but: {text}"))?,
        };
    }
    Ok(times)
}

/// The number at the end of the first line that begins with these words.
pub fn last_number(text: &str, words: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.strip_prefix(words).is_some_and(|rest| rest.starts_with(' ')))?;
    line.trim().rsplit(' ').next()?.parse().ok()
}

/// Debian's kernel, and what it is started with.
struct Linux {
    version: String,
    kernel: PathBuf,
    initramfs: PathBuf,
    /// The same with what a kexec needs in it: the kernel as Debian packs it, and the initramfs.
    larger: PathBuf,
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
        let packed = root.join("boot").join(format!("vmlinuz-{package}"));
        let kernel = home.join("vmlinux");
        let vmlinuz = fs::read(&packed).with_context(|| format!("cannot read {packed:?}"))?;
        let elf = vmlinuz::kernel(&vmlinuz).with_context(|| format!("{packed:?}"))?;
        fs::write(&kernel, elf).with_context(|| format!("cannot write {kernel:?}"))?;
        let larger = home.join("initramfs-kexec");
        files.extend([("vmlinuz", vmlinuz), ("initramfs", cpio::archive(&files))]);
        fs::write(&larger, cpio::archive(&files)).with_context(|| format!("cannot write {larger:?}"))?;
        Ok(Linux { kernel, version: package, initramfs, larger })
    }

    /// Boots it and has everything done.
    fn run(&self, workshop: &Workshop, machine: &Machine) -> Result<Times> {
        let command = machine.command_for(&self.kernel, WORDS, Some(&self.initramfs))?;
        let began = Instant::now();
        let mut session = Session::start(command, &workshop.places.log("versus-linux")?)?;
        let booted = wait(&mut session, UP, began)?;
        let mut said = String::new();
        let deadline = Instant::now() + PATIENCE;
        while let Some(line) = next(&mut session, deadline, &said)? {
            said += &line;
        }
        times(booted, &said).context("linux")
    }

    /// From the system call to the program, in another Linux with nothing in its tmpfs.
    fn kexec(&self, workshop: &Workshop, machine: &Machine) -> Result<u64> {
        let command = machine.command_for(&self.kernel, &format!("{WORDS} {KEXEC_WORD}"), Some(&self.larger))?;
        let mut session = Session::start(command, &workshop.places.log("versus-linux-kexec")?)?;
        wait(&mut session, KEXEC_WORD, Instant::now())?;
        wait(&mut session, UP, Instant::now())
    }
}

/// Waits until Linux says this, and says how long that was after it began.
fn wait(session: &mut Session, word: &str, began: Instant) -> Result<u64> {
    let mut said = String::new();
    while let Some(line) = next(session, began + PATIENCE, &said)? {
        if line.trim() == word {
            return Ok(began.elapsed().as_micros() as u64);
        }
        said += &line;
    }
    bail!("linux never says '{word}', but: {said}")
}

/// The next line, if there is one.
fn next(session: &mut Session, deadline: Instant, said: &str) -> Result<Option<String>> {
    match session.line(deadline) {
        Next::Line(line) => Ok(Some(String::from_utf8_lossy(&line).into_owned() + "\n")),
        Next::Closed => Ok(None),
        Next::Late => bail!("linux does not end; it said: {said}"),
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
    cc.args(["-static", "-O2", "-o"]).args([&program, &source]);
    cc.arg(format!("-DSIZE=\"{BYTES}\"")).arg(format!("-DSKEWED_SIZE=\"{SKEWED}\""));
    cc.arg(format!("-DKEXEC_SIZE=\"{KEXEC}\"")).arg(format!("-DWORDS=\"{WORDS}\""));
    host::run(&mut cc).context("a C compiler that links statically is needed (Debian: gcc, libc6-dev)")?;
    fs::read(&program).with_context(|| format!("cannot read {program:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_and_the_median_taken() {
        let said = "seqwriter
seqwrite of 5 microseconds 77
seqread of 5 microseconds 6
randread of 1 microseconds 4
latency-p50 of 1 nanoseconds 30
latency-p99 of 1 nanoseconds 31
";
        assert_eq!(last_number(said, "seqwrite"), Some(77));
        assert!(times(9, said).is_err());
        let said = format!("{said}inflight of 3 microseconds 2\ndisk pages 8\n");
        assert_eq!(times(9, &said).unwrap(), [9, 77, 6, 4, 30, 31, 2, 8]);
        assert_eq!(median(vec![9, 1, 5]), 5);
    }
}
