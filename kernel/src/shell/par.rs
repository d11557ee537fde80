//! `par`: what can be divided among all processors, by files.
//!
//! A file's share is done by the processor that comes to it first, with the shell's session shared; results are reported in order.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fs::filesystem::FileType;
use log::info;
use prompt::options::{Args, UsageError};
use spin::Once;

use super::commands::Command;
use super::sums::{Sum, print_sum, sum_file};
use super::walk::{Step, Walk};
use super::{Failure, Outcome, Session, fill};
use crate::arch::local::MOST;
use crate::smp;

/// The commands of this room.
pub const COMMANDS: &[Command] = &[Command {
    name: "par",
    usage: "[-a] sha256sum [-r] PATH... | fill -l LENGTH TAG PATH...",
    help: "sums of files, or files filled, divided among all CPUs; -a: every CPU reads all of them, and all must agree",
    run: par,
}];

fn par(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let options = words.iter().take_while(|word| word.starts_with(b"-")).count();
    let (options, words) = words.split_at(options);
    let everybody = Args::parse(options, "a")?.has('a');
    match words.split_first() {
        Some((command, words)) if command == b"sha256sum" => sums(session, words, everybody),
        Some((command, words)) if command == b"fill" && !everybody => fills(session, words),
        Some((command, _)) => Err(Failure::other(command, "cannot be divided")),
        None => Err(UsageError::Missing("command").into()),
    }
}

/// Prints the sums of files.
fn sums(session: &mut Session<'_>, words: &[Vec<u8>], everybody: bool) -> Outcome {
    let args = Args::parse(words, "r")?;
    let mut files = Vec::new();
    let gathered = session.each(args.some("file")?, |session, path| match args.has('r') {
        true => gather(session, path, &mut files),
        false => {
            files.push(path.to_vec());
            Ok(())
        }
    });
    let summed = match everybody {
        true => agree(session, &files),
        false => {
            let sums = divide(session, &files, |session, file| sum_file(session, file, u64::MAX));
            report(session, &files, sums, print_sum)
        }
    };
    gathered.and(summed)
}

/// Fills files with the same.
fn fills(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "l:")?;
    let length = fill::size(args.value('l').ok_or(UsageError::Missing("-l LENGTH"))?)?;
    let (tag, files) = args.some("tag")?.split_first().ok_or(UsageError::Missing("tag"))?;
    let files: Vec<Vec<u8>> = files.iter().map(|file| file.to_vec()).collect();
    let filled = divide(session, &files, |session, file| fill::fill_file(session, file, tag, 0, length));
    report(session, &files, filled, |_, (), _| {})
}

/// The paths of the regular files of a tree.
fn gather(session: &mut Session<'_>, root: &[u8], files: &mut Vec<Vec<u8>>) -> Outcome {
    let mut walk = Walk::new(session, root, true)?;
    let mut failed = false;
    loop {
        let outcome = walk.step(session);
        match session.tolerate(outcome)? {
            None => failed = true,
            Some(None) => break,
            Some(Some(Step::Node(FileType::Regular))) => files.push(walk.path().to_vec()),
            Some(Some(_)) => {}
        }
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

/// Does `work` for each of `files`, on whichever processor comes to it first.
fn divide<'s, T: Send + Sync>(
    session: &Session<'s>,
    files: &[Vec<u8>],
    work: impl Fn(&Session<'s>, &[u8]) -> Outcome<T> + Sync,
) -> Vec<Outcome<T>> {
    let done: Vec<Once<Outcome<T>>> = files.iter().map(|_| Once::new()).collect();
    let shares = [const { AtomicUsize::new(0) }; MOST];
    // Who is interrupted says so to the others, who go no further than their file.
    let interrupted = AtomicBool::new(false);
    smp::each(files.len(), &|index, this| {
        if interrupted.load(Ordering::Relaxed) {
            return;
        }
        if let (Some(file), Some(done), Some(share)) = (files.get(index), done.get(index), shares.get(this)) {
            let done = done.call_once(|| work(session, file));
            interrupted.fetch_or(matches!(done, Err(Failure::Interrupted)), Ordering::Relaxed);
            share.fetch_add(1, Ordering::Relaxed);
        }
    });
    let share = |number: usize| Some(shares.get(number)?.load(Ordering::Relaxed));
    info!(target: "smp", "files for each CPU: {:?}", smp::online().filter_map(share).collect::<Vec<_>>());
    done.into_iter().map(|done| done.try_into_inner().unwrap_or(Err(Failure::Interrupted))).collect()
}

/// Prints what came of `files`, in order; failures are reported.
fn report<T>(
    session: &mut Session<'_>,
    files: &[Vec<u8>],
    done: Vec<Outcome<T>>,
    print: impl Fn(&mut Session<'_>, T, &[u8]),
) -> Outcome {
    let mut failed = false;
    for (file, done) in files.iter().zip(done) {
        match session.tolerate(done)? {
            Some(done) => print(session, done, file),
            None => failed = true,
        }
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

/// Prints the sums of `files`, each of which every processor computes.
fn agree(session: &mut Session<'_>, files: &[Vec<u8>]) -> Outcome {
    let sums: Vec<Once<Sum>> = files.iter().map(|_| Once::new()).collect();
    let wrong = Once::new();
    let shared = &*session;
    smp::spread(&|this| {
        for (file, first) in files.iter().zip(&sums) {
            if wrong.is_completed() {
                return;
            }
            match sum_file(shared, file, u64::MAX) {
                Ok(sum) if *first.call_once(|| sum) == sum => {}
                Ok(sum) => {
                    let what = || Failure::other(file, format_args!("CPU {this} reads something else: {}", sum.digest));
                    wrong.call_once(what);
                }
                Err(failure) => {
                    wrong.call_once(|| failure);
                }
            }
        }
    });
    if let Some(failure) = wrong.try_into_inner() {
        return Err(failure);
    }
    for (file, sum) in files.iter().zip(&sums) {
        if let Some(sum) = sum.get() {
            print_sum(session, *sum, file);
        }
    }
    Ok(())
}
