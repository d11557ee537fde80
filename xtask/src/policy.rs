//! `bench policy`: policies compared on the host, by the simulator, which runs the code of the kernel over traces.
//!
//! The simulator makes most traces up. One may be recorded: a guest notes which pages are read while it works on a tree,
//! and says so afterwards, a line `FILE INDEX` for each.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::args::{Policy, Profile};
use crate::guest::{Guest, Limit, Record};
use crate::host::Install;
use crate::machine::Machine;
use crate::outcome::{Ending, Exit};
use crate::places::Places;
use crate::session::Session;
use crate::tree::Random;
use crate::workshop::{DONATION, Workshop};
use crate::{image, tree};

const PATIENCE: Duration = Duration::from_secs(180);
/// What a guest is told before the work, and after it. The last command prints the trace.
const BEGIN: &[&str] = &["trace on"];
const END: &[&str] = &["trace off", "trace print"];
/// The tree that is worked on, beside the sample: bytes and files, sixteen of them in a directory.
const TREE: (u64, u32) = (96 << 20, 1536);
const FILES_IN_DIRECTORY: u32 = 16;
/// How many commands the work is.
const COMMANDS: usize = 400;
const WHERE: &str = "recorded.trace";

/// Runs the simulator, after recording a trace if that is asked for.
pub fn policy(places: Places, install: Install, args: &Policy) -> Result<Exit> {
    let root = places.root().to_owned();
    let trace = match args.record {
        true => Some(record(&Workshop::open(places, install, Profile::Release)?)?),
        false => None,
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(root).args(["run", "--release", "--quiet", "--package", "simulator", "--"]).args(&args.args);
    if let Some(trace) = &trace {
        cargo.arg("--trace").arg(trace);
    }
    let status = cargo.stdin(Stdio::null()).status().context("cannot start cargo")?;
    Ok(if status.success() { Exit::Success } else { Exit::Failed })
}

/// Records a trace in a guest; gives its file.
fn record(workshop: &Workshop) -> Result<PathBuf> {
    let work = workshop.places.work_dir("trace")?;
    let (top, image) = (work.join("tree"), work.join("disk.img"));
    let (bytes, files) = TREE;
    tree::sample(&top, &workshop.built.bootable)?;
    tree::bulk(&top.join("bulk"), bytes, files)?;
    image::from_directory(&top, &image, 4096, workshop.install)?;
    let machine = Machine { donations: vec![DONATION], disk: Workshop::disk(image), ..workshop.machine() };
    let log = workshop.places.log("trace")?;
    let session = Session::start(machine.command()?, &log)?;
    let unfit = |ending: Ending| {
        let lines = [vec![ending.to_string()], workshop.backtrace(&ending)].concat();
        anyhow!("{}\nserial log: {}", lines.join("\n"), log.display())
    };
    let (mut guest, _) = Guest::boot(session, &mut Record::default(), Limit::new(PATIENCE)).map_err(unfit)?;
    let mut said = Record::default();
    let commands = BEGIN.iter().map(|command| (*command).to_owned()).chain(workload());
    for command in commands.chain(END.iter().map(|command| (*command).to_owned())) {
        said = Record::default();
        let done = guest.command(&command, &mut said, Limit::new(PATIENCE)).map_err(unfit)?;
        if done.failed {
            bail!("{command}: {}", said.errors.join("; "));
        }
    }
    match guest.power_off(&mut Record::default(), Limit::new(PATIENCE)) {
        Ending::Clean => {}
        other => return Err(unfit(other)),
    }
    let path = workshop.places.result(WHERE)?;
    let pages = save(&String::from_utf8_lossy(&said.output), &path)?;
    eprintln!("recorded {pages} reads of pages in {}", path.display());
    Ok(path)
}

/// What the guest works at: some directories again and again, as a build does with its headers, now and then any other, and
/// twice all of the sample.
fn workload() -> impl Iterator<Item = String> {
    let mut random = Random::new(8);
    let directories = u64::from(TREE.1 / FILES_IN_DIRECTORY);
    (0..COMMANDS).map(move |at| {
        if at % (COMMANDS / 2) == COMMANDS / 4 {
            return "sha256sum -r /disk/docs /disk/many /disk/sizes /disk/big.bin".to_owned();
        }
        let choice = if random.below(3) == 0 { directories } else { directories / 5 };
        let number = random.below(choice);
        format!("sha256sum -r /disk/bulk/d{:02}/e{}", number / 4, number % 4)
    })
}

/// Writes the trace, of which every line must be two numbers; gives the number of lines.
fn save(output: &str, path: &Path) -> Result<usize> {
    let mut trace = String::new();
    for line in output.lines() {
        let numbers = line.split_once(' ').map(|(file, index)| (file.parse::<u64>(), index.trim().parse::<u64>()));
        let Some((Ok(file), Ok(index))) = numbers else {
            bail!("a line of the trace is not 'FILE INDEX': {line:?}");
        };
        // Writing to a String cannot fail.
        let _ = writeln!(trace, "{file} {index}");
    }
    if trace.is_empty() {
        bail!("the guest recorded nothing");
    }
    fs::write(path, &trace).with_context(|| format!("cannot write {path:?}"))?;
    Ok(trace.lines().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_pairs_of_numbers() {
        let path = env::temp_dir().join(format!("xtask-trace-{}", std::process::id()));
        assert_eq!(save("1 2\n3   4\n", &path).unwrap(), 2);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1 2\n3 4\n");
        for output in ["", "1\n", "1 x\n", "1 2 3\n"] {
            assert!(save(output, &path).is_err(), "{output}");
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_work_is_in_the_tree() {
        let top = env::temp_dir().join(format!("xtask-work-{}", std::process::id()));
        tree::sample(&top, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).unwrap();
        tree::bulk(&top.join("bulk"), 1 << 20, TREE.1).unwrap();
        let mut commands = 0;
        for command in workload() {
            for path in command.strip_prefix("sha256sum -r ").unwrap().split(' ') {
                assert!(top.join(path.strip_prefix("/disk/").unwrap()).exists(), "{path}");
            }
            commands += 1;
        }
        assert_eq!(commands, COMMANDS);
        fs::remove_dir_all(top).unwrap();
    }
}
