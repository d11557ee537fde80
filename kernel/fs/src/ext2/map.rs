//! The block map: from the blocks of a file to the blocks of the disk, through up to three levels of indirect blocks.
//!
//! A [`BlockMap`] serves one run of blocks. It keeps a window of the block it last read on each level, so that a run reads
//! each indirect block once, and allocates nothing. The depth is fixed by the format, so no loop on disk can hold it.

use super::geometry::{Block, Geometry};
use super::layout::{DIRECT, POINTERS};
use cache::FillError;

/// Bytes of an indirect block that are kept: 64 pointers.
const WINDOW: usize = 256;

/// Something that reads bytes of the disk, at a byte position.
pub(super) trait ReadDisk {
    fn read_disk(&self, at: u64, out: &mut [u8]) -> Result<(), FillError>;
}

/// The pointers of one indirect block that were read last, and where on the disk they came from.
#[derive(Clone, Copy)]
struct Window {
    at: Option<u64>,
    bytes: [u8; WINDOW],
}

/// One reader's way through one file's map.
pub(super) struct BlockMap<'a, D> {
    geometry: &'a Geometry,
    roots: &'a [u32; POINTERS],
    disk: &'a D,
    levels: [Window; 3],
}

impl<'a, D: ReadDisk> BlockMap<'a, D> {
    /// The map of the file whose inode has the pointers `roots`.
    pub(super) fn new(geometry: &'a Geometry, roots: &'a [u32; POINTERS], disk: &'a D) -> Self {
        Self { geometry, roots, disk, levels: [Window { at: None, bytes: [0; WINDOW] }; 3] }
    }

    /// Where block `index` of the file lies; `None` is a hole.
    pub(super) fn find(&mut self, index: u64) -> Result<Option<Block>, FillError> {
        let pointers = self.geometry.pointers_per_block();
        let too_far = FillError::Corrupt { what: "a block beyond the largest file", value: index };
        let Some(mut rest) = index.checked_sub(DIRECT as u64) else {
            return self.root(index as usize);
        };
        // Which of the three trees, and how many blocks are below each pointer of its topmost block.
        let (mut depth, mut below) = (0, 1);
        while rest >= below * pointers {
            rest -= below * pointers;
            below *= pointers;
            depth += 1;
            if depth == self.levels.len() {
                return Err(too_far);
            }
        }
        let mut block = self.root(DIRECT + depth)?;
        for level in 0..=depth {
            let Some(indirect) = block else { return Ok(None) };
            block = self.pointer(level, indirect, rest / below)?;
            rest %= below;
            below = (below / pointers).max(1);
        }
        Ok(block)
    }

    fn root(&self, at: usize) -> Result<Option<Block>, FillError> {
        self.geometry.block(self.roots.get(at).copied().unwrap_or(0))
    }

    /// Pointer `index` of the block `indirect`.
    fn pointer(&mut self, level: usize, indirect: Block, index: u64) -> Result<Option<Block>, FillError> {
        let at = self.geometry.block_at(indirect) + index * 4;
        let offset = (at % WINDOW as u64) as usize;
        let start = at - offset as u64;
        let Some(window) = self.levels.get_mut(level) else { return Ok(None) };
        if window.at != Some(start) {
            window.at = None;
            self.disk.read_disk(start, &mut window.bytes)?;
            window.at = Some(start);
        }
        let pointer = window.bytes.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        self.geometry.block(u32::from_le_bytes(pointer))
    }
}
