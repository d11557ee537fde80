//! The obvious tmpfs: every file one vector of bytes, every directory one map. It does what tmpfs.rs is to be proved to do, by the
//! letter of the manual pages, and knows nothing of frames but how many pages there would be.

#![allow(dead_code, reason = "each test file uses its part")]

use fs::Error;
use fs::filesystem::{FileType, NewNode, SetAttr, SetXattr, Time};
use std::collections::{BTreeMap, BTreeSet};

pub const PAGE: u64 = 4096;
pub const ROOT: u64 = 1;

#[derive(Clone, Debug)]
pub struct Node {
    pub body: Body,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub opens: u32,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Debug)]
pub enum Body {
    /// Content, and the pages of it that are no holes.
    File(Vec<u8>, BTreeSet<u64>),
    Symlink(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, u64>),
}

#[derive(Clone, Debug)]
pub struct Model {
    pub nodes: BTreeMap<u64, Node>,
    pub next: u64,
    /// The most pages.
    pub limit: u64,
}

type Result<T> = std::result::Result<T, Error>;

fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > 255 {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(Error::InvalidName);
    }
    Ok(())
}

impl Model {
    pub fn new(limit: u64, now: Time) -> Self {
        let mut model = Self { nodes: BTreeMap::new(), next: ROOT + 1, limit };
        model.nodes.insert(ROOT, Node::new(Body::Directory(BTreeMap::new()), 0o1777, now));
        model
    }

    pub fn used(&self) -> u64 {
        let pages = |node: &Node| if let Body::File(_, pages) = &node.body { pages.len() as u64 } else { 0 };
        self.nodes.values().map(pages).sum()
    }

    pub fn kind(&self, ino: u64) -> Result<FileType> {
        Ok(match self.node(ino)?.body {
            Body::File(..) => FileType::Regular,
            Body::Symlink(_) => FileType::Symlink,
            Body::Directory(_) => FileType::Directory,
        })
    }

    pub fn node(&self, ino: u64) -> Result<&Node> {
        self.nodes.get(&ino).ok_or(Error::NotFound)
    }

    fn node_mut(&mut self, ino: u64) -> Result<&mut Node> {
        self.nodes.get_mut(&ino).ok_or(Error::NotFound)
    }

    pub fn directory(&self, ino: u64) -> Result<&BTreeMap<Vec<u8>, u64>> {
        match &self.node(ino)?.body {
            Body::Directory(names) => Ok(names),
            _ => Err(Error::NotADirectory),
        }
    }

    fn directory_mut(&mut self, ino: u64, now: Time) -> &mut BTreeMap<Vec<u8>, u64> {
        let node = self.nodes.get_mut(&ino).unwrap();
        node.mtime = now;
        node.ctime = now;
        match &mut node.body {
            Body::Directory(names) => names,
            _ => panic!("not a directory"),
        }
    }

    fn file_mut(&mut self, ino: u64) -> Result<(&mut Vec<u8>, &mut BTreeSet<u64>)> {
        match &mut self.node_mut(ino)?.body {
            Body::File(bytes, pages) => Ok((bytes, pages)),
            Body::Directory(_) => Err(Error::IsADirectory),
            Body::Symlink(_) => Err(Error::NotAFile),
        }
    }

    fn modified(&mut self, ino: u64, now: Time) {
        let node = self.nodes.get_mut(&ino).unwrap();
        node.mtime = now;
        node.ctime = now;
    }

    /// Names that lead to `ino`, counted one by one.
    pub fn links(&self, ino: u64) -> u32 {
        let names = self.nodes.values().filter_map(|node| match &node.body {
            Body::Directory(names) => Some(names),
            _ => None,
        });
        let to_it = names.flat_map(|names| names.values()).filter(|&&to| to == ino).count() as u32;
        match self.directory(ino) {
            Ok(names) => 2 + names.values().filter(|&&below| self.directory(below).is_ok()).count() as u32,
            Err(_) => to_it,
        }
    }

    pub fn parent(&self, dir: u64) -> Result<u64> {
        self.directory(dir)?;
        let holds = |(_, node): &(&u64, &Node)| matches!(&node.body, Body::Directory(names) if names.values().any(|&to| to == dir));
        Ok(self.nodes.iter().find(holds).map_or(dir, |(&ino, _)| ino))
    }

    /// The directory `dir` and all above it.
    fn ancestors(&self, dir: u64) -> Vec<u64> {
        let mut all = vec![dir];
        while let Ok(parent) = self.parent(all[all.len() - 1])
            && !all.contains(&parent)
        {
            all.push(parent);
        }
        all
    }

    /// Inodes that nothing leads to and nobody holds open are gone.
    pub fn reap(&mut self) {
        let named: BTreeSet<u64> = self
            .nodes
            .values()
            .filter_map(|node| match &node.body {
                Body::Directory(names) => Some(names.values().copied()),
                _ => None,
            })
            .flatten()
            .chain([ROOT])
            .collect();
        self.nodes.retain(|ino, node| named.contains(ino) || node.opens > 0);
    }

    pub fn create(&mut self, dir: u64, name: &[u8], new: NewNode<'_>, mode: u16, now: Time) -> Result<u64> {
        check_name(name)?;
        if self.directory(dir)?.contains_key(name) {
            return Err(Error::Exists);
        }
        let (body, mode) = match new {
            NewNode::Regular => (Body::File(Vec::new(), BTreeSet::new()), mode),
            NewNode::Directory => (Body::Directory(BTreeMap::new()), mode),
            NewNode::Symlink(b"") => return Err(Error::InvalidName),
            NewNode::Symlink(target) => (Body::Symlink(target.to_vec()), 0o777),
        };
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, Node::new(body, mode, now));
        self.directory_mut(dir, now).insert(name.to_vec(), ino);
        Ok(ino)
    }

    pub fn link(&mut self, dir: u64, name: &[u8], ino: u64, now: Time) -> Result<()> {
        check_name(name)?;
        if self.directory(dir)?.contains_key(name) {
            return Err(Error::Exists);
        }
        if self.kind(ino)? == FileType::Directory {
            return Err(Error::IsADirectory);
        }
        if self.links(ino) == 0 {
            return Err(Error::NotFound);
        }
        self.directory_mut(dir, now).insert(name.to_vec(), ino);
        self.node_mut(ino)?.ctime = now;
        Ok(())
    }

    pub fn unlink(&mut self, dir: u64, name: &[u8], now: Time) -> Result<()> {
        check_name(name)?;
        let ino = *self.directory(dir)?.get(name).ok_or(Error::NotFound)?;
        if self.kind(ino)? == FileType::Directory {
            return Err(Error::IsADirectory);
        }
        self.directory_mut(dir, now).remove(name);
        self.node_mut(ino)?.ctime = now;
        self.reap();
        Ok(())
    }

    pub fn rmdir(&mut self, dir: u64, name: &[u8], now: Time) -> Result<()> {
        check_name(name)?;
        let ino = *self.directory(dir)?.get(name).ok_or(Error::NotFound)?;
        if !self.directory(ino)?.is_empty() {
            return Err(Error::NotEmpty);
        }
        self.directory_mut(dir, now).remove(name);
        self.reap();
        Ok(())
    }

    pub fn rename(&mut self, from: u64, name: &[u8], to: u64, new: &[u8], now: Time) -> Result<()> {
        check_name(name)?;
        check_name(new)?;
        let ino = *self.directory(from)?.get(name).ok_or(Error::NotFound)?;
        let old = self.directory(to)?.get(new).copied();
        let is_directory = self.kind(ino)? == FileType::Directory;
        if is_directory && self.ancestors(to).contains(&ino) {
            return Err(Error::Loop);
        }
        if old == Some(ino) {
            return Ok(());
        }
        if let Some(old) = old {
            match (is_directory, self.directory(old)) {
                (true, Err(_)) => return Err(Error::NotADirectory),
                (false, Ok(_)) => return Err(Error::IsADirectory),
                (true, Ok(names)) if !names.is_empty() => return Err(Error::NotEmpty),
                _ => {}
            }
            self.node_mut(old)?.ctime = now;
        }
        self.directory_mut(from, now).remove(name);
        self.directory_mut(to, now).insert(new.to_vec(), ino);
        self.node_mut(ino)?.ctime = now;
        self.reap();
        Ok(())
    }

    pub fn set_attr(&mut self, ino: u64, attr: &SetAttr, now: Time) -> Result<()> {
        let node = self.node_mut(ino)?;
        node.mode = attr.mode.unwrap_or(node.mode) & 0o7777;
        node.uid = attr.uid.unwrap_or(node.uid);
        node.gid = attr.gid.unwrap_or(node.gid);
        node.atime = attr.atime.unwrap_or(node.atime);
        node.mtime = attr.mtime.unwrap_or(node.mtime);
        node.ctime = now;
        Ok(())
    }

    pub fn set_xattr(&mut self, ino: u64, name: &[u8], value: &[u8], how: SetXattr, now: Time) -> Result<()> {
        if name.is_empty() || name.contains(&0) {
            return Err(Error::InvalidName);
        }
        let node = self.node_mut(ino)?;
        match how {
            SetXattr::Create if node.xattrs.contains_key(name) => return Err(Error::Exists),
            SetXattr::Replace if !node.xattrs.contains_key(name) => return Err(Error::NoSuchAttribute),
            _ => {}
        }
        node.xattrs.insert(name.to_vec(), value.to_vec());
        node.ctime = now;
        Ok(())
    }

    pub fn remove_xattr(&mut self, ino: u64, name: &[u8], now: Time) -> Result<()> {
        let node = self.node_mut(ino)?;
        node.xattrs.remove(name).ok_or(Error::NoSuchAttribute)?;
        node.ctime = now;
        Ok(())
    }

    pub fn read(&mut self, ino: u64, pos: u64, len: usize, now: Time) -> Result<Vec<u8>> {
        let (bytes, _) = self.file_mut(ino)?;
        let from = bytes.len().min(pos as usize);
        let out = bytes[from..bytes.len().min(from + len)].to_vec();
        let node = self.node_mut(ino)?;
        if node.atime <= node.mtime {
            node.atime = now;
        }
        Ok(out)
    }

    /// Page after page, as far as there is room.
    pub fn write(&mut self, ino: u64, pos: u64, data: &[u8], now: Time) -> Result<usize> {
        let mut room = self.limit - self.used();
        let (bytes, pages) = self.file_mut(ino)?;
        let mut done = 0;
        while done < data.len() {
            let at = pos + done as u64;
            if !pages.contains(&(at / PAGE)) {
                if room == 0 {
                    break;
                }
                room -= 1;
                pages.insert(at / PAGE);
            }
            let len = (data.len() - done).min((PAGE - at % PAGE) as usize);
            let end = at as usize + len;
            bytes.resize(bytes.len().max(end), 0);
            bytes[at as usize..end].copy_from_slice(&data[done..][..len]);
            done += len;
        }
        if done > 0 {
            self.modified(ino, now);
        }
        if done == 0 && !data.is_empty() { Err(Error::NoSpace) } else { Ok(done) }
    }

    pub fn truncate(&mut self, ino: u64, size: u64, now: Time) -> Result<()> {
        let (bytes, pages) = self.file_mut(ino)?;
        bytes.resize(size as usize, 0);
        pages.retain(|&page| page < size.div_ceil(PAGE));
        self.modified(ino, now);
        Ok(())
    }

    pub fn punch(&mut self, ino: u64, pos: u64, len: u64, now: Time) -> Result<()> {
        let (bytes, pages) = self.file_mut(ino)?;
        let end = pos + len;
        if pos < (bytes.len() as u64).min(end) {
            let shown = bytes.len().min(end as usize);
            bytes[pos as usize..shown].fill(0);
            pages.retain(|&page| page * PAGE < pos || (page + 1) * PAGE > end);
        }
        self.modified(ino, now);
        Ok(())
    }

    pub fn preallocate(&mut self, ino: u64, pos: u64, len: u64, now: Time) -> Result<()> {
        let room = self.limit - self.used();
        let (bytes, pages) = self.file_mut(ino)?;
        if len > 0 {
            let wanted = pos / PAGE..(pos + len).div_ceil(PAGE);
            if wanted.clone().filter(|page| !pages.contains(page)).count() as u64 > room {
                return Err(Error::NoSpace);
            }
            pages.extend(wanted);
            bytes.resize(bytes.len().max((pos + len) as usize), 0);
        }
        self.modified(ino, now);
        Ok(())
    }
}

impl Node {
    fn new(body: Body, mode: u16, now: Time) -> Self {
        Self { body, mode, uid: 0, gid: 0, atime: now, mtime: now, ctime: now, opens: 0, xattrs: BTreeMap::new() }
    }
}
