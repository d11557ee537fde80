//! Measurements, in ticks of the time-stamp counter. Under `-icount shift=0` a tick is an instruction, and every figure
//! repeats to the instruction.
//!
//! What is measured runs alone: one processor, no timer interrupt, everything warm. What has to be set up or taken down between
//! two operations is outside the count.

mod cleancache;
mod cold;
mod fill;
mod ranges;
mod scaling;
mod seqwrite;
mod thrash;
mod writing;

use alloc::vec::Vec;
use core::hint::black_box;

use frames::{FRAME_SIZE, Frame, Zones};
use fs::Error;
use fs::filesystem::FileType;
use fs::vfs::File;
use prompt::options::Args;
use protocol::event;

use crate::arch::tsc;
use crate::console;
use crate::shell::failure::At;
use crate::shell::walk::{Step, Walk};
use crate::shell::{Failure, Outcome, Session};

/// Frames to hold, at most, until two of them are neighbours.
const MOST_HELD: usize = 64;

/// A measurement.
struct Bench {
    name: &'static str,
    about: &'static str,
    /// Whether `bench` without names does it.
    usual: bool,
    run: fn(&mut Session<'_>) -> Outcome<Count>,
}

fn all() -> impl Iterator<Item = &'static Bench> {
    BENCHES.iter().chain(&writing::BENCHES).chain(&cleancache::BENCHES).chain(&ranges::BENCHES)
}

/// What came out: the cost of an operation is the quotient.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    ticks: u64,
    operations: u64,
}

impl Count {
    /// Adds what `work` costs, which is `operations` operations.
    fn add<T>(&mut self, operations: usize, work: impl FnOnce() -> T) -> T {
        let start = tsc::now();
        let result = work();
        self.ticks += tsc::now().wrapping_sub(start);
        self.operations += operations as u64;
        result
    }
}

/// All of them: these and those of [`writing`], [`cleancache`] and [`ranges`].
const BENCHES: [Bench; 8] = [
    Bench {
        name: "cache-hit",
        about: "read 4 KiB of a file on disk that the page cache holds",
        usual: true,
        run: cache_hit,
    },
    Bench { name: "tmpfs-write", about: "overwrite 4 KiB", usual: true, run: |session| overwrite(session, TMP_FILE) },
    Bench { name: "tmpfs-append", about: "append 4 KiB", usual: true, run: |session| append(session, TMP_FILE) },
    Bench {
        name: "ext2-write",
        about: "overwrite 4 KiB of a file on disk that the page cache holds",
        usual: true,
        run: |session| overwrite(session, DISK_FILE),
    },
    Bench {
        name: "ext2-append",
        about: "append 4 KiB to a file on disk, in the page cache",
        usual: true,
        run: |session| append(session, DISK_FILE),
    },
    Bench { name: "tmpfs-read", about: "read 4 KiB", usual: true, run: tmpfs_read },
    Bench { name: "frame", about: "allocate a frame and free it", usual: true, run: frame },
    Bench {
        name: "first-byte",
        about: "since the kexec began, once a byte of a tmpfs file is read; type `kexec; bench first-byte`",
        usual: false,
        run: first_byte,
    },
];

/// Operations of a measurement, and how many of them are done in one go where something has to be set up in between.
const OPERATIONS: usize = 2048;
const BATCH: usize = 256;
/// Operations before the count begins.
const WARM_UP: usize = 64;
/// Pages that are read in turn, where they are read.
const PAGES: u64 = 8;

/// The files that measurements write.
const TMP_FILE: &[u8] = b"/tmp/.bench";
const DISK_FILE: &[u8] = b"/disk/.bench";

/// `bench [-l] [NAME...]`, `bench thrash FILE`, `bench fill FILE SIZE`, `bench scatter FILE SIZE`,
/// `bench seqwrite FILE SIZE`, `bench cold FILE`, `bench scaling`
pub fn run(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "l")?;
    match args.operands[..] {
        [b"thrash", path] => return thrash::run(session, path),
        [b"cold", path] => return cold::run(session, path),
        [b"scaling"] => return scaling::run(session),
        [b"fill", path, size] => return fill::run(session, path, size, false),
        [b"scatter", path, size] => return fill::run(session, path, size, true),
        [b"seqwrite", path, size] => return seqwrite::run(session, path, size),
        _ => {}
    }
    if args.has('l') {
        for Bench { name, about, .. } in all() {
            session.out.print(format_args!("{name:28} {about}\n"));
        }
        let others = [
            ("thrash FILE", thrash::ABOUT),
            ("cold FILE", cold::ABOUT),
            ("fill FILE SIZE", fill::ABOUT),
            ("scatter FILE SIZE", fill::ABOUT_SCATTER),
            ("seqwrite FILE SIZE", seqwrite::ABOUT),
            ("scaling", scaling::ABOUT),
        ];
        for (usage, about) in others {
            session.out.print(format_args!("{usage:28} {about}\n"));
        }
        return Ok(());
    }
    session.out.print(format_args!("{:28} {:>16} {:>12}\n", "", "per operation", "operations"));
    let usual: Vec<&[u8]>;
    let names = if args.operands.is_empty() {
        usual = all().filter(|bench| bench.usual).map(|bench| bench.name.as_bytes()).collect();
        &usual
    } else {
        &args.operands
    };
    session.each(names, |session, name| {
        let bench = all().find(|bench| bench.name.as_bytes() == name);
        let bench = bench.ok_or_else(|| Failure::other(name, "no such measurement (`bench -l` lists them)"))?;
        let count = (bench.run)(session)?;
        report(session, bench.name, count);
        Ok(())
    })
}

fn report(session: &mut Session<'_>, name: &str, count: Count) {
    let Count { ticks, operations } = count;
    let tenths = ticks.saturating_mul(10) / operations.max(1);
    session.out.print(format_args!("{name:28} {:>14}.{} {operations:>12}\n", tenths / 10, tenths % 10));
    session.out.flush();
    console::event(event::BENCH, |bench| {
        bench.field("name", name).field("instructions", ticks).field("ops", operations)
    });
}

fn cache_hit(session: &mut Session<'_>) -> Outcome<Count> {
    let files = files_of_pages(session, b"/disk", 1, PAGES)?;
    let Some(path) = files.first() else { return Ok(Count::default()) };
    let mut file = session.open(path)?;
    let mut page = [0; FRAME_SIZE];
    // Another page each time, as the second look at one page is none that anybody counts.
    let mut read = |operations: u64| {
        let mut positions = (0..operations).map(|index| index % PAGES * FRAME_SIZE as u64);
        positions.try_for_each(|position| file.read_at(position, black_box(&mut page)).map(drop)).at(path)
    };
    read(WARM_UP as u64)?;
    let mut count = Count::default();
    count.add(OPERATIONS, || read(OPERATIONS as u64))?;
    Ok(count)
}

/// The first files of at least so many pages in a tree.
fn files_of_pages(session: &Session<'_>, root: &[u8], count: usize, pages: u64) -> Outcome<Vec<Vec<u8>>> {
    let mut walk = Walk::new(session, root, true)?;
    let mut files = Vec::new();
    while let Some(step) = walk.step(session)? {
        if step == Step::Node(FileType::Regular) && session.stat(walk.path())?.size >= pages * FRAME_SIZE as u64 {
            files.push(walk.path().to_vec());
            if files.len() == count {
                return Ok(files);
            }
        }
    }
    Err(Failure::other(root, format_args!("there are fewer than {count} files of {pages} pages or more")))
}

/// Measures something with a fresh file of one page.
fn with_scratch_file(
    session: &mut Session<'_>,
    path: &[u8],
    operation: impl FnOnce(&mut File, &mut [u8], &mut Count) -> Result<(), Error>,
) -> Outcome<Count> {
    let mut count = Count::default();
    let mut page = [0x5a; FRAME_SIZE];
    let mut file = session.create(path, 0o600, true)?;
    let outcome = file.write_at(0, &page).and_then(|_| operation(&mut file, &mut page, &mut count));
    drop(file);
    session.unlink(path)?;
    outcome.at(path)?;
    Ok(count)
}

fn overwrite(session: &mut Session<'_>, path: &[u8]) -> Outcome<Count> {
    with_scratch_file(session, path, |file, page, count| {
        let mut write = |operations| (0..operations).try_for_each(|_| file.write_at(0, black_box(page)).map(drop));
        write(WARM_UP)?;
        count.add(OPERATIONS, || write(OPERATIONS))
    })
}

fn append(session: &mut Session<'_>, path: &[u8]) -> Outcome<Count> {
    with_scratch_file(session, path, |file, page, count| {
        (0..OPERATIONS / BATCH).try_for_each(|_| {
            file.truncate(0)?;
            count.add(BATCH, || {
                let mut positions = (0..BATCH as u64).map(|index| index * FRAME_SIZE as u64);
                positions.try_for_each(|position| file.write_at(position, black_box(page)).map(drop))
            })
        })
    })
}

fn tmpfs_read(session: &mut Session<'_>) -> Outcome<Count> {
    with_scratch_file(session, TMP_FILE, |file, page, count| {
        let mut read = |operations| (0..operations).try_for_each(|_| file.read_at(0, black_box(page)).map(drop));
        read(WARM_UP)?;
        count.add(OPERATIONS, || read(OPERATIONS))
    })
}

fn frame(session: &mut Session<'_>) -> Outcome<Count> {
    let memory = session.system.memory;
    // With the other half of its pair taken a frame is neither split off nor merged; else the figure would tell of what is free beside it.
    let mut held: Vec<Frame> = Vec::new();
    let is_pair = |held: &[Frame]| held.last_chunk().is_some_and(|[a, b]| a.pfn().get() ^ b.pfn().get() == 1);
    while held.len() < MOST_HELD && !is_pair(&held) {
        held.extend(memory.allocate(Zones::Ephemeral));
    }
    drop(held.pop());
    let pair = |operations| (0..operations).for_each(|_| drop(black_box(memory.allocate(Zones::Ephemeral))));
    pair(WARM_UP);
    let mut count = Count::default();
    count.add(OPERATIONS, || pair(OPERATIONS));
    Ok(count)
}

/// From the beginning of the kexec that started this kernel to now, with a byte of a file read that crossed it.
fn first_byte(session: &mut Session<'_>) -> Outcome<Count> {
    let began = session.system.machine.parcel.exec_tsc;
    if began == 0 {
        return Err(Failure::other("first-byte", "this kernel was not started by a kexec"));
    }
    let mut walk = Walk::new(session, b"/tmp", true)?;
    while let Some(step) = walk.step(session)? {
        if step != Step::Node(FileType::Regular) {
            continue;
        }
        let mut byte = [0];
        if session.open(walk.path())?.read_at(0, &mut byte).at(walk.path())? == 1 {
            let ticks = tsc::now().wrapping_sub(began);
            black_box(byte);
            return Ok(Count { ticks, operations: 1 });
        }
    }
    Err(Failure::other("/tmp", "there is no file with a byte in it"))
}
