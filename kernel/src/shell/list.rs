//! Commands that look at names and attributes: `ls`, `stat`, `find`, and the working directory.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use fs::filesystem::{FileType, Stat, Time};
use prompt::date::Date;
use prompt::mode::Letters;
use prompt::options::{Args, UsageError};
use prompt::pattern;
use prompt::size::{Human, parse_number};

use super::commands::Command;
use super::failure::At;
use super::files::{base_name, join};
use super::walk::{Step, Walk};
use super::{Failure, Outcome, Session};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "ls",
        usage: "[-l] [-a] [-h] [-d] [-i] [-R] [PATH...]",
        help: "list directories; -l: long; -a: hidden names too; -h: short sizes; -d: directories themselves; -R: whole trees",
        run: ls,
    },
    Command {
        name: "stat",
        usage: "[-L] PATH...",
        help: "everything about files; -L: about what a link leads to",
        run: stat,
    },
    Command {
        name: "find",
        usage: "[PATH...] [-type f|d|l] [-name PATTERN] [-maxdepth N]",
        help: "list trees, or the part of them that fits",
        run: find,
    },
    Command { name: "cd", usage: "[PATH]", help: "change the working directory", run: cd },
    Command { name: "pwd", usage: "", help: "the working directory", run: pwd },
];

/// How `ls` is to list.
#[derive(Clone, Copy, Debug)]
struct Style {
    long: bool,
    all: bool,
    human: bool,
    inodes: bool,
}

/// One line of a listing.
struct Row {
    name: Vec<u8>,
    stat: Stat,
    target: Option<Vec<u8>>,
}

fn ls(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "lahdiR1")?;
    let style = Style { long: args.has('l'), all: args.has('a'), human: args.has('h'), inodes: args.has('i') };
    let operands: &[&[u8]] = if args.operands.is_empty() { &[b"."] } else { &args.operands };
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    let sorted = session.each(operands, |session, path| {
        // Only a long listing shows a link and not the directory that it leads to.
        let stat = match session.stat(path) {
            Ok(stat) if !style.long => stat,
            _ => session.lstat(path)?,
        };
        if stat.kind == FileType::Directory && !args.has('d') {
            directories.push(path.to_vec());
        } else {
            files.push(row(session, path.to_vec(), path, stat));
        }
        Ok(())
    });
    print_rows(session, &files, style);
    let titled = operands.len() > 1 || args.has('R');
    let mut first = files.is_empty();
    let directories: Vec<&[u8]> = directories.iter().map(Vec::as_slice).collect();
    let listed = session.each(&directories, |session, path| {
        if args.has('R') {
            return list_tree(session, path, style, &mut first);
        }
        list_directory(session, path, style, titled, &mut first)
    });
    sorted.and(listed)
}

fn list_tree(session: &mut Session<'_>, root: &[u8], style: Style, first: &mut bool) -> Outcome {
    let mut walk = Walk::new(session, root, true)?;
    let mut failed = false;
    loop {
        let outcome = match walk.step(session) {
            Ok(None) => break,
            Ok(Some(Step::Enter)) if walk.depth() > 1 && !style.all && base_name(walk.path()).starts_with(b".") => {
                walk.skip();
                Ok(())
            }
            Ok(Some(Step::Enter)) => list_directory(session, walk.path(), style, true, first),
            Ok(Some(_)) => Ok(()),
            Err(failure) => Err(failure),
        };
        failed |= session.tolerate(outcome)?.is_none();
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

fn list_directory(session: &mut Session<'_>, path: &[u8], style: Style, titled: bool, first: &mut bool) -> Outcome {
    let mut names: Vec<Vec<u8>> = session.entries(path)?.into_iter().map(|entry| entry.name).collect();
    if style.all {
        names.extend([b".".to_vec(), b"..".to_vec()]);
    } else {
        names.retain(|name| !name.starts_with(b"."));
    }
    names.sort_unstable();
    if titled {
        if !*first {
            session.out.bytes(b"\n");
        }
        session.out.line(&[path, b":\n"].concat());
    }
    *first = false;
    let mut failed = false;
    let mut rows = Vec::new();
    for name in names {
        session.check()?;
        if !style.long && !style.inodes {
            session.out.line(&[&name, &b"\n"[..]].concat());
            continue;
        }
        let full = join(path, &name);
        let stat = session.lstat(&full);
        match session.tolerate(stat)? {
            Some(stat) => {
                // How many rows there are is up to the disk.
                rows.try_reserve(1).map_err(|_| fs::Error::NoMemory).at(path)?;
                rows.push(row(session, name, &full, stat));
            }
            None => failed = true,
        }
    }
    if style.long {
        let blocks: u64 = rows.iter().map(|row| row.stat.allocated.div_ceil(1024)).fold(0, u64::saturating_add);
        session.out.print(format_args!("total {blocks}\n"));
    }
    print_rows(session, &rows, style);
    if failed { Err(Failure::Said) } else { Ok(()) }
}

fn row(session: &Session<'_>, name: Vec<u8>, path: &[u8], stat: Stat) -> Row {
    let target = if stat.kind == FileType::Symlink { session.read_link(path).ok() } else { None };
    Row { name, stat, target }
}

/// Prints rows in columns that are as wide as the widest entry.
fn print_rows(session: &mut Session<'_>, rows: &[Row], style: Style) {
    let width = |number: fn(&Stat) -> u64| rows.iter().map(|row| digits(number(&row.stat))).max().unwrap_or(1);
    let inodes = width(|stat| stat.ino.0);
    let links = width(|stat| stat.links.into());
    let uids = width(|stat| stat.uid.into());
    let gids = width(|stat| stat.gid.into());
    let sizes = if style.human { 4 } else { width(|stat| stat.size) };
    for Row { name, stat, target } in rows {
        let out = &mut session.out;
        if style.inodes {
            let _ = write!(out, "{:inodes$} ", stat.ino.0);
        }
        if style.long {
            let _ = write!(out, "{}{} {:links$} ", type_letter(stat.kind), Letters(stat.mode), stat.links);
            let _ = write!(out, "{:uids$} {:gids$} ", stat.uid, stat.gid);
            let _ = match style.human {
                true => write!(out, "{:>sizes$} ", Human(stat.size)),
                false => write!(out, "{:sizes$} ", stat.size),
            };
            let _ = write!(out, "{:.0} ", Date(stat.mtime.seconds));
        }
        let mut line = name.clone();
        if let Some(target) = target.as_ref().filter(|_| style.long) {
            line.extend_from_slice(b" -> ");
            line.extend_from_slice(target);
        }
        line.push(b'\n');
        out.line(&line);
    }
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn type_letter(kind: FileType) -> char {
    match kind {
        FileType::Regular => '-',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Special => '?',
    }
}

fn stat(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "L")?;
    let follow = args.has('L');
    session.each(args.some("file")?, |session, path| {
        let stat = if follow { session.stat(path)? } else { session.lstat(path)? };
        let mut name = path.to_vec();
        if stat.kind == FileType::Symlink {
            name.extend_from_slice(b" -> ");
            name.extend_from_slice(&session.read_link(path)?);
        }
        name.push(b'\n');
        let kind = match stat.kind {
            FileType::Regular if stat.size == 0 => "regular empty file",
            FileType::Regular => "regular file",
            FileType::Directory => "directory",
            FileType::Symlink => "symbolic link",
            FileType::Special => "device, socket or pipe",
        };
        let out = &mut session.out;
        out.bytes(b"  File: ");
        out.line(&name);
        out.print(format_args!("  Size: {:<15} Blocks: {:<10} {kind}\n", stat.size, stat.allocated / 512));
        out.print(format_args!("Inode: {:<14} Links: {}\n", stat.ino.0, stat.links));
        let letter = type_letter(stat.kind);
        out.print(format_args!(
            "Access: ({:04o}/{letter}{})  Uid: {}   Gid: {}\n",
            stat.mode,
            Letters(stat.mode),
            stat.uid,
            stat.gid
        ));
        for (what, time) in [("Access", stat.atime), ("Modify", stat.mtime), ("Change", stat.ctime)] {
            out.print(format_args!("{what}: {}\n", Exact(time)));
        }
        Ok(())
    })
}

/// A time to the nanosecond.
struct Exact(Time);

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09} +0000", Date(self.0.seconds), self.0.nanos)
    }
}

/// What `find` is looking for.
#[derive(Debug, Default)]
struct Wanted<'a> {
    kind: Option<FileType>,
    name: Option<&'a [u8]>,
    depth: Option<usize>,
}

impl Wanted<'_> {
    fn fits(&self, kind: FileType, path: &[u8]) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
            && self.name.is_none_or(|wanted| pattern::matches(wanted, base_name(path)))
    }
}

fn find(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let paths = words.iter().take_while(|word| !word.starts_with(b"-")).count();
    let (paths, tests) = words.split_at(paths);
    let mut wanted = Wanted::default();
    let mut tests = tests.iter();
    while let Some(test) = tests.next() {
        let missing = Failure::Usage(UsageError::Missing("value of the last test"));
        let value = match test.as_slice() {
            b"-type" | b"-name" | b"-maxdepth" => tests.next().ok_or(missing)?,
            _ => return Err(UsageError::UnknownOption(test.clone()).into()),
        };
        match test.as_slice() {
            b"-name" => wanted.name = Some(value),
            b"-maxdepth" => {
                let depth = parse_number(value).map_err(|_| Failure::invalid("depth", value))?;
                wanted.depth = Some(usize::try_from(depth).unwrap_or(usize::MAX));
            }
            _ => {
                wanted.kind = Some(match value.as_slice() {
                    b"f" => FileType::Regular,
                    b"d" => FileType::Directory,
                    b"l" => FileType::Symlink,
                    _ => return Err(Failure::invalid("type (f, d or l)", value)),
                });
            }
        }
    }
    let mut roots: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
    if roots.is_empty() {
        roots.push(b".");
    }
    session.each(&roots, |session, root| find_in(session, root, &wanted))
}

fn find_in(session: &mut Session<'_>, root: &[u8], wanted: &Wanted<'_>) -> Outcome {
    let mut walk = Walk::new(session, root, false)?;
    let mut failed = false;
    loop {
        let step = walk.step(session);
        let kind = match session.tolerate(step)? {
            Some(None) => break,
            Some(Some(Step::Enter)) => {
                if wanted.depth.is_some_and(|depth| walk.depth() > depth) {
                    walk.skip();
                }
                FileType::Directory
            }
            Some(Some(Step::Node(kind))) => kind,
            Some(Some(Step::Leave)) => continue,
            None => {
                failed = true;
                continue;
            }
        };
        if wanted.fits(kind, walk.path()) {
            session.out.line(&[walk.path(), b"\n"].concat());
        }
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

fn cd(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "")?;
    let path = args.at_most_one()?.unwrap_or(b"/");
    if session.stat(path)?.kind != FileType::Directory {
        return Err(Failure::File { path: path.to_vec(), error: fs::Error::NotADirectory });
    }
    session.directory = session.real_path(path)?;
    Ok(())
}

fn pwd(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    Args::parse(words, "")?.exactly([])?;
    let line = [&session.directory, &b"\n"[..]].concat();
    session.out.line(&line);
    Ok(())
}
