//! What a scenario may say that the host does, and how much memory it may find somewhere.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::size::Amount;

/// One thing that the host does. All keys but `after-lines` exclude each other.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Action {
    /// How many lines of output the command has printed before.
    #[serde(default)]
    pub after_lines: u64,
    /// Sets how much the host wants of the balloon's memory.
    pub balloon: Option<Amount>,
    /// Sets how much virtio-mem should have plugged.
    pub mem: Option<Amount>,
    /// Changes a byte in every page of a memory that host and guest share.
    pub scribble: Option<Shared>,
    /// Changes the bytes of a file on the disk, as a system does that mounts it meanwhile.
    pub rewrite: Option<String>,
    /// Puts another file system in the place of the disk's, in which this file has other bytes.
    pub swap: Option<String>,
    /// A request to QEMU, in JSON.
    pub qmp: Option<String>,
    /// Waits so many seconds.
    pub pause: Option<u32>,
    /// Waits until the host has that much by the balloon.
    pub wait_balloon: Option<Amounts>,
    /// Waits until virtio-mem has that much plugged.
    pub wait_mem: Option<Amounts>,
}

/// Memory that host and guest share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shared {
    /// The file behind ivshmem.
    Ivshmem,
}

/// Bounds of an amount of memory, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    /// Lower bound.
    #[serde(default)]
    pub min: Amount,
    /// Upper bound, if there is one.
    pub max: Option<Amount>,
}

impl Amounts {
    /// Whether so many bytes are within them.
    pub fn contain(self, bytes: u64) -> bool {
        self.min.bytes() <= bytes && self.max.is_none_or(|max| bytes <= max.bytes())
    }
}

impl Action {
    /// Looks whether it is one thing, and one that can be done.
    pub fn check(&self) -> Result<()> {
        let things = [
            self.balloon.is_some(),
            self.mem.is_some(),
            self.scribble.is_some(),
            self.rewrite.is_some(),
            self.swap.is_some(),
            self.qmp.is_some(),
            self.pause.is_some(),
            self.wait_balloon.is_some(),
            self.wait_mem.is_some(),
        ];
        if things.into_iter().filter(|given| *given).count() != 1 {
            bail!(
                "a host action is one of balloon, mem, scribble, rewrite, swap, qmp, pause, wait-balloon and wait-mem"
            );
        }
        if let Some(request) = &self.qmp {
            serde_json::from_str::<serde_json::Value>(request).with_context(|| format!("'{request}' is no JSON"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(text: &str) -> Result<Action> {
        let action: Action = toml::from_str(text)?;
        action.check()?;
        Ok(action)
    }

    #[test]
    fn an_action_is_one_thing() {
        for text in [
            "balloon = '16M'",
            "after-lines = 3\nmem = '0M'",
            "scribble = 'ivshmem'",
            "rewrite = '/big.bin'",
            "swap = '/big.bin'",
            "qmp = '{}'",
            "pause = 2",
            "wait-balloon = { min = '1M', max = '2M' }",
            "wait-mem = { max = '0M' }",
        ] {
            assert!(action(text).is_ok(), "{text}");
        }
        for text in
            ["", "after-lines = 1", "mem = '1M'\nballoon = '1M'", "qmp = '{'", "scribble = 'disk'", "baloon = '1M'"]
        {
            assert!(action(text).is_err(), "{text}");
        }
    }

    #[test]
    fn both_bounds_count() {
        let bounds = |text: &str| toml::from_str::<Amounts>(text).unwrap();
        let both = bounds("min = '4K'\nmax = 8192");
        assert!(both.contain(4096) && both.contain(8192) && !both.contain(4095) && !both.contain(8193));
        assert!(bounds("").contain(0) && bounds("").contain(u64::MAX));
    }
}
