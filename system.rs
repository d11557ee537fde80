//! The parts of a running kernel, put together.
use crate::generation::Generation;
use crate::machine::Machine;
use alloc::sync::Arc;
use cache::PageCache;
use cleancache::{Cleancache, Config, Interchange, PoolConfig, PoolId};
use frames::{Memory, PfnRange};
use fs::block::BlockDevice;
use fs::ext2::Ext2;
use fs::tmpfs::{Environment, Options, Tmpfs};
use fs::{Error, Vfs};
use log::{info, warn};

pub struct System {
    pub memory: &'static Memory,
    pub cache: Arc<PageCache>,
    pub cleancache: Arc<Cleancache>,
    pub vfs: Vfs,
    pub disk: Option<Arc<dyn BlockDevice>>,
    pub tmpfs: Arc<Tmpfs>,
    pub generation: Generation,
    pool: PoolId,
    carve_out: PfnRange,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    pub free: u64,
    pub used: u64,
}
impl Taken {
    pub fn frames(&self) -> u64 {
        self.free + self.used
    }
}

impl System {
    pub fn new(machine: &'static Machine) -> Self {
        let memory = machine.memory;
        let cleancache = Arc::new(Cleancache::new(memory, Config::default()));
        let cache = PageCache::new(memory, cleancache.clone());
        let pool = cleancache.register_pool(PoolConfig { name: "carveout".into(), interchange: Interchange::Fixed, scrub: false });
        if !machine.carve_out.is_empty() {
            let run = memory.claim(machine.carve_out).unwrap();
            cleancache.donate_run(pool, run).unwrap();
        }
        let vfs = Vfs::new(&[b"disk", b"tmp"]);
        let env = Environment { cache: cache.clone(), memory, clock: crate::shell::files::now };
        let tmpfs = Arc::new(Tmpfs::new(env, Options::default()));
        vfs.mount(b"/tmp", tmpfs.clone()).unwrap();
        let disk = machine.disk().cloned().map(|d| d as Arc<dyn BlockDevice>);
        let this = Self { memory, cache, cleancache, vfs, disk, tmpfs, generation: Generation { number: 0 }, pool, carve_out: machine.carve_out };
        match this.mount(b"vda", b"/disk") {
            Ok(()) => info!("mounted"),
            Err(e) => warn!("disk: {e}"),
        }
        this
    }
    pub fn mount(&self, _source: &[u8], point: &[u8]) -> Result<(), Error> {
        let d = self.disk.clone().ok_or(Error::NotFound)?;
        self.vfs.mount(point, Ext2::mount(d, self.cache.clone())?)
    }
    pub fn take_back(&self, n: u64) -> Taken {
        let mut t = Taken::default();
        for i in (0..self.carve_out.count).rev() {
            if t.frames() == n { break; }
            let before = self.cleancache.pool_stats()[0].taken_used;
            if self.cleancache.take_back(self.pool, self.carve_out.start.offset(i)).is_ok() {
                if self.cleancache.pool_stats()[0].taken_used > before { t.used += 1 } else { t.free += 1 }
            }
        }
        t
    }
}
