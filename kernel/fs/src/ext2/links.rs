//! Names and what they lead to: made, linked, removed.
//!
//! What can fail comes first, and what was done by then is taken back, so that a name never leads to half an inode. An inode that
//! loses its last name is freed at once, or when the last handle closes.

use super::buffer::Phase;
use super::cached::CachedFile;
use super::change::Change;
use super::entries::{Found, Place};
use super::geometry::InodeNumber;
use super::inode::{Attr, Inode, State};
use super::layout::{LINKS_MAX, POINTERS};
use super::store::has_extra;
use crate::error::{Error, Result};
use crate::filesystem::{FileType, NewNode, SetAttr};
use alloc::sync::Arc;
use cache::Stamp;
use core::sync::atomic::Ordering::Relaxed;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

/// The longest name.
const NAME_MAX: usize = 255;

/// Whether `name` can be given to something.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX {
        return Err(Error::NameTooLong);
    }
    let reserved = matches!(name, b"" | b"." | b"..");
    if reserved || name.iter().any(|&byte| byte == b'/' || byte == 0) { Err(Error::InvalidName) } else { Ok(()) }
}

impl Change<'_> {
    /// A directory that is still there.
    pub(super) fn directory(&self, ino: u64) -> Result<Arc<Inode>> {
        let dir = self.fs.inode(ino)?;
        dir.directory()?;
        if dir.lock().links == 0 { Err(Error::NotFound) } else { Ok(dir) }
    }

    /// Make a new inode under `name` in `dir`.
    pub(super) fn create(&self, dir: u64, name: &[u8], new: NewNode<'_>, mode: u16) -> Result<Arc<Inode>> {
        check_name(name)?;
        let dir = self.directory(dir)?;
        let found = self.fs.search(&dir, name)?;
        if found.record.is_some() {
            return Err(Error::Exists);
        }
        match new {
            NewNode::Directory if dir.lock().links >= LINKS_MAX => return Err(Error::TooManyLinks),
            NewNode::Symlink(b"") => return Err(Error::InvalidName),
            // It takes one block, with room for a byte that ends it.
            NewNode::Symlink(target) if target.len() >= self.fs.geometry.block_size() => {
                return Err(Error::NameTooLong);
            }
            _ => {}
        }
        let place = self.room(&dir, &found)?;
        if new == NewNode::Directory {
            // Files may be moved into it, so it has to be on the disk before the names go that they had.
            self.gain(place)?;
        }
        let inode = self.new_inode(&dir, new, mode)?;
        let filled = match new {
            NewNode::Regular => Ok(()),
            NewNode::Directory => self.first_block(&inode, &dir),
            NewNode::Symlink(target) => self.fill_link(&inode, target),
        };
        if let Err(error) = filled.and_then(|()| self.add(&dir, place, name, &inode)) {
            inode.lock().links = 0;
            self.reap(&inode)?;
            return Err(error);
        }
        if new == NewNode::Directory {
            dir.lock().links += 1;
            inode.parent.store(dir.number.get(), Relaxed);
        }
        self.mark(&dir)?;
        self.mark(&inode)?;
        Ok(inode)
    }

    /// An inode that no name leads to yet, with nothing in it.
    fn new_inode(&self, dir: &Inode, new: NewNode<'_>, mode: u16) -> Result<Arc<Inode>> {
        let (kind, format, mode, links) = match new {
            NewNode::Regular => (FileType::Regular, 0x8000, mode, 1),
            NewNode::Directory => (FileType::Directory, 0x4000, mode, 2),
            NewNode::Symlink(_) => (FileType::Symlink, 0xa000, 0o777, 1),
        };
        let (number, generation) = self.allocate_inode(dir, kind == FileType::Directory)?;
        let made = self.make(number, generation, kind, format, State { links, ..State::default() });
        let inode = made.inspect_err(|_| {
            // It was marked as used a moment ago, so this finds it so.
            let _ = self.free_inode(number, kind == FileType::Directory);
        })?;
        let now = inode.storable(self.now());
        inode.lock().attr = Attr { mode: mode & 0o7777, atime: now, mtime: now, ctime: now, ..Attr::default() };
        Ok(inode)
    }

    fn make(
        &self,
        number: InodeNumber,
        generation: u32,
        kind: FileType,
        format: u16,
        state: State,
    ) -> Result<Arc<Inode>> {
        let fs = self.fs;
        let file = CachedFile::open(&fs.cache, fs.id, number.get().into(), generation, Stamp::default())?;
        let fine_times = has_extra(&fs.geometry);
        let inode = Arc::new(Inode::new(number, kind, format, generation, file, fine_times, state));
        inode.lock().now.born = true;
        fs.inodes.lock().replace(&inode)?;
        self.mark(&inode)?;
        Ok(inode)
    }

    /// The target of a symbolic link: where the pointers are if it is short, in a block otherwise.
    fn fill_link(&self, inode: &Arc<Inode>, target: &[u8]) -> Result<()> {
        if target.len() < size_of::<[u32; POINTERS]>() {
            let mut pointers = [U32::new(0); POINTERS];
            if let Some(place) = pointers.as_mut_bytes().get_mut(..target.len()) {
                place.copy_from_slice(target);
            }
            let mut state = inode.lock();
            state.blocks = pointers.map(U32::get);
            state.size = target.len() as u64;
            return Ok(());
        }
        let mapped = self.block_for(inode, 0)?;
        self.fresh(mapped.block)?;
        self.edit(mapped.block, Phase::New, |bytes| {
            if let Some(place) = bytes.get_mut(..target.len()) {
                place.copy_from_slice(target);
            }
        })?;
        inode.lock().size = target.len() as u64;
        Ok(())
    }

    /// Another name for the file `ino`.
    pub(super) fn link(&self, dir: u64, name: &[u8], ino: u64) -> Result<()> {
        check_name(name)?;
        let (dir, inode) = (self.directory(dir)?, self.fs.inode(ino)?);
        let found = self.fs.search(&dir, name)?;
        if found.record.is_some() {
            return Err(Error::Exists);
        }
        let links = inode.lock().links;
        match inode.kind {
            FileType::Directory => return Err(Error::IsADirectory),
            // Its last name is gone, and it shall not come back.
            _ if links == 0 => return Err(Error::NotFound),
            _ if links >= LINKS_MAX => return Err(Error::TooManyLinks),
            _ => {}
        }
        let place = self.room(&dir, &found)?;
        self.gain(place)?;
        self.mark(&inode)?;
        self.add(&dir, place, name, &inode)?;
        let mut state = inode.lock();
        state.links += 1;
        state.attr.ctime = inode.storable(self.now());
        Ok(())
    }

    /// Remove a name that is not a directory's.
    pub(super) fn unlink(&self, dir: u64, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let dir = self.directory(dir)?;
        let (place, inode) = self.named(&self.fs.search(&dir, name)?)?;
        if inode.kind == FileType::Directory {
            return Err(Error::IsADirectory);
        }
        let phase = if inode.lock().links > 1 { self.lose(place, None)? } else { Phase::Names };
        self.mark(&inode)?;
        self.remove(&dir, place, phase)?;
        self.lose_name(&inode)
    }

    /// Remove an empty directory.
    pub(super) fn rmdir(&self, dir: u64, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let dir = self.directory(dir)?;
        let (place, inode) = self.named(&self.fs.search(&dir, name)?)?;
        inode.directory()?;
        self.fs.check_held(&inode, &dir)?;
        if !self.fs.is_empty(&inode)? {
            return Err(Error::NotEmpty);
        }
        self.mark(&inode)?;
        self.remove(&dir, place, Phase::Names)?;
        self.lose_link(&dir)?;
        self.lose_name(&inode)
    }

    /// The record that was found, and the inode that it leads to.
    pub(super) fn named(&self, found: &Found) -> Result<(Place, Arc<Inode>)> {
        let (place, ino) = found.record.ok_or(Error::NotFound)?;
        Ok((place, self.fs.inode(ino.get().into())?))
    }

    /// A directory is one directory's parent less.
    pub(super) fn lose_link(&self, dir: &Arc<Inode>) -> Result<()> {
        self.mark(dir)?;
        let mut state = dir.lock();
        // As 1 it stands for more than can be counted; below 2 there is nothing to take.
        if state.links > 2 {
            state.links -= 1;
        }
        Ok(())
    }

    /// A name of `inode`, or of an empty directory the only one, is gone.
    pub(super) fn lose_name(&self, inode: &Arc<Inode>) -> Result<()> {
        let (gone, open) = {
            let mut state = inode.lock();
            state.links = if inode.kind == FileType::Directory { 0 } else { state.links.saturating_sub(1) };
            state.attr.ctime = inode.storable(self.now());
            (state.links == 0, state.opens > 0)
        };
        if gone && open {
            self.fs.metadata.lock().orphans += 1;
        }
        if gone && !open { self.reap(inode) } else { Ok(()) }
    }

    /// The last handle of a file without a name was closed.
    pub(super) fn close(&self, inode: &Arc<Inode>) -> Result<()> {
        self.reap(inode)?;
        let mut metadata = self.fs.metadata.lock();
        metadata.orphans = metadata.orphans.saturating_sub(1);
        Ok(())
    }

    /// Change attributes.
    pub(super) fn set_attr(&self, inode: &Arc<Inode>, attr: &SetAttr) -> Result<()> {
        self.mark(inode)?;
        let now = inode.storable(self.now());
        let mut state = inode.lock();
        let known = &mut state.attr;
        known.mode = attr.mode.map_or(known.mode, |mode| mode & 0o7777);
        known.uid = attr.uid.unwrap_or(known.uid);
        known.gid = attr.gid.unwrap_or(known.gid);
        known.atime = attr.atime.map_or(known.atime, |time| inode.storable(time));
        known.mtime = attr.mtime.map_or(known.mtime, |time| inode.storable(time));
        known.ctime = now;
        Ok(())
    }

    /// A block is about to gain a name of a file that has, or had, another. Names that are lost on the way go after it.
    pub(super) fn gain(&self, place: Place) -> Result<()> {
        if self.fs.metadata.lock().buffer.phase(place.block) == Some(Phase::Lost) {
            self.commit()?;
        }
        self.load(place.block)?;
        let mut metadata = self.fs.metadata.lock();
        metadata.strict = true;
        // The pin is the changed block's: this is followed by the change.
        metadata.buffer.edit(place.block, Phase::Names);
        metadata.buffer.pin(place.block);
        Ok(())
    }

    /// When to write a block that is about to lose a name of a file that has another, which lies at `other` if it is new.
    pub(super) fn lose(&self, place: Place, other: Option<Place>) -> Result<Phase> {
        if other.is_some_and(|other| other.block == place.block) {
            return Ok(Phase::Names);
        }
        if self.fs.metadata.lock().buffer.is_pinned(place.block) {
            self.commit()?;
        }
        Ok(Phase::Lost)
    }
}
