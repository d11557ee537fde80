//! The carve-out: frames that were set aside at boot.

use alloc::sync::Arc;

use cache::PageCache;
use donors::carve_out::{CarveOut, NAME};
use frames::PfnRange;
use handover::Handover;

/// Lends what was set aside, which may be nothing. Pages that `handover` says are cached may lie in it.
pub fn start(cache: &Arc<PageCache>, range: PfnRange, handover: Option<&Handover>) -> Option<Arc<CarveOut>> {
    let made = CarveOut::lend(cache.clone(), range, handover.into_iter().flat_map(Handover::cached));
    super::or_say(NAME, made).map(Arc::new)
}
