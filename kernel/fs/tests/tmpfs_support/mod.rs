//! What the tests of tmpfs share: a clock that they set, a machine to run on, and a kexec.

#![allow(dead_code, reason = "each test file uses its part")]

use cache::{PageCache, ReadAhead};
use cleancache::{Cleancache, Config};
use frames::arena::{Arena, BASE};
use frames::{Memory, Page, Pfn, PfnRange, Zones};
use fs::filesystem::{FileSystem, Ino, NewNode, Time};
use fs::tmpfs::{Environment, Options, Restored, Tmpfs};
use handover::{About, Caches, Handover, HandoverError, PhysMap, PhysRead, Sealed, Writer};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Frames of scratch area in every machine here.
pub const SCRATCH: u64 = 8;

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(1_000) };
}

/// The time that the filesystem sees.
pub fn clock() -> Time {
    Time { seconds: NOW.get(), nanos: 7 }
}

/// One second passes.
pub fn tick() -> Time {
    NOW.set(NOW.get() + 1);
    clock()
}

pub fn environment(memory: &'static Memory) -> Environment {
    let cleancache = Arc::new(Cleancache::new(memory, Config::default()));
    Environment { cache: PageCache::new(memory, cleancache), clock }
}

/// A machine with a tmpfs.
pub struct Machine {
    // In this order, so that the filesystem gives its frames back before the arena counts them.
    pub tmpfs: Tmpfs,
    pub arena: Arena,
    pub frames: u64,
    pub generation: u32,
}

/// Memory as the early boot of the next kernel sees it.
#[derive(Clone)]
pub struct Early {
    pub frames: u64,
    pub blob: BTreeMap<Pfn, Box<Page>>,
}

impl PhysRead for Early {
    fn read(&self, frame: Pfn, page: &mut Page) -> bool {
        match self.blob.get(&frame) {
            Some(bytes) => page.copy_from_slice(&bytes[..]),
            None => page.fill(0x11),
        }
        true
    }
}

impl PhysMap for Early {
    fn span(&self) -> PfnRange {
        PfnRange { start: BASE, count: self.frames }
    }

    fn preservable(&self, range: PfnRange) -> bool {
        range.start >= BASE.offset(SCRATCH) && range.end() <= self.span().end()
    }
}

impl Machine {
    pub fn new(frames: u64, options: Options) -> Self {
        let arena = Arena::with_scratch(frames as usize, SCRATCH as usize);
        let tmpfs = Tmpfs::new(environment(arena.memory()), options);
        Self { tmpfs, arena, frames, generation: 0 }
    }

    pub fn save(&self) -> Sealed {
        let about = About { generation: self.generation, build: b"test", version: handover::VERSION };
        let mut allocate = || self.arena.memory().allocate(Zones::Preservable);
        let mut writer = Writer::new(&about, &mut allocate).unwrap();
        self.tmpfs.save(b"/tmp", &mut writer).unwrap();
        writer.finish()
    }

    pub fn early(&self, sealed: &Sealed) -> Early {
        let blob = sealed.frames().iter().map(|frame| (frame.pfn(), Box::new(*frame.bytes()))).collect();
        Early { frames: self.frames, blob }
    }

    /// The next kernel on the same memory, and what of the old one's it lost.
    pub fn kexec(self) -> (Self, Vec<fs::tmpfs::Casualty>) {
        let sealed = self.save();
        let early = self.early(&sealed);
        let handover = Handover::open(sealed.root(), &early, Caches::Keep).unwrap();
        assert_eq!(handover.generation(), self.generation);
        // The next kernel finds the blob where it was told to keep it.
        self.boot(sealed, None, handover).unwrap()
    }

    /// Boot the next kernel with `handover`, which may say other things than this one wrote if its blob is read from elsewhere.
    pub fn boot(
        self,
        sealed: Sealed,
        blob: Option<&Early>,
        handover: Handover,
    ) -> Result<(Self, Vec<fs::tmpfs::Casualty>), HandoverError> {
        let reserved: Vec<PfnRange> = handover.reserved().collect();
        let arena = self.arena.kexec(&reserved);
        drop(sealed);
        let Self { tmpfs, arena: old, frames, generation } = self;
        drop(tmpfs);
        drop(old);

        let reader: &dyn PhysRead = blob.map_or(arena.memory(), |blob| blob);
        let mut restored = Tmpfs::restore(&handover, reader, &environment(arena.memory()))?;
        assert_eq!(restored.len(), 1);
        let frames_of_blob = handover.summary().blob_frames;
        assert_eq!(handover.release(arena.memory()), frames_of_blob);
        let Restored { label, tmpfs, casualties, .. } = restored.remove(0);
        assert!(label == b"/tmp" || blob.is_some());
        Ok((Self { tmpfs, arena, frames, generation: generation + 1 }, casualties))
    }

    pub fn root(&self) -> Ino {
        self.tmpfs.root()
    }

    pub fn file(&self, name: &str) -> Ino {
        self.tmpfs.create(self.root(), name.as_bytes(), NewNode::Regular, 0o644).unwrap()
    }

    pub fn write(&self, ino: Ino, pos: u64, data: &[u8]) {
        assert_eq!(self.tmpfs.open(ino).unwrap().write(pos, data), Ok(data.len()));
    }

    pub fn read(&self, ino: Ino, pos: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0xa5; len];
        let len = self.tmpfs.open(ino).unwrap().read(pos, &mut out, &mut ReadAhead::default()).unwrap();
        out.truncate(len);
        out
    }

    pub fn lookup(&self, name: &str) -> Ino {
        self.tmpfs.lookup(self.root(), name.as_bytes()).unwrap()
    }
}

/// Bytes that tell where they are.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
