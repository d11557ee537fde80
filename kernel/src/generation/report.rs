//! What `kho` shows.

use core::fmt;

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
        let census = system.tmpfs().census();
        writeln!(out, "preserved now: {} inodes, {} extents, {} frames", census.inodes, census.extents, census.frames)?;
        if self.number == 0 {
            return Ok(());
        }
        writeln!(out, "previous build {}", self.previous_build)?;
        if let Some(why) = &self.came_back {
            writeln!(out, "came back: {why}")?;
        }
        match &self.handed_over {
            Some(summary) => {
                let claimed = summary.content_frames.saturating_sub(census.unclaimed);
                writeln!(
                    out,
                    "handed over: {} inodes, {} extents, {} frames, {} bytes of metadata in {} frames",
                    summary.inodes, summary.extents, summary.content_frames, summary.bytes, summary.blob_frames
                )?;
                writeln!(out, "claimed or freed since: {claimed} frames, {} left", census.unclaimed)?;
                writeln!(out, "casualties: {}", self.casualties.len())?;
                for casualty in &self.casualties {
                    writeln!(out, "  {casualty}")?;
                }
            }
            None => writeln!(out, "handed over: nothing")?,
        }
        writeln!(out, "downtime {} us", time::ticks_to_micros(self.downtime))
    }
}
