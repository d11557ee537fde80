//! The balloon: a virtio device, and a share of the guest's own memory.

use alloc::sync::Arc;
use alloc::vec::Vec;

use cache::PageCache;
use donors::Donor;
use donors::balloon::{Balloon, NAME};

use crate::drivers::virtio::Found;
use crate::drivers::virtio::balloon::VirtioBalloon;
use crate::drivers::virtio::port::Port;

/// Takes the balloon into service, with a share of so many frames. Without a share it lends nothing and follows the host.
pub fn start(cache: &Arc<PageCache>, found: Vec<Found>, share: u64) -> Option<Arc<dyn Donor>> {
    let device =
        super::or_say(NAME, VirtioBalloon::new(cache.memory(), super::only(NAME, found, share, Port::retire)?))?;
    let balloon = super::or_say(NAME, Balloon::start(cache.clone(), device, share))?;
    Some(Arc::new(balloon))
}
