//! Pages that the page cache holds, read by one processor and by all of them at once, by the clock on the wall: of different files,
//! and all of one file; and pages of different files that cleancache holds. Beside it each copies pages of its own, which is as much
//! as the host's processors can give.

use alloc::vec::Vec;
use core::hint::{self, black_box};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cache::DropWhat;
use frames::FRAME_SIZE;
use spin::Once;

use super::{PAGES, files_of_pages};
use crate::arch::tsc;
use crate::shell::failure::At;
use crate::shell::{Failure, Outcome, Session};
use crate::smp;
use crate::time::{self, Deadline};

/// For the list of measurements.
pub const ABOUT: &str =
    "read cached pages on one CPU, and on all of them: of different files, of one, from cleancache; microseconds";

/// Reads of each processor: some ten milliseconds.
const READS: u64 = 16_384;
/// Reads before the race.
const WARM_UP: u64 = 64;
/// Pages of each file that are restored in a race, and how many races there are: between them the pages are evicted.
const RESTORED: u64 = 256;
const ROUNDS: u64 = 16;
/// How long those who came first wait for the others.
const PATIENCE_MILLIS: u64 = 2_000;

/// Who reads what, and when.
struct Race<'f> {
    /// Where there is none, pages are copied that nobody shares.
    files: &'f [Vec<u8>],
    /// Pages of each that are read, in turn.
    pages: u64,
    /// How many take part, and the reads of each, before the race and in it.
    runners: usize,
    warm_up: u64,
    reads: u64,
    ready: AtomicUsize,
    first: AtomicU64,
    last: AtomicU64,
    failure: Once<Failure>,
}

/// Measures all of them.
pub fn run(session: &mut Session<'_>) -> Outcome {
    let cpus = smp::online().count();
    let files = files_of_pages(session, b"/disk", cpus, PAGES)?;
    let one = files.get(..1).unwrap_or_default();
    let races = [
        ("copies-alone", 1, &[][..]),
        ("copies", cpus, &[][..]),
        ("hits-alone", 1, one),
        ("hits-different", cpus, &files[..]),
        ("hits-same", cpus, one),
    ];
    for (name, runners, files) in races {
        let micros = Race::new(files, PAGES, runners, WARM_UP, READS).time(session)?;
        session.out.print(format_args!("{name} of {} microseconds {micros}\n", READS * runners as u64));
    }
    // All that is evicted has to find room.
    if session.system.cleancache.donated() < session.system.cache.stats().pages() + cpus as u64 * RESTORED {
        session.out.print(format_args!("restores: too little memory is lent to cleancache\n"));
        return Ok(());
    }
    let files = files_of_pages(session, b"/disk", cpus, RESTORED)?;
    for (name, runners) in [("restores-alone", 1), ("restores", cpus)] {
        let micros = restore(session, &files, runners)?;
        session.out.print(format_args!("{name} of {} microseconds {micros}\n", ROUNDS * RESTORED * runners as u64));
    }
    Ok(())
}

/// How long it takes to read pages that cleancache has, which is brought about each time anew.
fn restore(session: &Session<'_>, files: &[Vec<u8>], runners: usize) -> Outcome<u64> {
    let cache = &session.system.cache;
    let race = || Race::new(files, RESTORED, runners, 0, RESTORED).time(session);
    // Once for nothing: they are on the disk, perhaps.
    race()?;
    let before = cache.stats().restored;
    let mut micros = 0;
    for _ in 0..ROUNDS {
        session.check()?;
        cache.drop_caches(DropWhat::Pages);
        micros += race()?;
    }
    if cache.stats().restored - before < ROUNDS * RESTORED * runners as u64 {
        return Err(Failure::other("scaling", "pages that cleancache was to have were not there"));
    }
    Ok(micros)
}

impl<'f> Race<'f> {
    fn new(files: &'f [Vec<u8>], pages: u64, runners: usize, warm_up: u64, reads: u64) -> Self {
        Self {
            files,
            pages,
            runners,
            warm_up,
            reads,
            ready: AtomicUsize::new(0),
            first: AtomicU64::new(u64::MAX),
            last: AtomicU64::new(0),
            failure: Once::new(),
        }
    }

    /// How long it takes from when the first begins until the last is done.
    fn time(self, session: &Session<'_>) -> Outcome<u64> {
        let run = |this: usize| {
            if let Err(failure) = self.run(session, this) {
                self.failure.call_once(|| failure);
            }
        };
        match self.runners {
            1 => run(0),
            _ => smp::spread(&run),
        }
        self.failure.try_into_inner().map_or(Ok(()), Err)?;
        Ok(time::ticks_to_micros(self.last.into_inner().saturating_sub(self.first.into_inner())))
    }

    fn run(&self, session: &Session<'_>, this: usize) -> Outcome {
        let mut page = [0; FRAME_SIZE];
        let Some(path) = self.files.get(this % self.files.len().max(1)) else {
            let own = [0x5a; FRAME_SIZE];
            return self.compete(|reads| {
                (0..reads).for_each(|_| black_box(&mut page).copy_from_slice(black_box(&own)));
                Ok(())
            });
        };
        let mut file = session.open(path)?;
        self.compete(|reads| {
            let mut positions = (0..reads).map(|index| index % self.pages * FRAME_SIZE as u64);
            positions.try_for_each(|position| file.read_at(position, black_box(&mut page)).map(drop)).at(path)
        })
    }

    fn compete(&self, mut read: impl FnMut(u64) -> Outcome) -> Outcome {
        read(self.warm_up)?;
        self.wait_for_the_others()?;
        self.first.fetch_min(tsc::now(), Ordering::Relaxed);
        read(self.reads)?;
        self.last.fetch_max(tsc::now(), Ordering::Relaxed);
        Ok(())
    }

    fn wait_for_the_others(&self) -> Outcome {
        self.ready.fetch_add(1, Ordering::Relaxed);
        let patience = Deadline::after_millis(PATIENCE_MILLIS);
        while self.ready.load(Ordering::Relaxed) < self.runners {
            if patience.passed() {
                return Err(Failure::other("scaling", "not all CPUs have come"));
            }
            hint::spin_loop();
        }
        Ok(())
    }
}
