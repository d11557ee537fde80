//! Building the bootable file: the kernel, then the boot stage with the kernel in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use bootproto::image::{About, describe, seal};

use crate::args::Profile;
use crate::host;
use crate::places::{Places, make_dir};
use crate::strip::strip;
use crate::toolchain::{Need, TARGET, Toolchain};

/// What a build gives.
#[derive(Clone, Debug)]
pub struct Built {
    /// The file for QEMU's `-kernel`, and for the guest's `kexec`.
    pub bootable: PathBuf,
    /// The kernel with its debug information.
    pub kernel: PathBuf,
    /// What this build calls itself.
    pub id: String,
}

/// Builds it.
pub fn build(places: &Places, toolchain: &Toolchain, profile: Profile) -> Result<Built> {
    build_with(places, toolchain, profile, &places.artifacts(profile), build_id(places, profile), &[])
}

/// Builds one that knows the previous version of the handover format only, beside the other.
pub fn build_previous(places: &Places, toolchain: &Toolchain, profile: Profile) -> Result<Built> {
    let artifacts = places.artifacts(profile).join("previous");
    let id = format!("{}, previous format", build_id(places, profile));
    build_with(places, toolchain, profile, &artifacts, id, &["--features", "previous-handover"])
}

/// Builds a kernel with further `words` for cargo, and a boot stage around it, into `artifacts`.
fn build_with(
    places: &Places,
    toolchain: &Toolchain,
    profile: Profile,
    artifacts: &Path,
    id: String,
    words: &[&str],
) -> Result<Built> {
    make_dir(artifacts)?;
    let variables = [("HOLDOVER_BUILD", id.as_ref())];
    let kernel = compile(places, toolchain, profile, "kernel", &variables, words)?;
    let built = Built { bootable: artifacts.join("holdover"), kernel: artifacts.join("kernel"), id };
    update(&built.kernel, &read(&kernel)?)?;
    let embedded = artifacts.join("kernel.stripped");
    let small = strip(&read(&kernel)?).with_context(|| format!("{kernel:?}"))?;
    update(&embedded, &small)?;
    let variables = [("HOLDOVER_BUILD", built.id.as_ref()), ("HOLDOVER_KERNEL", embedded.as_ref())];
    let boot = compile(places, toolchain, profile, "boot", &variables, &[])?;
    let about = About::of(&small).with_context(|| format!("{kernel:?}"))?;
    let mut small = strip(&read(&boot)?).with_context(|| format!("{boot:?}"))?;
    describe(&mut small, &about).with_context(|| format!("{boot:?}"))?;
    seal(&mut small).with_context(|| format!("{boot:?} cannot be sealed"))?;
    update(&built.bootable, &small)?;
    Ok(built)
}

/// Where the kernel lies that the boot stage has to embed; [`build`] puts it there.
pub fn embedded_kernel(places: &Places, profile: Profile) -> PathBuf {
    places.artifacts(profile).join("kernel.stripped")
}

fn compile(
    places: &Places,
    toolchain: &Toolchain,
    profile: Profile,
    package: &str,
    variables: &[(&str, &Path)],
    words: &[&str],
) -> Result<PathBuf> {
    let mut cargo = toolchain.cargo(places, Need::Build, package, profile)?;
    cargo.args(words).envs(variables.iter().copied());
    host::run(&mut cargo).with_context(|| format!("cannot build package {package}"))?;
    let dir = match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    };
    Ok(places.guest_target().join(TARGET).join(dir).join(package))
}

/// Version, commit and profile, such as `0.1.0-g3f2a1b9 release`; outside a repository without the
/// commit.
pub fn build_id(places: &Places, profile: Profile) -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--exclude=*"]);
    git.current_dir(places.root());
    let commit = host::output_of(&mut git).map_or(String::new(), |commit| format!("-g{}", commit.trim()));
    let profile = match profile {
        Profile::Dev => "dev",
        Profile::Release => "release",
    };
    format!("{}{commit} {profile}", env!("CARGO_PKG_VERSION"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {path:?}"))
}

/// Writes a file unless it is the same already, so that cargo sees no change where there is none.
fn update(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    // QEMU may be reading the old file; it keeps it if the new one takes its place by name.
    let new = path.with_extension("new");
    fs::write(&new, bytes).with_context(|| format!("cannot write {new:?}"))?;
    fs::rename(&new, path).with_context(|| format!("cannot write {path:?}"))
}
