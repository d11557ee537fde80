//! Tools of the host: finding them, and installing those that are missing.
//!
//! Nothing is installed without a line on stderr that says what and why. Debian's packages are
//! installed by apt, as root or through sudo; for other systems the command is printed.

use std::env;
use std::fmt;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Whether xtask may change the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Install {
    /// Install what is missing.
    Allowed,
    /// Say what is missing.
    Forbidden,
}

/// A program that xtask calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Runs the guest.
    Qemu,
    /// Makes disk images.
    Mke2fs,
    /// Checks and repairs disk images.
    E2fsck,
    /// Looks into disk images.
    Debugfs,
}

impl Tool {
    /// Its name in the file system.
    pub fn program(self) -> &'static str {
        match self {
            Tool::Qemu => "qemu-system-x86_64",
            Tool::Mke2fs => "mke2fs",
            Tool::E2fsck => "e2fsck",
            Tool::Debugfs => "debugfs",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Tool::Qemu => "to run the guest",
            Tool::Mke2fs => "to make disk images",
            Tool::E2fsck => "to check disk images",
            Tool::Debugfs => "to look into disk images",
        }
    }

    /// The package that has it, as named by a family of systems.
    fn package(self, manager: &Manager) -> &'static str {
        match self {
            Tool::Qemu => manager.qemu,
            Tool::Mke2fs | Tool::E2fsck | Tool::Debugfs => "e2fsprogs",
        }
    }

    /// Finds the program, and installs its package if need be.
    pub fn find(self, install: Install) -> Result<PathBuf> {
        if let Some(path) = find(self.program()) {
            return Ok(path);
        }
        let manager = Manager::of_this_host();
        let package = Package {
            name: manager.map_or("", |manager| self.package(manager)).to_owned(),
            provides: self.program().to_owned(),
            purpose: self.purpose().to_owned(),
        };
        install_packages(&[package], install)?;
        find(self.program()).with_context(|| format!("still no {} after that", self.program()))
    }
}

/// A package, and why it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// What is missing.
    pub provides: String,
    /// What for.
    pub purpose: String,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is missing ({})", self.provides, self.purpose)
    }
}

/// A way to install packages.
struct Manager {
    program: &'static str,
    install: &'static str,
    as_root: bool,
    qemu: &'static str,
}

const APT: Manager = Manager {
    program: "apt-get",
    install: "install -y --no-install-recommends",
    as_root: true,
    qemu: "qemu-system-x86",
};

const OTHERS: [Manager; 5] = [
    Manager { program: "dnf", install: "install", as_root: true, qemu: "qemu-system-x86-core" },
    Manager { program: "pacman", install: "-S", as_root: true, qemu: "qemu-system-x86" },
    Manager { program: "zypper", install: "install", as_root: true, qemu: "qemu-x86" },
    Manager { program: "apk", install: "add", as_root: true, qemu: "qemu-system-x86_64" },
    Manager { program: "brew", install: "install", as_root: false, qemu: "qemu" },
];

impl Manager {
    fn of_this_host() -> Option<&'static Manager> {
        [&APT].into_iter().chain(&OTHERS).find(|manager| find(manager.program).is_some())
    }

    fn command(&self, packages: &[Package]) -> String {
        let mut names: Vec<&str> = packages.iter().map(|package| &*package.name).collect();
        names.dedup();
        let sudo = if self.as_root { "sudo " } else { "" };
        format!("{sudo}{} {} {}", self.program, self.install, names.join(" "))
    }
}

/// Whether Debian's packages can be installed here.
pub fn has_apt() -> bool {
    find(APT.program).is_some()
}

/// Installs packages by apt, or fails with the command that would.
pub fn install_packages(packages: &[Package], install: Install) -> Result<()> {
    for package in packages {
        eprintln!("setup: {package}");
    }
    let Some(manager) = Manager::of_this_host() else {
        let missing: Vec<&str> = packages.iter().map(|package| &*package.provides).collect();
        bail!("please install {}", missing.join(", "));
    };
    let command = manager.command(packages);
    if install == Install::Forbidden || manager.program != APT.program {
        bail!("missing; install by: {command}");
    }
    let Some(prefix) = root_prefix() else {
        bail!("missing, and there is no way to become root; install by: {command}");
    };
    // A stale list of packages often still serves; a missing one does not.
    if apt(prefix, "update -q").is_err() {
        eprintln!("setup: apt-get update failed; going on with the lists that are there");
    }
    let names: Vec<&str> = packages.iter().map(|package| &*package.name).collect();
    apt(prefix, &format!("{} -q {}", APT.install, names.join(" ")))
        .with_context(|| format!("could not install; try: {command}"))
}

/// What to put before a command that needs root: nothing, sudo, or there is no way.
fn root_prefix() -> Option<&'static [&'static str]> {
    if is_root() {
        return Some(&[]);
    }
    find("sudo")?;
    // Without a terminal nobody can type a password.
    Some(if std::io::stdin().is_terminal() { &["sudo"] } else { &["sudo", "-n"] })
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn apt(prefix: &[&str], arguments: &str) -> Result<()> {
    let words: Vec<&str> = prefix.iter().copied().chain(["apt-get"]).chain(arguments.split(' ')).collect();
    eprintln!("setup: {}", words.join(" "));
    // Through env, because sudo passes no variables on.
    let (sudo, apt) = words.split_at(prefix.len());
    let line = [sudo, &["env", "DEBIAN_FRONTEND=noninteractive"], apt].concat();
    let (program, arguments) = line.split_first().context("no command")?;
    let mut command = Command::new(program);
    // Standard output belongs to whatever the person asked for.
    command.args(arguments).stdout(Stdio::from(std::io::stderr()));
    run(&mut command)
}

/// Runs a command; its failure is an error that names it.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{:?}: {status}", command.get_program());
    }
    Ok(())
}

/// Runs a command and gives what it writes; its failure is an error with what it had to say.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{:?}: {}: {}", command.get_program(), output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{:?} did not write text", command.get_program()))
}

/// Finds a program on the path, or where Debian keeps those for root.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let for_root = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(for_root).map(|dir| dir.join(program)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_or_not() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program"), None);
    }

    #[test]
    fn the_command_that_installs_is_whole() {
        let package = |name: &str| Package { name: name.to_owned(), provides: String::new(), purpose: String::new() };
        assert_eq!(
            APT.command(&[package("qemu-system-x86"), package("e2fsprogs")]),
            "sudo apt-get install -y --no-install-recommends qemu-system-x86 e2fsprogs"
        );
        assert_eq!(OTHERS[4].command(&[package("qemu")]), "brew install qemu");
    }

    #[test]
    fn failures_name_the_program() {
        let error = output_of(Command::new("sh").args(["-c", "echo why >&2; exit 3"]));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("sh") && text.contains('3') && text.contains("why"), "{text}");
    }
}
