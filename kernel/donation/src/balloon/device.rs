//! What the balloon wants of its device.

use frames::{FrameRun, Pfn};

use super::Statistic;
use crate::Fault;

/// What the balloon wants of its device. After a [`Fault`] it is [reset](Self::reset) and not used again.
pub trait BalloonDevice: Send {
    /// The device's call was heard. Comes before a look at its wishes.
    fn acknowledge(&mut self) -> Result<(), Fault>;
    /// How many frames the host wants to have.
    fn target(&mut self) -> Result<u32, Fault>;
    /// How many it has.
    fn set_actual(&mut self, pages: u32) -> Result<(), Fault>;
    /// Gives these frames to the host, at most [`BATCH`](super::BATCH). They are the host's even if this fails.
    fn inflate(&mut self, pfns: &[Pfn]) -> Result<(), Fault>;
    /// Takes these frames from the host, at most [`BATCH`](super::BATCH). They are the guest's when this has succeeded.
    fn deflate(&mut self, pfns: &[Pfn]) -> Result<(), Fault>;
    /// Whether frames may be used only after the host was told.
    fn must_tell(&self) -> bool;
    /// Whether the balloon may shrink below the host's target when memory is short.
    fn deflates_on_oom(&self) -> bool;
    /// Whether the host waits for new statistics.
    fn wants_statistics(&mut self) -> Result<bool, Fault>;
    /// The statistics that it waits for.
    fn tell_statistics(&mut self, statistics: &[Statistic]) -> Result<(), Fault>;
    /// How many free blocks the host can be told of at a time; 0 if it does not want to know.
    fn report_room(&self) -> usize;
    /// Tells the host that nothing is kept in these blocks; their bytes are unspecified afterwards.
    fn report(&mut self, blocks: &mut [FrameRun]) -> Result<(), Fault>;
    /// Stops the device for good; says whether it confirmed that, so that it holds no frame any more.
    fn reset(&mut self) -> bool;
}
