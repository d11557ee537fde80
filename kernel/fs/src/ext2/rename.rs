//! Names moved.
//!
//! The new name is on the disk before the old one goes, and before a file that it took the place of goes; so at every moment each
//! file that had a name has one, and a name that is replaced leads to the one file or the other.

use super::Ext2;
use super::change::Change;
use super::entries::Place;
use super::inode::Inode;
use super::layout::{LINKS_MAX, ROOT_INO};
use super::links::check_name;
use crate::error::{Error, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

/// Directories one above the other, at most.
const DEEPEST: u32 = 1 << 16;

impl Change<'_> {
    /// rename(2): `name` in `from` becomes `new` in `to`, and takes the place of what was there.
    pub(super) fn rename(&self, from: u64, name: &[u8], to: u64, new: &[u8]) -> Result<()> {
        check_name(name)?;
        check_name(new)?;
        let (from, to) = (self.directory(from)?, self.directory(to)?);
        let (source, inode) = self.named(&self.fs.search(&from, name)?)?;
        let target = self.fs.search(&to, new)?;
        let moves_directory = inode.directory().is_ok();
        if moves_directory {
            self.fs.check_held(&inode, &from)?;
            if self.fs.is_within(&to, &inode)? {
                return Err(Error::Loop);
            }
        }
        let old = if target.record.is_some() { Some(self.named(&target)?) } else { None };
        match &old {
            // Two names of one file: rename(2) leaves both.
            Some((_, old)) if old.number == inode.number => return Ok(()),
            Some((_, old)) => self.check_replaced(old, &to, moves_directory)?,
            None if moves_directory && from.number != to.number && to.lock().links >= LINKS_MAX => {
                return Err(Error::TooManyLinks);
            }
            None => {}
        }
        if old.is_some() && inode.lock().now.grown {
            // The old content is gone with the next commit, so the new one is on the disk before that.
            inode.file.write_out()?;
        }
        let place = match &old {
            Some((place, _)) => *place,
            None => self.room(&to, &target)?,
        };
        let parent = if moves_directory && from.number != to.number { Some(self.parent_place(&inode)?) } else { None };
        // Whatever commits comes before anything is changed.
        let phase = self.lose(source, Some(place))?;
        self.gain(place)?;
        for block in parent.iter().chain([&source]).map(|place| place.block) {
            self.load(block)?;
        }
        for changed in [&from, &to, &inode] {
            self.mark(changed)?;
        }
        match &old {
            Some((place, old)) => {
                self.mark(old)?;
                self.redirect(&to, *place, &inode)?;
            }
            None => self.add(&to, place, new, &inode)?,
        }
        self.remove(&from, source, phase)?;
        inode.lock().attr.ctime = inode.storable(self.now());
        if let Some(parent) = parent {
            self.redirect(&inode, parent, &to)?;
            inode.parent.store(to.number.get(), Relaxed);
            to.lock().links += 1;
            self.lose_link(&from)?;
        }
        let Some((_, old)) = old else { return Ok(()) };
        if moves_directory {
            self.lose_link(&to)?;
        }
        self.lose_name(&old)
    }

    /// Whether what is moved can take the place of `old`, which is in `to`.
    fn check_replaced(&self, old: &Arc<Inode>, to: &Inode, moves_directory: bool) -> Result<()> {
        match (moves_directory, old.directory().is_ok()) {
            (true, false) => Err(Error::NotADirectory),
            (false, true) => Err(Error::IsADirectory),
            (true, true) => {
                self.fs.check_held(old, to)?;
                if self.fs.is_empty(old)? { Ok(()) } else { Err(Error::NotEmpty) }
            }
            (false, false) => Ok(()),
        }
    }

    /// Where the `..` of a directory lies.
    fn parent_place(&self, dir: &Inode) -> Result<Place> {
        let missing = Error::Corrupt { what: "a directory without `..`, inode", value: dir.number.get().into() };
        Ok(self.fs.search(dir, b"..")?.record.ok_or(missing)?.0)
    }
}

impl Ext2 {
    /// Whether a directory has no entries.
    pub(super) fn is_empty(&self, dir: &Inode) -> Result<bool> {
        let found = self.blocks_of(dir, 0, |records, _| {
            for record in records {
                if !matches!(record?.name, b"." | b"..") {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })?;
        Ok(found.is_none())
    }

    /// Whether the directory `dir` is `ancestor` or below it.
    fn is_within(&self, dir: &Arc<Inode>, ancestor: &Inode) -> Result<bool> {
        let mut at = Arc::clone(dir);
        for _ in 0..DEEPEST {
            if at.number == ancestor.number {
                return Ok(true);
            }
            if at.number.get() == ROOT_INO {
                return Ok(false);
            }
            at = self.inode(self.parent_of(&at)?.into())?;
        }
        Err(Error::Corrupt { what: "a directory that is in itself, inode", value: dir.number.get().into() })
    }
}
