//! What commands do with files: paths made absolute, failures with their paths, and the few questions that many commands ask.

use alloc::vec::Vec;

use fs::filesystem::{DirEntry, FileType, Ino, SetAttr, Stat, Time};
use fs::vfs::{File, IfExists, path};
use fs::{Error, Vfs};
use prompt::options::{Args, UsageError};

use super::failure::At;
use super::{Failure, Outcome, Session};
use crate::time;

/// Which inode a path leads to: equal for two names of the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The mount point's name in the root directory; empty for the root itself.
    mount: Vec<u8>,
    ino: Ino,
}

impl Identity {
    /// The path of the mount point.
    pub fn mount_point(&self) -> Vec<u8> {
        join(b"/", &self.mount)
    }
}

/// The target of `cp` and `mv`.
pub struct Target {
    path: Vec<u8>,
    is_directory: bool,
}

impl Session<'_> {
    fn vfs(&self) -> &Vfs {
        &self.system.vfs
    }

    /// `path` from the root on. The empty path stays empty: it leads nowhere.
    pub fn absolute(&self, path: &[u8]) -> Vec<u8> {
        if path.is_empty() { Vec::new() } else { path::join(&self.directory, path) }
    }

    /// Attributes of what `path` leads to.
    pub fn stat(&self, path: &[u8]) -> Outcome<Stat> {
        self.vfs().stat(&self.absolute(path)).at(path)
    }

    /// Attributes of what `path` names, were it a symbolic link.
    pub fn lstat(&self, path: &[u8]) -> Outcome<Stat> {
        self.vfs().lstat(&self.absolute(path)).at(path)
    }

    /// The path of what `path` leads to, without links, `.` and `..`.
    pub fn real_path(&self, path: &[u8]) -> Outcome<Vec<u8>> {
        self.vfs().real_path(&self.absolute(path)).at(path)
    }

    /// Which inode `path` leads to.
    pub fn identity(&self, path: &[u8]) -> Outcome<Identity> {
        let real = self.real_path(path)?;
        let mount = real.split(|byte| *byte == b'/').nth(1).unwrap_or_default().to_vec();
        Ok(Identity { mount, ino: self.stat(path)?.ino })
    }

    /// The entries of a directory, in no order.
    pub fn entries(&self, path: &[u8]) -> Outcome<Vec<DirEntry>> {
        self.vfs().read_dir(&self.absolute(path)).at(path)
    }

    /// The path that a symbolic link holds.
    pub fn read_link(&self, path: &[u8]) -> Outcome<Vec<u8>> {
        self.vfs().read_link(&self.absolute(path)).at(path)
    }

    /// A regular file, to read and write.
    pub fn open(&self, path: &[u8]) -> Outcome<File> {
        self.vfs().open(&self.absolute(path)).at(path)
    }

    /// The same, made with permissions `mode` where there is none; `empty` cuts an old one to nothing.
    pub fn create(&self, path: &[u8], mode: u16, empty: bool) -> Outcome<File> {
        let if_exists = if empty { IfExists::Truncate } else { IfExists::Keep };
        self.vfs().create(&self.absolute(path), mode, if_exists).at(path)
    }

    /// Makes the file `size` bytes long.
    pub fn truncate(&self, path: &[u8], size: u64) -> Outcome {
        self.vfs().truncate(&self.absolute(path), size).at(path)
    }

    /// Makes a directory.
    pub fn mkdir(&self, path: &[u8], mode: u16) -> Outcome {
        self.vfs().mkdir(&self.absolute(path), mode).at(path)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, path: &[u8]) -> Outcome {
        self.vfs().rmdir(&self.absolute(path)).at(path).map_err(|failure| self.missing_first(path, failure))
    }

    /// Removes a name that is not a directory's.
    pub fn unlink(&self, path: &[u8]) -> Outcome {
        self.vfs().unlink(&self.absolute(path)).at(path).map_err(|failure| self.missing_first(path, failure))
    }

    /// That there is no such name comes before that it could not be removed if there were.
    fn missing_first(&self, path: &[u8], failure: Failure) -> Failure {
        match (&failure, self.lstat(path)) {
            (Failure::File { error: Error::ReadOnly, .. }, Err(missing)) => missing,
            _ => failure,
        }
    }

    /// Makes a symbolic link that holds `content`.
    pub fn symlink(&self, content: &[u8], path: &[u8]) -> Outcome {
        self.vfs().symlink(content, &self.absolute(path)).at(path)
    }

    /// Gives a file another name.
    pub fn link(&self, existing: &[u8], path: &[u8]) -> Outcome {
        match self.vfs().link(&self.absolute(existing), &self.absolute(path)) {
            // Only these are about the old name.
            Err(error @ (Error::IsADirectory | Error::TooManyLinks)) => Err(error).at(existing),
            Err(Error::NotFound) if self.lstat(existing).is_err() => Err(Error::NotFound).at(existing),
            linked => linked.at(path),
        }
    }

    /// Moves a name, replacing what the new name led to.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> Outcome {
        self.lstat(from)?;
        self.vfs().rename(&self.absolute(from), &self.absolute(to)).at(to)
    }

    /// Changes attributes of what `path` leads to.
    pub fn set_attr(&self, path: &[u8], attributes: &SetAttr) -> Outcome {
        self.vfs().set_attr(&self.absolute(path), attributes).at(path)
    }

    /// Changes attributes of what `path` names, were it a symbolic link.
    pub fn set_link_attr(&self, path: &[u8], attributes: &SetAttr) -> Outcome {
        self.vfs().lset_attr(&self.absolute(path), attributes).at(path)
    }

    /// The operands of `cp` and `mv`.
    pub fn sources_and_target<'a, 'b>(&self, args: &'b Args<'a>) -> Outcome<(&'b [&'a [u8]], Target)> {
        let (target, sources) = args.some("source")?.split_last().ok_or(UsageError::Missing("source"))?;
        if sources.is_empty() {
            return Err(UsageError::Missing("target").into());
        }
        let target = self.target(target);
        if sources.len() > 1 && !target.is_directory {
            return Err(Error::NotADirectory).at(&target.path);
        }
        Ok((sources, target))
    }

    /// A target, and whether it is a directory by now.
    pub fn target(&self, path: &[u8]) -> Target {
        let is_directory = self.stat(path).is_ok_and(|stat| stat.kind == FileType::Directory);
        Target { path: path.to_vec(), is_directory }
    }

    /// Where `source` goes: below the target if that is a directory, in its place if not.
    pub fn place_in(&self, target: &Target, source: &[u8]) -> Vec<u8> {
        match base_name(source) {
            name if target.is_directory && !matches!(name, b"" | b"." | b"..") => join(&target.path, name),
            _ => target.path.clone(),
        }
    }
}

/// A name below a directory.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    [directory, slash, name].concat()
}

/// The last name of a path, slashes at the end left out; empty for the root.
pub fn base_name(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let path = path.get(..end).unwrap_or_default();
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// Writes all of `data` at `position`.
pub fn write_all(file: &mut File, mut position: u64, mut data: &[u8]) -> Result<(), Error> {
    while !data.is_empty() {
        let written = file.write_at(position, data)?;
        // A file that takes nothing and says nothing is full.
        data = data.get(written..).filter(|_| written > 0).ok_or(Error::NoSpace)?;
        position = position.saturating_add(written as u64);
    }
    Ok(())
}

/// The time that files are given.
pub fn now() -> Time {
    let now = time::now();
    Time { seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nanos: now.subsec_nanos() }
}
