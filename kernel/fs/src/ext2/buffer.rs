//! Blocks of metadata by their number: what was changed and is not on the disk yet, and what was read lately.
//!
//! What a change needs at least is set aside when a filesystem is mounted, so that it asks for no memory. Up to a bound the buffer
//! is [given](Buffer::add) more when it is full of what was changed; it can do without that. A changed block stays until a commit
//! has written it; others make room when one is wanted. The content of files is never here: pages of 4 KiB that hold several blocks
//! would mix what is one file's with what is another's.

use super::geometry::Geometry;
use crate::error::{Error, Result};
use alloc::vec::Vec;
use cache::PageCache;
use frames::{FRAME_SIZE, Frame, Zones};
use hashbrown::HashMap;

/// Frames that are set aside, and the most that there can be: a share of memory within these bounds.
const FRAMES: (usize, usize) = (48, 256);
const SHARE: usize = 128;

/// When a commit writes a block. Each phase is on the disk before the next begins, where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Nothing on the disk refers to it yet: it goes with the content of files, before all else.
    New,
    /// Bitmaps, descriptors, tables of inodes, pointers to blocks.
    Map,
    /// Directories.
    Names,
    /// Directories that lost a name which the same file has gained elsewhere.
    Lost,
    /// Pointers in files that have lost their last name.
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Clean,
    Changed(Phase),
}

#[derive(Debug)]
struct Slot {
    /// 0, which is never metadata of this kind, is no block.
    block: u32,
    state: State,
    /// The inode whose blocks it leads to, if it was changed for one; 0 is none.
    owner: u32,
    /// It has a name in it that has to be on disk before the same file's other name goes.
    pinned: bool,
    /// It was used since the hand passed.
    used: bool,
}

const EMPTY: Slot = Slot { block: 0, state: State::Clean, owner: 0, pinned: false, used: false };

/// The slots.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    frames: Vec<Frame>,
    /// How many frames there can be.
    most: usize,
    slots: Vec<Slot>,
    index: HashMap<u32, u16>,
    block_size: usize,
    changed: usize,
    hand: usize,
}

impl Buffer {
    /// With the least, and lists that have room for a share of memory.
    pub(super) fn new(cache: &PageCache, geometry: &Geometry) -> Result<Self> {
        let most = (cache.memory().stats().total as usize / SHARE).clamp(FRAMES.0, FRAMES.1);
        let slots = most * geometry.blocks_per_page();
        let mut buffer = Self { most, block_size: geometry.block_size(), ..Self::default() };
        buffer.frames.try_reserve_exact(most).map_err(|_| Error::NoMemory)?;
        buffer.slots.try_reserve_exact(slots).map_err(|_| Error::NoMemory)?;
        // Twice as many as there can be, so that it never grows.
        buffer.index.try_reserve(slots * 2).map_err(|_| Error::NoMemory)?;
        for _ in 0..FRAMES.0 {
            buffer.add(cache.allocate(Zones::Ephemeral).map_err(|_| Error::NoMemory)?);
        }
        Ok(buffer)
    }

    /// How many frames more it may be given. All lists have room for them.
    pub(super) fn may_have(&self) -> usize {
        self.most.saturating_sub(self.frames.len())
    }

    /// Have one of them.
    pub(super) fn add(&mut self, frame: Frame) {
        self.frames.push(frame);
        self.slots.extend((0..FRAME_SIZE / self.block_size).map(|_| EMPTY));
    }

    /// Frames that it has.
    pub(super) fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Slots that can take a block.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.slots.len() - self.changed
    }

    /// How many slots there can be.
    pub(super) fn most(&self) -> usize {
        self.most * (FRAME_SIZE / self.block_size)
    }

    /// Whether a block was changed.
    pub(super) fn is_changed(&self) -> bool {
        self.changed > 0
    }

    /// A block, if it is here.
    pub(super) fn get(&self, block: u32) -> Option<&[u8]> {
        let &at = self.index.get(&block)?;
        let (frame, range) = self.place(at.into());
        self.frames.get(frame)?.bytes().get(range)
    }

    /// A block, if it is here, to be changed and written in `phase`; later than that if it was to be written later already, and
    /// with the new ones if it is new.
    pub(super) fn edit(&mut self, block: u32, phase: Phase) -> Option<&mut [u8]> {
        self.edit_of(0, block, phase)
    }

    /// Likewise, where the block leads to blocks of the inode `owner`: it is written only with that.
    #[inline]
    pub(super) fn edit_of(&mut self, owner: u32, block: u32, phase: Phase) -> Option<&mut [u8]> {
        let at = usize::from(*self.index.get(&block)?);
        let slot = self.slots.get_mut(at)?;
        slot.used = true;
        if owner != 0 {
            slot.owner = owner;
        }
        slot.state = match slot.state {
            State::Clean => {
                self.changed += 1;
                State::Changed(phase)
            }
            State::Changed(Phase::New) => State::Changed(Phase::New),
            State::Changed(earlier) => State::Changed(earlier.max(phase)),
        };
        let (frame, range) = self.place(at);
        self.frames.get_mut(frame)?.bytes_mut().get_mut(range)
    }

    /// A slot for a block, its bytes unspecified; the one that it has, if it has one. `None` when all have been changed.
    pub(super) fn insert(&mut self, block: u32) -> Option<&mut [u8]> {
        let at = match self.index.get(&block) {
            Some(&at) => at.into(),
            None => self.vacate()?,
        };
        let slot = self.slots.get_mut(at)?;
        (slot.block, slot.used) = (block, true);
        self.index.insert(block, at as u16);
        let (frame, range) = self.place(at);
        self.frames.get_mut(frame)?.bytes_mut().get_mut(range)
    }

    /// A slot with nothing in it.
    fn vacate(&mut self) -> Option<usize> {
        // Twice around: once to find what was used, once to take it after all.
        for _ in 0..self.slots.len() * 2 {
            let at = self.hand;
            self.hand = (at + 1) % self.slots.len();
            let slot = self.slots.get_mut(at)?;
            match slot.state {
                State::Changed(_) => {}
                State::Clean if slot.block != 0 && slot.used => slot.used = false,
                State::Clean => {
                    self.index.remove(&slot.block);
                    (slot.pinned, slot.owner) = (false, 0);
                    return Some(at);
                }
            }
        }
        None
    }

    /// The block is metadata no more; its content is of no use.
    pub(super) fn discard(&mut self, block: u32) {
        if let Some(at) = self.index.remove(&block)
            && let Some(slot) = self.slots.get_mut(usize::from(at))
        {
            self.changed -= usize::from(slot.state != State::Clean);
            *slot = EMPTY;
        }
    }

    /// When a block is to be written; `None` if it was not changed.
    pub(super) fn phase(&self, block: u32) -> Option<Phase> {
        match self.slot(block)?.state {
            State::Clean => None,
            State::Changed(phase) => Some(phase),
        }
    }

    /// Whether a block was [pinned](Self::pin) since it was written last.
    pub(super) fn is_pinned(&self, block: u32) -> bool {
        self.slot(block).is_some_and(|slot| slot.pinned && slot.state != State::Clean)
    }

    /// No name that this block loses before it is written may be one that its file has elsewhere.
    pub(super) fn pin(&mut self, block: u32) {
        if let Some(&at) = self.index.get(&block)
            && let Some(slot) = self.slots.get_mut(usize::from(at))
        {
            slot.pinned = true;
        }
    }

    /// The blocks to write in `phases`, in order, into `list`; without those of the inodes `held`.
    pub(super) fn list(&self, phases: impl Fn(Phase) -> bool, held: &[u32], list: &mut Vec<u32>) {
        list.clear();
        let wanted = |slot: &&Slot| {
            matches!(slot.state, State::Changed(phase) if phases(phase))
                && (slot.owner == 0 || !held.contains(&slot.owner))
        };
        // Room for all slots that there can be was made at the start.
        list.extend(self.slots.iter().filter(wanted).map(|slot| slot.block).take(list.capacity()));
        list.sort_unstable();
    }

    /// Whether there is a block to write in `phase`.
    pub(super) fn has(&self, phase: Phase) -> bool {
        self.slots.iter().any(|slot| slot.state == State::Changed(phase))
    }

    /// The block is on the disk as it is.
    pub(super) fn written(&mut self, block: u32) {
        if let Some(&at) = self.index.get(&block)
            && let Some(slot) = self.slots.get_mut(usize::from(at))
            && slot.state != State::Clean
        {
            (slot.state, slot.pinned, slot.owner) = (State::Clean, false, 0);
            self.changed -= 1;
        }
    }

    fn slot(&self, block: u32) -> Option<&Slot> {
        self.slots.get(usize::from(*self.index.get(&block)?))
    }

    /// The frame that a slot lies in, and which of its bytes.
    fn place(&self, slot: usize) -> (usize, core::ops::Range<usize>) {
        let per_frame = FRAME_SIZE / self.block_size;
        let start = slot % per_frame * self.block_size;
        (slot / per_frame, start..start + self.block_size)
    }
}
