//! Scenarios: what a guest is given, what is typed, and what has to come of it.
//!
//! They are data, one file each in qemu/scenarios/; this module knows their form, [`disk`] makes
//! what they boot from, [`check`] judges, [`host`] does an [`action`] meanwhile, [`play`] brings it together and
//! [`transcript`] takes steps from a document.

pub mod action;
pub mod changing;
pub mod check;
pub mod disk;
pub mod host;
pub mod play;
pub mod transcript;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::donation::Donation;
use crate::machine::Board;
use crate::outcome::Ending;
use crate::size::Size;
use action::{Action, Amounts};
use disk::DiskKind;

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// The name of its file.
    #[serde(skip)]
    pub name: String,
    /// What it shows, in one line.
    pub about: String,
    /// The board.
    #[serde(default = "q35")]
    pub machine: Board,
    /// What the kernel may call its own.
    #[serde(default = "default_memory")]
    pub memory: Size,
    /// What it gets on top.
    #[serde(default)]
    pub donate: Vec<Donation>,
    /// Processors, if it is about so many: another scenario has as many as the test is run with.
    #[serde(rename = "smp")]
    pub processors: Option<u32>,
    /// Queues of the disk, if it is not to have one for each processor.
    pub queues: Option<u32>,
    /// What is on the disk.
    #[serde(default)]
    pub disk: DiskKind,
    /// For all of it, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout: u32,
    /// Patterns that the log must show before the first prompt.
    #[serde(default)]
    pub boot_log: Vec<String>,
    /// How the guest has to end.
    #[serde(default)]
    pub ends: Ends,
    /// A pattern for the message of a panic, or the reason of a refusal.
    pub message: Option<String>,
    /// Patterns that a panic's backtrace must show once it is symbolised.
    #[serde(default)]
    pub backtrace: Vec<String>,
    /// A document of the repository whose session, typed as it stands there, must go as it says.
    pub transcript: Option<String>,
    /// Which kernel is booted.
    #[serde(default)]
    pub kernel: Kernel,
    /// So many kexecs in a row, with a tree that changes in between, and nothing else.
    pub generations: Option<u32>,
    /// So many random operations on a disk of its own, and nothing else.
    pub fs_ops: Option<OnDisk>,
    /// So many guests killed while they write, and nothing else.
    pub fs_kill: Option<OnDisk>,
    /// What is typed.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
}

/// A command, and what it has to do. What is not mentioned is not looked at, but for success.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Step {
    /// The command line.
    pub run: String,
    /// Whether it has to fail.
    #[serde(default)]
    pub fails: bool,
    /// Patterns, each to be found in some line of the output.
    #[serde(default)]
    pub output: Vec<String>,
    /// Patterns that no line of the output may show.
    #[serde(default)]
    pub absent: Vec<String>,
    /// The whole output.
    pub exactly: Option<String>,
    /// Patterns, each to be found in some line of error output.
    #[serde(default)]
    pub errors: Vec<String>,
    /// Patterns, each to be found in some line logged meanwhile.
    #[serde(default)]
    pub log: Vec<String>,
    /// The output must be the host's SHA-256 sums of a part of the disk, in any order.
    pub sums: Option<Sums>,
    /// Numbers in the output that must lie within bounds.
    #[serde(default)]
    pub numbers: BTreeMap<String, Bounds>,
    /// A name by which later steps refer to this one's output.
    pub label: Option<String>,
    /// The output must be the same as that of the step with this label.
    pub same_as: Option<String>,
    /// What the host does while the command runs.
    #[serde(default)]
    pub host: Vec<Action>,
    /// How much the host must have by the balloon, soon after.
    pub balloon_actual: Option<Amounts>,
    /// How much virtio-mem must have plugged, soon after.
    pub mem_plugged: Option<Amounts>,
    /// What the guest must report by the balloon's statistics queue, soon after.
    #[serde(default)]
    pub guest_stats: BTreeMap<String, Bounds>,
}

/// Which sums are to come out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// A path on the disk; empty for all of it.
    pub of: String,
    /// What the guest calls it.
    pub named: String,
}

/// Bounds of a number, both included.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Lower bound.
    #[serde(default)]
    pub min: u64,
    /// Upper bound.
    #[serde(default = "unbounded")]
    pub max: u64,
}

/// How much is done to a disk.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OnDisk {
    /// How often.
    pub count: u32,
    /// The file system's block size.
    pub block_size: u32,
}

/// Which kernel a scenario boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// The one that is worked on.
    #[default]
    Current,
    /// The same source, but it knows the previous version of the handover format only.
    Previous,
}

/// How a guest may have to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ends {
    /// With an orderly shutdown.
    #[default]
    Poweroff,
    /// With a panic.
    Panic,
    /// With a refusal by the boot stage.
    Refused,
}

impl Ends {
    /// Whether the guest ended so; its message, if it left one.
    pub fn is_met_by(self, ending: &Ending) -> Option<&str> {
        match (self, ending) {
            (Ends::Poweroff, Ending::Clean) => Some(""),
            (Ends::Panic, Ending::Panic { message, .. }) => Some(message),
            (Ends::Refused, Ending::Refused { reason }) => Some(reason),
            _ => None,
        }
    }
}

fn q35() -> Board {
    Board::Q35
}

fn default_memory() -> Size {
    Size::mib(64)
}

fn default_timeout() -> u32 {
    120
}

fn unbounded() -> u64 {
    u64::MAX
}

impl Scenario {
    fn parse(name: &str, text: &str) -> Result<Scenario> {
        let mut scenario: Scenario = toml::from_str(text)?;
        scenario.name = name.to_owned();
        let other = scenario.generations.is_some() || scenario.fs_ops.is_some() || scenario.fs_kill.is_some();
        if other && !scenario.steps.is_empty() {
            bail!("a scenario of generations, operations or kills has no steps");
        }
        let mut labels = Vec::new();
        for step in &scenario.steps {
            if let Some(wanted) = &step.same_as
                && !labels.contains(&wanted)
            {
                bail!("'{}' refers to '{wanted}', which no earlier step is", step.run);
            }
            labels.extend(&step.label);
            step.host.iter().try_for_each(Action::check).with_context(|| step.run.clone())?;
        }
        Ok(scenario)
    }
}

/// Reads all scenarios, in the order of their names.
pub fn load(root: &Path) -> Result<Vec<Scenario>> {
    let dir = root.join("qemu/scenarios");
    let mut scenarios = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {dir:?}"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
        scenarios.push(Scenario::parse(&name, &text).with_context(|| format!("{path:?}"))?);
    }
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scenarios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_in_the_repository_parses() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(load(root).unwrap().len() > 10);
    }

    #[test]
    fn unknown_words_and_dangling_labels_are_refused() {
        for text in [
            "about = 'x'\nmemroy = '1M'",
            "about = 'x'\nmemory = '1Q'",
            "about = 'x'\n[[step]]\nrun = 'ls'\noutptu = []",
            "about = 'x'\ngenerations = 3\n[[step]]\nrun = 'ls'",
            "about = 'x'\n[[step]]\nrun = 'ls'\nsame-as = 'nothing'",
            "about = 'x'\n[[step]]\nrun = 'ls'\nhost = [{ after-lines = 3 }]",
        ] {
            assert!(Scenario::parse("x", text).is_err(), "{text}");
        }
    }
}
