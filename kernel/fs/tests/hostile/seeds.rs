//! Handovers that are as they should be, to begin with. They are files in `kernel/handover/fuzz/corpus`, too.

use super::{CONTENT, FRAMES, Forgery, SCRATCH, content};
use frames::arena::{Arena, BASE};
use frames::checksum::crc32c;
use frames::{Pfn, PfnRange, Zones};
use handover::{
    About, CacheOf, CachedFile, CachedPages, Caches, Extent, Filesystem, FilesystemWriter, Inode, Kind, SUM_PAGES,
    Time, Writer,
};

const PAGE: u64 = 4096;

/// The payload of what `fill` writes.
fn payload(version: u32, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let arena = Arena::with_scratch(FRAMES as usize, SCRATCH as usize);
    let mut allocate = || arena.memory().allocate(Zones::Preservable);
    let mut writer = Writer::new(&About { generation: 3, build: b"seed", version }, &mut allocate).unwrap();
    fill(&mut writer);
    let sealed = writer.finish();
    let mut bytes = Vec::new();
    for (sequence, frame) in sealed.frames().iter().enumerate() {
        bytes.extend_from_slice(&frame.bytes()[if sequence == 0 { 128 } else { 16 }..]);
    }
    bytes.truncate(sealed.bytes() as usize);
    bytes
}

fn inode(ino: u64, kind: Kind, links: u32, size: u64) -> Inode {
    let time = |nanos| Time { seconds: 1_700_000_000, nanos };
    Inode {
        ino,
        kind,
        mode: 0o755,
        uid: 7,
        gid: 8,
        links,
        size,
        atime: time(1),
        mtime: time(2),
        ctime: time(999_999_999),
        quarantined: false,
    }
}

fn extent(index: u32, count: u32, frame: u64) -> Extent {
    Extent { index, count, start: BASE.offset(CONTENT + frame), preallocated: false }
}

/// A file with its extents, and the checksums of its windows.
fn file(fs: &mut FilesystemWriter<'_, '_>, inode: &Inode, extents: &[Extent]) {
    fs.inode(inode).unwrap();
    if inode.ino.is_multiple_of(2) {
        match fs.xattr(b"user.origin", b"a seed") {
            Ok(()) | Err(handover::WriteError::NeedsVersion { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let mut windows: Vec<(u32, u32)> = Vec::new();
    for extent in extents {
        fs.extent(*extent).unwrap();
        for at in 0..if extent.preallocated { 0 } else { extent.count } {
            let window = (extent.index + at) / SUM_PAGES;
            if windows.last().is_none_or(|&(last, _)| last != window) {
                windows.push((window, 0));
            }
            let sum = &mut windows.last_mut().unwrap().1;
            *sum = crc32c(*sum, &content(extent.start.offset(at.into())));
        }
    }
    for (window, sum) in windows {
        fs.sums(window, &[sum]).unwrap();
    }
}

/// A tree with some of everything.
fn tree(writer: &mut Writer<'_>) {
    let label = Filesystem { label: b"/tmp", root: 1, next_ino: 20, size_limit: Some(100 * PAGE) };
    let mut fs = writer.filesystem(&label).unwrap();
    fs.inode(&inode(1, Kind::Directory, 3, 0)).unwrap();
    for (ino, name) in [(2, "plain"), (3, "dir"), (4, "link"), (5, "holes"), (6, "empty")] {
        fs.entry(ino, name.as_bytes()).unwrap();
    }
    file(&mut fs, &inode(2, Kind::Regular, 2, 3 * PAGE - 1), &[extent(0, 3, 0)]);
    fs.inode(&inode(3, Kind::Directory, 2, 0)).unwrap();
    fs.entry(2, b"the plain one again").unwrap();
    fs.entry(7, b"reserved").unwrap();
    fs.inode(&inode(4, Kind::Symlink, 1, 9)).unwrap();
    fs.target(b"dir/there").unwrap();
    let holes = [extent(1, 2, 10), extent(7, 1, 5), extent(70, 2, 12), extent((1 << 20) - 1, 1, 20)];
    file(&mut fs, &inode(5, Kind::Regular, 1, PAGE << 20), &holes);
    file(&mut fs, &inode(6, Kind::Regular, 1, 0), &[]);
    let reserved = [Extent { preallocated: true, ..extent(0, 2, 30) }, extent(2, 1, 32)];
    file(&mut fs, &inode(7, Kind::Regular, 1, 5 * PAGE), &reserved);
    fs.finish().unwrap();
}

/// A file in one piece, longer than a window, and one whose pages lie here and there.
fn long(writer: &mut Writer<'_>) {
    let label = Filesystem { label: b"/tmp", root: 1, next_ino: 4, size_limit: None };
    let mut fs = writer.filesystem(&label).unwrap();
    fs.inode(&inode(1, Kind::Directory, 2, 0)).unwrap();
    fs.entry(2, b"contiguous").unwrap();
    fs.entry(3, b"scattered").unwrap();
    file(&mut fs, &inode(2, Kind::Regular, 1, 70 * PAGE), &[extent(0, 70, 0)]);
    let scattered: Vec<Extent> = (0..20).map(|at| extent(at * 7, 1, u64::from(149 - 2 * at))).collect();
    file(&mut fs, &inode(3, Kind::Regular, 1, 200 * PAGE), &scattered);
    fs.finish().unwrap();
}

/// Two filesystems, whose files have different numbers.
fn two(writer: &mut Writer<'_>) {
    for (ino, label) in [(2, &b"/tmp"[..]), (3, b"/other")] {
        let about = Filesystem { label, root: 1, next_ino: 4, size_limit: None };
        let mut fs = writer.filesystem(&about).unwrap();
        fs.inode(&inode(1, Kind::Directory, 2, 0)).unwrap();
        fs.entry(ino, b"file").unwrap();
        file(&mut fs, &inode(ino, Kind::Regular, 1, 2 * PAGE), &[extent(0, 2, 2 * ino)]);
        fs.finish().unwrap();
    }
}

/// Beside a filesystem what was cached of a disk, and frames that are kept.
fn caches(writer: &mut Writer<'_>) {
    two(writer);
    let about = CacheOf {
        label: b"vda",
        uuid: [9; 16],
        sectors: 8192,
        superblock: 1,
        mounts: 2,
        state: 1,
        mounted: 3,
        written: 4,
    };
    if let Some(mut cache) = writer.cache(&about).unwrap() {
        for (ino, frame) in [(0, 50), (12, 60)] {
            cache.file(&CachedFile { ino, generation: 5, ctime: Time { seconds: 6, nanos: 7 }, inode: 8 }).unwrap();
            for (index, cold, frame) in [(0, false, frame), (5, true, frame + 3)] {
                let start = BASE.offset(CONTENT + frame);
                let sums: Vec<u32> = (0..3).map(|at| crc32c(0, &content(start.offset(at)))).collect();
                cache.pages(&CachedPages { index, start, cold }, &sums).unwrap();
            }
        }
        cache.finish();
    }
    let kept = |frame: u64, count| PfnRange { start: Pfn::new(BASE.offset(CONTENT + frame).get()), count };
    writer.keep(&[kept(100, 5), kept(110, 1)]).unwrap();
}

/// Each with the name of its file.
pub fn seeds() -> Vec<(&'static str, Forgery)> {
    let seed = |version: u32, caches, fill: fn(&mut Writer<'_>)| Forgery {
        version,
        min_reader: version,
        caches,
        payload: payload(version, fill),
    };
    vec![
        ("empty", seed(2, Caches::Keep, |_| ())),
        ("tree", seed(2, Caches::Keep, tree)),
        ("tree-1", seed(1, Caches::Keep, tree)),
        ("long", seed(2, Caches::Keep, long)),
        ("two", seed(2, Caches::Keep, two)),
        ("caches", seed(2, Caches::Keep, caches)),
        ("caches-ignored", seed(2, Caches::Ignore, caches)),
    ]
}
