//! Reads that go to the disk together, for filesystems that fill pages; and their errors in the page cache's words.

use crate::block::{BlockDevice, BlockError, ReadRequest, SECTOR_SIZE};
use crate::error::Error;
use alloc::vec::Vec;
use cache::FillError;
use frames::{FRAME_SIZE, Frame};

/// The reads, neighbours merged.
#[derive(Default)]
pub(crate) struct Requests<'a> {
    requests: Vec<ReadRequest<'a>>,
    /// The sector after the last request.
    next: u64,
}

impl<'a> Requests<'a> {
    /// Read from `sector` on into `segment`, as part of the request before when it goes on where that ends.
    pub(crate) fn add(&mut self, sector: u64, segment: &'a mut [u8]) -> Result<(), FillError> {
        if segment.is_empty() {
            return Ok(());
        }
        let next = sector + (segment.len() / SECTOR_SIZE) as u64;
        let segments = match self.requests.last_mut() {
            Some(request) if self.next == sector => &mut request.segments,
            _ => {
                self.requests.try_reserve(1).map_err(|_| FillError::NoMemory)?;
                &mut self.requests.push_mut(ReadRequest { sector, segments: Vec::new() }).segments
            }
        };
        segments.try_reserve(1).map_err(|_| FillError::NoMemory)?;
        segments.push(segment);
        self.next = next;
        Ok(())
    }

    /// Read pages `first..` of a disk of `sectors` sectors; zeros past its end.
    pub(crate) fn add_disk_pages(&mut self, sectors: u64, first: u32, pages: &'a mut [Frame]) -> Result<(), FillError> {
        const SECTORS: u64 = (FRAME_SIZE / SECTOR_SIZE) as u64;
        for (index, page) in (u64::from(first)..).zip(pages) {
            let there = sectors.saturating_sub(index * SECTORS).min(SECTORS) as usize;
            let (read, past) = page.bytes_mut().split_at_mut(there * SECTOR_SIZE);
            past.fill(0);
            self.add(index * SECTORS, read)?;
        }
        Ok(())
    }

    /// Do all of it.
    pub(crate) fn read(&mut self, device: &dyn BlockDevice) -> Result<(), FillError> {
        match self.requests.is_empty() {
            true => Ok(()),
            false => device.read(&mut self.requests).map_err(device_error),
        }
    }

    /// What was read last.
    pub(crate) fn last_segment(&mut self) -> Option<&mut [u8]> {
        self.requests.last_mut()?.segments.last_mut().map(|segment| &mut **segment)
    }
}

/// What a disk can fail with, in the page cache's words.
pub(crate) fn device_error(error: BlockError) -> FillError {
    match error {
        BlockError::Io { sector } => FillError::Device { sector },
        BlockError::OutOfRange { sector, .. } => {
            FillError::Corrupt { what: "a sector past the end of the disk", value: sector }
        }
        BlockError::ReadOnly => FillError::ReadOnly,
        BlockError::Reset => FillError::Reset,
        BlockError::Dead => FillError::DeadDevice,
    }
}

/// What finding an inode can fail with, in the page cache's words.
pub(crate) fn fill_error(error: Error) -> FillError {
    match error {
        Error::Device(error) => device_error(error),
        Error::Corrupt { what, value } => FillError::Corrupt { what, value },
        Error::NoMemory => FillError::NoMemory,
        Error::Unmounted => FillError::Unmounted,
        _ => FillError::Corrupt { what: "a file that cannot be read", value: 0 },
    }
}
