//! The whole story in half a minute: a tree too big for memory, what cleancache saves, a take-back, a kexec, the same tmpfs.
//!
//! It is told twice over: the first kernel tells it up to the kexec and leaves `demo continue ...` as the rest of the command line
//! ([`resume`]), which the next kernel carries out.

use alloc::format;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use frames::FRAME_SIZE;
use fs::Error;
use fs::block::SECTOR_SIZE;
use fs::filesystem::FileType;
use prompt::options::{Args, UsageError};
use prompt::size::{Human, parse_number};
use prompt::text::Shown;
use sha2::{Digest, Sha256};

use crate::random::Xorshift;
use crate::shell::failure::At;
use crate::shell::files::write_all;
use crate::shell::sums::sum_file;
use crate::shell::walk::{Step, Walk};
use crate::shell::{Failure, Outcome, Session, kexec, resume};
use crate::system::DISK;
use crate::time;

/// Where the story's own files lie.
const DIRECTORY: &[u8] = b"/tmp/demo";
/// How many there are, and how long the longest is.
const FILES: usize = 24;
const LONGEST: usize = 512 * 1024;

/// Never more than this is read from the disk at a time, whatever the machine's size: the story is to take half a minute, under
/// emulation.
const MOST_READ: u64 = 96 << 20;

/// `demo`, or what the kernel before this one left to do of it: `demo continue DIGEST FILES`.
pub fn run(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "")?;
    match args.operands.as_slice() {
        [] => first_half(session),
        [b"continue", digest, files] => {
            let files = parse_number(files).map_err(|_| Failure::invalid("number of files", files))?;
            second_half(session, digest, files)
        }
        [extra, ..] => Err(UsageError::Extra(extra.to_vec()).into()),
    }
}

fn first_half(session: &mut Session<'_>) -> Outcome {
    let began = time::uptime();
    let room = tell_memory(session);
    tell_disk(session, room)?;
    let sum = tell_tmpfs(session)?;
    say(session, format_args!(""));
    let so_far = Seconds(time::uptime().saturating_sub(began));
    say(session, format_args!("4. Kexec, {so_far} into the story: this kernel ends and another begins."));
    let mut rest = session.rest().clone();
    let next = format!("demo continue {} {};", sum.digest, sum.files);
    rest.line = [next.as_bytes(), &rest.line].concat();
    resume::leave(session, &rest)?;
    kexec::go(session, None)
}

fn second_half(session: &mut Session<'_>, digest: &[u8], files: u64) -> Outcome {
    let generation = &session.system.generation;
    let (number, downtime) = (generation.number, Seconds(generation.downtime()));
    say(
        session,
        format_args!("   This is generation {number}, {downtime} from the beginning of the kexec to open files."),
    );
    let sum = sum_tree(session, DIRECTORY, u64::MAX)?;
    let same = format!("{}", sum.digest).as_bytes() == digest && sum.files == files;
    say(session, format_args!("   {} has {} files, sum {}", Shown(DIRECTORY), sum.files, sum.digest));
    if !same {
        return Err(Failure::other(DIRECTORY, "is not what the kernel before wrote"));
    }
    say(session, format_args!("   the same as before. State was held over."));
    Ok(())
}

/// What the story needs to know of memory, in bytes.
#[derive(Clone, Copy, Debug)]
struct Room {
    cacheable: u64,
    donated: u64,
}

fn tell_memory(session: &mut Session<'_>) -> Room {
    let system = session.system;
    let stats = system.memory.stats();
    let pages = stats.free_scratch + stats.free_normal + system.cache.stats().pages();
    let donated = system.cleancache.pool_stats().iter().map(|pool| pool.donated).sum::<u64>();
    let room = Room { cacheable: bytes_of(pages), donated: bytes_of(donated) };
    say(session, format_args!("1. Memory"));
    say(session, format_args!("   {} can hold pages of files.", Human(room.cacheable)));
    if room.donated == 0 {
        say(session, format_args!("   The host lends nothing more (xtask run --donate carveout=16M lends some)."));
        return room;
    }
    let lent = Human(room.donated);
    say(session, format_args!("   {lent} more are lent by the host, which may take them back at any moment:"));
    say(session, format_args!("   that is where cleancache keeps the pages that memory has no room for."));
    room
}

/// Reads the same part of the disk three times: cold, warm, and after some donated frames are gone.
fn tell_disk(session: &mut Session<'_>, room: Room) -> Outcome {
    say(session, format_args!(""));
    say(session, format_args!("2. A tree that memory is too small for"));
    let mounted = session.system.vfs.mounts().iter().any(|mount| mount.path == DISK);
    let Some(disk) = session.system.disk.clone().filter(|_| mounted) else {
        say(
            session,
            format_args!("   No disk is mounted, so this part is left out (xtask run --disk DIR brings one)."),
        );
        return Ok(());
    };
    // More than memory holds, but, with inodes and directories, not more than memory and cleancache hold together.
    let most = match room.donated {
        0 => room.cacheable / 4 * 5,
        donated => (room.cacheable + donated / 2) / 16 * 15,
    };
    let most = most.min(MOST_READ);
    let mut told: Option<TreeSum> = None;
    for pass in ["first", "second", "third"] {
        if pass == "third" && !tell_take_back(session, room)? {
            return Ok(());
        }
        let (sectors, before) = (disk.stats().sectors_read, session.system.cache.stats());
        let began = time::uptime();
        let sum = sum_tree(session, DISK, most)?;
        let took = Seconds(time::uptime().saturating_sub(began));
        let after = session.system.cache.stats();
        let read = Human((disk.stats().sectors_read - sectors) * SECTOR_SIZE as u64);
        let first = *told.get_or_insert(sum);
        if pass == "first" {
            say(session, format_args!("   /disk: {} files, in whole pages {}", sum.files, Human(bytes_of(sum.pages))));
            if after.evictions == before.evictions {
                say(session, format_args!("   That fits into memory; a larger tree or less memory would show more."));
            }
        }
        let restored = after.restored - before.restored;
        let saved = Human(bytes_of(restored));
        say(session, format_args!("   {pass} reading: {read} from disk, {saved} from cleancache, {took}"));
        if sum != first {
            return Err(Failure::other(DISK, format_args!("sum {} is not {}", sum.digest, first.digest)));
        }
        say(session, format_args!("     sum {}{}", sum.digest, if pass == "first" { "" } else { ", the same" }));
    }
    Ok(())
}

/// Takes half of the donated frames away; says whether there were any.
fn tell_take_back(session: &mut Session<'_>, room: Room) -> Outcome<bool> {
    let wanted = room.donated / 2 / FRAME_SIZE as u64;
    if wanted == 0 {
        return Ok(false);
    }
    let began = time::uptime();
    let taken = session.system.take_back(wanted);
    let took = Seconds(time::uptime().saturating_sub(began));
    let (size, frames, used) = (Human(bytes_of(taken.frames())), taken.frames(), taken.used);
    say(session, format_args!("   {size} are taken back: {frames} frames, {used} of them with a page, {took}."));
    say(session, format_args!("   They are ordinary memory now, and what was in them has to be read again:"));
    Ok(true)
}

fn tell_tmpfs(session: &mut Session<'_>) -> Outcome<TreeSum> {
    say(session, format_args!(""));
    say(session, format_args!("3. Files in memory"));
    write_files(session)?;
    let sum = sum_tree(session, DIRECTORY, u64::MAX)?;
    say(
        session,
        format_args!("   {}: {} files, {}, sum {}", Shown(DIRECTORY), sum.files, Human(sum.bytes), sum.digest),
    );
    Ok(sum)
}

/// Writes files with content that nobody could guess, and of all lengths up to the longest.
fn write_files(session: &mut Session<'_>) -> Outcome {
    match session.mkdir(DIRECTORY, 0o755) {
        Err(Failure::File { error: Error::Exists, .. }) => {}
        made => made?,
    }
    let mut random = Xorshift::new(time::now().as_nanos() as u64);
    for number in 0..FILES {
        session.check()?;
        let path = [DIRECTORY, format!("/file-{number:02}").as_bytes()].concat();
        let mut file = session.create(&path, 0o644, true)?;
        let length = LONGEST * (number + 1) / FILES - number;
        for position in (0..length).step_by(FRAME_SIZE) {
            let mut page = [0; FRAME_SIZE];
            for word in page.chunks_exact_mut(8) {
                word.copy_from_slice(&random.next().to_le_bytes());
            }
            let part = page.get(..length - position).unwrap_or(&page);
            write_all(&mut file, position as u64, part).at(&path)?;
        }
    }
    Ok(())
}

/// One sum over many files: that of the lines that `sha256sum -r` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TreeSum {
    files: u64,
    /// Bytes of content.
    bytes: u64,
    /// Pages that it takes up.
    pages: u64,
    digest: Short,
}

/// The first 64 bits of a SHA-256 sum, which is enough to see that nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Short([u8; 8]);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Sums the files of a tree, in order, up to `most` bytes, whole pages counted.
fn sum_tree(session: &mut Session<'_>, root: &[u8], most: u64) -> Outcome<TreeSum> {
    let mut walk = Walk::new(session, root, true)?;
    let mut all = Sha256::new();
    let (mut files, mut bytes, mut pages) = (0, 0, 0);
    while bytes_of(pages) < most
        && let Some(step) = walk.step(session)?
    {
        if step == Step::Node(FileType::Regular) {
            let sum = sum_file(session, walk.path(), most - bytes_of(pages))?;
            all.update(format!("{}  ", sum.digest));
            all.update(walk.path());
            all.update(b"\n");
            files += 1;
            bytes += sum.bytes;
            pages += sum.bytes.div_ceil(FRAME_SIZE as u64);
        }
    }
    let digest: [u8; 32] = all.finalize().into();
    Ok(TreeSum { files, bytes, pages, digest: Short(*digest.first_chunk().unwrap_or(&[0; 8])) })
}

fn say(session: &mut Session<'_>, line: fmt::Arguments<'_>) {
    session.out.print(format_args!("{line}\n"));
}

fn bytes_of(frames: u64) -> u64 {
    frames.saturating_mul(FRAME_SIZE as u64)
}

/// A length of time, in the unit that suits it.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0..10_000 => write!(f, "{micros} us"),
            10_000..1_000_000 => write!(f, "{} ms", micros / 1_000),
            _ => write!(f, "{}.{} s", micros / 1_000_000, micros / 100_000 % 10),
        }
    }
}
