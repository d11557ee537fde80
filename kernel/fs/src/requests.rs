//! Reads that go to the disk together, for filesystems that fill pages; and their errors in the page cache's words.

use crate::block::{BlockDevice, BlockError, ReadRequest, SECTOR_SIZE};
use crate::error::Error;
use alloc::vec::Vec;
use cache::FillError;
use frames::{FRAME_SIZE, Frame};

/// The reads, neighbours merged.
#[derive(Default)]
pub(crate) struct Requests<'a> {
    segments: Vec<&'a mut [u8]>,
    /// The first sector of each request, and how many of the segments are its own.
    requests: Vec<(u64, usize)>,
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
        self.segments.try_reserve(1).map_err(|_| FillError::NoMemory)?;
        match self.requests.last_mut() {
            Some((_, segments)) if self.next == sector => *segments += 1,
            _ => {
                self.requests.try_reserve(1).map_err(|_| FillError::NoMemory)?;
                self.requests.push((sector, 1));
            }
        }
        self.segments.push(segment);
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
        let mut requests = Vec::new();
        requests.try_reserve_exact(self.requests.len()).map_err(|_| FillError::NoMemory)?;
        let mut rest = &mut self.segments[..];
        for &(sector, count) in &self.requests {
            let (segments, others) = rest.split_at_mut(count.min(rest.len()));
            requests.push(ReadRequest { sector, segments });
            rest = others;
        }
        match requests.is_empty() {
            true => Ok(()),
            false => device.read(&mut requests).map_err(device_error),
        }
    }

    /// What was read last.
    pub(crate) fn last_segment(&mut self) -> Option<&mut [u8]> {
        self.segments.last_mut().map(|segment| &mut **segment)
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
