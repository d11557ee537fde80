//! Commands for names, directories and attributes: `mkdir`, `rmdir`, `rm`, `mv`, `ln`, `touch`, `chmod`, `chown`.

use alloc::vec::Vec;

use fs::Error;
use fs::filesystem::{FileType, SetAttr};
use prompt::mode;
use prompt::options::{Args, UsageError};
use prompt::size::parse_number;

use super::commands::Command;
use super::files::{base_name, now};
use super::walk::{Step, Walk};
use super::{Failure, Outcome, Session, content};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "mkdir",
        usage: "[-p] [-m MODE] PATH...",
        help: "make directories; -p: those above too, and no complaint if they exist",
        run: mkdir,
    },
    Command { name: "rmdir", usage: "PATH...", help: "remove empty directories", run: rmdir },
    Command {
        name: "rm",
        usage: "[-r] [-f] PATH...",
        help: "remove files; -r: whole trees; -f: no complaint about what is not there",
        run: rm,
    },
    Command { name: "mv", usage: "SOURCE... TARGET", help: "rename, or move into a directory", run: mv },
    Command {
        name: "ln",
        usage: "[-s] [-f] TARGET [LINK]",
        help: "make another name for a file; -s: a symbolic link; -f: in place of what is there",
        run: ln,
    },
    Command {
        name: "touch",
        usage: "[-c] PATH...",
        help: "set the times of files to now, and make those that do not exist; -c: make none",
        run: touch,
    },
    Command { name: "chmod", usage: "MODE PATH...", help: "change permissions: 644, or u+x,go-w", run: chmod },
    Command {
        name: "chown",
        usage: "[-h] UID[:GID] PATH...",
        help: "change owner and group, which are numbers here; -h: of the link itself",
        run: chown,
    },
];

fn mkdir(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "pm:")?;
    let mode = match args.value('m') {
        Some(word) => mode::change(0o777, word).map_err(|error| Failure::other(word, error))?,
        None => 0o755,
    };
    let parents = args.has('p');
    session.each(args.some("directory")?, |session, path| {
        if parents { make_path(session, path, mode) } else { session.mkdir(path, mode) }
    })
}

/// Makes the directory at `path` and those above it, as far as they are missing.
fn make_path(session: &Session<'_>, path: &[u8], mode: u16) -> Outcome {
    let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        let part = path.get(..end).unwrap_or_default();
        let mode = if end == path.len() { mode } else { 0o755 };
        match session.mkdir(part, mode) {
            Ok(()) => {}
            Err(failure) => match session.stat(part) {
                Ok(stat) if stat.kind == FileType::Directory => {}
                Ok(_) => return Err(Failure::File { path: part.to_vec(), error: Error::NotADirectory }),
                Err(_) => return Err(failure),
            },
        }
    }
    Ok(())
}

fn rmdir(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    session.each(Args::parse(words, "")?.some("directory")?, |session, path| session.rmdir(path))
}

fn rm(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "rRf")?;
    let force = args.has('f');
    let recursive = args.has('r') || args.has('R');
    if force && args.operands.is_empty() {
        return Ok(());
    }
    session.each(args.some("file")?, |session, path| {
        let removed = if recursive { remove_tree(session, path) } else { session.unlink(path) };
        match removed {
            Err(Failure::File { error: Error::NotFound, .. }) if force => Ok(()),
            removed => removed,
        }
    })
}

/// Removes the tree at `root`. What cannot be removed is reported and left.
fn remove_tree(session: &mut Session<'_>, root: &[u8]) -> Outcome {
    if matches!(base_name(root), b"" | b"." | b"..") {
        return Err(Failure::other(root, "refusing to remove this directory"));
    }
    let mut walk = Walk::new(session, root, false)?;
    let mut failed = false;
    loop {
        let outcome = match walk.step(session) {
            Ok(None) => break,
            Ok(Some(Step::Enter)) => Ok(()),
            Ok(Some(Step::Node(_))) => session.unlink(walk.path()),
            Ok(Some(Step::Leave)) => session.rmdir(walk.path()),
            Err(failure) => Err(failure),
        };
        failed |= session.tolerate(outcome)?.is_none();
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

fn mv(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "f")?;
    let (sources, target) = session.sources_and_target(&args)?;
    session.each(sources, |session, source| {
        let to = session.place_in(&target, source);
        match session.rename(source, &to) {
            Err(Failure::File { error: Error::CrossDevice, .. }) => move_across(session, source, &to),
            Err(Failure::File { error: Error::Loop, .. }) if session.stat(source).is_ok() => {
                Err(Failure::other(source, "a directory cannot be moved into itself"))
            }
            outcome => outcome,
        }
    })
}

/// Copies to another filesystem, then removes the source if all of it could be copied.
fn move_across(session: &mut Session<'_>, from: &[u8], to: &[u8]) -> Outcome {
    let stat = session.lstat(from)?;
    if stat.kind == FileType::Directory {
        content::copy_tree(session, from, to, true)?;
        return remove_tree(session, from);
    }
    content::copy_node(session, from, to, &stat, true)?;
    session.unlink(from)
}

fn ln(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "sf")?;
    let (target, link) = match args.operands.as_slice() {
        [target] => (*target, base_name(target).to_vec()),
        _ => {
            let [target, link] = args.exactly(["target", "link"])?;
            (target, session.place_in(&session.target(link), target))
        }
    };
    let make = |session: &Session<'_>| {
        if args.has('s') { session.symlink(target, &link) } else { session.link(target, &link) }
    };
    match make(session) {
        Err(Failure::File { error: Error::Exists, .. }) if args.has('f') => {
            if session.identity(&link).ok() == session.identity(target).ok() && !args.has('s') {
                return Err(Failure::other(&link, "is the same file as the target"));
            }
            session.unlink(&link)?;
            make(session)
        }
        made => made,
    }
}

fn touch(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "c")?;
    let make_none = args.has('c');
    session.each(args.some("file")?, |session, path| {
        let times = SetAttr { atime: Some(now()), mtime: Some(now()), ..SetAttr::default() };
        match session.set_attr(path, &times) {
            Err(Failure::File { error: Error::NotFound, .. }) if make_none => Ok(()),
            Err(Failure::File { error: Error::NotFound, .. }) => session.create(path, 0o644, false).map(drop),
            outcome => outcome,
        }
    })
}

fn chmod(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    // Not read as options, because a mode may begin with a dash.
    let (word, paths) = words.split_first().ok_or(UsageError::Missing("mode"))?;
    mode::change(0, word).map_err(|error| Failure::other(word, error))?;
    let paths: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
    if paths.is_empty() {
        return Err(UsageError::Missing("file").into());
    }
    session.each(&paths, |session, path| {
        let old = session.stat(path)?.mode;
        let new = mode::change(old, word).map_err(|error| Failure::other(word, error))?;
        session.set_attr(path, &SetAttr { mode: Some(new), ..SetAttr::default() })
    })
}

fn chown(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "h")?;
    let (owner, paths) = args.some("owner")?.split_first().ok_or(UsageError::Missing("owner"))?;
    let (uid, gid) = match owner.iter().position(|byte| *byte == b':') {
        Some(at) => {
            let (uid, gid) = owner.split_at(at);
            (uid, gid.get(1..).unwrap_or_default())
        }
        None => (*owner, &b""[..]),
    };
    let number = |word: &[u8]| match word {
        b"" => Ok(None),
        word => parse_number(word)
            .ok()
            .and_then(|number| u32::try_from(number).ok())
            .map(Some)
            .ok_or_else(|| Failure::invalid("owner (numbers, as UID:GID)", owner)),
    };
    let attributes = SetAttr { uid: number(uid)?, gid: number(gid)?, ..SetAttr::default() };
    if paths.is_empty() {
        return Err(UsageError::Missing("file").into());
    }
    let link_itself = args.has('h');
    session.each(paths, |session, path| {
        if link_itself { session.set_link_attr(path, &attributes) } else { session.set_attr(path, &attributes) }
    })
}
