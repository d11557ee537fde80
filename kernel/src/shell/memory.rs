//! Commands for memory: `free`, `cleancache`, `donors`, `takeback`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use cache::InheritedStats;
use cleancache::Kind;
use frames::FRAME_SIZE;
use fs::tmpfs::Census;
use prompt::options::Args;
use prompt::size::{Human, parse_number};

use super::commands::Command;
use super::{Failure, Outcome, Session};
use crate::arch::stacks;
use crate::system::System;
use crate::time;

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "free",
        usage: "[-b|-k|-m|-h]",
        help: "who has how much of memory, every frame counted once",
        run: free,
    },
    Command { name: "cleancache", usage: "", help: "counters of the page cache and cleancache", run: cleancache },
    Command {
        name: "donors",
        usage: "",
        help: "who lends memory to cleancache, and what the host has or wants",
        run: donors,
    },
    Command {
        name: "trace",
        usage: "on|off|print",
        help: "note which pages are read; print: a line `INODE PAGE` for each, in order, and forget them",
        run: trace,
    },
    Command { name: "takeback", usage: "N", help: "take N donated frames back, whatever is in them", run: take_back },
];

fn free(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "bkmh")?;
    args.exactly([])?;
    // All of it before the first line is printed, since printing allocates.
    let account = Account::take(session.system);
    let (unit, title) = match () {
        () if args.has('b') => (1, "bytes"),
        () if args.has('m') => (1 << 20, "MiB"),
        () => (1 << 10, "KiB"),
    };
    let human = args.has('h');
    let title = if human { "size" } else { title };
    session.out.print(format_args!("{:26} {:>10} {title:>12}\n", "", "frames"));
    let mut line = |name: &str, frames: u64| {
        let bytes = frames.saturating_mul(FRAME_SIZE as u64);
        session.out.print(format_args!("{name:26} {frames:>10} "));
        match human {
            true => session.out.print(format_args!("{:>12}\n", Human(bytes))),
            false => session.out.print(format_args!("{:>12}\n", bytes / unit)),
        }
    };
    for (name, frames) in account.rows {
        line(name, frames);
    }
    line("sum", account.rows.iter().map(|(_, frames)| frames).sum());
    line("all memory", account.total);
    line("can hold cached pages", account.cacheable);
    if account.foreign > 0 {
        line("donated on top", account.foreign);
    }
    Ok(())
}

/// Where every frame is.
struct Account {
    rows: [(&'static str, u64); 16],
    /// All frames of the machine's memory map.
    total: u64,
    /// Free frames, and those that are caches now.
    cacheable: u64,
    /// Frames donated to cleancache that are the host's.
    foreign: u64,
}

impl Account {
    fn take(system: &System) -> Self {
        let machine = &system.machine;
        let pools = system.cleancache.pool_stats();
        let (foreign, away) = (system.donors.foreign(), system.donors.away());
        let all: u64 = pools.iter().map(|pool| pool.donated).sum();
        let donated = all.saturating_sub(foreign);
        let tmpfs: Census = system.tmpfs().iter().map(|(_, tmpfs)| tmpfs.census()).sum();
        let (census, heap) = (machine.census, machine.heap());
        let (pages, stats) = (system.cache.stats().pages(), system.memory.stats());
        let inherited = system.cache.inherited().left;
        let tmpfs_frames = tmpfs.frames.saturating_sub(tmpfs.unclaimed);
        let next = system.generation.loaded_frames();
        let buffers: u64 = system.vfs.mounts().iter().map(|mount| mount.own_frames).sum();
        let stacks = stacks::frames();
        let known = heap.frames() as u64 + pages + donated + away + tmpfs_frames + next + buffers + stacks;
        let rows = [
            ("kernel image and stacks", census.boot + stacks),
            ("records of frames", census.records),
            ("early heap", census.early_heap),
            ("never used (frame 0)", census.withheld),
            ("heap: small objects", heap.slab_frames as u64),
            ("heap: large objects", heap.large_frames as u64),
            ("page cache", pages),
            ("tmpfs", tmpfs_frames),
            ("donated to cleancache", donated),
            ("given to the host", away),
            ("next kernel, way back", next),
            ("buffers of filesystems", buffers),
            ("drivers and tables", stats.owned().saturating_sub(known)),
            ("inherited pages of files", inherited),
            ("handed over or set aside", stats.set_aside.saturating_sub(inherited)),
            ("free", stats.free_scratch + stats.free_normal),
        ];
        let cacheable = stats.free_scratch + stats.free_normal + pages + inherited;
        Self { rows, total: census.total(), cacheable, foreign }
    }
}

fn cleancache(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    Args::parse(words, "")?.exactly([])?;
    let system = session.system;
    let (cache, pools, filesystems) =
        (system.cache.stats(), system.cleancache.pool_stats(), system.cleancache.fs_stats());
    let out = &mut session.out;
    out.print(format_args!(
        "page cache: {} pages = {} inactive + {} active + {} dirty\n",
        cache.pages(),
        cache.inactive,
        cache.active,
        cache.dirty
    ));
    out.print(format_args!("  found {}  missed {}  refaults {}\n", cache.hits, cache.misses, cache.refaults));
    out.print(format_args!(
        "  from disk {}  from cleancache {}  evicted {}\n",
        cache.filled, cache.restored, cache.evictions
    ));
    out.print(format_args!("  written {}  runs {}  not taken {}\n", cache.written, cache.runs, cache.failed));
    let InheritedStats { handed_over, taken, failed, dropped, left, cold, why } = system.cache.inherited();
    out.print(format_args!("inherited pages: left {left}, cold ones among them {cold}\n"));
    out.print(format_args!("  handed over {handed_over}  taken {taken}  damaged {failed}  dropped {dropped}\n"));
    if let Some(why) = why {
        out.print(format_args!("  why dropped: {why}\n"));
    }
    out.print(format_args!("cleancache: policy {}\n", system.cleancache.policy()));
    for pool in pools {
        let inherited = system.cache.claim_of(pool.id);
        out.print(format_args!(
            "pool {}: donated {} = free {} + cached {} + in transit {} + inherited {inherited}\n",
            pool.name,
            pool.donated + inherited,
            pool.free,
            pool.cached,
            pool.in_transit
        ));
        out.print(format_args!(
            "  stores {}  hits {}  evictions {}  invalidated {}",
            pool.stores, pool.hits, pool.evictions, pool.invalidations
        ));
        match pool.kind {
            Kind::Untrusted(_) => out.print(format_args!("  damaged {}\n", pool.damaged)),
            Kind::Exchangeable | Kind::Fixed => out.print(format_args!("\n")),
        }
        out.print(format_args!("  taken back: free {}, with a page {}", pool.taken_free, pool.taken_used));
        let times = pool.take_backs;
        if times.count > 0 {
            let [half, most, nearly_all, longest] = [times.p50, times.p90, times.p99, times.max].map(Nanoseconds);
            out.print(format_args!("; 50 % within {half}, 90 % {most}, 99 % {nearly_all}, all {longest}"));
        }
        out.print(format_args!("\n"));
    }
    for fs in filesystems {
        out.print(format_args!("filesystem {}: cached {}\n", fs.name, fs.cached));
        out.print(format_args!("  stores {}  hits {}  misses {}\n", fs.stores, fs.hits, fs.misses));
        out.print(format_args!(
            "  refused: by the gate {}, by the policy {}, for want of a frame {}; invalidated {}, lost {}\n",
            fs.refused_gate, fs.refused_policy, fs.refused_no_frame, fs.invalidations, fs.lost
        ));
    }
    Ok(())
}

fn donors(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    Args::parse(words, "")?.exactly([])?;
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = session.system.donors.report(&mut text);
    session.out.print(format_args!("{text}"));
    Ok(())
}

/// Ticks of the time-stamp counter as a time.
struct Nanoseconds(u64);

impl fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ns", time::ticks_to_nanos(self.0))
    }
}

/// Reads that are noted: 4 MiB of them.
const MOST_TRACED: usize = 1 << 18;

fn trace(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "")?;
    let [what] = args.exactly(["on, off or print"])?;
    let cache = &session.system.cache;
    match what {
        b"on" => cache.trace(MOST_TRACED),
        b"off" => cache.stop_trace(),
        b"print" => {
            for read in (0..).map_while(|at| cache.traced(at)) {
                session.check()?;
                session.out.print(format_args!("{} {}\n", read.ino, read.index));
            }
            cache.drop_trace();
        }
        word => return Err(Failure::invalid("word", word)),
    }
    Ok(())
}

fn take_back(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "")?;
    let [word] = args.exactly(["number of frames"])?;
    let wanted = parse_number(word).map_err(|error| Failure::other(word, error))?;
    let taken = session.system.take_back(wanted);
    let (with_page, free) = (taken.used, taken.free);
    session.out.print(format_args!("{} frames taken back: {free} free, {with_page} with a page\n", taken.frames()));
    if taken.frames() < wanted {
        return Err(Failure::other(word, format_args!("only {} frames were donated", taken.frames())));
    }
    Ok(())
}
