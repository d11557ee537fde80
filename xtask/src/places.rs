//! Where things lie: the source tree, and everything under the target directory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use anyhow::{Context, Result};

use crate::args::Profile;

/// The source tree and its target directory.
#[derive(Clone, Debug)]
pub struct Places {
    root: PathBuf,
    target: PathBuf,
}

impl Places {
    /// Finds them: the tree from cargo, or as it was when xtask was compiled; the target
    /// directory from `CARGO_TARGET_DIR`, or `target` in the tree.
    pub fn find() -> Result<Places> {
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().context("xtask lies in no workspace")?.to_owned();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(target) => env::current_dir().context("no current directory")?.join(target),
            None => root.join("target"),
        };
        Ok(Places { root, target })
    }

    /// The top of the source tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target directory for the guest; apart from the host's, since another compiler may
    /// have to build it.
    pub fn guest_target(&self) -> PathBuf {
        self.target.join("guest")
    }

    /// Where the results of a build are put.
    pub fn artifacts(&self, profile: Profile) -> PathBuf {
        self.target.join("holdover").join(match profile {
            Profile::Dev => "debug",
            Profile::Release => "release",
        })
    }

    /// The serial log of a run, which is kept. Makes the directory.
    pub fn log(&self, name: &str) -> Result<PathBuf> {
        let logs = self.target.join("qemu-logs");
        make_dir(&logs)?;
        Ok(logs.join(format!("{name}.log")))
    }

    /// Where it is written down how to reach the QEMU of the guest that `run` started last.
    pub fn last_guest(&self) -> PathBuf {
        self.target.join("holdover").join("guest.qmp")
    }

    /// What the figures of `bench` are compared with.
    pub fn bench_baseline(&self) -> PathBuf {
        self.root.join("qemu").join("bench-baseline.toml")
    }

    /// Where faults are put into a copy of the source tree, and where that copy is built.
    pub fn faults(&self) -> (PathBuf, PathBuf) {
        let faults = self.target.join("faults");
        (faults.join("tree"), faults.join("target"))
    }

    /// Where the fuzzer is built, and what it found.
    pub fn fuzz(&self) -> PathBuf {
        self.target.join("fuzz")
    }

    /// A file that a verb leaves for a person.
    pub fn result(&self, name: &str) -> Result<PathBuf> {
        let results = self.target.join("holdover");
        make_dir(&results)?;
        Ok(results.join(name))
    }

    /// A new, empty directory for disk images and the trees that they are made from. It is
    /// removed when the value is dropped.
    pub fn work_dir(&self, name: &str) -> Result<WorkDir> {
        let name = format!("{name}-{}", std::process::id());
        let path = self.target.join("holdover").join("work").join(name);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("cannot clear {path:?}"))?;
        }
        make_dir(&path)?;
        let count = SOCKETS.fetch_add(1, Ordering::Relaxed);
        let socket = env::temp_dir().join(format!("holdover-{}-{count}.qmp", std::process::id()));
        Ok(WorkDir { path, socket })
    }
}

/// How many work directories this process had, for the names of their sockets.
static SOCKETS: AtomicU32 = AtomicU32::new(0);

/// A directory that lives as long as this value.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    socket: PathBuf,
}

impl WorkDir {
    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A path for a socket. It is not inside, because the name of a socket has at most 107 bytes.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // What cannot be removed is only wasted space under target/.
        let _ = fs::remove_dir_all(&self.path);
        // QEMU has removed it itself unless it was killed.
        let _ = fs::remove_file(&self.socket);
    }
}

/// Makes a directory and those above it.
pub fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {path:?}"))
}
