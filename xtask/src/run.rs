//! `run` and `demo`: a guest for a person, or for a person's script.
//!
//! With commands, only their output reaches stdout; the log, error lines and remarks of xtask go
//! to stderr. With a terminal and no commands, the terminal is the guest's.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use protocol::exit;

use crate::args::{Demo, MachineFlags, Run, Story};
use crate::commands::split;
use crate::disk::Disk;
use crate::guest::{Guest, Limit, Listener};
use crate::machine::{Console, Machine};
use crate::outcome::{Ending, Exit};
use crate::places::WorkDir;
use crate::session::Session;
use crate::size::Size;
use crate::workshop::{MEMORY, Workshop};
use crate::{crossing, image, squeeze, steer, symbolise, tree};

/// The demo's memory and tree: small enough to be quick, the tree larger than memory and what is
/// donated together.
const DEMO_MEMORY: Size = Size::mib(32);
const DEMO_TREE: (u64, u32) = (64 << 20, 800);
/// With a debugger attached nothing is late.
const DEBUGGER_PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Runs the guest as asked.
pub fn run(workshop: &Workshop, args: &Run) -> Result<Exit> {
    let mut commands: Box<dyn Iterator<Item = Result<String>>> = match &args.exec {
        Some(text) => Box::new(split(text)?.into_iter().map(Ok)),
        None if io::stdin().is_terminal() => return interactive(workshop, args),
        None => {
            let mut commands = commands_from_stdin().peekable();
            if commands.peek().is_none() {
                return tell_story(workshop, &args.machine, args.disk.as_deref());
            }
            Box::new(commands)
        }
    };
    let work = workshop.places.work_dir("run")?;
    let machine = Machine {
        disk: Some(disk(workshop, &work, args)?),
        debugger: args.gdb,
        ..workshop.machine_for(&args.machine, MEMORY, &work)?
    };
    let patience = patience(workshop, &args.machine, args.gdb);
    steer::remember(&workshop.places, &work)?;
    converse(workshop, &machine, &mut commands, patience)
}

/// Lets the guest tell its story.
pub fn demo(workshop: &Workshop, args: &Demo) -> Result<Exit> {
    match args.story {
        None => tell_story(workshop, &args.machine, None),
        Some(Story::Balloon) => squeeze::demo(workshop, &args.machine),
        Some(Story::Kexec) => crossing::demo(workshop, &args.machine),
    }
}

fn tell_story(workshop: &Workshop, flags: &MachineFlags, disk: Option<&Path>) -> Result<Exit> {
    let work = workshop.places.work_dir("demo")?;
    let image = match disk {
        Some(path) => image::of_path(path, &work.join("disk.img"), workshop.install)?,
        None => {
            let (top, image) = (work.join("tree"), work.join("disk.img"));
            let (bytes, files) = DEMO_TREE;
            tree::bulk(&top.join("tree"), bytes, files)?;
            tree::sample(&top, &workshop.built.bootable)?;
            image::from_directory(&top, &image, 4096, workshop.install)?;
            image
        }
    };
    let machine = Machine { disk: Workshop::disk(image), ..workshop.machine_for(flags, DEMO_MEMORY, &work)? };
    let mut commands = ["demo".to_owned()].into_iter().map(Ok);
    converse(workshop, &machine, &mut commands, flags.timeout)
}

/// The disk of `run`: what was named, or a sample.
fn disk(workshop: &Workshop, work: &WorkDir, args: &Run) -> Result<Disk> {
    let made = work.join("disk.img");
    let image = match &args.disk {
        Some(path) if args.write && path.is_dir() => {
            bail!("{path:?} is a directory, and what is written cannot come back to it; --write needs an image")
        }
        Some(path) => image::of_path(path, &made, workshop.install)?,
        None => {
            let top = work.join("tree");
            tree::sample(&top, &workshop.built.bootable)?;
            image::from_directory(&top, &made, 4096, workshop.install)?;
            made
        }
    };
    Ok(Disk { keep: args.write, ..Disk::sound(image) })
}

fn patience(workshop: &Workshop, flags: &MachineFlags, debugger: bool) -> Duration {
    if !debugger {
        return flags.timeout;
    }
    let kernel = workshop.built.kernel.display();
    eprintln!("waiting for: gdb {kernel} -ex 'target remote :1234'");
    DEBUGGER_PATIENCE
}

/// Commands, one a line; blank lines do not count.
fn commands_from_stdin() -> impl Iterator<Item = Result<String>> {
    io::stdin().lock().lines().flat_map(|line| {
        let commands = line.context("cannot read standard input").and_then(|line| Ok(split(&line)?));
        match commands {
            Ok(commands) => commands.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        }
    })
}

/// Boots, gives the commands in turn, and powers off.
fn converse(
    workshop: &Workshop,
    machine: &Machine,
    commands: &mut dyn Iterator<Item = Result<String>>,
    patience: Duration,
) -> Result<Exit> {
    let log = workshop.places.log("run")?;
    let session = Session::start(machine.command()?, &log)?;
    let mut streams = Streams { broken: None };
    let mut failed = false;
    let ending = match Guest::boot(session, &mut streams, Limit::new(patience)) {
        Err(ending) => ending,
        Ok((mut guest, _)) => loop {
            let Some(command) = commands.next().transpose()? else {
                break guest.power_off(&mut streams, Limit::new(patience));
            };
            match guest.command(&command, &mut streams, Limit::new(patience)) {
                Ok(done) => failed |= done.failed,
                Err(ending) => break ending,
            }
            if let Some(error) = streams.broken.take() {
                return Err(error).context("cannot write to standard output");
            }
        },
    };
    if ending != Ending::Clean {
        eprintln!("xtask: {ending}");
        for line in workshop.backtrace(&ending) {
            eprintln!("{line}");
        }
        eprintln!("xtask: the serial log is kept in {}", log.display());
        return Ok(ending.exit());
    }
    if let Some(error) = streams.broken {
        return Err(error).context("cannot write to standard output");
    }
    if let Some(command) = commands.next().transpose()? {
        eprintln!("xtask: powered off before '{command}'");
        failed = true;
    }
    Ok(if failed { Exit::Failed } else { Exit::Success })
}

/// Gives the terminal to the guest.
fn interactive(workshop: &Workshop, args: &Run) -> Result<Exit> {
    let work = workshop.places.work_dir("run")?;
    let log = workshop.places.log("run")?;
    let machine = Machine {
        disk: Some(disk(workshop, &work, args)?),
        debugger: args.gdb,
        ..workshop.machine_for(&args.machine, MEMORY, &work)?
    };
    let machine = Machine { console: Console::Terminal(log.clone()), ..machine };
    if args.gdb {
        patience(workshop, &args.machine, true);
    }
    steer::remember(&workshop.places, &work)?;
    eprintln!("'help' lists the commands, 'poweroff' ends, Ctrl-A x ends at once");
    let status = machine.command()?.status().with_context(|| format!("cannot start {:?}", machine.qemu))?;
    match status.code().and_then(exit::Exit::from_qemu_status) {
        Some(exit::Exit::Clean) => Ok(Exit::Success),
        Some(exit::Exit::Panic) => {
            let text = fs::read(&log).with_context(|| format!("cannot read {log:?}"))?;
            let (trace, innermost) = symbolise::addresses_in(&String::from_utf8_lossy(&text));
            for line in symbolise::backtrace(&workshop.built.kernel, &trace, innermost) {
                eprintln!("{line}");
            }
            Ok(Exit::Panic)
        }
        _ => {
            eprintln!("xtask: the guest did not power off; QEMU: {status}");
            Ok(Exit::Died)
        }
    }
}

/// Output to stdout, everything else to stderr.
struct Streams {
    broken: Option<io::Error>,
}

impl Listener for Streams {
    fn output(&mut self, bytes: &[u8]) {
        let mut stdout = io::stdout().lock();
        if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            self.broken.get_or_insert(error);
        }
    }

    fn error(&mut self, line: &str) {
        eprintln!("{line}");
    }

    fn log(&mut self, line: &str) {
        eprintln!("{line}");
    }
}
