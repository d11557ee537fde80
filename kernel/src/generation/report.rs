//! What `kho` shows.

use alloc::vec::Vec;
use core::fmt;

use cache::InheritedStats;
use frames::FRAME_SIZE;
use fs::tmpfs::{Census, Claims};
use handover::Summary;
use prompt::size::Human;

use super::Generation;
use crate::machine::BUILD;
use crate::system::System;
use crate::time;

impl Generation {
    /// Writes what `kho` shows.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn report(&self, system: &System, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "generation {}", self.number)?;
        writeln!(out, "build {BUILD}")?;
        let Census { inodes, extents, frames, unclaimed, quarantined, windows, summed } = system.preserved();
        write!(
            out,
            "preserved now: inodes {inodes}, extents {extents}, frames {frames} ({})",
            Human(bytes_of(frames))
        )?;
        writeln!(out, "; checksums {summed} of {windows} windows")?;
        if self.number == 0 {
            return Ok(());
        }
        writeln!(out, "previous build {}", self.previous_build)?;
        if let Some(why) = &self.came_back {
            writeln!(out, "came back: {why}")?;
        }
        match &self.handed_over {
            Some((version, summary)) => {
                let Summary { inodes, extents, content_frames, bytes, cache_bytes, blob_frames, .. } = summary;
                let of_files = bytes - cache_bytes;
                let content = Human(bytes_of(*content_frames));
                write!(out, "handed over: inodes {inodes}, extents {extents}, frames {content_frames} ({content}); ")?;
                writeln!(
                    out,
                    "metadata {of_files} bytes, version {version}; caches' {cache_bytes} bytes; {blob_frames} frames for both"
                )?;
            }
            None => writeln!(out, "handed over: nothing")?,
        }
        let claims: Claims = system.tmpfs().iter().map(|(_, tmpfs)| tmpfs.claims()).sum();
        let Claims { frames, windows, pages, lost } = claims;
        write!(out, "tmpfs: claimed {frames}, left {unclaimed}; verified {windows} windows of {pages} pages, ")?;
        writeln!(out, "failed {lost}")?;
        writeln!(out, "quarantined {quarantined}")?;
        let InheritedStats { handed_over, taken, failed, dropped, left, why, .. } = system.cache.inherited();
        write!(
            out,
            "caches: handed over {handed_over}, taken {taken}, left {left}, failed {failed}, dropped {dropped}"
        )?;
        match why {
            Some(why) => writeln!(out, ": {why}")?,
            None => writeln!(out)?,
        }
        let lost: Vec<_> = system
            .tmpfs()
            .iter()
            .flat_map(|(point, tmpfs)| tmpfs.lost().into_iter().map(|casualty| (point.clone(), casualty)))
            .collect();
        writeln!(out, "casualties: {}", self.casualties.len() + lost.len())?;
        for (point, casualty) in self.casualties.iter().chain(&lost) {
            writeln!(out, "  {}: {casualty}", point.escape_ascii())?;
        }
        writeln!(out, "downtime {} us", time::ticks_to_micros(self.downtime))
    }
}

fn bytes_of(frames: u64) -> u64 {
    frames.saturating_mul(FRAME_SIZE as u64)
}
