//! A copy of the workspace in which one file is another.
//!
//! Files that are right already are not written again, so that cargo sees what changed and nothing else.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::places::make_dir;

/// What a copy of the workspace consists of, beside its members.
const FILES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "rustfmt.toml", "rust-toolchain.toml"];

/// Makes `tree` like the workspace at `root`, but for one file.
pub fn renew(root: &Path, tree: &Path, file: &Path, text: &str) -> Result<()> {
    make_dir(tree)?;
    let mut members: Vec<PathBuf> = members(root)?.into_iter().map(PathBuf::from).collect();
    // A member inside another is copied with that.
    let all = members.clone();
    members.retain(|member| !all.iter().any(|other| other != member && member.starts_with(other)));
    for name in FILES {
        let path = root.join(name);
        if path.exists() {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
            write_if_changed(&tree.join(name), &bytes)?;
        }
    }
    let faulty = root.join(file);
    for member in members {
        copy_changes(&root.join(&member), &tree.join(&member), &faulty, text.as_bytes())?;
    }
    Ok(())
}

/// The members of the workspace.
fn members(root: &Path) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Manifest {
        workspace: Workspace,
    }
    #[derive(Deserialize)]
    struct Workspace {
        members: Vec<String>,
    }
    let path = root.join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| format!("{path:?}"))?;
    Ok(manifest.workspace.members)
}

/// Makes the directory `to` like `from`, but for the file `faulty` of `from`, which becomes `text`.
fn copy_changes(from: &Path, to: &Path, faulty: &Path, text: &[u8]) -> Result<()> {
    make_dir(to)?;
    let mut names = HashSet::new();
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {from:?}"))? {
        let entry = entry?;
        let name = entry.file_name();
        if name == OsStr::new("target") {
            continue;
        }
        let (source, copy) = (entry.path(), to.join(&name));
        if entry.file_type()?.is_dir() {
            copy_changes(&source, &copy, faulty, text)?;
        } else if source == faulty {
            write_if_changed(&copy, text)?;
        } else {
            let bytes = fs::read(&source).with_context(|| format!("cannot read {source:?}"))?;
            write_if_changed(&copy, &bytes)?;
        }
        names.insert(name);
    }
    for entry in fs::read_dir(to).with_context(|| format!("cannot read {to:?}"))? {
        let entry = entry?;
        if names.contains(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let gone = if entry.file_type()?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        gone.with_context(|| format!("cannot remove {path:?}"))?;
    }
    Ok(())
}

fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_and_leaves_alone_what_stays() {
        let top = std::env::temp_dir().join(format!("xtask-faults-{}", std::process::id()));
        let (from, to) = (top.join("from"), top.join("to"));
        fs::create_dir_all(from.join("src")).unwrap();
        fs::create_dir_all(to.join("old")).unwrap();
        for (name, text) in [("a", "1"), ("src/b", "2")] {
            fs::write(from.join(name), text).unwrap();
        }
        copy_changes(&from, &to, &from.join("src/b"), b"3").unwrap();
        let written = fs::metadata(to.join("a")).unwrap().modified().unwrap();
        assert_eq!(fs::read(to.join("src/b")).unwrap(), b"3");
        assert!(!to.join("old").exists());
        std::thread::sleep(std::time::Duration::from_millis(20));
        copy_changes(&from, &to, Path::new(""), b"").unwrap();
        assert_eq!(fs::read(to.join("src/b")).unwrap(), b"2");
        assert_eq!(fs::metadata(to.join("a")).unwrap().modified().unwrap(), written);
        fs::remove_dir_all(top).unwrap();
    }
}
