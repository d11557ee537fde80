//! Regular files: what their inodes say, read from the disk's own numbers.

use super::backing::Pages;
use super::facts::{Facts, corrupt, half, word};
use crate::error::{Error, Result};
use crate::filesystem::{FileType, Ino, Stat, Time};
use alloc::string::String;
use core::fmt::Write;
use frames::FRAME_SIZE;

/// The fixed part of an inode, and the times that follow it in large ones.
const INODE: usize = 160;
/// Where an extent tree has its root.
const ROOT_AT: usize = 0x28;
/// Bytes of that.
pub(super) const ROOT_SIZE: usize = 60;
/// `i_flags`.
const FLAG_ENCRYPTED: u32 = 0x800;
const FLAG_EXTENTS: u32 = 0x8_0000;
/// `i_mode` of a regular file.
const REGULAR: u16 = 0x8;

/// A regular file.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) stat: Stat,
    pub(super) generation: u32,
    /// The root of its extent tree.
    pub(super) root: [u8; ROOT_SIZE],
    /// What the checksums of the tree's other nodes begin with.
    pub(super) seed: Option<u32>,
    flags: u32,
}

impl Content {
    /// Read the inode `ino`, whose checksum was looked at when its name was.
    pub(super) fn read(facts: &Facts, disk: &Pages, ino: u64) -> Result<Self> {
        let mut bytes = [0; INODE];
        let at = facts.inode_at(disk, ino)?;
        disk.read_exactly(at, &mut bytes)?;
        let (half, word) = (|at| half(&bytes, at), |at| word(&bytes, at));
        if half(0) >> 12 != REGULAR || half(0x1a) == 0 {
            return corrupt("an inode that is no regular file", ino);
        }
        let size = u64::from(word(0x6c)) << 32 | u64::from(word(0x4));
        if size > FRAME_SIZE as u64 * u64::from(u32::MAX) {
            return corrupt("a file's size", size);
        }
        let sectors = u64::from(half(0x74)) << 32 | u64::from(word(0x1c));
        // Where the inode is too small for them, what stands there is another's.
        let extra = |at| if half(0x80) >= 0x20 && facts.has_extra() { word(at) } else { 0 };
        let stat = Stat {
            ino: Ino(ino),
            kind: FileType::Regular,
            mode: half(0) & 0o7777,
            links: half(0x1a).into(),
            uid: u32::from(half(0x78)) << 16 | u32::from(half(0x2)),
            gid: u32::from(half(0x7a)) << 16 | u32::from(half(0x18)),
            size,
            allocated: sectors.saturating_mul(512),
            atime: time(word(0x8), extra(0x8c)),
            mtime: time(word(0x10), extra(0x88)),
            ctime: time(word(0xc), extra(0x84)),
        };
        let mut root = [0; ROOT_SIZE];
        root.copy_from_slice(&bytes[ROOT_AT..ROOT_AT + ROOT_SIZE]);
        let generation = word(0x64);
        Ok(Self { stat, generation, root, seed: facts.seed_of(ino, generation), flags: word(0x20) })
    }

    /// Refuse what cannot be read.
    pub(super) fn check(&self) -> Result<()> {
        match self.flags {
            flags if flags & FLAG_ENCRYPTED != 0 => Err(Error::Unsupported("encrypted files")),
            flags if flags & FLAG_EXTENTS == 0 => Err(Error::Unsupported("files without extents on an ext4")),
            _ => Ok(()),
        }
    }
}

/// A time: `extra` has two more bits of the seconds, and the nanoseconds above them.
fn time(seconds: u32, extra: u32) -> Time {
    let seconds = i64::from(seconds.cast_signed()) + (i64::from(extra & 3) << 32);
    Time { seconds, nanos: (extra >> 2).min(999_999_999) }
}

/// The number of an open file, which `ext4-view` shows in its debug output and nowhere else: `File { inode: 12, … }`.
pub(super) fn number_of(file: &ext4_view::File) -> Option<u64> {
    let mut text = String::new();
    write!(text, "{file:?}").ok()?;
    let (_, after) = text.split_once("inode: ")?;
    let end = after.find(|c: char| !c.is_ascii_digit())?;
    after[..end].parse().ok()
}
