//! Shared memory: an ivshmem device, and the frames that are made of what it shows.

use alloc::sync::Arc;

use cache::PageCache;
use donors::Donor;
use donors::ivshmem::{NAME, SharedMemory};
use frames::{FrameRun, PfnRange};
use log::warn;

use crate::arch::paging;
use crate::drivers::ivshmem::Shared;

/// Lends the memory that the device shows, up to `most` frames.
pub fn start(cache: &Arc<PageCache>, found: &[Shared], most: u64) -> Option<Arc<dyn Donor>> {
    let memory = cache.memory();
    let shared = super::only(NAME, found.to_vec(), most, drop)?;
    let range = PfnRange { start: shared.range.start, count: shared.range.count.min(most) };
    if range.is_empty() {
        warn!(target: "donate", "{NAME}: nothing to lend at pci {}", shared.function);
        return None;
    }
    super::or_say(NAME, memory.annex(range))?;
    super::or_say(NAME, paging::show_memory(memory, range))?;
    // SAFETY: the range lies in one annex, and it is memory, because it is the memory of a PCI function, which is switched on
    // and stays where it is; the window shows it. This is the only place that makes frames of it, and it was annexed only now.
    // Others write to it, so its pages go in and out by the pool's copies alone: it is lent as not trusted and never taken back.
    let run = unsafe { FrameRun::from_range(memory, range) };
    let lent = super::or_say(NAME, SharedMemory::lend(cache.cleancache().clone(), run))?;
    Some(Arc::new(lent))
}
