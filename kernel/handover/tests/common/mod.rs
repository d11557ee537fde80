//! A machine for the tests of the format: the frames of a handover as plain bytes, which a test may change as it likes.

#![allow(dead_code, reason = "each test file uses its part")]

use crc::{CRC_32_ISCSI, Crc};
use frames::arena::{Arena, BASE};
use frames::{FRAME_SIZE, Page, Pfn, PfnRange, PhysAddr, Zones};
use handover::{
    About, Caches, Extent, Filesystem, Handover, HandoverError, Inode, Item, Kind, PhysMap, PhysRead, Time, Writer,
};
use std::collections::BTreeMap;

/// Frames of every machine here; content may lie in all but the first sixteen.
pub const FRAMES: u64 = 512;

/// Memory after a kexec, as the early boot sees it.
#[derive(Clone)]
pub struct Machine {
    pub root: PhysAddr,
    /// The frames of the chain, in order.
    pub chain: Vec<Pfn>,
    pub pages: BTreeMap<Pfn, Box<Page>>,
}

impl PhysRead for Machine {
    fn read(&self, frame: Pfn, page: &mut Page) -> bool {
        match self.pages.get(&frame) {
            Some(bytes) => page.copy_from_slice(&bytes[..]),
            None => page.fill(0x5a),
        }
        true
    }
}

impl PhysMap for Machine {
    fn span(&self) -> PfnRange {
        PfnRange { start: BASE, count: FRAMES }
    }

    fn preservable(&self, range: PfnRange) -> bool {
        range.start >= BASE.offset(16) && range.end() <= self.span().end()
    }
}

impl Machine {
    /// What `fill` writes, as the next kernel finds it.
    pub fn write(fill: impl FnOnce(&mut Writer<'_>)) -> Self {
        Self::write_version(handover::VERSION, fill)
    }

    /// The same, in another version of the format.
    pub fn write_version(version: u32, fill: impl FnOnce(&mut Writer<'_>)) -> Self {
        let arena = Arena::with_scratch(FRAMES as usize, 16);
        let mut allocate = || arena.memory().allocate(Zones::Preservable);
        let about = About { generation: 3, build: b"holdover 0.1 test", version };
        let mut writer = Writer::new(&about, &mut allocate).unwrap();
        fill(&mut writer);
        let sealed = writer.finish();
        let chain: Vec<Pfn> = sealed.frames().iter().map(|frame| frame.pfn()).collect();
        let pages = sealed.frames().iter().map(|frame| (frame.pfn(), Box::new(*frame.bytes()))).collect();
        assert_eq!(sealed.root(), chain[0].addr());
        Self { root: sealed.root(), chain, pages }
    }

    /// What the payload of `payload` bytes would be as a handover with proper checksums.
    pub fn forge(payload: &[u8]) -> Self {
        let chunks: Vec<&[u8]> = {
            let (first, rest) = payload.split_at(payload.len().min(FRAME_SIZE - 128));
            std::iter::once(first).chain(rest.chunks(FRAME_SIZE - 16)).collect()
        };
        let mut machine = Self::write(|_| ());
        // The writer's frame is somewhere in this range as well; the chain is laid out from there on.
        machine.chain = (0..chunks.len() as u64).map(|at| machine.chain[0].offset(at)).collect();
        for (sequence, chunk) in chunks.iter().enumerate() {
            let page = machine.pages.entry(machine.chain[sequence]).or_insert_with(|| Box::new([0; FRAME_SIZE]));
            let start = if sequence == 0 { 128 } else { 16 };
            page[start..][..chunk.len()].copy_from_slice(chunk);
            if sequence > 0 {
                page[12..16].copy_from_slice(&(sequence as u32).to_le_bytes());
            }
        }
        let root = machine.page(0);
        root[36..40].copy_from_slice(&(chunks.len() as u32).to_le_bytes());
        root[40..48].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        machine.relink();
        machine
    }

    /// The payload, joined.
    pub fn payload(&self) -> Vec<u8> {
        let root = &self.pages[&self.chain[0]];
        let length = u64::from_le_bytes(root[40..48].try_into().unwrap()) as usize;
        let mut payload = root[128..].to_vec();
        for pfn in &self.chain[1..] {
            payload.extend_from_slice(&self.pages[pfn][16..]);
        }
        payload.truncate(length);
        payload
    }

    /// Frame number `sequence` of the chain, to change.
    pub fn page(&mut self, sequence: usize) -> &mut Page {
        self.pages.get_mut(&self.chain[sequence]).unwrap()
    }

    /// Point each frame at the next and make the checksums right.
    pub fn relink(&mut self) {
        let next: Vec<u64> = self.chain[1..].iter().map(|pfn| pfn.addr().as_u64()).chain([0]).collect();
        for (sequence, next) in next.into_iter().enumerate() {
            let at = if sequence == 0 { 24 } else { 0 };
            self.page(sequence)[at..at + 8].copy_from_slice(&next.to_le_bytes());
        }
        self.reseal();
    }

    /// Make the checksums right, from the last frame to the first.
    pub fn reseal(&mut self) {
        let crc = Crc::<u32>::new(&CRC_32_ISCSI);
        let mut next = 0_u32;
        for sequence in (1..self.chain.len()).rev() {
            let page = self.page(sequence);
            page[8..12].copy_from_slice(&next.to_le_bytes());
            next = crc.checksum(page);
        }
        let root = self.page(0);
        root[32..36].copy_from_slice(&next.to_le_bytes());
        root[16..20].fill(0);
        let own = crc.checksum(root);
        root[16..20].copy_from_slice(&own.to_le_bytes());
    }

    pub fn open(&self) -> Result<Handover, HandoverError> {
        Handover::open(self.root, self, Caches::Keep)
    }
}

/// Everything that a handover says, one line an item.
pub fn lines(handover: &Handover, memory: &dyn PhysRead) -> Vec<String> {
    let mut items = handover.items(memory).unwrap();
    let mut lines = Vec::new();
    while let Some(item) = items.next().expect("what opened once reads again") {
        lines.push(format!("{item:?}"));
    }
    lines
}

pub const FILESYSTEM: Filesystem<'static> =
    Filesystem { label: b"/tmp", root: 1, next_ino: 40, size_limit: Some(1 << 20) };

pub fn inode(ino: u64, kind: Kind, size: u64) -> Inode {
    let time = |nanos| Time { seconds: -5, nanos };
    Inode {
        ino,
        kind,
        mode: 0o1755,
        uid: 7,
        gid: 8,
        links: 2,
        size,
        atime: time(1),
        mtime: time(2),
        ctime: time(999_999_999),
        quarantined: false,
    }
}

pub fn extent(index: u32, count: u32, frame: u64) -> Extent {
    Extent { index, count, start: BASE.offset(frame), preallocated: false }
}

/// A small handover with one of everything, its content in frames 300 to 305.
pub fn small() -> Machine {
    Machine::write(|writer| {
        let mut fs = writer.filesystem(&FILESYSTEM).unwrap();
        fs.inode(&inode(1, Kind::Directory, 0)).unwrap();
        fs.entry(2, b"file").unwrap();
        fs.entry(3, b"link").unwrap();
        fs.inode(&inode(2, Kind::Regular, 9 * 4096 - 1)).unwrap();
        fs.extent(extent(0, 2, 300)).unwrap();
        fs.extent(Extent { preallocated: true, ..extent(2, 1, 302) }).unwrap();
        fs.extent(extent(6, 3, 303)).unwrap();
        fs.inode(&inode(3, Kind::Symlink, 7)).unwrap();
        fs.target(b"nowhere").unwrap();
        fs.finish().unwrap();
    })
}

/// Write every item that `item` names, for round trips.
pub fn put(fs: &mut handover::FilesystemWriter<'_, '_>, item: &Item<'_>) {
    match *item {
        Item::Inode(inode) => fs.inode(&inode).unwrap(),
        Item::Entry { ino, name } => fs.entry(ino, name).unwrap(),
        Item::Target(target) => fs.target(target).unwrap(),
        Item::Extent(extent) => fs.extent(extent).unwrap(),
        Item::Xattr { name, value } => fs.xattr(name, value).unwrap(),
        Item::Sums { first, sums } => {
            let sums: Vec<u32> = sums.iter().map(|sum| sum.get()).collect();
            fs.sums(first, &sums).unwrap();
        }
        _ => unreachable!("not within a filesystem"),
    }
}
