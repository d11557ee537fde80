//! Places in a map: looked for once, then filled or emptied without another look.

use super::index::Bucket;
use super::{FrameMap, Key};
use crate::frame::Frame;
use crate::meta::FrameMeta;

/// A frame that came out of a map, and what was known of it there.
#[derive(Debug)]
pub struct Taken {
    /// The frame.
    pub frame: Frame,
    /// Its key.
    pub key: Key,
    /// The order that it was in.
    pub order: u16,
    /// The bits of the map's user.
    pub private: u16,
}

/// A key of a known file that was looked for and is not in the map, so that it can be [filled](FrameMap::fill) without another
/// look. Whoever has one keeps others from filling the same key.
#[derive(Debug)]
pub struct Vacant {
    pub(super) key: Key,
    pub(super) bucket: Bucket,
}

impl Vacant {
    /// The key.
    pub fn key(&self) -> Key {
        self.key
    }
}

/// What a look into a bucket finds.
#[derive(Debug)]
pub(super) struct Found {
    /// The record before it in the bucket.
    pub(super) before: Option<&'static FrameMeta>,
    pub(super) record: &'static FrameMeta,
    pub(super) slot: u32,
    pub(super) order: u16,
    pub(super) private: u16,
}

/// A key that was looked for and is in the map, so that its frame can be [taken](Occupied::take) without another look.
#[derive(Debug)]
pub struct Occupied<'a> {
    pub(super) map: &'a mut FrameMap,
    pub(super) key: Key,
    pub(super) bucket: Bucket,
    pub(super) found: Found,
}

impl<'a> Occupied<'a> {
    /// The order that the frame is in.
    #[inline]
    pub fn order(&self) -> u16 {
        self.found.order
    }

    /// The bits of the map's user.
    #[inline]
    pub fn private(&self) -> u16 {
        self.found.private
    }

    /// Take the frame, and have the map again.
    #[inline(always)]
    pub fn take(self) -> (Taken, &'a mut FrameMap) {
        let Self { map, key, bucket, found } = self;
        (map.unlink(bucket, found, key), map)
    }
}
