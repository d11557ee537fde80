//! `test`: the host's tests, then the scenarios.

use std::collections::VecDeque;
use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{Profile, Test};
use crate::disk_ops;
use crate::faults;
use crate::fuzz;
use crate::generations;
use crate::host::Install;
use crate::image::BLOCK_SIZES;
use crate::outcome::Exit;
use crate::places::Places;
use crate::scenario::{self, Scenario, play};
use crate::soak;
use crate::workshop::Workshop;

/// How many tests went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Prints the last line, and says how it all went.
    fn close(self) -> Exit {
        println!("{} passed, {} failed", self.passed, self.failed);
        match self {
            Tally { failed: 0, passed } if passed > 0 => Exit::Success,
            _ => Exit::Failed,
        }
    }
}

/// Runs the tests that were asked for; the last line counts them.
pub fn test(places: Places, install: Install, args: &Test) -> Result<Exit> {
    let filter = args.filter.as_deref().unwrap_or_default();
    let mut scenarios = scenario::load(places.root())?;
    scenarios.retain(|scenario| scenario.name.contains(filter));
    if args.list {
        for scenario in &scenarios {
            println!("{:24} {}", scenario.name, scenario.about);
        }
        return Ok(Exit::Success);
    }
    if args.soak {
        let workshop = open(places, install, args, Profile::Dev)?;
        return Ok(judged(soak::soak(&workshop, args.seed, args.minutes)?).close());
    }
    if let Some(seconds) = args.fuzz {
        return Ok(judged(fuzz::fuzz(&places, install, seconds)?).close());
    }
    if let Some(count) = args.generations {
        let workshop = open(places, install, args, Profile::Release)?;
        let seed = args.seed.map_or_else(soak::seed_from_clock, Ok)?;
        println!("generations: seed {seed}, {count} kexecs");
        let lived = generations::live(&workshop, "generations", seed, count)?;
        return Ok(judged(lived.map(|figures| print!("{figures}"))).close());
    }
    if let Some(count) = args.fs_ops {
        return disk_runs(places, install, args, "fs-ops", count, disk_ops::operate);
    }
    if let Some(count) = args.fs_kill {
        return disk_runs(places, install, args, "fs-kill", count, disk_ops::kill::kill);
    }
    if let Some(count) = args.fs_images {
        return fs_images(&places, count, args.seed);
    }
    if args.faults {
        return Ok(try_faults(&places)?.close());
    }
    let mut tally = Tally::default();
    if !args.no_host && args.filter.is_none() {
        tally.add(host_tests(&places)?);
        tally.add(try_faults(&places)?);
    }
    if !scenarios.is_empty() {
        match open(places, install, args, Profile::Dev) {
            Ok(workshop) => tally.add(play_all(&workshop, scenarios, args.jobs.into())),
            Err(error) => {
                eprintln!("xtask: no scenario can be played: {error:#}");
                tally.failed += scenarios.len() as u64;
            }
        }
    }
    Ok(tally.close())
}

/// A build in this profile unless another is asked for, and machines with as many processors as are asked for.
fn open(places: Places, install: Install, args: &Test, profile: Profile) -> Result<Workshop> {
    Ok(Workshop::open(places, install, args.profile.or(profile))?.with_processors(args.smp))
}

/// What does so many things to the disk.
type DiskRun = fn(&Workshop, &str, disk_ops::Run) -> Result<Result<String, String>>;

/// Does `count` of them, shared among the block sizes that were asked for.
fn disk_runs(places: Places, install: Install, args: &Test, name: &str, count: u32, run: DiskRun) -> Result<Exit> {
    let workshop = open(places, install, args, Profile::Release)?;
    let seed = args.seed.map_or_else(soak::seed_from_clock, Ok)?;
    println!("{name}: seed {seed}, {count}");
    let sizes = args.block_size.map_or(BLOCK_SIZES.to_vec(), |size| vec![size]);
    let mut tally = Tally::default();
    for (block_size, count) in sizes.iter().zip(shares(count, sizes.len() as u32)) {
        let started = Instant::now();
        let outcome = run(&workshop, name, disk_ops::Run { seed, count, block_size: *block_size })?;
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(figures) => {
                tally.passed += 1;
                println!("ok    blocks of {block_size} {seconds:5.1} s  {figures}");
            }
            Err(problem) => {
                tally.failed += 1;
                println!("FAIL  blocks of {block_size} {seconds:5.1} s  {problem}");
            }
        }
    }
    Ok(tally.close())
}

/// A number in so many parts, none of which is 0.
fn shares(count: u32, parts: u32) -> Vec<u32> {
    (0..parts).map(|at| ((count + at) / parts).max(1)).collect()
}

/// The host's test of damaged images, with more of them.
fn fs_images(places: &Places, count: u32, seed: Option<u64>) -> Result<Exit> {
    let seed = seed.map_or_else(soak::seed_from_clock, Ok)?;
    println!("fs-images: seed {seed}, {count}");
    let variables = [("FS_IMAGES", count.to_string()), ("FS_SEED", seed.to_string())];
    let which = ["--package", "fs", "--test", "ext2_images", "--", "--ignored", "--nocapture"];
    Ok(cargo_test_with(places, &which, &variables)?.close())
}

/// The count of a test that stands alone; says what is wrong.
fn judged(outcome: std::result::Result<(), String>) -> Tally {
    match outcome {
        Ok(()) => Tally { passed: 1, failed: 0 },
        Err(problem) => {
            println!("FAIL  {problem}");
            Tally { passed: 0, failed: 1 }
        }
    }
}

/// Threads in random interleavings: the locks are another build's.
const INTERLEAVINGS: [&str; 8] =
    ["--package", "frames", "--package", "cache", "--features", "shuttle", "--test", "interleavings"];

/// Everything that `cargo test` runs, counted.
fn host_tests(places: &Places) -> Result<Tally> {
    let mut tally = cargo_test(places, &[])?;
    tally.add(cargo_test(places, &INTERLEAVINGS)?);
    Ok(tally)
}

fn cargo_test(places: &Places, which: &[&str]) -> Result<Tally> {
    cargo_test_with(places, which, &[])
}

fn cargo_test_with(places: &Places, which: &[&str], variables: &[(&str, String)]) -> Result<Tally> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(places.root());
    cargo.envs(variables.iter().map(|(name, value)| (name, value)));
    cargo.args(["test", "--quiet", "--no-fail-fast"]).args(which).stdout(Stdio::piped());
    let mut child = cargo.spawn().context("cannot start cargo")?;
    let mut tally = Tally::default();
    let stdout = child.stdout.take().context("no pipe from cargo")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read what cargo writes")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(suite) = suite_result(&line) {
            tally.add(suite);
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() && tally.failed == 0 {
        // It did not compile, or a test program crashed before it could count.
        tally.failed = 1;
    }
    Ok(tally)
}

/// Puts each fault back, with one line for each.
fn try_faults(places: &Places) -> Result<Tally> {
    let bench = faults::Bench::new(places);
    let mut tally = Tally::default();
    for fault in faults::load(places.root())? {
        let started = Instant::now();
        let problem = match bench.try_fault(&fault) {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => Some(problem),
            Err(error) => Some(format!("{error:#}")),
        };
        let (name, seconds) = (fault.name(), started.elapsed().as_secs_f64());
        match problem {
            None => {
                tally.passed += 1;
                println!("ok    {name:24} {seconds:5.1} s  {}: caught by {}", fault.about, fault.filter);
            }
            Some(problem) => {
                tally.failed += 1;
                println!("FAIL  {name:24} {seconds:5.1} s  {}: {problem}", fault.about);
            }
        }
    }
    Ok(tally)
}

/// `test result: ok. 3 passed; 0 failed; ...`
fn suite_result(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |word: &str| {
        let count = counts.split("; ").find_map(|part| part.strip_suffix(word))?;
        count.trim().parse().ok()
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")? })
}

/// Plays scenarios, several at once, with one line for each as it ends.
fn play_all(workshop: &Workshop, scenarios: Vec<Scenario>, jobs: usize) -> Tally {
    let bar = ProgressBar::new(scenarios.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let waiting = Mutex::new(VecDeque::from(scenarios));
    let tally = Mutex::new(Tally::default());
    let next = || lock(&waiting).pop_front();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(scenario) = next() {
                    bar.set_message(scenario.name.clone());
                    let (one, line) = play_one(workshop, &scenario);
                    bar.suspend(|| println!("{line}"));
                    bar.inc(1);
                    lock(&tally).add(one);
                }
            });
        }
    });
    bar.finish_and_clear();
    *lock(&tally)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays one scenario; gives its count and its line.
fn play_one(workshop: &Workshop, scenario: &Scenario) -> (Tally, String) {
    let started = Instant::now();
    let problem = match play::play(workshop, scenario) {
        Ok(Ok(())) => None,
        Ok(Err(problem)) => Some(problem),
        Err(error) => Some(format!("{error:#}")),
    };
    let name = &scenario.name;
    let seconds = started.elapsed().as_secs_f64();
    match problem {
        None => {
            let tally = Tally { passed: 1, failed: 0 };
            (tally, format!("ok    {name:24} {seconds:5.1} s  {}", scenario.about))
        }
        Some(problem) => {
            let log =
                workshop.places.log(name).map_or_else(|error| format!("{error:#}"), |path| path.display().to_string());
            let tally = Tally { passed: 0, failed: 1 };
            (tally, format!("FAIL  {name:24} {seconds:5.1} s  {problem}\n      log: {log}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_suites_are_counted() {
        let line = "test result: ok. 11 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; \
                    finished in 0.05s";
        let tally = Tally { passed: 11, failed: 2 };
        assert_eq!(suite_result(line), Some(tally));
        assert_eq!(suite_result("running 3 tests"), None);
    }
}
