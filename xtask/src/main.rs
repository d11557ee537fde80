//! `cargo xtask`: everything a person types to work on Holdover.
//!
//! The verbs are in [`run`], [`test`], [`bench`], [`profile`], [`steer`], [`lint`] and here; [`workshop`] gathers what
//! they need to start guests: a [`toolchain`], a [`build`], tools of the [`host`]. A [`machine`]
//! describes a guest, a [`session`] is one that runs, and [`guest`] speaks the serial protocol with
//! it, as does [`visit`] for whoever only wants to hear what it says. [`qmp`] speaks with its QEMU; [`image`] and [`tree`] make disks.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod build;
mod chart;
mod commands;
mod counters;
mod crossing;
mod crossing_picture;
mod disk;
mod disk_ops;
mod donation;
mod faults;
mod fuzz;
mod generations;
mod guest;
mod host;
mod image;
mod lint;
mod listed;
mod machine;
mod outcome;
mod pattern;
mod places;
mod policy;
mod profile;
mod qmp;
mod run;
mod scenario;
mod session;
mod size;
mod soak;
mod squeeze;
mod steer;
mod strip;
mod symbolise;
mod test;
mod timeline;
mod toolchain;
mod tree;
mod versus;
mod visit;
mod workshop;
mod wrong;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use args::{Cli, Measure, Profile, Verb};
use host::{Install, Tool};
use outcome::Exit;
use places::Places;
use toolchain::{Need, Toolchain};
use workshop::Workshop;

fn main() -> ExitCode {
    match act(&Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            Exit::Host.into()
        }
    }
}

fn act(cli: &Cli) -> Result<Exit> {
    let install = match cli.no_install {
        true => Install::Forbidden,
        false => Install::Allowed,
    };
    let places = Places::find()?;
    let release = Profile::Release;
    match &cli.verb {
        Verb::Setup => setup(&places, install)?,
        Verb::Build(args) => {
            let toolchain = Toolchain::find(&places, Need::Build, install)?;
            let built = build::build(&places, &toolchain, args.profile.or(release))?;
            println!("{}", built.bootable.display());
        }
        Verb::Run(args) => {
            let profile = args.machine.profile.or(release);
            return run::run(&Workshop::open(places, install, profile)?, args);
        }
        Verb::Demo(args) => {
            let profile = args.machine.profile.or(release);
            return run::demo(&Workshop::open(places, install, profile)?, args);
        }
        Verb::Test(args) => return test::test(places, install, args),
        Verb::Bench(args) => {
            return match &args.what {
                None => bench::bench(places, install, args),
                Some(Measure::Policy(args)) => policy::policy(places, install, args),
            };
        }
        Verb::Profile(args) => return profile::profile(places, install, args),
        Verb::Qmp(args) => steer::steer(&places, &args.request)?,
        Verb::Lint => lint::lint(&places, install)?,
    }
    Ok(Exit::Success)
}

/// Finds or installs everything that any verb needs. All that is missing is named before it fails.
fn setup(places: &Places, install: Install) -> Result<()> {
    let compiler = Toolchain::find(places, Need::Lint, install).map(|toolchain| match toolchain {
        Toolchain::Own => "this Rust, which has the guest's core".to_owned(),
        Toolchain::Debian { linker } => {
            format!("Debian's rustc-web, linked by {}", linker.display())
        }
    });
    let tools = [Tool::Qemu, Tool::Mke2fs, Tool::E2fsck, Tool::Debugfs].map(|tool| {
        let found = tool.find(install);
        found.map(|path| path.display().to_string())
    });
    let mut missing = None;
    for found in [compiler].into_iter().chain(tools) {
        match found {
            Ok(what) => eprintln!("setup: found {what}"),
            Err(error) => missing = missing.or(Some(error)),
        }
    }
    missing.map_or(Ok(()), Err)
}
