//! The model, and what the users of a cleancache do.

use crate::bench::{SORTS, Sort, named};
use crate::{ANNEX, FILES, INDICES, Op};
use cleancache::{
    Arrival, Cleancache, Config, FileId, FsId, FsStats, Kind, Offer, PoolId, PoolStats, Refusal, Stored, Wanted,
};
use frames::arena::Arena;
use frames::{FRAME_SIZE, Frame, Memory, Pfn, PfnRange, Zones};

const FRAMES: usize = 512;

pub struct Entry {
    pub file: usize,
    pub index: u32,
    pub value: u32,
    /// The pool that its frame is of.
    pub pool: PoolId,
    /// The host has changed it.
    pub damaged: bool,
}

pub struct Pool {
    pub id: PoolId,
    pub sort: Sort,
    pub donated: usize,
    /// What was donated and not taken back, where frames stay what they are.
    pub names: Vec<Pfn>,
}

/// Counters of pools and filesystems that are gone, and of what was dropped otherwise.
#[derive(Default)]
pub struct Gone {
    pub pools: [u64; 4],
    pub fs: [u64; 4],
    pub lost: u64,
}

pub fn of_pool(pool: &PoolStats) -> [u64; 4] {
    [pool.stores, pool.hits, pool.invalidations, pool.evictions + pool.taken_used + pool.damaged]
}

pub fn of_fs(fs: &FsStats) -> [u64; 4] {
    [fs.stores, fs.hits, fs.invalidations, fs.lost]
}

pub fn add(sum: &mut [u64; 4], more: [u64; 4]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

pub struct Model {
    pub cleancache: Cleancache,
    pub config: Config,
    /// Whether the model knows which page goes when one has to.
    pub exact: bool,
    pub memory: &'static Memory,
    pub annex: PfnRange,
    /// Frames of the annex that are lent to nobody.
    pub home: Vec<Frame>,
    pub pools: Vec<Pool>,
    pub filesystems: Vec<FsId>,
    pub files: Vec<FileId>,
    /// By age. If not exact, some of them may be gone.
    pub entries: Vec<Entry>,
    pub value: u32,
    pub gone: Gone,
    pub arena: Arena,
}

impl Model {
    pub fn new(config: Config, exact: bool) -> Self {
        let (arena, annex) = Arena::with_annex(FRAMES, ANNEX);
        let memory = arena.memory();
        let cleancache = Cleancache::new(memory, config);
        let filesystems: Vec<FsId> = ["a", "b"].iter().map(|name| cleancache.add_fs(name)).collect();
        let file = |file: usize| cleancache.add_file(filesystems[file % 2]).expect("mounted");
        let files = (0..FILES).map(file).collect();
        let range = annex.range();
        let mut home: Vec<Frame> = annex.into_iter().collect();
        // Another run's pages may lie there, whose values look like those of this one.
        home.iter_mut().for_each(Frame::zero);
        let mut model = Self {
            cleancache,
            config,
            exact,
            memory,
            annex: range,
            home,
            pools: Vec::new(),
            filesystems,
            files,
            entries: Vec::new(),
            value: 0,
            gone: Gone::default(),
            arena,
        };
        (0..SORTS.len()).for_each(|sort| model.register(sort));
        model
    }

    pub fn register(&mut self, sort: usize) {
        let sort = SORTS[sort];
        let kind = match sort {
            Sort::Fixed => Kind::Fixed,
            Sort::Exchangeable => Kind::Exchangeable,
            Sort::Untrusted => Kind::Untrusted(self.annex),
        };
        let id = self.cleancache.register_pool(named("pool", kind)).expect("a pool");
        assert!(self.pools.iter().all(|pool| pool.id != id));
        self.pools.push(Pool { id, sort, donated: 0, names: Vec::new() });
    }

    pub fn donated(&self) -> usize {
        self.pools.iter().map(|pool| pool.donated).sum()
    }

    pub fn find(&self, file: usize, index: u32) -> Option<usize> {
        self.entries.iter().position(|entry| (entry.file, entry.index) == (file, index))
    }

    /// By name: the statistics have pools in the order of their places, of which there are no two alike.
    pub fn stats(&self) -> Vec<(PoolId, PoolStats)> {
        let mut ids: Vec<PoolId> = self.pools.iter().map(|pool| pool.id).collect();
        ids.sort_by_key(|id| id.slot());
        ids.into_iter().zip(self.cleancache.pool_stats()).collect()
    }

    pub fn page(&mut self) -> Frame {
        self.value += 1;
        let mut frame = self.memory.allocate(Zones::Ephemeral).expect("memory");
        frame.bytes_mut().chunks_exact_mut(4).for_each(|word| word.copy_from_slice(&self.value.to_le_bytes()));
        frame
    }

    pub fn store(&mut self, file: usize, index: u32, workingset: bool) {
        let frame = self.page();
        let before = self.stats();
        let arrival = Arrival { workingset, ..Arrival::default() };
        let (stored, back) = self.cleancache.store(Offer { file: self.files[file], index, frame, arrival });
        let after = self.stats();
        let fixed = |pool: &Pool| pool.sort != Sort::Exchangeable && pool.names.contains(&back.pfn());
        assert!(!self.pools.iter().any(fixed), "a frame that has to stay came out");
        let grown = |counter: fn(&PoolStats) -> u64| {
            let grown = before.iter().zip(&after).find(|(before, after)| counter(&after.1) > counter(&before.1));
            grown.map(|(_, &(id, _))| id)
        };
        let had = self.find(file, index).map(|at| self.entries.remove(at)).is_some();
        let evicted = grown(|pool| pool.evictions);
        let full = before.iter().all(|(_, pool)| pool.free == 0);
        if self.config.gate && !workingset {
            assert_eq!(stored, Stored::Refused(Refusal::Gate));
        } else if self.exact {
            let refused = !had && full && (!self.config.evict || self.donated() == 0);
            let expected = match had {
                _ if refused => Stored::Refused(Refusal::NoFrame),
                true => Stored::Replaced,
                false => Stored::Inserted,
            };
            assert_eq!(stored, expected);
            assert_eq!(evicted.is_some(), !had && full && !refused);
        }
        if let Some(pool) = evicted
            && self.exact
        {
            let oldest = self.entries.iter().position(|entry| entry.pool == pool);
            self.entries.remove(oldest.expect("a page in a pool that evicts one"));
        }
        match stored {
            Stored::Refused(_) => {}
            Stored::Inserted | Stored::Replaced => {
                assert!(had || stored == Stored::Inserted, "replaced what is not there");
                let pool = grown(|pool| pool.stores).expect("a pool that took the page");
                self.entries.push(Entry { file, index, value: self.value, pool, damaged: false });
            }
        }
    }

    /// A set in one operation, of which the model only knows what it may leave.
    pub fn store_set(&mut self, file: usize, first: u32, len: u32, workingset: bool) {
        let arrival = Arrival { workingset, ..Arrival::default() };
        let offers: Vec<Offer> = (first..first + len)
            .map(|index| Offer { file: self.files[file], index, frame: self.page(), arrival })
            .collect();
        let newest = self.value;
        let mut outcomes = Vec::new();
        self.cleancache.store_all(offers, |stored, frame| {
            drop(frame);
            outcomes.push(stored);
        });
        assert_eq!(outcomes.len(), len as usize);
        for ((index, value), stored) in (first..).zip(newest + 1 - len..).zip(outcomes) {
            let had = self.find(file, index).map(|at| self.entries.remove(at)).is_some();
            assert!(had || stored != Stored::Replaced);
            if !matches!(stored, Stored::Refused(_)) {
                // The pool is not known, nor needed.
                let pool = PoolId::from((u32::MAX, 0));
                self.entries.push(Entry { file, index, value, pool, damaged: false });
            }
        }
    }

    pub fn restore(&mut self, file: usize, first: u32, len: u32) {
        let page = |index: u32| Wanted::new(index, self.memory.allocate(Zones::Ephemeral).expect("memory"));
        let mut wanted: Vec<Wanted> = (first..first + len).map(page).collect();
        self.cleancache.restore_run(self.files[file], &mut wanted);
        for Wanted { index, frame, found, .. } in wanted {
            let entry = self.find(file, index).map(|at| self.entries.remove(at));
            let sound = entry.as_ref().is_some_and(|entry| !entry.damaged);
            assert!(sound || !found, "page {index} of file {file} cannot be here");
            assert!(found || !sound || !self.exact, "page {index} of file {file} is not found");
            if let Some(entry) = entry
                && found
            {
                let value = entry.value.to_le_bytes();
                assert!(frame.bytes().chunks_exact(4).all(|word| word == value), "another page, or an older one");
                if !self.config.exclusive {
                    self.entries.push(entry);
                }
            }
        }
    }

    pub fn apply(&mut self, op: Op) {
        match op {
            Op::Store { file, index, len, workingset } if self.exact => {
                (index..index + len).for_each(|index| self.store(file, index, workingset));
            }
            Op::Store { file, index, len: 1, workingset } => self.store(file, index, workingset),
            Op::Store { file, index, len, workingset } => self.store_set(file, index, len, workingset),
            Op::Restore { file, index, len } => self.restore(file, index, len),
            Op::Invalidate { file, first, len } => {
                let last = first + len;
                self.cleancache.invalidate_range(self.files[file], first, last);
                self.entries.retain(|entry| entry.file != file || !(first..=last).contains(&entry.index));
            }
            Op::Register { sort } if self.pools.len() < 6 => self.register(sort),
            Op::Register { .. } => {}
            Op::Scribble { frame, at, flip } => {
                let mut seen = [0; 4];
                let pfn = self.annex.start.offset(frame);
                for (at, seen) in seen.iter_mut().enumerate() {
                    self.arena.scribble(pfn, at, |byte| {
                        *seen = byte;
                        byte
                    });
                }
                self.arena.scribble(pfn, at, |byte| byte ^ flip);
                let value = u32::from_le_bytes(seen);
                // Twice the same change is none.
                let hit = self.entries.iter_mut().find(|entry| entry.value == value);
                if let Some(entry) = hit {
                    let mut sound = true;
                    for at in 0..FRAME_SIZE {
                        self.arena.scribble(pfn, at, |byte| {
                            sound &= byte == seen[at % 4];
                            byte
                        });
                    }
                    entry.damaged = !sound;
                }
            }
            Op::Renew { file } => {
                assert!(self.cleancache.remove_file(self.files[file]).is_ok());
                self.files[file] = self.cleancache.add_file(self.filesystems[file % 2]).expect("mounted");
                self.entries.retain(|entry| entry.file != file);
            }
            Op::Remount { fs } => {
                let stats = &self.cleancache.fs_stats();
                let at = stats.iter().position(|known| known.name == ["a", "b"][fs]).expect("mounted");
                let [stores, hits, invalidations, lost] = of_fs(&stats[at]);
                add(&mut self.gone.fs, [stores, hits, invalidations + stats[at].cached, lost]);
                assert!(self.cleancache.remove_fs(self.filesystems[fs]).is_ok());
                self.filesystems[fs] = self.cleancache.add_fs(["a", "b"][fs]);
                for file in (fs..FILES).step_by(2) {
                    self.files[file] = self.cleancache.add_file(self.filesystems[fs]).expect("mounted");
                }
                self.entries.retain(|entry| entry.file % 2 != fs);
            }
            Op::Clear => {
                self.gone.lost += self.stats().iter().map(|(_, pool)| pool.cached).sum::<u64>();
                self.cleancache.clear();
                self.entries.clear();
            }
            of_a_donor => self.apply_donor(of_a_donor),
        }
    }

    /// After each step: every frame and every page is accounted for.
    pub fn check(&self) {
        let stats = self.stats();
        assert_eq!(stats.len(), self.pools.len());
        for pool in &self.pools {
            let (_, stats) = stats.iter().find(|(id, _)| *id == pool.id).expect("registered");
            assert_eq!(stats.donated, pool.donated as u64);
            assert_eq!(stats.donated, stats.free + stats.cached);
            assert_eq!(stats.in_transit, 0);
            if self.exact {
                let here = self.entries.iter().filter(|entry| entry.pool == pool.id).count();
                assert_eq!(stats.cached, here as u64);
            }
        }
        let cached: u64 = stats.iter().map(|(_, pool)| pool.cached).sum();
        assert!(cached <= self.entries.len() as u64);
        let own = self.pools.iter().filter(|pool| pool.sort != Sort::Untrusted).map(|pool| pool.donated as u64);
        assert_eq!(self.memory.stats().owned(), own.sum::<u64>());

        // What the pools count is what the filesystems count.
        let mut by_pools = self.gone.pools;
        stats.iter().for_each(|(_, pool)| add(&mut by_pools, of_pool(pool)));
        by_pools[3] += self.gone.lost;
        let mut by_fs = self.gone.fs;
        let filesystems = self.cleancache.fs_stats();
        filesystems.iter().for_each(|fs| add(&mut by_fs, of_fs(fs)));
        assert_eq!(by_pools, by_fs, "stores, hits, invalidations, lost");
        for fs in &filesystems {
            let found = if self.config.exclusive { fs.hits } else { 0 };
            assert_eq!(fs.stores, fs.replaced + fs.invalidations + found + fs.lost + fs.cached);
        }
        assert_eq!(filesystems.iter().map(|fs| fs.cached).sum::<u64>(), cached);
        assert_eq!(self.files.iter().map(|&file| self.cleancache.file_len(file) as u64).sum::<u64>(), cached);
    }

    /// At the end: what is said to be here is found, and nothing else is.
    pub fn sweep(&mut self) {
        let hits = |model: &Self| -> u64 { model.stats().iter().map(|(_, pool)| pool.hits + pool.damaged).sum() };
        let (cached, before) = (self.stats().iter().map(|(_, pool)| pool.cached).sum::<u64>(), hits(self));
        for file in 0..FILES {
            self.restore(file, 0, INDICES + 4);
        }
        assert_eq!(hits(self) - before, cached);
        self.check();
    }
}
