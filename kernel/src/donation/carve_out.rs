//! The carve-out: frames that were set aside at boot.

use alloc::sync::Arc;

use cache::PageCache;
use donors::carve_out::{CarveOut, NAME};
use frames::PfnRange;

/// Lends what was set aside, which may be nothing.
pub fn start(cache: &Arc<PageCache>, range: PfnRange) -> Option<Arc<CarveOut>> {
    let made = CarveOut::lend(cache.memory(), cache.cleancache().clone(), range);
    super::or_say(NAME, made).map(Arc::new)
}
