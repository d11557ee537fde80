//! What `kho` shows.

use core::fmt;

use fs::tmpfs::Census;
use handover::Summary;

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
        let kept = system.tmpfs().into_iter().filter(|(_, tmpfs)| tmpfs.options().handover);
        let census: Census = kept.map(|(_, tmpfs)| tmpfs.census()).sum();
        writeln!(out, "preserved now: inodes {}, extents {}, frames {}", census.inodes, census.extents, census.frames)?;
        if self.number == 0 {
            return Ok(());
        }
        writeln!(out, "previous build {}", self.previous_build)?;
        if let Some(why) = &self.came_back {
            writeln!(out, "came back: {why}")?;
        }
        match &self.handed_over {
            Some((version, summary)) => {
                let Summary { inodes, extents, content_frames, bytes, blob_frames, .. } = summary;
                write!(out, "handed over: inodes {inodes}, extents {extents}, frames {content_frames}; ")?;
                writeln!(out, "metadata {bytes} bytes in {blob_frames} frames, version {version}")?;
                let claimed = content_frames.saturating_sub(census.unclaimed);
                writeln!(out, "tmpfs: claimed {claimed}, left {}", census.unclaimed)?;
            }
            None => writeln!(out, "handed over: nothing")?,
        }
        writeln!(out, "quarantined {}", census.quarantined)?;
        writeln!(out, "casualties: {}", self.casualties.len())?;
        for (point, casualty) in &self.casualties {
            writeln!(out, "  {}: {casualty}", point.escape_ascii())?;
        }
        writeln!(out, "downtime {} us", time::ticks_to_micros(self.downtime))
    }
}
