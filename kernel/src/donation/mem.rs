//! virtio-mem: a device, and the frames that are made of what it plugs.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use cache::PageCache;
use donors::Donor;
use donors::mem::{Ground, NAME, PluggedMemory};
use frames::{FrameRun, Memory, Pfn, PfnRange};
use log::warn;

use crate::arch::paging;
use crate::drivers::virtio::Found;
use crate::drivers::virtio::mem::VirtioMem;
use crate::drivers::virtio::port::Port;

/// Takes the device into service, for up to `most` frames.
pub fn start(cache: &Arc<PageCache>, found: Vec<Found>, most: u64) -> Option<Arc<dyn Donor>> {
    let memory = cache.memory();
    let device = super::or_say(NAME, VirtioMem::new(memory, super::only(NAME, found, most, Port::retire)?))?;
    let ground = Window { memory, most, prepared: None, owned: BTreeSet::new() };
    let plugged = super::or_say(NAME, PluggedMemory::start(cache.cleancache().clone(), device, ground))?;
    Some(Arc::new(plugged))
}

/// Frames in the physical window.
struct Window {
    memory: &'static Memory,
    most: u64,
    prepared: Option<PfnRange>,
    /// The first frames of the blocks of which there is an owner.
    owned: BTreeSet<Pfn>,
}

impl Ground for Window {
    fn prepare(&mut self, region: PfnRange) -> Option<PfnRange> {
        let range = PfnRange { start: region.start, count: region.count.min(self.most) };
        if range.is_empty() || self.prepared.is_some() {
            return None;
        }
        let shown =
            self.memory.annex(range).map_err(|error| warn!(target: "donate", "{NAME}: {error}")).ok().and_then(|()| {
                let shown = paging::show_memory(self.memory, range);
                shown.map_err(|error| warn!(target: "donate", "{NAME}: {error}")).ok()
            });
        self.prepared = shown.map(|()| range);
        self.prepared
    }

    fn plugged(&mut self, block: PfnRange) -> Option<FrameRun> {
        self.prepared.filter(|prepared| prepared.covers(block) && !block.is_empty())?;
        if !self.owned.insert(block.start) {
            return None;
        }
        // SAFETY: the block lies in one annex and the window shows it (`prepare`). The device has said that it is plugged, so it is
        // memory until it is unplugged, and it is given up before that. `owned` sees to it that there is one owner: all blocks
        // are of one size, so two with different starts share no frame.
        Some(unsafe { FrameRun::from_range(self.memory, block) })
    }

    fn unplugged(&mut self, block: FrameRun) {
        self.owned.remove(&block.into_range().start);
    }
}
