//! A disk that changes under the guest: what the host, or another system that has the disk, may do to it.
//!
//! What the guest has not written it reads from the image, so a change is seen at once where the disk is read-only to it. The
//! tree that the disk was made from changes alike, so that sums are those of what is there now.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::host::{self, Install, Tool};
use crate::image;

/// The block size of an image that is put in place of another.
const BLOCK_SIZE: u32 = 4096;

/// More than the unit of an ext2's times.
const SECOND: Duration = Duration::from_millis(1100);

/// The disk, and the tree that it was made from.
#[derive(Debug)]
pub struct ChangingDisk {
    /// The image, which the guest's QEMU has open.
    pub image: PathBuf,
    /// The tree.
    pub tree: PathBuf,
    /// Whether tools may be installed.
    pub install: Install,
}

impl ChangingDisk {
    /// Changes the bytes of `file`, which lies in the root directory, by way of the file system.
    pub fn rewrite(&self, file: &str) -> Result<()> {
        // Times on an ext2 are whole seconds: what happens within one second of its making leaves the same superblock, and the same
        // bytes of an inode that gets the same blocks. Nobody mounts a disk elsewhere that fast.
        thread::sleep(SECOND);
        let changed = self.change(file)?;
        let name = file.trim_start_matches('/');
        for request in [format!("rm /{name}"), format!("write {} {name}", changed.display())] {
            let mut debugfs = Command::new(Tool::Debugfs.find(self.install)?);
            debugfs.args(["-w", "-R", &request]).arg(&self.image);
            host::output_of(&mut debugfs)?;
        }
        Ok(())
    }

    /// Makes another file system of the tree, in which `file` has other bytes, and writes it over this one.
    pub fn swap(&self, file: &str) -> Result<()> {
        self.change(file)?;
        let other = self.image.with_extension("other");
        image::from_directory(&self.tree, &other, BLOCK_SIZE, self.install)?;
        let size = |path: &Path| fs::metadata(path).map(|meta| meta.len()).with_context(|| format!("{path:?}"));
        if size(&other)? > size(&self.image)? {
            bail!("the other file system is larger than the disk");
        }
        // In place, since QEMU has the file open.
        let copy = || -> std::io::Result<u64> {
            std::io::copy(&mut File::open(&other)?, &mut File::options().write(true).open(&self.image)?)
        };
        copy().with_context(|| format!("cannot write over {:?}", self.image))?;
        Ok(())
    }

    /// Changes every byte of a file of the tree; its path on the host.
    fn change(&self, file: &str) -> Result<PathBuf> {
        let path = self.tree.join(file.trim_start_matches('/'));
        let bytes = fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
        let other: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        fs::write(&path, other).with_context(|| format!("cannot write {path:?}"))?;
        Ok(path)
    }
}
