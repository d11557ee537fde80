//! The superblock of a filesystem that is mounted for writing: its mark that says whether it was left as it should be, its
//! counts, and the two sectors in which it lies.

use super::layout::{RO_COMPAT_LARGE_FILE, RawSuperblock, STATE_ERROR, STATE_VALID, SUPERBLOCK_AT, SUPERBLOCK_SIZE};
use crate::block::{BlockDevice, SECTOR_SIZE, WriteRequest};
use crate::error::{Error, Result};
use crate::filesystem::Time;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

/// The superblock, as it is to be on the disk.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    bytes: [u8; SUPERBLOCK_SIZE],
    /// It was found to be left as it should be, and nothing was found wrong since.
    pub(super) sound: bool,
    /// It differs from what is on the disk.
    pub(super) changed: bool,
}

impl Superblock {
    pub(super) fn new(bytes: [u8; SUPERBLOCK_SIZE]) -> Self {
        let mut superblock = Self { bytes, sound: false, changed: false };
        let state = superblock.raw().map_or(0, |raw| raw.state.get());
        superblock.sound = state & STATE_VALID != 0 && state & STATE_ERROR == 0;
        superblock
    }

    pub(super) fn bytes(&self) -> &[u8; SUPERBLOCK_SIZE] {
        &self.bytes
    }

    fn raw(&self) -> Option<RawSuperblock> {
        RawSuperblock::read_from_prefix(&self.bytes[..]).ok().map(|(raw, _)| raw)
    }

    fn change(&mut self, change: impl FnOnce(&mut RawSuperblock)) {
        let Some(mut raw) = self.raw() else { return };
        change(&mut raw);
        let _ = raw.write_to_prefix(&mut self.bytes[..]);
        self.changed = true;
    }

    /// From now on it is in use, and a crash is to be seen. A mount is counted.
    pub(super) fn begin(&mut self, now: Time, mounts: bool) {
        self.change(|raw| {
            raw.state = U16::new(raw.state.get() & !STATE_VALID);
            raw.write_time = U32::new(now.seconds as u32);
            if mounts {
                raw.mount_count = U16::new(raw.mount_count.get().saturating_add(1));
                raw.mount_time = U32::new(now.seconds as u32);
            }
        });
    }

    /// It is left as it should be, unless it was found otherwise.
    pub(super) fn end(&mut self, now: Time) {
        let valid = if self.sound { STATE_VALID } else { 0 };
        self.change(|raw| {
            raw.state = U16::new(raw.state.get() & !STATE_VALID | valid);
            raw.write_time = U32::new(now.seconds as u32);
        });
    }

    /// Something contradicts itself.
    pub(super) fn blame(&mut self) {
        self.sound = false;
        self.change(|raw| raw.state = U16::new(raw.state.get() & !STATE_VALID | STATE_ERROR));
    }

    /// What is free, and when that was written.
    pub(super) fn count(&mut self, free_blocks: u32, free_inodes: u32, now: Time) {
        self.change(|raw| {
            raw.free_blocks = U32::new(free_blocks);
            raw.free_inodes = U32::new(free_inodes);
            raw.write_time = U32::new(now.seconds as u32);
        });
    }

    /// There is a file of 2 GiB or more now. [`Error::FileTooLarge`] where the format knows none.
    pub(super) fn allow_large_files(&mut self) -> Result<()> {
        let Some(raw) = self.raw() else { return Ok(()) };
        if raw.revision.get() == 0 {
            return Err(Error::FileTooLarge { limit: i32::MAX as u64 });
        }
        if raw.feature_ro_compat.get() & RO_COMPAT_LARGE_FILE == 0 {
            let with = raw.feature_ro_compat.get() | RO_COMPAT_LARGE_FILE;
            self.change(|raw| raw.feature_ro_compat = U32::new(with));
        }
        Ok(())
    }

    /// Bring it to the disk, and wait until it is there.
    pub(super) fn write(&self, device: &dyn BlockDevice) -> Result<()> {
        let sector = SUPERBLOCK_AT / SECTOR_SIZE as u64;
        device.write(&[WriteRequest { sector, segments: &[&self.bytes[..]] }])?;
        Ok(device.flush()?)
    }
}
