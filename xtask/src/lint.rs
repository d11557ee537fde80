//! `lint`: formatting and clippy, warnings denied, for what runs on the host and in the guest.

use std::env;
use std::process::Command;

use anyhow::{Context, Result};

use crate::args::Profile;
use crate::build;
use crate::host::{self, Install};
use crate::places::Places;
use crate::toolchain::{Need, Toolchain};

/// Checks everything; the first thing that is wrong is the error.
pub fn lint(places: &Places, install: Install) -> Result<()> {
    let own = || {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(places.root());
        cargo
    };
    host::run(own().args(["fmt", "--all", "--check"])).context("formatting")?;
    host::run(own().args(["clippy", "--all-targets", "--", "-D", "warnings"])).context("lints for the host")?;
    let toolchain = Toolchain::find(places, Need::Lint, install)?;
    build::build(places, &toolchain, Profile::Dev)?;
    for package in ["kernel", "boot"] {
        let mut clippy = toolchain.cargo(places, Need::Lint, package, Profile::Dev)?;
        clippy.env("HOLDOVER_BUILD", build::build_id(places, Profile::Dev));
        clippy.env("HOLDOVER_KERNEL", build::embedded_kernel(places, Profile::Dev));
        clippy.args(["--", "-D", "warnings"]);
        host::run(&mut clippy).with_context(|| format!("lints for {package}"))?;
    }
    Ok(())
}
