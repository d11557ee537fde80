//! Reading frames of a map without having the map, for those who can do without when it is being changed just then.

use super::index::Index;
use super::{FrameMap, Key};
use crate::copy::{self, PagePart};
use crate::memory::Memory;
use crate::meta::FrameMeta;
use crate::sync;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

/// Looks into a map from beside it. This writes nothing that is shared.
pub struct Glance {
    memory: &'static Memory,
    meta: &'static [FrameMeta],
    index: Arc<Index>,
}

impl FrameMap {
    /// A way to look into this map from beside it. Frames of an annex, which may be no memory one day, must not come into it.
    pub fn glance(&self) -> Glance {
        Glance { memory: self.memory, meta: self.memory.meta(), index: Arc::clone(&self.index) }
    }
}

impl Glance {
    /// Copy a part of the page under `key`. Returns the bits that belong to the map's user; `None` when the page is not there, or
    /// changed or taken meanwhile. The part has bytes of anybody then.
    #[inline(always)]
    pub fn read(&self, key: Key, part: &mut PagePart<'_>) -> Option<u16> {
        let bucket = self.index.bucket(key);
        let version = self.index.version(bucket);
        let mut slot = self.index.head(bucket).load(Acquire);
        loop {
            sync::window();
            let record = self.meta.get(slot as usize)?;
            if record.key.load(Relaxed) == key.packed() {
                let private = record.private.load(Relaxed);
                sync::window();
                // SAFETY: the slot was read from a chain of this map, a head or a link of a chain that still stood, so it is a frame
                // that was in the map, and none of an annex: its bytes are memory for ever. That somebody changes them meanwhile is
                // allowed, and what they are copied into is somebody else's. The copy counts only if the version says that the
                // frame was in the map all the while and nobody changed it.
                unsafe { copy::part(self.memory.page(slot), part) };
                return version.stands().then_some(private);
            }
            slot = record.bucket_next.load(Acquire);
            // A chain that nothing was taken from has an end; any other may lead anywhere.
            if !version.stands() {
                return None;
            }
        }
    }
}

impl fmt::Debug for Glance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Glance").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::{FRAME_SIZE, Zones};
    use std::hint;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    const KEY: Key = Key { file: 1, index: 7 };

    fn map_of(arena: &Arena) -> FrameMap {
        let mut map = FrameMap::new(arena.memory(), 4, 1);
        map.add_file(KEY.file);
        map
    }

    fn look(glance: &Glance, key: Key, at: u64, out: &mut [u8]) -> Option<u16> {
        glance.read(key, &mut PagePart::first(at, out))
    }

    #[test]
    fn a_glance_sees_what_is_there_and_nothing_else() {
        let arena = Arena::new(16);
        let mut map = map_of(&arena);
        let glance = map.glance();
        let mut out = [0; 5];
        assert_eq!(look(&glance, KEY, 0, &mut out), None, "nothing is there");
        let mut frame = arena.memory().allocate(Zones::Ephemeral).expect("a frame");
        frame.bytes_mut()[3..8].copy_from_slice(b"bytes");
        map.insert(KEY, frame, 0, 0x1234).expect("a free place");
        assert_eq!(look(&glance, KEY, 3, &mut out), Some(0x1234));
        assert_eq!(&out, b"bytes");
        let other = Key { index: 8, ..KEY };
        assert_eq!(look(&glance, other, 3, &mut out), None, "another page");
        {
            let mut page = map.get_mut(KEY).expect("the page");
            page.bytes_mut()[3] = b'B';
            assert_eq!(look(&glance, KEY, 3, &mut out), None, "it is being changed");
        }
        assert_eq!(look(&glance, KEY, 3, &mut out), Some(0x1234));
        assert_eq!(&out, b"Bytes");
        drop(map.remove(KEY));
        assert_eq!(look(&glance, KEY, 3, &mut out), None, "it was taken");
    }

    /// Real threads, for what a scheduler of interleavings cannot show: the order in which processors see things.
    #[test]
    fn no_glance_is_half_one_thing_and_half_another() {
        let arena = Arena::new(16);
        let mut map = map_of(&arena);
        let glance = map.glance();
        let (over, seen) = (AtomicBool::new(false), AtomicU32::new(0));
        thread::scope(|scope| {
            let reader = || {
                let mut out = [0; FRAME_SIZE];
                while !over.load(Ordering::Relaxed) {
                    if look(&glance, KEY, 0, &mut out).is_some() {
                        assert!(out.iter().all(|&byte| byte == out[0] && byte != 0xee), "{} and others", out[0]);
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            let readers = [scope.spawn(reader), scope.spawn(reader)];
            let (mut rounds, patience) = (0_u32, Instant::now() + Duration::from_secs(60));
            // Readers may have to wait for their turn on a busy machine.
            while (rounds < 20_000 || seen.load(Ordering::Relaxed) < 1_000)
                && Instant::now() < patience
                && !readers.iter().any(|reader| reader.is_finished())
            {
                let mut frame = map.remove(KEY).or_else(|| arena.memory().allocate(Zones::Ephemeral)).expect("a frame");
                // It is nobody's page now.
                frame.bytes_mut().fill(0xee);
                frame.bytes_mut().fill(rounds as u8 % 0x80);
                map.insert(KEY, frame, 0, 0).expect("a free place");
                if let Some(mut page) = map.get_mut(KEY) {
                    let (front, back) = page.bytes_mut().split_at_mut(FRAME_SIZE / 2);
                    front.fill(rounds as u8 % 0x80 + 1);
                    // As long as a reader needs, so that each has a chance to see it half done.
                    (0..100).for_each(|_| hint::spin_loop());
                    back.fill(rounds as u8 % 0x80 + 1);
                }
                rounds += 1;
            }
            over.store(true, Ordering::Relaxed);
            readers.into_iter().for_each(|reader| reader.join().expect("a reader that did not panic"));
        });
        assert!(seen.into_inner() >= 1_000, "readers see next to nothing");
    }
}
