//! `test --fuzz SECONDS`: the fuzz targets of the handover format and of ext2 images, under cargo-fuzz and a nightly compiler.
//!
//! Both are taken where they are found; cargo-fuzz is installed if it is not there and that is allowed. What is found stays under
//! the target directory and is the next run's beginning; what fails is named, and is to be added to the corpus. The ordinary
//! tests run the same function on stable, over the corpus and changes of it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host::{self, Install};
use crate::places::{Places, make_dir};

/// A fuzz target.
struct Target {
    place: &'static str,
    name: &'static str,
    /// The longest input that is tried.
    most_bytes: u32,
}

const TARGETS: [Target; 2] = [
    // Two frames and a bit.
    Target { place: "kernel/handover/fuzz", name: "restore", most_bytes: 12_288 },
    // As many patches as are applied.
    Target { place: "kernel/fs/fuzz", name: "images", most_bytes: 512 },
];
/// Seconds that one input may take: nothing may depend on a number in it.
const PATIENCE: u32 = 10;
/// MiB: a machine that is over leaves some hundred bytes behind.
const MEMORY: u32 = 4096;

/// Fuzzes for so many seconds, with each target for its part of them. `Ok(Err(_))` says which input is not lived through.
pub fn fuzz(places: &Places, install: Install, seconds: u32) -> Result<Result<(), String>> {
    prepare(install)?;
    let each = (seconds / TARGETS.len() as u32).max(1);
    for target in &TARGETS {
        if let Err(problem) = fuzz_one(places, target, each)? {
            return Ok(Err(format!("{}: {problem}", target.name)));
        }
    }
    Ok(Ok(()))
}

fn fuzz_one(places: &Places, target: &Target, seconds: u32) -> Result<Result<(), String>> {
    let home = places.root().join(target.place);
    let corpus = places.fuzz().join("corpus").join(target.name);
    make_dir(&corpus)?;
    let artifacts = format!("-artifact_prefix={}/", places.fuzz().display());
    let mut cargo = nightly("fuzz");
    cargo.args(["run", "--fuzz-dir"]).arg(&home).arg("--target-dir").arg(places.fuzz().join("target"));
    cargo.arg(target.name).arg(&corpus).arg(home.join("corpus").join(target.name)).arg("--");
    cargo.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={}", target.most_bytes));
    cargo.arg(format!("-timeout={PATIENCE}")).arg(format!("-rss_limit_mb={MEMORY}")).arg(&artifacts);
    // A machine that is over is kept for ever, for references that may still be there.
    cargo.env("ASAN_OPTIONS", "detect_leaks=0").arg("-detect_leaks=0");
    cargo.current_dir(&home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let ended = cargo.output().context("cannot start cargo fuzz")?;
    let said = String::from_utf8_lossy(&ended.stderr);
    if ended.status.success() {
        match said.lines().rev().find(|line| line.contains("DONE")) {
            Some(done) => println!("fuzz {}: {}", target.name, done.trim()),
            None => return Ok(Err("the fuzzer did not say that it was done".to_owned())),
        }
        return Ok(Ok(()));
    }
    Ok(Err(what_failed(&said)))
}

/// The lines that matter of what a fuzzer said at its end.
fn what_failed(said: &str) -> String {
    let matters = |line: &&str| {
        ["panicked at", "SUMMARY", "Test unit written", "error:", "error["].iter().any(|word| line.contains(word))
    };
    let lines: Vec<&str> = said.lines().filter(matters).take(6).collect();
    match &lines[..] {
        [] => said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned(),
        lines => lines.join("\n      "),
    }
}

/// Finds the compiler and the tool, or installs the latter.
fn prepare(install: Install) -> Result<()> {
    let mut rustup = Command::new("rustup");
    let toolchains = host::output_of(rustup.args(["toolchain", "list"])).context("fuzzing needs rustup")?;
    if !toolchains.lines().any(|line| line.starts_with("nightly")) {
        bail!("fuzzing needs a nightly compiler; install it by: rustup toolchain install nightly");
    }
    if host::output_of(nightly("fuzz").arg("--version")).is_ok() {
        return Ok(());
    }
    const INSTALL: [&str; 2] = ["cargo-fuzz", "--locked"];
    if install == Install::Forbidden {
        bail!("cargo-fuzz is missing; install it by: cargo install {}", INSTALL.join(" "));
    }
    eprintln!("setup: cargo-fuzz is missing; cargo install {}", INSTALL.join(" "));
    host::run(nightly("install").args(INSTALL).current_dir(Path::new("/"))).context("cannot install cargo-fuzz")
}

/// A cargo of the nightly compiler. The surrounding cargo's variables would lead to its own.
fn nightly(verb: &str) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.args(["run", "nightly", "cargo", verb]);
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "LD_LIBRARY_PATH"] {
        rustup.env_remove(name);
    }
    rustup
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_of_a_failure_is_told() {
        let said = "#1 NEW cov: 3\nthread '<unnamed>' panicked at oracle.rs:1:2:\nframes are lost\n==1== ERROR\n\
                    artifact_prefix='x'; Test unit written to x/crash-1\nBase64: AA";
        let told = what_failed(said);
        assert!(told.contains("oracle.rs:1:2") && told.contains("crash-1") && !told.contains("NEW"), "{told}");
        assert_eq!(what_failed("one\nlast\n\n"), "last");
        assert_eq!(what_failed(""), "it said nothing");
    }
}
