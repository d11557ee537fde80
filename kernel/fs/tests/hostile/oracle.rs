//! What a handover says, and whether the filesystem that comes of it is that: each byte of a file is in the frame that the handover
//! names for it, or the file is quarantined, with a reason that is true.

use super::{Image, each};
use frames::checksum::crc32c;
use frames::{FRAME_SIZE, Memory, PfnRange, Zones};
use fs::Error;
use fs::filesystem::{FileSystem, FileType, Ino};
use fs::tmpfs::{Casualty, Fault, Restored, Tmpfs};
use handover::{About, Handover, Item, PhysRead, SUM_PAGES, Writer};
use std::collections::{BTreeMap, BTreeSet};

const PAGE: u64 = FRAME_SIZE as u64;

/// What is said of one file, directory or link.
#[derive(Clone, Debug, Default)]
pub struct Inode {
    /// Each item of it, as text.
    pub items: Vec<String>,
    pub size: u64,
    /// Pages with data, and what is in them.
    pub pages: BTreeMap<u64, Vec<u8>>,
    /// Extended attributes; of names that are there twice, the first.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Windows whose checksum is not that of their pages.
    pub broken: BTreeSet<u64>,
    /// An extent was rejected, or the file had been quarantined before.
    pub spoilt: bool,
}

/// What is said of one filesystem: of numbers that are there twice, the first.
#[derive(Clone, Debug, Default)]
pub struct Filesystem {
    pub inodes: BTreeMap<u64, Inode>,
}

/// What a handover says.
#[derive(Debug, Default)]
pub struct Said {
    pub filesystems: Vec<Filesystem>,
    /// Frames of what was cached of disks.
    pub cached: Vec<PfnRange>,
}

/// What was there when everything was looked at.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of files that could be read to the end, by inode number: size, and the pages that are not zeros.
    pub whole: BTreeMap<u64, (u64, BTreeMap<u64, Vec<u8>>)>,
    /// Inode numbers of files that answered that they are quarantined.
    pub quarantined: BTreeSet<u64>,
    /// What the restored filesystem named as lost.
    pub named: Vec<Casualty>,
}

impl Seen {
    pub fn add(&mut self, other: Seen) {
        self.whole.extend(other.whole);
        self.quarantined.extend(other.quarantined);
        self.named.extend(other.named);
    }
}

/// Everything that `handover` says, with the bytes that it names.
pub fn listen(handover: &Handover, memory: &'static Memory, image: &Image) -> Said {
    let mut said = Said::default();
    let mut current: Option<(u64, Inode)> = None;
    let mut sums: BTreeMap<u64, u32> = BTreeMap::new();
    let settle = |said: &mut Said, current: &mut Option<(u64, Inode)>, sums: &mut BTreeMap<u64, u32>| {
        let Some((ino, mut inode)) = current.take() else { return };
        for (window, sum) in std::mem::take(sums) {
            let first = window * u64::from(SUM_PAGES);
            let pages = inode.pages.range(first..first + u64::from(SUM_PAGES));
            if pages.fold(0, |sum, (_, page)| crc32c(sum, page)) != sum {
                inode.broken.insert(window);
            }
        }
        if let Some(filesystem) = said.filesystems.last_mut() {
            filesystem.inodes.entry(ino).or_insert(inode);
        }
    };
    each(handover, memory, |item| {
        let text = format!("{item:?}");
        match item {
            Item::Filesystem(_) => {
                settle(&mut said, &mut current, &mut sums);
                said.filesystems.push(Filesystem::default());
            }
            Item::Inode(inode) => {
                settle(&mut said, &mut current, &mut sums);
                let new = Inode { size: inode.size, spoilt: inode.quarantined, ..Inode::default() };
                current = Some((inode.ino, new));
            }
            Item::Extent(extent) => {
                let (_, inode) = current.as_mut().expect("an extent of a file");
                for at in 0..u64::from(if extent.preallocated { 0 } else { extent.count }) {
                    let mut page = [0; FRAME_SIZE];
                    assert!(image.read(extent.start.offset(at), &mut page));
                    inode.pages.insert(u64::from(extent.index) + at, page.to_vec());
                }
            }
            Item::Rejected(..) => current.as_mut().expect("an extent of a file").1.spoilt = true,
            Item::Sums { first, sums: here } => {
                sums.extend((u64::from(first)..).zip(here.iter().map(|sum| sum.get())));
            }
            Item::CachedPages { pages, sums } => {
                said.cached.push(PfnRange { start: pages.start, count: sums.len() as u64 });
            }
            Item::Xattr { name, value } => {
                let (_, inode) = current.as_mut().expect("an attribute of an inode");
                inode.xattrs.entry(name.to_vec()).or_insert(value.to_vec());
            }
            Item::Entry { .. } | Item::Target(_) | Item::Cache(_) | Item::CachedFile(_) | Item::Kept(_) => {}
        }
        if let Some((_, inode)) = &mut current {
            inode.items.push(text);
        }
    });
    settle(&mut said, &mut current, &mut sums);
    said
}

/// Look at everything: the tree is one, each file is what was said of it.
pub fn look(restored: &Restored, said: &Filesystem) -> Seen {
    let tmpfs = &restored.tmpfs;
    let mut seen = Seen { named: restored.casualties.clone(), ..Seen::default() };
    let mut directories = BTreeSet::from([tmpfs.root()]);
    let mut waiting = vec![tmpfs.root()];
    while let Some(dir) = waiting.pop() {
        for (name, ino) in names(tmpfs, dir) {
            assert_eq!(tmpfs.lookup(dir, &name), Ok(ino));
            let stat = tmpfs.stat(ino).expect("a name leads to an inode");
            look_at_xattrs(restored, ino, &said.inodes[&ino.0]);
            match stat.kind {
                FileType::Directory => {
                    assert_eq!(tmpfs.parent(ino), Ok(dir));
                    assert!(directories.insert(ino), "a directory has two names");
                    waiting.push(ino);
                }
                FileType::Symlink => assert_eq!(tmpfs.read_link(ino).map(|target| target.len() as u64), Ok(stat.size)),
                FileType::Regular | FileType::Special => {
                    let known = said.inodes.get(&ino.0).expect("said to be there");
                    assert_eq!(stat.size, known.size);
                    look_at_file(tmpfs, ino, known, &mut seen);
                }
            }
        }
    }
    let found: BTreeMap<u64, Fault> = tmpfs.lost().into_iter().map(|lost| (lost.ino, lost.fault)).collect();
    for ino in &seen.quarantined {
        let why = &said.inodes[ino];
        let before = |lost: &Casualty| lost.ino == *ino && matches!(lost.fault, Fault::Extent(_) | Fault::Earlier);
        let named = seen.named.iter().any(before);
        match found.get(ino) {
            Some(Fault::Sum { window }) => assert!(why.broken.contains(&u64::from(*window)), "inode {ino}: {window}"),
            Some(other) => panic!("inode {ino}: {other}"),
            None => assert!(why.spoilt && named, "inode {ino} is quarantined without a reason, or not named"),
        }
    }
    seen
}

/// What attributes there are is what was said of them, and all of them are there unless one is named as lost.
fn look_at_xattrs(restored: &Restored, ino: Ino, said: &Inode) {
    let names = restored.tmpfs.xattr_names(ino).expect("an inode");
    for name in &names {
        assert_eq!(restored.tmpfs.xattr(ino, name).as_ref(), Ok(&said.xattrs[name]), "inode {}", ino.0);
    }
    let lost = restored.casualties.iter().any(|lost| lost.ino == ino.0);
    assert!(lost || names.len() == said.xattrs.len(), "inode {}: an attribute is lost", ino.0);
}

/// Every page that there is, and one of each hole. A file is right in every byte that it gives.
fn look_at_file(tmpfs: &Tmpfs, ino: Ino, said: &Inode, seen: &mut Seen) {
    let file = tmpfs.open(ino).expect("a regular file");
    let mut wanted: BTreeSet<u64> = said.pages.keys().copied().collect();
    let holes: Vec<u64> = wanted.iter().flat_map(|&page| [page.saturating_sub(1), page + 1]).collect();
    wanted.extend(holes);
    wanted.extend([0, (said.size / PAGE).saturating_sub(1), said.size / PAGE]);
    let mut pages = BTreeMap::new();
    for page in wanted.into_iter().filter(|page| page * PAGE < said.size) {
        let mut out = [0xa5; FRAME_SIZE];
        let expected = (said.size - page * PAGE).min(PAGE) as usize;
        match file.read(page * PAGE, &mut out, &mut cache::ReadAhead::default()) {
            Ok(len) => {
                assert!(!said.spoilt, "inode {} gives bytes of what is spoilt", ino.0);
                assert_eq!(len, expected, "inode {}, page {page}", ino.0);
                let zeros = vec![0; FRAME_SIZE];
                let bytes = said.pages.get(&page).unwrap_or(&zeros);
                assert!(out[..len] == bytes[..len], "inode {}, page {page}: a wrong byte", ino.0);
                if said.pages.contains_key(&page) {
                    assert!(!broken(said, page), "inode {}, page {page}: its checksum is wrong", ino.0);
                    pages.insert(page, out[..len].to_vec());
                }
            }
            Err(error) => {
                assert_eq!(error, Error::Quarantined);
                seen.quarantined.insert(ino.0);
                return;
            }
        }
    }
    seen.whole.insert(ino.0, (said.size, pages));
}

/// Whether the window of `page` has a checksum that its pages have not.
fn broken(said: &Inode, page: u64) -> bool {
    said.broken.contains(&(page / u64::from(SUM_PAGES)))
}

fn names(tmpfs: &Tmpfs, dir: Ino) -> Vec<(Vec<u8>, Ino)> {
    let mut names = Vec::new();
    let mut cursor = Some(0);
    while let Some(at) = cursor {
        let (entries, next) = tmpfs.read_dir(dir, at).expect("a directory");
        names.extend(entries.into_iter().map(|entry| (entry.name.to_vec(), entry.ino)));
        cursor = next;
    }
    names
}

/// What is there can be written down again.
pub fn hand_over_again(restored: &[Restored], memory: &'static Memory) {
    let mut allocate = || memory.allocate(Zones::Preservable);
    let about = About { generation: 1, build: b"hostile", version: handover::VERSION };
    // Where memory is full there is no kexec, which is no fault.
    let Ok(mut writer) = Writer::new(&about, &mut allocate) else { return };
    for restored in restored {
        if restored.tmpfs.save(&restored.label, &mut writer).is_err() {
            return;
        }
    }
    drop(writer.finish());
}

/// Take every name away, from the leaves up.
pub fn remove_everything(tmpfs: &Tmpfs) {
    /// The directory above, and the name there.
    type Above = Option<(Ino, Vec<u8>)>;
    let mut waiting: Vec<(Ino, Above)> = vec![(tmpfs.root(), None)];
    while let Some((dir, name)) = waiting.pop() {
        let below: Vec<_> =
            names(tmpfs, dir).into_iter().map(|(name, ino)| (ino, name, tmpfs.stat(ino).unwrap().kind)).collect();
        let mut directories = Vec::new();
        for (ino, name, kind) in below {
            match kind {
                FileType::Directory => directories.push((ino, Some((dir, name)))),
                _ => assert_eq!(tmpfs.unlink(dir, &name), Ok(())),
            }
        }
        if directories.is_empty() {
            if let Some((parent, name)) = name {
                assert_eq!(tmpfs.rmdir(parent, &name), Ok(()));
            }
        } else {
            waiting.push((dir, name));
            waiting.extend(directories);
        }
    }
}
