//! What stands when boot is over: the caches, the name space and what is mounted in it, the donors.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use cache::{Cleancache, PageCache};
use cleancache::TagKey;
use cleancache::policy::MakePolicy;
use donors::carve_out::Taken;
use frames::{FRAME_SIZE, Lock, Memory, Rank, Zones};
use fs::Error;
use fs::block::BlockDevice;
use fs::error::Result;
use fs::ext2::Ext2;
use fs::ext4::Ext4;
use fs::filesystem::Time;
use fs::tmpfs::{Census, Environment, Options, Tmpfs};
use fs::vfs::Vfs;
use handover::Handover;
use log::{info, warn};
use spin::Once;

use crate::arch::{cpu, tsc};
use crate::donation::{self, Donors, Sources};
use crate::drivers::attention;
use crate::generation::Generation;
use crate::machine::Machine;
use crate::memory::heap;
use crate::smp;
use crate::smp::chores::{self, Chore};
use crate::time;
use crate::write_behind::WriteBehind;

/// Where the disk is mounted.
pub const DISK: &[u8] = b"/disk";
/// Where there is a filesystem in memory from the beginning, which crosses a kexec unless it was mounted otherwise.
pub const TMP: &[u8] = b"/tmp";

/// The names in the root directory, on which something can be mounted.
const POINTS: [&[u8]; 3] = [b"disk", b"mnt", b"tmp"];
/// Frames that are lent for each shard of cleancache, at least: with fewer a policy sees too little.
const FRAMES_OF_A_SHARD: u64 = 1024;

/// The page cache, for the heap when it finds no frame.
static RECLAIM: Once<Arc<PageCache>> = Once::new();
/// The donors, for the heap when the page cache has none either.
static DONORS: Once<Arc<Donors>> = Once::new();

/// The running system.
pub struct System {
    /// The machine below it.
    pub machine: Machine,
    /// All frames.
    pub memory: &'static Memory,
    /// Pages of files.
    pub cache: Arc<PageCache>,
    /// Evicted pages, in donated frames.
    pub cleancache: Arc<Cleancache>,
    /// The name space.
    pub vfs: Vfs,
    /// The disk at [`DISK`].
    pub disk: Option<Arc<dyn BlockDevice>>,
    /// Which kernel this is in the line of kernels, and what it got from the one before.
    pub generation: Generation,
    /// The filesystems in memory that are mounted, with their mount points.
    tmpfs: Lock<Vec<(Vec<u8>, Arc<Tmpfs>)>>,
    /// Who lends memory to cleancache.
    pub donors: Arc<Donors>,
    behind: WriteBehind,
}

impl System {
    /// Builds it: caches first, donated frames and what was handed over, then the filesystems. What was handed over is mounted
    /// again; what cannot be mounted is said, and the system runs without it.
    pub fn start(machine: Machine, sources: Sources, policy: MakePolicy, handover: Option<Handover>) -> Self {
        let memory = machine.memory;
        let bytes = sources.wanted.iter().map(|donation| donation.bytes).fold(0, u64::saturating_add);
        let frames = (bytes / FRAME_SIZE as u64).min(memory.records() as u64);
        let config = cleancache::Config {
            // Where nothing is lent the tables are as small as can be.
            capacity: frames.max(1) as usize,
            shards: smp::online().count().min((frames / FRAMES_OF_A_SHARD) as usize),
            policy,
            clock: tsc::now,
            tag_key: TagKey(cpu::random(), cpu::random()),
            ..cleancache::Config::default()
        };
        let cleancache = Arc::new(Cleancache::new(memory, config));
        // What is set aside for cleancache holds no page of this cache before it is taken back.
        let ours = memory.stats().total.saturating_sub(sources.carve_out.count);
        let cache = PageCache::for_frames(memory, cleancache.clone(), ours as usize);
        RECLAIM.call_once(|| cache.clone());
        heap::on_shortage(make_room);
        // The carve-out before anything is inherited, as some of that lies in it; the others afterwards, when it is known what lies
        // where their frames would be.
        let carve_out = donation::carve_out::start(&cache, sources.carve_out, handover.as_ref());
        let (generation, restored) = Generation::begin(&machine.parcel, handover, &environment(&cache));
        let donors = Arc::new(Donors::start(&cache, carve_out, sources));
        DONORS.call_once(|| donors.clone());
        let lenders = donors.clone();
        cache.on_shortage(Box::new(move |frames| lenders.relieve(frames)));

        // What another build handed over is mounted where it was, be there such a mount point in this one or not.
        let names = restored.iter().filter_map(|(point, _)| point.strip_prefix(b"/"));
        let vfs = Vfs::new(&POINTS.iter().copied().chain(names).collect::<Vec<_>>());
        let disk = machine.disk().map(|disk| disk.clone() as Arc<dyn BlockDevice>);
        let system = Self {
            memory,
            cache,
            cleancache,
            vfs,
            disk,
            generation,
            tmpfs: Lock::new(Rank::Mounts, Vec::new()),
            donors,
            behind: WriteBehind::default(),
            machine,
        };
        for (point, tmpfs) in restored {
            let tmpfs = Arc::new(tmpfs);
            let attached = system.attach(&point, tmpfs.clone());
            if attached.is_err() {
                // What is in it stays until this kernel is up: the one before may be wanted again.
                system.generation.no_place_for(tmpfs);
            }
            say("tmpfs", &point, attached);
        }
        if system.tmpfs_at(TMP).is_none() {
            say("tmpfs", TMP, system.mount_tmpfs(TMP, Options::default()));
        }
        match &system.disk {
            Some(disk) => say(disk.name(), DISK, system.mount(disk.name().as_bytes(), DISK)),
            None => info!(target: "fs", "no disk"),
        }
        system
    }

    /// The filesystems in memory, by their mount points.
    pub fn tmpfs(&self) -> Vec<(Vec<u8>, Arc<Tmpfs>)> {
        self.tmpfs.lock().clone()
    }

    /// What a kexec would hand over of them.
    pub fn preserved(&self) -> Census {
        self.tmpfs().iter().filter(|(_, tmpfs)| tmpfs.options().handover).map(|(_, tmpfs)| tmpfs.census()).sum()
    }

    fn tmpfs_at(&self, point: &[u8]) -> Option<Arc<Tmpfs>> {
        self.tmpfs.lock().iter().find(|(at, _)| at == point).map(|(_, tmpfs)| tmpfs.clone())
    }

    /// Mounts an empty filesystem in memory.
    ///
    /// # Errors
    /// What the name space says of the mount point.
    pub fn mount_tmpfs(&self, point: &[u8], options: Options) -> Result<()> {
        self.attach(point, Arc::new(Tmpfs::new(environment(&self.cache), options)))
    }

    fn attach(&self, point: &[u8], tmpfs: Arc<Tmpfs>) -> Result<()> {
        self.vfs.mount(point, tmpfs.clone())?;
        self.tmpfs.lock().push((self.vfs.point_path(point)?, tmpfs));
        Ok(())
    }

    /// Takes down what is mounted at `point`.
    ///
    /// # Errors
    /// What the name space or the filesystem says; it is still mounted then.
    pub fn unmount(&self, point: &[u8]) -> Result<()> {
        // Whoever writes behind has the filesystem in use.
        let _rest = chores::rest();
        let path = self.vfs.point_path(point)?;
        self.vfs.unmount(point)?;
        self.tmpfs.lock().retain(|(at, _)| *at != path);
        Ok(())
    }

    /// Mounts the disk of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a source that does not exist, [`Error::Busy`] where the disk, or something else there, is mounted
    /// already, and whatever the filesystem says of the disk.
    pub fn mount(&self, source: &[u8], point: &[u8]) -> Result<()> {
        let disk = self.disk.as_ref().filter(|disk| disk.name().as_bytes() == source).ok_or(Error::NotFound)?;
        // Before anything is written: two that believe to have a disk for themselves destroy it.
        let path = self.vfs.point_path(point)?;
        if self.vfs.mounts().iter().any(|mount| mount.source.as_bytes() == source || mount.path == path) {
            return Err(Error::Busy);
        }
        match Ext2::mount_for_writing(disk.clone(), self.cache.clone(), wall_clock) {
            // Perhaps one that ext4 has.
            Err(Error::Feature { .. }) => self.vfs.mount(point, Ext4::mount(disk.clone(), self.cache.clone())?),
            mounted => self.vfs.mount(point, mounted?),
        }
    }

    /// The host wants donated frames back: up to `wanted`.
    pub fn take_back(&self, wanted: u64) -> Taken {
        self.donors.carve_out().map_or(Taken::default(), |carve_out| carve_out.take_back(wanted))
    }

    /// Lets processors that have nothing to do make frames free and write behind, from now on.
    pub fn begin_chores(&'static self) {
        let cache = &self.cache;
        chores::begin(Chore::Room, Box::new(|| cache.reclaim_ahead(Zones::Ephemeral)));
        chores::begin(Chore::PreservableRoom, Box::new(|| cache.reclaim_ahead(Zones::Preservable)));
        chores::begin(Chore::WriteBehind, Box::new(|| self.behind.step(cache, &self.vfs)));
        cache.on_few(Box::new(|zones| match zones {
            Zones::Ephemeral => chores::ask(Chore::Room),
            Zones::Preservable => chores::ask(Chore::PreservableRoom),
        }));
    }

    /// Writes some of what has been dirty for long, or is too much, and commits what has waited for long; whether there is more of
    /// it to do at once. A safe point: no lock may be held.
    pub fn write_behind(&self) -> bool {
        self.behind.go_on(&self.cache, &self.vfs)
    }

    /// Whether anything waits to be written behind.
    pub fn has_changes(&self) -> bool {
        self.cache.stats().dirty > 0 || self.vfs.is_changed()
    }

    /// Serves the donors if one of them has called. A safe point: no lock may be held.
    pub fn serve_donors(&self) {
        if attention::answer() {
            self.donors.serve();
        }
    }
}

fn say(source: &str, point: &[u8], mounted: Result<()>) {
    let point = point.escape_ascii();
    match mounted {
        Ok(()) => info!(target: "fs", "{source} is mounted on {point}"),
        Err(error) => warn!(target: "fs", "{source} is not mounted on {point}: {error}"),
    }
}

fn environment(cache: &Arc<PageCache>) -> Environment {
    Environment { cache: cache.clone(), clock: wall_clock }
}

fn wall_clock() -> Time {
    let now: Duration = time::now();
    Time { seconds: now.as_secs() as i64, nanos: now.subsec_nanos() }
}

/// The heap found no `frames` frames in one piece: evict some more than that, if the page cache is not busy; or else have some from
/// a host.
fn make_room(frames: usize) -> bool {
    let spread = frames.saturating_mul(4).max(64);
    RECLAIM.get().is_some_and(|cache| cache.try_reclaim(spread) > 0)
        || DONORS.get().is_some_and(|donors| donors.relieve_at_once(spread) > 0)
}
