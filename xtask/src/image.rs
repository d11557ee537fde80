//! ext2 images made from directories, by mke2fs.
//!
//! An image is made large enough by counting what goes in. Being generous costs nothing: what is
//! not used stays a hole in the image file.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host::{self, Install, Tool};

/// The block sizes of ext2.
pub const BLOCK_SIZES: [u32; 3] = [1024, 2048, 4096];

const INODE_SIZE: u64 = 256;
/// Bitmaps, group descriptors, and whatever else was not counted.
const SLACK_BYTES: u64 = 4 << 20;
const SLACK_INODES: u64 = 64;
/// The journal that mke2fs makes in an image of some megabytes.
const JOURNAL_BYTES: u64 = 4 << 20;

/// What a directory needs in an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Needs {
    inodes: u64,
    blocks: u64,
}

impl Needs {
    /// Adds a tree. Files with several names count once; holes count for nothing.
    fn add_tree(&mut self, top: &Path, block: u64) -> Result<()> {
        let mut seen = HashSet::new();
        let mut dirs = vec![top.to_owned()];
        self.inodes += 1;
        while let Some(dir) = dirs.pop() {
            let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {dir:?}"))?;
            let mut names = 0;
            for entry in entries {
                let entry = entry.with_context(|| format!("cannot read {dir:?}"))?;
                let meta = entry.metadata().with_context(|| format!("{:?}", entry.path()))?;
                names += 8 + 4 + entry.file_name().len() as u64;
                if meta.nlink() > 1 && !meta.is_dir() && !seen.insert((meta.dev(), meta.ino())) {
                    continue;
                }
                self.inodes += 1;
                if meta.is_dir() {
                    dirs.push(entry.path());
                } else {
                    self.add_file(meta.size(), meta.blocks() * 512, block);
                }
            }
            // Entries do not cross blocks, which wastes less than one entry in each.
            self.blocks += names.div_ceil(block - 263) + 1;
        }
        Ok(())
    }

    /// Adds a file of some size, of which some bytes are not holes.
    fn add_file(&mut self, size: u64, allocated: u64, block: u64) {
        // A file system may store small files without a block of their own, so a file without any
        // is believed to be a hole only if it is large.
        let data = match allocated {
            0 if size <= 64 << 10 => size,
            _ => size.min(allocated),
        };
        let data = data.div_ceil(block) + 1;
        // Blocks that name blocks: one in `block / 4`, and three levels of them to begin with.
        self.blocks += data + data.div_ceil(block / 4) + 3;
    }
}

/// Makes an ext2 image of the directory `tree` at `image`.
///
/// # Errors
/// If the tree cannot be read, or mke2fs fails; the message is then mke2fs's.
pub fn from_directory(tree: &Path, image: &Path, block_size: u32, install: Install) -> Result<()> {
    from_directory_as("ext2", tree, image, block_size, install)
}

/// Makes an image of the directory `tree` at `image`, with a file system of this type, as mke2fs names it.
///
/// # Errors
/// As for [`from_directory`].
pub fn from_directory_as(fs_type: &str, tree: &Path, image: &Path, block_size: u32, install: Install) -> Result<()> {
    if !BLOCK_SIZES.contains(&block_size) {
        bail!("ext2 has no blocks of {block_size} bytes");
    }
    let block = u64::from(block_size);
    let mut needs = Needs::default();
    needs.add_tree(tree, block)?;
    let inodes = needs.inodes + needs.inodes / 16 + SLACK_INODES;
    let tables = inodes * INODE_SIZE / block;
    // Room for a journal, where there is one.
    let slack = if fs_type == "ext2" { SLACK_BYTES } else { SLACK_BYTES + JOURNAL_BYTES };
    let blocks = needs.blocks + needs.blocks / 16 + tables + slack / block;
    let mut mke2fs = Command::new(Tool::Mke2fs.find(install)?);
    mke2fs
        .args(["-q", "-F", "-t", fs_type, "-m", "0", "-O", "^resize_inode"])
        .args(["-L", "holdover", "-b", &block_size.to_string()])
        .args(["-I", &INODE_SIZE.to_string(), "-N", &inodes.to_string()])
        .arg("-d")
        .args([tree, image])
        .arg(blocks.to_string());
    make(mke2fs, image)
}

/// Makes an empty file system of another type, such as ext4.
pub fn of_type(fs_type: &str, image: &Path, install: Install) -> Result<()> {
    let mut mke2fs = Command::new(Tool::Mke2fs.find(install)?);
    mke2fs.args(["-q", "-F", "-t", fs_type]).arg(image).arg("8M");
    make(mke2fs, image)
}

fn make(mut mke2fs: Command, image: &Path) -> Result<()> {
    if image.exists() {
        fs::remove_file(image).with_context(|| format!("cannot remove {image:?}"))?;
    }
    host::output_of(&mut mke2fs).with_context(|| format!("cannot make the image {image:?}"))?;
    Ok(())
}

/// The first 512-byte sector of the data of a file inside an image.
pub fn first_sector(image: &Path, file: &str, block_size: u32, install: Install) -> Result<u64> {
    let mut debugfs = Command::new(Tool::Debugfs.find(install)?);
    debugfs.args(["-R", &format!("blocks \"{file}\"")]).arg(image);
    let blocks = host::output_of(&mut debugfs)?;
    let first: u64 = blocks
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .with_context(|| format!("{image:?}: no blocks of {file}"))?;
    Ok(first * u64::from(block_size) / 512)
}

/// The disk that a person names: an image as it is, or one made of a directory at `made`.
pub fn of_path(path: &Path, made: &Path, install: Install) -> Result<PathBuf> {
    let meta = path.metadata().with_context(|| format!("cannot read {path:?}"))?;
    if !meta.is_dir() {
        return fs::canonicalize(path).with_context(|| format!("cannot read {path:?}"));
    }
    from_directory(path, made, 4096, install)?;
    Ok(made.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    /// A tree goes into an image with each block size, and comes out of it by debugfs the same.
    #[test]
    fn what_goes_into_an_image_comes_out_again() {
        let Ok(debugfs) = Tool::Debugfs.find(Install::Forbidden) else {
            eprintln!("not tested: there is no e2fsprogs");
            return;
        };
        let top = std::env::temp_dir().join(format!("xtask-image-{}", std::process::id()));
        let (tree, image, out) = (top.join("tree"), top.join("image"), top.join("out"));
        fs::create_dir_all(&out).unwrap();
        fs::write(top.join("bootable"), [7; 100_000]).unwrap();
        tree::sample(&tree, &top.join("bootable")).unwrap();
        tree::bulk(&tree.join("bulk"), 3 << 20, 100).unwrap();
        for block_size in BLOCK_SIZES {
            from_directory(&tree, &image, block_size, Install::Forbidden).unwrap();
            let mut dump = Command::new(&debugfs);
            dump.args(["-R", &format!("rdump / {}", out.display())]).arg(&image);
            host::output_of(&mut dump).unwrap();
            assert_eq!(tree::sums(&tree, "").unwrap(), tree::sums(&out, "").unwrap(), "{block_size}");
            let sector = first_sector(&image, "/big.bin", block_size, Install::Forbidden).unwrap();
            let at = usize::try_from(sector * 512).unwrap();
            let bytes = fs::read(&image).unwrap();
            assert!(bytes[at..].starts_with(&fs::read(tree.join("big.bin")).unwrap()[..4096]));
            fs::remove_dir_all(&out).unwrap();
            fs::create_dir(&out).unwrap();
        }
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn holes_and_second_names_take_no_room() {
        let top = std::env::temp_dir().join(format!("xtask-needs-{}", std::process::id()));
        fs::create_dir_all(&top).unwrap();
        fs::File::create(top.join("hole")).unwrap().set_len(1 << 33).unwrap();
        fs::write(top.join("data"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(top.join("data"), top.join("again")).unwrap();
        let mut needs = Needs::default();
        needs.add_tree(&top, 1024).unwrap();
        assert_eq!(needs.inodes, 3);
        assert!((1024..1100).contains(&needs.blocks), "{needs:?}");
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn other_block_sizes_are_refused() {
        let nowhere = Path::new("/nonexistent");
        assert!(from_directory(nowhere, nowhere, 512, Install::Forbidden).is_err());
    }
}
