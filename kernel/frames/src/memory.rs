//! The machine's memory: a window through which frames are bytes, a record for each frame, and the free frames of both zones.
//!
//! Here is what frames ask of it: their names, their bytes, to be handed out and to be given back. It is set up in [`install`], and found by a
//! frame that is dropped in the [`table`]; frames that were set aside are claimed in [`claims`], and [`poison`] watches free ones.

use crate::addr::{FRAME_SHIFT, Page, Pfn, PfnRange, Zone, Zones};
use crate::annex::{AnnexError, Annexes};
use crate::aside::SetAside;
use crate::frame::{Frame, Name};
use crate::layout::{Stats, Watermarks};
use crate::lock::Lock;
use crate::meta::{FrameMeta, NIL};
use crate::run::FrameRun;
use crate::sections::Records;
use crate::zone::FreeFrames;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

#[cfg(not(target_os = "none"))]
mod again;
mod claims;
mod install;
mod poison;
mod table;
#[cfg(not(target_os = "none"))]
pub(crate) use again::Retired;
pub(crate) use table::ALONE;

/// The memory of one machine.
pub struct Memory {
    place: u16,
    base: Pfn,
    /// The first byte of the first frame of the span.
    window: NonNull<u8>,
    pub(crate) records: Records,
    /// Frames of the span: their slots come first.
    span: u32,
    annexes: Annexes,
    /// The slots of the scratch area.
    scratch_area: Range<u32>,
    scratch: FreeFrames,
    normal: FreeFrames,
    total: u64,
    set_aside: Lock<SetAside>,
    watermarks: Watermarks,
    /// Lists made so far; the count is the next one's number.
    lists: AtomicU32,
}

// SAFETY: `window` is the only field that is not `Send` and `Sync` by itself. It is a plain address; bytes are reached through
// it only by the owner of a frame (the crate's invariant), so sharing the address shares no bytes.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("place", &self.place).field("stats", &self.stats()).finish()
    }
}

impl Memory {
    #[inline]
    pub(crate) fn name(&self, slot: u32) -> Name {
        Name::new(self.place(), slot)
    }

    /// The frame at a slot of this machine.
    #[inline]
    pub(crate) fn pfn_of(&self, slot: u32) -> Pfn {
        if slot < self.span {
            return self.base.offset(u64::from(slot));
        }
        // A slot that no annex has is nobody's, so it is not asked for.
        self.annexes.pfn(slot).unwrap_or(self.base)
    }

    /// The slot of a frame of this machine.
    #[inline]
    pub(crate) fn slot(&self, pfn: Pfn) -> u32 {
        self.checked_slot(pfn).unwrap_or(NIL)
    }

    /// The slots of frames of the span.
    fn slots(&self, range: PfnRange) -> Range<u32> {
        let start = (range.start.get() - self.base.get()) as u32;
        start..start + range.count as u32
    }

    /// The slot of a frame that somebody outside named. Its record may never have been written.
    #[inline]
    pub(crate) fn checked_slot(&self, pfn: Pfn) -> Option<u32> {
        let distance = pfn.get().wrapping_sub(self.base.get());
        if distance < u64::from(self.span) { Some(distance as u32) } else { self.annexes.slot(pfn) }
    }

    /// Give the frames of `range`, which are not in the memory map, records, so that they can be kept on lists and in maps. They do
    /// not become part of what is allocated. Whoever owns the range makes [runs](FrameRun::from_range) of it; dropping one of
    /// its frames forgets it. `range` lies above the span.
    ///
    /// # Errors
    /// [`AnnexError`], when the range has records already or too few were set aside.
    pub fn annex(&self, range: PfnRange) -> Result<(), AnnexError> {
        if range.start < self.span().end() {
            return Err(AnnexError::Range(range));
        }
        self.annexes.add(range, |slots| self.records.clear(slots))
    }

    /// A number that no other list of this machine has, nor any file in a map: those are small.
    pub(crate) fn next_list(&self) -> u32 {
        const LISTS: u32 = 1 << 31;
        let number = self.lists.fetch_add(1, Ordering::Relaxed);
        assert!(number < LISTS, "2^31 frame lists were made");
        LISTS | number
    }

    #[inline]
    pub(crate) fn place(&self) -> u16 {
        if ALONE { 0 } else { self.place }
    }

    #[inline]
    pub(crate) fn meta(&self) -> &'static [FrameMeta] {
        self.records.all()
    }

    /// The bytes of the frame at `slot`. Making a reference of it is the business of the frame's owner.
    #[inline]
    pub(crate) fn page(&self, slot: u32) -> NonNull<Page> {
        let distance = if slot < self.span { slot as usize } else { self.annexes.distance(slot, self.base) };
        // SAFETY: the frames of the span lie one after the other from `window` on (install's contract), and those of an annex at
        // their distance from there too (the contract of whoever made them frames).
        unsafe { self.window.byte_add(distance << FRAME_SHIFT).cast() }
    }

    /// The free frames of a frame's zone; `None` for one that is not ours to free.
    #[inline]
    fn free_frames_at(&self, slot: u32) -> Option<&FreeFrames> {
        match self.zone_of_slot(slot) {
            Zone::Scratch => Some(&self.scratch),
            Zone::Normal => Some(&self.normal),
            Zone::Annex => None,
        }
    }

    #[inline]
    pub(crate) fn zone_of_slot(&self, slot: u32) -> Zone {
        if self.scratch_area.contains(&slot) {
            Zone::Scratch
        } else if slot < self.span {
            Zone::Normal
        } else {
            Zone::Annex
        }
    }

    /// The zone that a frame lies in.
    #[inline]
    pub fn zone_of(&self, pfn: Pfn) -> Zone {
        self.zone_of_slot(self.slot(pfn))
    }

    /// Whether a frame of this machine is ordinary memory: its own, and outside the scratch area.
    #[inline]
    pub fn is_ordinary(&self, frame: &Frame) -> bool {
        let slot = frame.slot();
        !self.scratch_area.contains(&slot) && slot < self.span
    }

    /// One frame, its bytes unspecified; `None` when there is none in these zones.
    pub fn allocate(&'static self, zones: Zones) -> Option<Frame> {
        Some(Frame::own(self.name(self.take_one(zones)?)))
    }

    /// 2^`order` consecutive frames, aligned to their number, up to order 10; `None` when no such block is free.
    pub fn allocate_run(&'static self, zones: Zones, order: u32) -> Option<FrameRun> {
        let slot = if order == 0 { self.take_one(zones)? } else { self.take(zones, order)? };
        Some(FrameRun::own(self.name(slot), 1 << order))
    }

    #[inline]
    fn take_one(&self, zones: Zones) -> Option<u32> {
        let slot = match zones {
            Zones::Ephemeral => self.scratch.take_one(&self.records).or_else(|| self.normal.take_one(&self.records)),
            Zones::Preservable => self.normal.take_one(&self.records),
        };
        let slot = slot.or_else(|| self.take(zones, 0))?;
        self.check(slot, 0);
        Some(slot)
    }

    /// A block, if need be with the frames that are at hand of all processors.
    fn take(&self, zones: Zones, order: u32) -> Option<u32> {
        let take = || self.zones(zones).find_map(|zone| zone.take(&self.records, order));
        let slot = take().or_else(|| {
            self.gather(zones);
            take()
        })?;
        self.check(slot, order);
        Some(slot)
    }

    /// Put what processors have at hand on the free lists. While they move frames between the two some may be counted nowhere, so this
    /// comes before it is said that there are none.
    #[cold]
    pub fn gather(&self, zones: Zones) {
        self.zones(zones).for_each(|zone| zone.gather(&self.records));
    }

    /// From now on `processors` processors each keep some frames at hand, all together no more than the reserve. What is said first holds.
    pub fn keep_at_hand(&self, processors: usize) {
        self.zones(Zones::Ephemeral).for_each(|zone| zone.keep_at_hand(processors, self.watermarks.min));
    }

    /// Give back a frame. Only the drop of an owner comes here.
    #[inline]
    pub(crate) fn give_one(&self, slot: u32) {
        let Some(zone) = self.free_frames_at(slot) else { return };
        if cfg!(debug_assertions) {
            self.poison(slot, 1);
        }
        zone.give_one(&self.records, slot);
    }

    /// The free frames of these zones.
    pub(crate) fn zones(&self, zones: Zones) -> impl Iterator<Item = &FreeFrames> {
        let scratch = (zones == Zones::Ephemeral).then_some(&self.scratch);
        scratch.into_iter().chain([&self.normal])
    }

    /// Give back a block that the hypervisor was told of.
    pub(crate) fn give_told(&self, slot: u32, order: u32) {
        if let Some(zone) = self.free_frames_at(slot) {
            zone.give(&self.records, slot, order, true);
        }
    }

    /// Give back the `slots` of a run, which lie in one zone or in both.
    pub(crate) fn give_slots(&self, slots: Range<u32>) {
        if slots.start >= self.span {
            return;
        }
        if slots.len() == 1 {
            return self.give_one(slots.start);
        }
        if cfg!(debug_assertions) {
            self.poison(slots.start, slots.end - slots.start);
        }
        self.free_slots(slots);
    }

    /// The parts of `slots` that lie below the scratch area, in it and above: a run may begin in one zone and end in the other.
    fn by_zone(&self, slots: Range<u32>) -> [Range<u32>; 3] {
        let area = &self.scratch_area;
        let below = slots.start..slots.end.min(area.start);
        let within = slots.start.max(area.start)..slots.end.min(area.end);
        [below, within, slots.start.max(area.end)..slots.end]
    }

    /// Make `slots` free, each in its zone.
    fn free_slots(&self, slots: Range<u32>) {
        let zones = [&self.normal, &self.scratch, &self.normal];
        for (zone, part) in zones.into_iter().zip(self.by_zone(slots)).filter(|(_, part)| !part.is_empty()) {
            zone.give_range(&self.records, part);
        }
    }

    /// How many frames there are of what. Taken zone by zone, so exact only while nobody allocates.
    pub fn stats(&self) -> Stats {
        Stats {
            total: self.total,
            free_scratch: u64::from(self.scratch.frames()),
            free_normal: u64::from(self.normal.frames()),
            set_aside: self.set_aside.lock().frames(),
        }
    }

    /// Free frames that an allocation from `zones` can choose from.
    pub fn free_frames(&self, zones: Zones) -> u32 {
        self.zones(zones).map(FreeFrames::frames).sum()
    }

    /// Whether more than `than` frames of `zones` are free. What other processors have at hand is looked at only when it matters.
    #[inline]
    pub fn has_more(&self, zones: Zones, than: u32) -> bool {
        self.zones(zones).map(FreeFrames::listed).sum::<u32>() > than || self.free_frames(zones) > than
    }

    /// How many of the free frames nobody has ever had: their records are not written.
    pub fn untouched(&self) -> u32 {
        self.records.untouched()
    }

    /// When free frames are few.
    pub fn watermarks(&self) -> Watermarks {
        self.watermarks
    }

    /// Every frame of the machine, holes included.
    pub fn span(&self) -> PfnRange {
        PfnRange { start: self.base, count: u64::from(self.span) }
    }

    /// The scratch area.
    pub fn scratch(&self) -> PfnRange {
        let Range { start, end } = self.scratch_area;
        PfnRange { start: self.base.offset(u64::from(start)), count: u64::from(end - start) }
    }

    /// Frames that there are records for: the span's, and those of annexes, whether they are there yet or not.
    pub fn records(&self) -> usize {
        self.meta().len()
    }
}
