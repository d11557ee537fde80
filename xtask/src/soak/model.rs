//! What the guest's files must hold, as the host knows it.
//!
//! The disk is the tree that it was made from and never changes. /tmp is changed by the soak alone, which tells the model
//! everything it does; the model keeps every byte, so it is kept small.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::tree::{self, Random};

/// Where the guest sees the disk.
pub const DISK: &str = "/disk";
/// Where the guest sees its tmpfs.
pub const TMP: &str = "/tmp";
/// How many names there are in /tmp.
const NAMES: u64 = 16;

/// The disk.
pub struct Disk {
    top: PathBuf,
    /// Paths, as the guest has them, and sums.
    files: Vec<(String, String)>,
    /// Directories that have a file somewhere below them.
    directories: Vec<String>,
}

impl Disk {
    /// The disk that was made from the tree at `top`.
    pub fn of_tree(top: &Path) -> Result<Disk> {
        let lines = tree::sums(top, DISK)?;
        let mut files: Vec<(String, String)> = lines
            .iter()
            .filter_map(|line| line.split_once("  "))
            .map(|(sum, path)| (path.to_owned(), sum.to_owned()))
            .collect();
        files.sort();
        let mut directories: Vec<String> = files
            .iter()
            .filter_map(|(path, _)| path.rsplit_once('/'))
            .map(|(directory, _)| directory.to_owned())
            .collect();
        directories.dedup();
        // Those above them too, but not the disk as a whole, which takes long to read.
        let above = |path: &String| Some(path.rsplit_once('/')?.0.to_owned()).filter(|path| path.len() > DISK.len());
        directories.extend(directories.iter().filter_map(above).collect::<Vec<_>>());
        directories.sort();
        directories.dedup();
        Ok(Disk { top: top.to_owned(), files, directories })
    }

    /// A file: its path and its sum.
    pub fn file(&self, random: &mut Random) -> &(String, String) {
        &self.files[choice(self.files.len(), random)]
    }

    /// A directory.
    pub fn directory(&self, random: &mut Random) -> &str {
        &self.directories[choice(self.directories.len(), random)]
    }

    /// What `sha256sum -r` must print of a directory, sorted.
    pub fn sums(&self, directory: &str) -> Vec<String> {
        let below = |path: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        let mut lines: Vec<String> =
            self.files.iter().filter(|(path, _)| below(path)).map(|(path, sum)| format!("{sum}  {path}")).collect();
        lines.sort();
        lines
    }

    /// The bytes of a file.
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let path = self.top.join(path.trim_start_matches(DISK).trim_start_matches('/'));
        fs::read(&path).with_context(|| format!("cannot read {path:?}"))
    }
}

/// One of so many, half of the time from the first sixth: so that what is read is often something that was read before.
fn choice(len: usize, random: &mut Random) -> usize {
    let len = len as u64;
    let end = if random.below(2) == 0 { len } else { len.div_ceil(6) };
    random.below(end) as usize
}

/// The files of /tmp.
#[derive(Default)]
pub struct Tmp {
    files: BTreeMap<String, Vec<u8>>,
}

impl Tmp {
    /// A path that may or may not be there.
    pub fn path(random: &mut Random) -> String {
        format!("{TMP}/f{:02}", random.below(NAMES))
    }

    /// A file that is there, if any is.
    pub fn existing(&self, random: &mut Random) -> Option<String> {
        let at = random.below(self.files.len().max(1) as u64) as usize;
        self.files.keys().nth(at).cloned()
    }

    /// The files below a directory.
    pub fn below(&self, directory: &str) -> Vec<String> {
        let below = |path: &&String| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        self.files.keys().filter(below).cloned().collect()
    }

    /// A file that is there has another name, whatever had that.
    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(bytes) = self.files.remove(from) {
            self.set(to, bytes);
        }
    }

    /// Bytes in all files.
    pub fn len(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }

    /// The file has this content now.
    pub fn set(&mut self, path: &str, bytes: Vec<u8>) {
        self.files.insert(path.to_owned(), bytes);
    }

    /// More at the end of a file, which is made if need be.
    pub fn append(&mut self, path: &str, bytes: &[u8]) {
        self.files.entry(path.to_owned()).or_default().extend(bytes);
    }

    /// Another length; what is added is zeros.
    pub fn truncate(&mut self, path: &str, len: usize) {
        self.files.entry(path.to_owned()).or_default().resize(len, 0);
    }

    /// The file is gone.
    pub fn remove(&mut self, path: &str) {
        self.files.remove(path);
    }

    /// What `sha256sum -r` must print, sorted.
    pub fn sums(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.files.iter().map(|(path, bytes)| format!("{}  {path}", tree::sum_of(bytes))).collect();
        lines.sort();
        lines
    }

    /// What `sha256sum` must print of one file.
    pub fn sum(&self, path: &str) -> Vec<String> {
        self.files.get(path).map(|bytes| format!("{}  {path}", tree::sum_of(bytes))).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_known_by_directory() {
        let top = std::env::temp_dir().join(format!("xtask-model-{}", std::process::id()));
        tree::bulk(&top.join("bulk"), 1 << 16, 128).unwrap();
        let disk = Disk::of_tree(&top).unwrap();
        assert_eq!(disk.directories.len(), 2 + 8, "{:?}", disk.directories);
        assert_eq!(disk.sums("/disk/bulk/d01").len(), 64);
        assert_eq!(disk.sums("/disk/bulk/d0").len(), 0);
        let mut random = Random::new(1);
        let (path, sum) = disk.file(&mut random);
        assert_eq!(tree::sum_of(&disk.bytes(path).unwrap()), *sum);
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn what_happened_to_tmp_is_remembered() {
        let mut tmp = Tmp::default();
        assert_eq!(tmp.existing(&mut Random::new(1)), None);
        tmp.append("/tmp/f00", b"ab");
        tmp.append("/tmp/f00", b"cd");
        tmp.truncate("/tmp/f00", 3);
        tmp.truncate("/tmp/f00", 5);
        assert_eq!(tmp.sum("/tmp/f00"), [format!("{}  /tmp/f00", tree::sum_of(b"abc\0\0"))]);
        assert_eq!((tmp.len(), tmp.sums()), (5, tmp.sum("/tmp/f00")));
        assert_eq!((tmp.below("/tmp"), tmp.below("/tmp/f0").len()), (vec!["/tmp/f00".to_owned()], 0));
        tmp.rename("/tmp/f00", "/tmp/f01");
        tmp.remove("/tmp/f01");
        assert!(tmp.sums().is_empty());
    }
}
