//! `test --faults`: known faults put back, to see that the tests notice them.
//!
//! Each file in kernel/cleancache/faults/ names a place in the source, what stands there, and what a careless hand would
//! write instead. A fault is caught if the tree with it still compiles, and the test that is named runs and fails; a
//! test that does not run, or a tree that does not compile, proves nothing. The tree is a [`copy`] under the target
//! directory; files that stay the same are not written again, so that cargo builds only what changed.

mod copy;

use std::env;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::places::Places;

/// Where the faults are.
const WHERE: &str = "kernel/cleancache/faults";
/// How long a test may take: a fault can well make it go round for ever.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(50);

/// A fault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The number of the property that it breaks.
    pub property: u32,
    /// What it does, in one line.
    pub about: String,
    /// The package whose test should notice.
    pub package: String,
    /// The test program; `lib` for the tests inside the package.
    pub test: String,
    /// The name of the test, or what only its name contains.
    pub filter: String,
    /// The source file, from the top of the repository.
    pub file: PathBuf,
    /// What stands there, exactly once.
    pub find: String,
    /// What is put in its place.
    pub replace: String,
    /// Features of the package that its test needs.
    #[serde(default)]
    pub features: Vec<String>,
}

impl Fault {
    /// Its name in a list.
    pub fn name(&self) -> String {
        format!("fault-{:02}", self.property)
    }

    /// A source text with the fault in it.
    fn put_into(&self, text: &str) -> Result<String> {
        match text.matches(&self.find).count() {
            1 => Ok(text.replace(&self.find, &self.replace)),
            count => bail!("what it replaces is {count} times in {:?}, and not once", self.file),
        }
    }
}

/// All faults, in the order of their files. There need not be any.
pub fn load(root: &Path) -> Result<Vec<Fault>> {
    let dir = root.join(WHERE);
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {dir:?}"))? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {path:?}"))?;
            toml::from_str(&text).with_context(|| format!("{path:?}"))
        })
        .collect()
}

/// Where faults are tried.
pub struct Bench {
    root: PathBuf,
    tree: PathBuf,
    target: PathBuf,
}

impl Bench {
    /// Where it will be; nothing is copied yet.
    pub fn new(places: &Places) -> Bench {
        let (tree, target) = places.faults();
        Bench { root: places.root().to_owned(), tree, target }
    }

    /// Puts a fault in and looks whether it is caught. `Ok(Err(_))` says why it is not.
    pub fn try_fault(&self, fault: &Fault) -> Result<Result<(), String>> {
        let from = self.root.join(&fault.file);
        let text = fs::read_to_string(&from).with_context(|| format!("cannot read {from:?}"))?;
        let faulty = match fault.put_into(&text) {
            Ok(faulty) => faulty,
            Err(error) => return Ok(Err(error.to_string())),
        };
        copy::renew(&self.root, &self.tree, &fault.file, &faulty)?;
        let built = self.build(fault).output().context("cannot start cargo")?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr);
            let errors = said.lines().filter(|line| line.starts_with("error")).take(3);
            return Ok(Err(format!("does not compile: {}", errors.collect::<Vec<_>>().join("; "))));
        }
        let built = String::from_utf8_lossy(&built.stdout);
        let Some((program, package)) = built.lines().find_map(test_program) else {
            return Ok(Err(format!("cargo names no test program '{}'", fault.test)));
        };
        // Not by cargo, so that ending the child ends the test itself.
        let mut test = Command::new(program);
        test.current_dir(&package).env("CARGO_MANIFEST_DIR", &package).arg(&fault.filter);
        test.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = test.spawn().context("cannot start the test program")?;
        let mut stdout = child.stdout.take().context("no pipe from the test program")?;
        let reader = thread::spawn(move || {
            let mut said = Vec::new();
            // Whatever a program said before it was killed counts.
            let _ = stdout.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        if !ends(&mut child)? {
            return Ok(Err(format!("the test did not end within {} s", PATIENCE.as_secs())));
        }
        let said = reader.join().unwrap_or_default();
        Ok(verdict(&said, &fault.filter))
    }

    /// The command that builds the test program.
    fn build(&self, fault: &Fault) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target).stdin(Stdio::null());
        cargo.args(["test", "--no-run", "--message-format=json-render-diagnostics", "--package", &fault.package]);
        match &*fault.test {
            "lib" => cargo.arg("--lib"),
            test => cargo.args(["--test", test]),
        };
        cargo.args(fault.features.iter().flat_map(|feature| ["--features", feature]));
        cargo
    }
}

/// The test program that a line from cargo names, and the directory of its package.
fn test_program(line: &str) -> Option<(PathBuf, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = |name| message.get(name)?.as_str().map(PathBuf::from);
    message.pointer("/profile/test")?.as_bool().filter(|is_test| *is_test)?;
    Some((path("executable")?, path("manifest_path")?.parent()?.to_owned()))
}

/// Waits for a child, and ends it if that takes too long.
fn ends(child: &mut Child) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().context("cannot wait for the test program")?.is_none() {
        if Instant::now() >= deadline {
            child.kill().context("cannot end the test program")?;
            child.wait().context("cannot wait for the test program")?;
            return Ok(false);
        }
        thread::sleep(POLL);
    }
    Ok(true)
}

/// Whether a test with this name ran and failed, by what the test program says.
fn verdict(said: &str, filter: &str) -> Result<(), String> {
    let results: Vec<(&str, &str)> = said
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
        .filter(|(name, _)| name.contains(filter))
        .collect();
    match &results[..] {
        [] => Err(format!("no test '{filter}' came to a result")),
        results if results.iter().any(|(_, result)| result.starts_with("FAILED")) => Ok(()),
        results => Err(format!("not noticed: '{}' passed", results[0].0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Fault {
        toml::from_str(
            "property = 7\nabout = 'a'\npackage = 'p'\ntest = 't'\nfilter = 'x'\nfile = 'a.rs'\nfind = 'one'\nreplace = 'two'",
        )
        .unwrap()
    }

    #[test]
    fn a_fault_has_one_place() {
        assert_eq!(example().name(), "fault-07");
        assert_eq!(example().put_into("a one b").unwrap(), "a two b");
        for text in ["none here", "one one"] {
            let text = text.replace("none", "no");
            assert!(example().put_into(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_test_that_ran_and_failed_has_caught_it() {
        assert_eq!(verdict("test a::x ... FAILED\ntest y ... ok\n", "x"), Ok(()));
        for (said, complaint) in [
            ("test y ... FAILED\n", "no test 'x'"),
            ("", "no test 'x'"),
            ("running 1 test\ntest a::x ... ok\n", "'a::x' passed"),
            ("error: x\n", "no test 'x'"),
        ] {
            assert!(verdict(said, "x").unwrap_err().contains(complaint), "{said}");
        }
    }

    #[test]
    fn the_test_program_is_told_from_the_rest() {
        let line = |test, executable: &str| {
            let path = "/t/p/Cargo.toml";
            format!(r#"{{"profile":{{"test":{test}}},"executable":{executable},"manifest_path":"{path}"}}"#)
        };
        let found = (PathBuf::from("/t/x-1"), PathBuf::from("/t/p"));
        assert_eq!(test_program(&line(true, "\"/t/x-1\"")), Some(found));
        for line in [line(false, "\"/t/x-1\""), line(true, "null"), "no JSON".to_owned()] {
            assert_eq!(test_program(&line), None, "{line}");
        }
    }

    #[test]
    fn every_fault_in_the_repository_has_its_place() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for fault in load(root).unwrap() {
            let text = fs::read_to_string(root.join(&fault.file)).unwrap();
            fault.put_into(&text).unwrap_or_else(|error| panic!("{}: {error}", fault.name()));
        }
    }
}
