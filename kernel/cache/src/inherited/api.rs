//! What others have to do with inherited pages: whoever reads a handover, filesystems that prove themselves, donors.

use super::{Class, Estate, Identity, Inherited, InheritedFile, InheritedPages, InheritedStats};
use crate::OutOfMemory;
use crate::PageCache;
use alloc::vec::Vec;
use cleancache::{FsId, PoolId};
use frames::{PfnRange, Zones};
use log::info;

impl PageCache {
    /// What was cached of the filesystem that was mounted from `label` begins. Files and pages that follow are of it.
    pub fn inherit(&self, label: &str, identity: Identity) {
        self.state.lock().inherited.estates.push(Estate::new(label, identity));
    }

    /// A file of the filesystem that was begun last. `false`, and its pages will be refused, when it does not come in the order of
    /// the inodes' numbers.
    pub fn inherit_file(&self, file: InheritedFile) -> bool {
        self.state.lock().inherited.estates.last_mut().is_some_and(|estate| estate.push_file(file))
    }

    /// Pages of the file that was begun last, as many as there are checksums; their frames are set aside. Those that cannot be kept,
    /// because memory is short or they are out of order, are dropped, and the answer is `false`.
    pub fn inherit_pages(&self, pages: InheritedPages, sums: &[u32]) -> bool {
        let mut state = self.state.lock();
        let inherited = &mut state.inherited;
        inherited.stats.handed_over += sums.len() as u64;
        // The lists grow a frame at a time, and never from the last ones.
        let room = self.memory.free_frames(Zones::Ephemeral) > self.memory.watermarks().low;
        let mut rest = PfnRange { start: pages.start, count: sums.len() as u64 };
        let mut all = true;
        while !rest.is_empty() {
            let (part, lodged) = inherited.homes.split(rest);
            let done = (part.start.get() - pages.start.get()) as usize;
            let class = match (lodged, pages.cold) {
                (true, _) => Class::Lodged,
                (false, true) => Class::Cold,
                (false, false) => Class::Warm,
            };
            let sums = sums.get(done..done + part.count as usize).unwrap_or_default();
            let index = pages.index.saturating_add(done as u32);
            let kept = room
                && inherited
                    .estates
                    .last_mut()
                    .is_some_and(|estate| estate.push_run(index, part, class, pages.cold, sums));
            if !kept {
                all = false;
                inherited.give_up(&self.cleancache, class, part);
            }
            rest = PfnRange::new(part.end(), rest.end());
        }
        all
    }

    /// Frames of `range` that hold inherited pages are those of `pool`, which gets them when they hold none any more. To be said
    /// before the pages [come](Self::inherit_pages), of one pool.
    pub fn lodge(&self, range: PfnRange, pool: PoolId) {
        self.state.lock().inherited.homes.add_range(range, pool);
    }

    /// Inherited pages that were in cleancache lie in frames that `pool` would have, were they not here: it gets as many, up to
    /// `frames`, as such pages go. How many that will be.
    pub fn owe(&self, pool: PoolId, frames: u64) -> u64 {
        let mut state = self.state.lock();
        let owed = frames.min(state.inherited.left_of(Class::Cold));
        state.inherited.homes.owe(pool, owed);
        owed
    }

    /// Let `pool` have up to `want` of the frames that it has a claim to, whatever is in them; how many it got.
    pub fn settle(&self, pool: PoolId, want: usize) -> usize {
        let mut state = self.state.lock();
        let class = state.inherited.homes.class_of(pool);
        class.map_or(0, |class| state.inherited.settle(class, want, &self.cleancache))
    }

    /// How many frames with inherited pages in them `pool` has a claim to.
    pub fn claim_of(&self, pool: PoolId) -> u64 {
        let inherited = &self.state.lock().inherited;
        match inherited.homes.class_of(pool) {
            Some(Class::Lodged) => inherited.left_of(Class::Lodged),
            Some(Class::Cold) => inherited.homes.owed(),
            Some(Class::Warm) | None => 0,
        }
    }

    /// All that was inherited is dropped.
    pub fn renounce(&self) {
        self.state.lock().inherited.clear(&self.cleancache);
    }

    /// Give up the inherited pages in `range`: the pool that lends it has all its frames then. Says how many there were.
    pub fn vacate(&self, range: PfnRange) -> u64 {
        self.state.lock().inherited.vacate(range, &self.cleancache)
    }

    /// What the filesystem that was mounted from `label` has to be told by, so that what was inherited of it may be used; `None`
    /// if nothing was.
    pub fn inheritance(&self, label: &str) -> Option<Identity> {
        let state = self.state.lock();
        waiting(&state.inherited, label).map(|estate| estate.identity)
    }

    /// The files of it that have to be as they were: all of them.
    ///
    /// # Errors
    /// [`OutOfMemory`]: a proof that knows only some of them would be none.
    pub fn inherited_files(&self, label: &str) -> Result<Vec<InheritedFile>, OutOfMemory> {
        let state = self.state.lock();
        let Some(estate) = waiting(&state.inherited, label) else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        files.try_reserve_exact(estate.files()).map_err(|_| OutOfMemory)?;
        files.extend((0..estate.files()).filter_map(|at| estate.file(at)));
        Ok(files)
    }

    /// Which pages of a file of it were inherited, with their checksums: all of them.
    ///
    /// # Errors
    /// [`OutOfMemory`], likewise.
    pub fn inherited_pages(&self, label: &str, ino: u64, generation: u32) -> Result<Vec<(u32, u32)>, OutOfMemory> {
        let state = self.state.lock();
        let mut pages = Vec::new();
        if let Some(estate) = waiting(&state.inherited, label)
            && let Some(file) = estate.find(ino, generation)
        {
            for page in estate.pages(file) {
                pages.try_reserve(1).map_err(|_| OutOfMemory)?;
                pages.push((page.index, page.sum));
            }
        }
        Ok(pages)
    }

    /// The filesystem that was mounted from `label` is `fs` now, and has been proved to be as it was: what was inherited of it may be
    /// used from here on. Files of it that were opened before do not have their share. Says how many pages there are.
    pub fn accept(&self, label: &str, fs: FsId) -> u64 {
        let mut state = self.state.lock();
        let estates = &mut state.inherited.estates;
        let Some(estate) = estates.iter_mut().find(|estate| estate.heir.is_none() && estate.label == label) else {
            return 0;
        };
        estate.heir = Some(fs);
        let pages = estate.left();
        info!(target: "cache", "{label}: the filesystem is unchanged, {pages} inherited pages are of use");
        pages
    }

    /// The filesystem that was mounted from `label` is not what it was, and `why`: everything that was inherited of it is
    /// dropped. Says how many pages there were.
    pub fn disinherit(&self, label: &str, why: &str) -> u64 {
        self.state.lock().inherited.disinherit(label, why, &self.cleancache)
    }

    /// What became of inherited pages.
    pub fn inherited(&self) -> InheritedStats {
        self.state.lock().inherited.stats()
    }
}

/// The estate that waits for the filesystem mounted from `label`.
fn waiting<'a>(inherited: &'a Inherited, label: &str) -> Option<&'a Estate> {
    inherited.estates.iter().find(|estate| estate.heir.is_none() && estate.left() > 0 && estate.label == label)
}
