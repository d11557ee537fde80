//! `bench policy`: policies compared on the host, by the simulator, which runs the code of the kernel over traces.
//!
//! The simulator makes most traces up. One is recorded: a guest notes which pages are read while it works on a real tree, the
//! sources of the crates that this is built from, and says so afterwards, a line `FILE INDEX` for each.

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
use crate::image;
use crate::machine::Machine;
use crate::outcome::{Ending, Exit};
use crate::places::Places;
use crate::session::Session;
use crate::tree::Random;
use crate::workshop::{DONATION, Workshop};

const PATIENCE: Duration = Duration::from_secs(180);
/// What a guest is told before the work, and after it. The last command prints the trace.
const BEGIN: &[&str] = &["trace on"];
const END: &[&str] = &["trace off", "trace print"];
/// How many commands the work is.
const COMMANDS: usize = 800;
/// Two commands in so many are about the part of the tree that is used most, one directory in so many.
const OFTEN: u64 = 3;
const HOT: usize = 5;
const WHERE: &str = "recorded.trace";

/// Records a trace, unless that is not wanted, and runs the simulator.
pub fn policy(places: Places, install: Install, args: &Policy) -> Result<Exit> {
    let root = places.root().to_owned();
    let trace = match args.made_up {
        true => None,
        false => Some(record(&Workshop::open(places, install, Profile::Release)?)?),
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
    let (top, image) = (sources()?, work.join("disk.img"));
    let directories = directories(&top)?;
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
    let commands = BEGIN.iter().map(|command| (*command).to_owned()).chain(workload(&directories));
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

/// Where cargo keeps the sources of crates from the registry that most are from.
fn sources() -> Result<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let registries = home.context("no home directory")?.join("registry/src");
    let entries = fs::read_dir(&registries).with_context(|| format!("cannot read {registries:?}"))?;
    let registries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let crates = |registry: &PathBuf| fs::read_dir(registry).map_or(0, Iterator::count);
    registries.into_iter().max_by_key(crates).context("cargo has no sources of crates here")
}

/// The directories in `top`, in order of name.
fn directories(top: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(top).with_context(|| format!("cannot read {top:?}"))?;
    let directories = entries.flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// What the guest works at: some directories again and again, as builds do with what most depends on, now and then any other.
fn workload(directories: &[String]) -> impl Iterator<Item = String> {
    let mut random = Random::new(8);
    (0..COMMANDS).filter_map(move |_| {
        let among = if random.below(OFTEN) == 0 { directories.len() } else { directories.len().div_ceil(HOT) };
        // Not the first ones in order of name, which lie together on the disk.
        let choice = random.below(among.max(1) as u64) as usize * HOT % directories.len().max(1);
        directories.get(choice).map(|name| format!("sha256sum -r /disk/{name}"))
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
        let directories: Vec<String> = (0..37).map(|number| format!("crate-{number}")).collect();
        let commands: Vec<String> = workload(&directories).collect();
        assert_eq!(commands.len(), COMMANDS);
        let of = |name: &String| commands.iter().filter(|command| command.ends_with(&format!("/{name}"))).count();
        let mut counts: Vec<usize> = directories.iter().map(of).collect();
        counts.sort_unstable();
        assert_eq!(counts.iter().sum::<usize>(), COMMANDS);
        assert!(counts[0] > 0 && counts[36] > 10 * counts[0], "{counts:?}");
        assert_eq!(workload(&[]).count(), 0);
    }
}
