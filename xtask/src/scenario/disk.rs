//! The disks of scenarios, made afresh for each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::disk::{Access, Disk, Fault};
use crate::image;
use crate::places::WorkDir;
use crate::size::Size;
use crate::tree;
use crate::workshop::Workshop;

/// What is on a scenario's disk.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DiskKind {
    /// There is no disk.
    #[default]
    None,
    /// A bit of everything, and the bootable file in /boot.
    Sample {
        /// The file system's block size.
        #[serde(default = "four_kib", rename = "block-size")]
        block_size: u32,
        /// In /boot there is a kernel of the previous handover version too.
        #[serde(default)]
        previous: bool,
        /// The file system's type, as mke2fs names it.
        #[serde(default = "ext2", rename = "type")]
        fs_type: String,
        /// The guest may not write to it.
        #[serde(default, rename = "read-only")]
        read_only: bool,
    },
    /// The sample, and many files beside it in /bulk.
    Bulk {
        /// Bytes in all of them.
        size: Size,
        /// How many.
        files: u32,
        /// The file system's block size.
        #[serde(default = "four_kib", rename = "block-size")]
        block_size: u32,
    },
    /// One file, /large.bin, of bytes without any order.
    Large {
        /// Its length.
        size: Size,
    },
    /// Files that need every level of a block map.
    Far {
        /// The file system's block size.
        #[serde(rename = "block-size")]
        block_size: u32,
    },
    /// Kernels in /boot that must be refused, and one that is good.
    BadKernels,
    /// The sample, where some requests fail; what is written is kept. Without `faults` the beginning of /big.bin cannot be
    /// read.
    Faulty {
        /// Which do.
        #[serde(default = "unreadable")]
        faults: Vec<FaultOf>,
    },
    /// A file system of another type.
    Type {
        /// As mke2fs names it.
        #[serde(rename = "type")]
        fs_type: String,
    },
    /// Bytes without any order.
    Garbage,
}

/// Requests that fail, where the sector may be that of a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FaultOf {
    /// What is to fail.
    pub on: Access,
    /// Where: at the beginning of this file.
    pub of: Option<String>,
    /// Where: at this sector.
    pub sector: Option<u64>,
    /// Whether it fails once only.
    #[serde(default)]
    pub once: bool,
}

fn unreadable() -> Vec<FaultOf> {
    vec![FaultOf { on: Access::Read, of: Some("/big.bin".to_owned()), sector: None, once: false }]
}

fn ext2() -> String {
    "ext2".to_owned()
}

fn four_kib() -> u32 {
    4096
}

/// A disk, and the tree that it was made from.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// For the machine.
    pub disk: Option<Disk>,
    /// The same files on the host.
    pub tree: PathBuf,
}

impl DiskKind {
    /// Makes the disk in `work`.
    pub fn prepare(&self, workshop: &Workshop, work: &WorkDir) -> Result<Prepared> {
        let (tree, image) = (work.join("tree"), work.join("disk.img"));
        let bootable = &workshop.built.bootable;
        let (mut block_size, mut fs_type) = (four_kib(), ext2());
        match self {
            DiskKind::None => return Ok(Prepared { disk: None, tree }),
            DiskKind::Garbage => {
                let bytes = tree::Random::new(5).bytes(8 << 20);
                fs::write(&image, bytes).with_context(|| format!("cannot write {image:?}"))?;
                return Ok(sound(image, tree));
            }
            DiskKind::Type { fs_type } => {
                image::of_type(fs_type, &image, workshop.install)?;
                return Ok(sound(image, tree));
            }
            DiskKind::Sample { block_size: size, previous, fs_type: of_type, .. } => {
                (block_size, fs_type) = (*size, of_type.clone());
                tree::sample(&tree, bootable)?;
                if *previous {
                    let (from, to) = (workshop.previous()?.bootable, tree.join("boot/previous"));
                    fs::copy(&from, &to).with_context(|| format!("cannot copy {from:?}"))?;
                }
            }
            DiskKind::Bulk { size, files, block_size: of_blocks } => {
                block_size = *of_blocks;
                tree::sample(&tree, bootable)?;
                tree::bulk(&tree.join("bulk"), size.bytes(), *files)?;
            }
            DiskKind::Large { size } => tree::large(&tree, size.bytes())?,
            DiskKind::Far { block_size: size } => {
                block_size = *size;
                tree::far(&tree)?;
            }
            DiskKind::BadKernels => {
                tree::sample(&tree, bootable)?;
                tree::bad_kernels(&tree, bootable, &workshop.built.kernel)?;
            }
            DiskKind::Faulty { .. } => tree::sample(&tree, bootable)?,
        }
        image::from_directory_as(&fs_type, &tree, &image, block_size, workshop.install)?;
        let mut prepared = sound(image, tree);
        if let (DiskKind::Sample { read_only, .. }, Some(disk)) = (self, &mut prepared.disk) {
            disk.read_only = *read_only;
        }
        if let (DiskKind::Faulty { faults }, Some(disk)) = (self, &mut prepared.disk) {
            disk.keep = true;
            for FaultOf { on, of, sector, once } in faults {
                let sector = match of {
                    Some(file) => Some(image::first_sector(&disk.image, file, block_size, workshop.install)?),
                    None => *sector,
                };
                disk.faults.push(Fault { on: *on, sector, once: *once });
            }
        }
        Ok(prepared)
    }
}

fn sound(image: PathBuf, tree: PathBuf) -> Prepared {
    Prepared { disk: Workshop::disk(image), tree }
}

/// The host's sums of a part of a tree: a directory, or a single file.
pub fn host_sums(tree: &Path, of: &str, named: &str) -> Result<Vec<String>> {
    let part = tree.join(of.trim_start_matches('/'));
    if part.is_file() {
        return Ok(vec![format!("{}  {named}", tree::sum(&part)?)]);
    }
    tree::sums(&part, named)
}
