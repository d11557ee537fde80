//! The machine's memory: a window through which frames are bytes, a record for each frame, and the free frames of both zones.
//!
//! There is one `Memory` in a guest; on the host each test has its own. All of them stand in a small table, so that a
//! frame, which carries its machine's place in that table, finds its way home when it is dropped.

use crate::addr::{FRAME_SHIFT, FRAME_SIZE, Page, Pfn, PfnRange, Zone, Zones};
use crate::annex::{AnnexError, Annexes};
use crate::aside::{ClaimError, SetAside};
use crate::buddy::MAX_ORDER;
use crate::frame::{Frame, Name};
use crate::layout::{Layout, LayoutError, Stats, Watermarks, in_order};
use crate::lock::{Lock, Rank};
use crate::meta::{FrameMeta, NIL};
use crate::run::FrameRun;
use crate::sections::Records;
use crate::zone::FreeFrames;
use alloc::boxed::Box;
use core::fmt;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

#[cfg(not(target_os = "none"))]
mod again;
#[cfg(not(target_os = "none"))]
pub(crate) use again::Retired;

/// Machines that can exist at a time. A guest has one; the tests of one process run side by side.
const MACHINES: usize = 1024;
/// Whether there is one machine only, at place 0: then no instruction is spent on which.
pub(crate) const ALONE: bool = cfg!(target_os = "none");

static TABLE: [AtomicPtr<Memory>; MACHINES] = [const { AtomicPtr::new(ptr::null_mut()) }; MACHINES];

/// What a debug build writes over freed frames, and expects to find when it hands them out again.
const POISON: u8 = 0x6b;
/// The private bits of a free frame that was poisoned.
const POISONED: u16 = 0x6b6b;

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
    /// Bytes that the records of `frames` frames take.
    pub const fn meta_bytes(frames: u64) -> u64 {
        frames * size_of::<FrameMeta>() as u64
    }

    /// Bytes of the heap that [`Memory::install`] takes because there are `frames` frames.
    pub const fn heap_bytes(frames: u64) -> u64 {
        Records::heap_bytes(frames)
    }

    /// Set up the memory of a machine: all that is usable and not set aside becomes free.
    ///
    /// `window` is the address of the first byte of the span's first frame, `meta` room for one [`FrameMeta`] a frame of
    /// the span and of the annexes. The cost is some instructions a range and a byte for each 4 MiB; records are written once somebody
    /// needs their frames.
    ///
    /// # Errors
    /// [`LayoutError`], when the layout contradicts itself; `meta` is then unused.
    ///
    /// # Safety
    /// - Every usable or set-aside frame is ordinary memory, readable and writable for ever at its distance from `window`, and
    ///   used by nothing else.
    /// - `meta` is valid for reads and writes of `span.count + annex` records of any content, for ever, used by nothing else, and outside those frames.
    pub unsafe fn install(
        window: NonNull<u8>,
        meta: NonNull<FrameMeta>,
        layout: &Layout<'_>,
    ) -> Result<&'static Memory, LayoutError> {
        // SAFETY: the caller's promise.
        let memory = unsafe { Self::build(window, meta, layout)? };
        memory.enter_table().ok_or(LayoutError::TooMany)
    }

    /// # Safety
    /// As for [`Memory::install`].
    unsafe fn build(
        window: NonNull<u8>,
        meta: NonNull<FrameMeta>,
        layout: &Layout<'_>,
    ) -> Result<Box<Memory>, LayoutError> {
        let records = records_of(layout)?;
        // SAFETY: the caller gives that many records of room, for ever; whatever is in it is a valid record, if a meaningless one.
        let meta = unsafe { core::slice::from_raw_parts(meta.as_ptr(), records as usize) };
        Self::assemble(window, meta, layout)
    }

    /// A machine of its parts: `meta` is as many records as it needs, of any content and nobody else's.
    fn assemble(
        window: NonNull<u8>,
        meta: &'static [FrameMeta],
        layout: &Layout<'_>,
    ) -> Result<Box<Memory>, LayoutError> {
        let records = records_of(layout)?;
        let span = layout.span;
        let count = records - layout.annex;
        if count == 0 || records == NIL || !span.start.get().is_multiple_of(1 << MAX_ORDER) {
            return Err(LayoutError::Span);
        }
        if let Some(&range) = layout.usable.iter().find(|range| range.contains(Pfn::new(0))) {
            return Err(LayoutError::Range(range));
        }
        in_order(span, layout.usable)?;
        in_order(span, layout.set_aside)?;
        in_order(span, &[layout.scratch])?;

        let slot = |pfn: Pfn| (pfn.get() - span.start.get()) as u32;
        let scratch = slot(layout.scratch.start)..slot(layout.scratch.end());
        let mut memory = Box::new(Memory {
            place: 0,
            base: span.start,
            window,
            records: Records::new(meta, count),
            span: count,
            annexes: Annexes::new(count, records),
            scratch_area: scratch.clone(),
            scratch: FreeFrames::new(scratch.clone(), 0..0, false),
            normal: FreeFrames::new(0..count, scratch, true),
            total: 0,
            set_aside: Lock::new(Rank::SetAside, SetAside::new()),
            watermarks: Watermarks { min: 0, low: 0, high: 0 },
            lists: AtomicU32::new(0),
        });
        memory.fill(layout);
        Ok(memory)
    }

    /// Make the usable frames free, but for those set aside, which are noted.
    fn fill(&mut self, layout: &Layout<'_>) {
        let mut held = layout.set_aside.iter().copied().peekable();
        for &usable in layout.usable {
            self.total += usable.count;
            let mut from = usable.start;
            while let Some(&aside) = held.peek() {
                let here = aside.intersect(usable);
                if here.is_empty() && aside.start >= usable.end() {
                    break;
                }
                if !here.is_empty() {
                    self.lay(PfnRange::new(from, here.start));
                    self.set_aside.get_mut().push(here);
                    from = here.end();
                }
                if aside.end() > usable.end() {
                    break;
                }
                held.next();
            }
            self.lay(PfnRange::new(from, usable.end()));
        }
        self.normal.count(&self.records);
        // An eighth of a percent, and enough for one large batch of disk reads even in a tiny machine.
        let min = (self.total / 800).clamp(32, 2048) as u32;
        self.watermarks = Watermarks { min, low: min * 2, high: min * 3 };
    }

    /// Make `range` free, the whole sections of it that are not scratch without touching them.
    fn lay(&mut self, range: PfnRange) {
        let [below, within, above] = self.by_zone(self.slots(range));
        let [first, second] = [below, above].map(|part| self.records.leave(part));
        for part in first.into_iter().chain([within]).chain(second).filter(|part| !part.is_empty()) {
            self.records.open(part.clone());
            self.free_slots(part);
        }
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

    fn enter_table(mut self: Box<Self>) -> Option<&'static Memory> {
        let places = if ALONE { 1 } else { MACHINES };
        for (place, entry) in TABLE.iter().enumerate().take(places) {
            if !entry.load(Ordering::Relaxed).is_null() {
                continue;
            }
            self.place = place as u16;
            let raw = Box::into_raw(self);
            match entry.compare_exchange(ptr::null_mut(), raw, Ordering::Release, Ordering::Relaxed) {
                // SAFETY: `raw` is a leaked box, so it is valid for ever, and from here on only shared.
                Ok(_) => return Some(unsafe { &*raw }),
                // SAFETY: the entry did not take `raw`, so it is still the box that it was.
                Err(_) => self = unsafe { Box::from_raw(raw) },
            }
        }
        None
    }

    /// The machine at `place`, which a live frame names.
    #[inline]
    pub(crate) fn at(place: u16) -> &'static Memory {
        let entry = TABLE[usize::from(place) % MACHINES].load(Ordering::Relaxed);
        debug_assert!(!entry.is_null());
        // SAFETY: a frame carries the place of the machine that made it, which entered the table before it made any; none is ever
        // freed, and only one that has all of its frames, for ever, makes place for another (`again`).
        unsafe { &*entry }
    }

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

    /// Look at a block that was just taken, in a debug build, and expect nothing of its bytes from here on.
    pub(crate) fn check(&self, slot: u32, order: u32) {
        if cfg!(debug_assertions) {
            self.check_poison(slot, order);
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

    fn poison(&self, slot: u32, frames: u32) {
        for slot in slot..slot + frames {
            // SAFETY: the frame is on its way from its owner to a free list, so nobody else has it.
            unsafe { self.page(slot).cast::<u8>().write_bytes(POISON, FRAME_SIZE) };
            self.meta()[slot as usize].private.store(POISONED, Ordering::Relaxed);
        }
    }

    /// A frame that came back and was then written to shows here. One that was never handed out is as it was found at boot.
    fn check_poison(&self, slot: u32, order: u32) {
        for slot in slot..slot + (1 << order) {
            if self.meta()[slot as usize].private.swap(0, Ordering::Relaxed) != POISONED {
                continue;
            }
            // SAFETY: the block was just taken off its free list, so nobody else has it.
            let page = unsafe { self.page(slot).as_ref() };
            let changed = page.iter().position(|&byte| byte != POISON);
            assert!(changed.is_none(), "free frame {slot:#x} was written to at byte {changed:?}");
        }
    }

    /// Take ownership of frames that were set aside. Each frame can be claimed once.
    ///
    /// # Errors
    /// [`ClaimError`], and nothing is claimed, when not all of `range` is set aside.
    pub fn claim(&'static self, range: PfnRange) -> Result<FrameRun, ClaimError> {
        let mut aside = self.set_aside.lock();
        self.claim_of(&mut aside, range)
    }

    /// As [`Memory::claim`], for callers that may hold any lock: `None` when what is set aside is being looked at just now.
    pub fn try_claim(&'static self, range: PfnRange) -> Option<Result<FrameRun, ClaimError>> {
        let mut aside = self.set_aside.try_lock()?;
        Some(self.claim_of(&mut aside, range))
    }

    fn claim_of(&'static self, aside: &mut SetAside, range: PfnRange) -> Result<FrameRun, ClaimError> {
        aside.remove(range)?;
        // With the lock held, so that two who claim of one section do not both open it.
        self.records.open(self.slots(range));
        Ok(FrameRun::own(self.name(self.slot(range.start)), range.count as u32))
    }

    /// Let `look` see the bytes of a frame that is set aside, without claiming it; `None` when it is not.
    pub fn peek<R>(&self, pfn: Pfn, look: impl FnOnce(&Page) -> R) -> Option<R> {
        let aside = self.set_aside.lock();
        if !aside.contains(pfn) {
            return None;
        }
        // SAFETY: a frame that is set aside has no owner, and cannot get one while the lock is held; it is never written to.
        Some(look(unsafe { self.page(self.slot(pfn)).as_ref() }))
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

/// The records that a machine of this layout needs.
fn records_of(layout: &Layout<'_>) -> Result<u32, LayoutError> {
    let count = u32::try_from(layout.span.count).map_err(|_| LayoutError::Span)?;
    count.checked_add(layout.annex).ok_or(LayoutError::Span)
}
