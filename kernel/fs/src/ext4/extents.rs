//! Where the blocks of a file are: its extent tree (Linux: Documentation/filesystems/ext4/ifork.rst, "Extent Tree").
//!
//! A search goes down one branch, at most five nodes, whatever the tree is like. A node is used only if its checksum is right, where
//! there are checksums.

use super::backing::Pages;
use super::facts::{Facts, corrupt, half, raw_crc, word};
use super::inode::Content;
use crate::error::Result;
use alloc::vec::Vec;

const MAGIC: u16 = 0xf30a;
/// Bytes in a node's header, and in each of its entries.
const ENTRY: usize = 12;
const DEEPEST: u16 = 5;
/// An extent of more blocks than this was allocated and never written: so many blocks too many, and it reads as zeros.
const WRITTEN_MOST: u16 = 32_768;

/// Blocks of a file that lie one after the other on the disk, or that are all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first one on the disk; `None` for zeros.
    pub(super) start: Option<u64>,
    /// How many, at least one.
    pub(super) len: u64,
}

/// Where block `index` of a file is, and how many after it go on like it.
pub(super) fn find(facts: &Facts, disk: &Pages, content: &Content, index: u32) -> Result<Run> {
    let mut node: Vec<u8> = content.root.to_vec();
    let mut depth = header(&node, content)?;
    // What is to the right of the branch that is gone down: the first block that is not below it.
    let mut end = u64::from(u32::MAX) + 1;
    loop {
        let entries = entries(&node);
        let first = |entry: &&[u8]| word(entry, 0);
        let after = entries.clone().find(|entry| first(entry) > index).map(|entry| u64::from(first(&entry)));
        end = after.unwrap_or(end).min(end);
        let hole = Run { start: None, len: (end - u64::from(index)).max(1) };
        let Some(entry) = entries.take_while(|entry| first(entry) <= index).last() else { return Ok(hole) };
        if depth == 0 {
            return extent(facts, entry, index, hole);
        }
        let block = u64::from(half(entry, 8)) << 32 | u64::from(word(entry, 4));
        node = child(facts, disk, content, block)?;
        let deeper = header(&node, content)?;
        if deeper + 1 != depth {
            return corrupt("the depth of an extent tree, inode", content.stat.ino.0);
        }
        depth = deeper;
    }
}

/// Block `index` in the extent `entry`, which begins at or before it.
fn extent(facts: &Facts, entry: &[u8], index: u32, hole: Run) -> Result<Run> {
    let (len, offset) = (half(entry, 4), u64::from(index - word(entry, 0)));
    let (blocks, written) = if len > WRITTEN_MOST { (len - WRITTEN_MOST, false) } else { (len, true) };
    let Some(left) = u64::from(blocks).checked_sub(offset).filter(|left| *left > 0) else { return Ok(hole) };
    let start = u64::from(half(entry, 6)) << 32 | u64::from(word(entry, 8));
    // The superblock and what is before it can be no file's.
    if start == 0 || start.saturating_add(blocks.into()) > facts.blocks {
        return corrupt("an extent out of range", start);
    }
    Ok(Run { start: written.then_some(start + offset), len: left.min(hole.len) })
}

/// Read a node that is not the root.
fn child(facts: &Facts, disk: &Pages, content: &Content, block: u64) -> Result<Vec<u8>> {
    if block == 0 || block >= facts.blocks {
        return corrupt("a node of an extent tree out of range", block);
    }
    let mut node = super::zeroed(facts.block_size())?;
    disk.read_exactly(block << facts.block_shift, &mut node)?;
    // The checksum follows the last entry that there is room for.
    let at = ENTRY * (1 + usize::from(half(&node, 4)));
    match (content.seed, node.get(..at)) {
        (Some(_), None) => corrupt("the length of an extent tree's node", block),
        (Some(seed), Some(summed)) if raw_crc(seed, summed) != word(&node, at) => {
            corrupt("the checksum of an extent tree's node", block)
        }
        _ => Ok(node),
    }
}

/// Check a node's header; its depth.
fn header(node: &[u8], content: &Content) -> Result<u16> {
    let (count, depth) = (usize::from(half(node, 2)), half(node, 6));
    if half(node, 0) != MAGIC || depth > DEEPEST || ENTRY * (1 + count) > node.len() {
        return corrupt("a node of an extent tree, inode", content.stat.ino.0);
    }
    Ok(depth)
}

fn entries(node: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    node.chunks_exact(ENTRY).skip(1).take(half(node, 2).into())
}
