//! The compiler for the guest: which one there is, and how to call it.
//!
//! `rust-toolchain.toml` asks rustup for the bare-metal target, and where rustup may fetch that is
//! all. Where it may not, Debian packages one matching set of compiler and source, from which
//! `core` is built along with the kernel. Both are used from where they are installed; nothing is
//! registered with rustup.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::args::Profile;
use crate::host::{self, Install, Package};
use crate::places::Places;

/// The guest's target.
pub const TARGET: &str = "x86_64-unknown-none";

/// The kernel and the boot stage lie at fixed addresses, and a panic walks the stack by frame
/// pointers.
const RUSTFLAGS: [&str; 2] = ["-Crelocation-model=static", "-Cforce-frame-pointers=yes"];

/// Where Debian's set lies.
const DEBIAN_BIN: &str = "/usr/bin";
const DEBIAN_SYSROOT: &str = "/usr";
const LIBRARY_SOURCE: &str = "lib/rustlib/src/rust/library/core/src/lib.rs";

/// What the compiler is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To compile.
    Build,
    /// To compile and to lint.
    Lint,
}

/// A compiler for the guest.
#[derive(Clone, Debug)]
pub enum Toolchain {
    /// The one that compiled xtask; it has the target's `core`.
    Own,
    /// Debian's, which builds `core` from source.
    Debian {
        /// It comes without a linker; this is another's.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// Finds a compiler, or installs one.
    pub fn find(places: &Places, need: Need, install: Install) -> Result<Toolchain> {
        let own = sysroot(Path::new("rustc"), places.root())?;
        if has_core(&own) {
            return Ok(Toolchain::Own);
        }
        if !missing_from_debian(&own, need).is_empty() {
            obtain(places, &own, need, install)?;
            if has_core(&own) {
                return Ok(Toolchain::Own);
            }
        }
        let linker = linker(&own).context("no linker: neither rust-lld nor ld.lld is there")?;
        Ok(Toolchain::Debian { linker })
    }

    /// A `cargo build` or `cargo clippy` of one package for the guest, without further arguments.
    pub fn cargo(&self, places: &Places, need: Need, package: &str, profile: Profile) -> Result<Command> {
        let verb = match need {
            Need::Build => "build",
            Need::Lint => "clippy",
        };
        let mut cargo = match self {
            Toolchain::Own => Command::new(env::var_os("CARGO").unwrap_or("cargo".into())),
            Toolchain::Debian { .. } => {
                let program = match need {
                    Need::Build => "cargo",
                    Need::Lint => "cargo-clippy",
                };
                Command::new(Path::new(DEBIAN_BIN).join(program))
            }
        };
        cargo.current_dir(places.root());
        cargo.args([verb, "--package", package, "--target", TARGET]);
        cargo.arg("--target-dir").arg(places.guest_target());
        if profile == Profile::Release {
            cargo.arg("--release");
        }
        cargo.env_remove("RUSTFLAGS");
        cargo.env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
        if let Toolchain::Debian { linker } = self {
            cargo.args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"]);
            // What the surrounding cargo and rustup set would lead to their compiler.
            for name in ["RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH", "RUSTC_WORKSPACE_WRAPPER"] {
                cargo.env_remove(name);
            }
            cargo.env("PATH", path_with_first(DEBIAN_BIN)?);
            cargo.env("CARGO", Path::new(DEBIAN_BIN).join("cargo"));
            cargo.env("RUSTC", Path::new(DEBIAN_BIN).join("rustc"));
            cargo.env("RUSTC_BOOTSTRAP", "1");
            cargo.env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", linker);
        }
        Ok(cargo)
    }
}

/// Makes sure that some compiler for the guest is there.
fn obtain(places: &Places, own: &Path, need: Need, install: Install) -> Result<()> {
    let add_target = format!("rustup target add {TARGET}");
    let may_fetch =
        env::var_os("RUSTUP_AUTO_INSTALL").is_none_or(|value| value != "0") && host::find("rustup").is_some();
    if may_fetch && install == Install::Allowed {
        eprintln!("setup: the guest's core is missing; {add_target}");
        let mut rustup = Command::new("rustup");
        rustup.current_dir(places.root()).args(["target", "add", TARGET]);
        rustup.stdout(Stdio::from(std::io::stderr()));
        match host::run(&mut rustup) {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("setup: {error}"),
        }
    }
    if !host::has_apt() {
        bail!("the guest's core is missing; install it by: {add_target}");
    }
    host::install_packages(&missing_from_debian(own, need), install)
}

/// The packages that Debian's way still lacks.
fn missing_from_debian(own: &Path, need: Need) -> Vec<Package> {
    let bin = Path::new(DEBIAN_BIN);
    let version = version(&bin.join("rustc"));
    let recent = version.is_some_and(|version| Some(version) >= parse_version(RUST_VERSION));
    let source = Path::new(DEBIAN_SYSROOT).join(LIBRARY_SOURCE);
    let linter = bin.join("cargo-clippy").exists() && bin.join("clippy-driver").exists();
    let parts = [
        (recent, "rustc-web", "a compiler with matching source"),
        (bin.join("cargo").exists(), "cargo-web", "a cargo for it"),
        (source.exists(), "rust-web-src", "the source of core"),
        (linker(own).is_some(), "lld", "a linker"),
        (need == Need::Build || linter, "rust-web-clippy", "a linter for the guest"),
    ];
    parts
        .into_iter()
        .filter(|(there, ..)| !there)
        .map(|(_, name, provides)| Package {
            name: name.to_owned(),
            provides: provides.to_owned(),
            purpose: format!("to compile for {TARGET}, for which this Rust has no core"),
        })
        .collect()
}

/// The oldest compiler that will do.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

fn version(rustc: &Path) -> Option<(u32, u32)> {
    // The surrounding cargo's libraries are another compiler's.
    let mut command = Command::new(rustc);
    command.arg("--version").env_remove("LD_LIBRARY_PATH");
    let text = host::output_of(&mut command).ok()?;
    parse_version(text.strip_prefix("rustc ")?)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.');
    Some((numbers.next()?.trim().parse().ok()?, numbers.next()?.trim().parse().ok()?))
}

fn sysroot(rustc: &Path, root: &Path) -> Result<PathBuf> {
    let mut command = Command::new(rustc);
    command.args(["--print", "sysroot"]).current_dir(root);
    Ok(host::output_of(&mut command)?.trim().into())
}

fn has_core(sysroot: &Path) -> bool {
    let lib = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    lib.read_dir()
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-")))
}

/// The linker that rustup's compiler brings along, or LLVM's own.
fn linker(own: &Path) -> Option<PathBuf> {
    let hosts = own.join("lib/rustlib").read_dir().into_iter().flatten().flatten();
    hosts.map(|host| host.path().join("bin/rust-lld")).find(|linker| linker.exists()).or_else(|| host::find("ld.lld"))
}

fn path_with_first(dir: &str) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = [PathBuf::from(dir)].into_iter().chain(env::split_paths(&path));
    Ok(env::join_paths(dirs)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(parse_version("1.95.0 (59807616e 2026-04-14)"), Some((1, 95)));
        assert_eq!(parse_version("1.95"), Some((1, 95)));
        assert!(parse_version("1.100.0") > parse_version("1.95.0"));
        assert_eq!(parse_version("unknown"), None);
    }

    #[test]
    fn the_required_version_is_stated() {
        assert!(parse_version(RUST_VERSION).is_some());
    }
}
