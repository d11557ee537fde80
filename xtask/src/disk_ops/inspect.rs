//! The image afterwards, by the host's own tools: e2fsck finds nothing wrong, debugfs takes out what is in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::disk_ops::model::{Model, Node};
use crate::host::{self, Install, Tool};

/// What lies at a path of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Link(String),
    /// A file: its permission bits and its bytes.
    File(u32, Vec<u8>),
}

/// Runs e2fsck with these options; its exit status and what it says.
pub fn e2fsck(image: &Path, options: &str, install: Install) -> Result<(i32, String)> {
    let mut e2fsck = Command::new(Tool::E2fsck.find(install)?);
    let output = e2fsck.arg(options).arg(image).output().context("cannot start e2fsck")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.code().context("e2fsck was killed")?, said))
}

/// Everything in an image but `/lost+found` itself, by path. `scratch` is where it is put for a moment.
pub fn tree(image: &Path, scratch: &Path, install: Install) -> Result<BTreeMap<String, Found>> {
    if scratch.exists() {
        fs::remove_dir_all(scratch).with_context(|| format!("cannot clear {scratch:?}"))?;
    }
    fs::create_dir_all(scratch).with_context(|| format!("cannot make {scratch:?}"))?;
    let mut debugfs = Command::new(Tool::Debugfs.find(install)?);
    debugfs.args(["-R", &format!("rdump / \"{}\"", scratch.display())]).arg(image);
    host::output_of(&mut debugfs)?;
    let mut found = BTreeMap::new();
    collect(scratch, "", &mut found)?;
    fs::remove_dir_all(scratch).with_context(|| format!("cannot clear {scratch:?}"))?;
    found.remove("/lost+found");
    Ok(found)
}

fn collect(top: &Path, below: &str, found: &mut BTreeMap<String, Found>) -> Result<()> {
    let directory = top.join(below.trim_start_matches('/'));
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {directory:?}"))? {
        let entry = entry?;
        let path = format!("{below}/{}", entry.file_name().to_string_lossy());
        let meta = entry.metadata()?;
        let what = if meta.is_dir() {
            collect(top, &path, found)?;
            Found::Directory
        } else if meta.is_symlink() {
            Found::Link(fs::read_link(entry.path())?.to_string_lossy().into_owned())
        } else if meta.is_file() {
            Found::File(meta.permissions().mode() & 0o7777, fs::read(entry.path())?)
        } else {
            bail!("{path} is of an odd kind");
        };
        found.insert(path, what);
    }
    Ok(())
}

/// The first difference between what should be there and what is.
pub fn difference(model: &Model, found: &BTreeMap<String, Found>) -> Option<String> {
    if let Some((path, _)) = found.iter().find(|(path, _)| !model.names.contains_key(*path)) {
        return Some(format!("{path} is on the disk and should not be"));
    }
    model.names.iter().find_map(|(path, node)| differs(model, path, node, found.get(path)))
}

/// What is wrong with what was found at `path`.
pub fn differs(model: &Model, path: &str, node: &Node, found: Option<&Found>) -> Option<String> {
    match (node, found) {
        (_, None) => Some(format!("{path} is not on the disk")),
        (Node::Directory, Some(Found::Directory)) => None,
        (Node::Link(wanted), Some(Found::Link(target))) if wanted == target => None,
        (Node::File(file), Some(Found::File(mode, bytes))) => {
            let wanted = model.files.get(file)?;
            if wanted.mode != *mode {
                return Some(format!("{path} has mode {mode:o}, not {:o}", wanted.mode));
            }
            if wanted.bytes.len() != bytes.len() {
                return Some(format!("{path} has {} bytes, not {}", bytes.len(), wanted.bytes.len()));
            }
            let at = wanted.bytes.iter().zip(bytes).position(|(wanted, byte)| wanted != byte)?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 24)]).into_owned();
            Some(format!("{path} differs at {at}: {:?}, not {:?}", text(bytes), text(&wanted.bytes)))
        }
        (wanted, Some(_)) => Some(format!("{path} is not {wanted:?}")),
    }
}
