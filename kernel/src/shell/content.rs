//! Commands for what is in files: `cat`, `write`, `truncate`, `fallocate`, `cp`.

use alloc::vec::Vec;

use frames::FRAME_SIZE;
use fs::Error;
use fs::filesystem::{FileType, SetAttr, Stat};
use fs::vfs::File;
use prompt::options::{Args, UsageError};
use prompt::size::parse_size;

use super::commands::Command;
use super::failure::At;
use super::files::{Identity, write_all};
use super::walk::{Step, Walk};
use super::{Failure, Outcome, Session, xattrs};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command { name: "cat", usage: "PATH...", help: "the content of files", run: cat },
    Command {
        name: "write",
        usage: "[-a] [-n] PATH TEXT...",
        help: "make a file of the words and a newline; -a: append; -n: no newline",
        run: write,
    },
    Command {
        name: "truncate",
        usage: "-s SIZE PATH...",
        help: "make files SIZE bytes long; +SIZE and -SIZE change the length by that much",
        run: truncate,
    },
    Command {
        name: "fallocate",
        usage: "[-p] [-o OFFSET] -l LENGTH PATH",
        help: "reserve room for LENGTH bytes, to read as zeros; -p: make a hole there instead",
        run: fallocate,
    },
    Command {
        name: "cp",
        usage: "[-r] [-p] SOURCE... TARGET",
        help: "copy files; -r: whole trees; -p: keep owner, times and attributes",
        run: cp,
    },
];

/// Bytes that are read and written at a time: the first size for which there is memory in one piece. One frame can always be had
/// while there is anything to evict; longer pieces may not be there however much of memory is cache.
const BUFFERS: [usize; 3] = [64 * 1024, 16 * 1024, FRAME_SIZE];

fn buffer() -> Result<Vec<u8>, Error> {
    let mut buffer = Vec::new();
    let size = BUFFERS.into_iter().find(|size| buffer.try_reserve_exact(*size).is_ok()).ok_or(Error::NoMemory)?;
    buffer.resize(size, 0);
    Ok(buffer)
}

/// Reads a file from its beginning to its end, part by part.
pub struct Reader {
    file: File,
    path: Vec<u8>,
    buffer: Vec<u8>,
    position: u64,
}

impl Reader {
    /// Opens the file at `path`.
    pub fn open(session: &Session<'_>, path: &[u8]) -> Outcome<Self> {
        let file = session.open(path)?;
        Ok(Self { file, path: path.to_vec(), buffer: buffer().at(path)?, position: 0 })
    }

    /// The next part; `None` at the end.
    pub fn next(&mut self, session: &Session<'_>) -> Outcome<Option<&[u8]>> {
        session.check()?;
        let got = self.file.read_at(self.position, &mut self.buffer).at(&self.path)?;
        self.position += got as u64;
        Ok(self.buffer.get(..got).filter(|part| !part.is_empty()))
    }
}

fn cat(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    session.each(Args::parse(words, "")?.some("file")?, |session, path| {
        let mut reader = Reader::open(session, path)?;
        while let Some(part) = reader.next(session)? {
            session.out.bytes(part);
        }
        Ok(())
    })
}

fn write(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    // Options end at the path, so that a text may begin with a dash.
    let options = words.iter().take_while(|word| word.len() > 1 && word.starts_with(b"-")).count();
    let (options, operands) = words.split_at(options);
    let args = Args::parse(options, "an")?;
    let (path, texts) = operands.split_first().ok_or(UsageError::Missing("path"))?;
    let mut text = texts.join(&b' ');
    if !args.has('n') {
        text.push(b'\n');
    }
    let append = args.has('a');
    let mut file = session.create(path, 0o644, !append)?;
    let end = if append { session.stat(path)?.size } else { 0 };
    write_all(&mut file, end, &text).at(path)
}

fn truncate(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "cs:")?;
    let word = args.value('s').ok_or(UsageError::Missing("-s SIZE"))?;
    let (sign, digits) = match word {
        [sign @ (b'+' | b'-'), digits @ ..] => (Some(*sign), digits),
        digits => (None, digits),
    };
    let size = parse_size(digits).map_err(|error| Failure::other(word, error))?;
    let keep_missing = args.has('c');
    session.each(args.some("file")?, |session, path| {
        let old = match session.stat(path) {
            Ok(stat) => stat.size,
            Err(Failure::File { error: Error::NotFound, .. }) if keep_missing => return Ok(()),
            Err(Failure::File { error: Error::NotFound, .. }) => {
                session.create(path, 0o644, false)?;
                0
            }
            Err(failure) => return Err(failure),
        };
        let new = match sign {
            None => size,
            Some(b'+') => old.checked_add(size).ok_or(Error::FileTooLarge { limit: u64::MAX }).at(path)?,
            Some(_) => old.saturating_sub(size),
        };
        session.truncate(path, new)
    })
}

fn fallocate(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "po:l:")?;
    let size = |word: &[u8]| parse_size(word).map_err(|error| Failure::other(word, error));
    let length = size(args.value('l').ok_or(UsageError::Missing("-l LENGTH"))?)?;
    let offset = args.value('o').map_or(Ok(0), size)?;
    let [path] = args.exactly(["file"])?;
    if args.has('p') {
        return session.open(path)?.punch(offset, length).at(path);
    }
    session.create(path, 0o644, false)?.preallocate(offset, length).at(path)
}

fn cp(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "rpRa")?;
    let all = args.has('a');
    let recursive = all || args.has('r') || args.has('R');
    let preserve = all || args.has('p');
    let (sources, target) = session.sources_and_target(&args)?;
    session.each(sources, |session, source| {
        let to = session.place_in(&target, source);
        let stat = if recursive { session.lstat(source)? } else { session.stat(source)? };
        match stat.kind {
            FileType::Directory if !recursive => Err(Failure::other(source, "is a directory (-r copies it)")),
            FileType::Directory => copy_tree(session, source, &to, preserve),
            _ => copy_node(session, source, &to, &stat, preserve),
        }
    })
}

/// Copies the tree at `from`, a directory, to `to`. What cannot be copied is reported and passed over.
pub fn copy_tree(session: &mut Session<'_>, from: &[u8], to: &[u8], preserve: bool) -> Outcome {
    let mut walk = Walk::new(session, from, false)?;
    // Without slashes at its end, since the walk puts one before each name.
    let length = from.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let mut copies = CopyOfTree { from: length, to, root: None, skipped: Vec::new(), preserve };
    let mut failed = false;
    loop {
        let outcome = match walk.step(session) {
            Ok(None) => break,
            Ok(Some(step)) => copies.take(session, &mut walk, step),
            Err(failure) => Err(failure),
        };
        failed |= session.tolerate(outcome)?.is_none();
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

/// A copy of a tree in the making.
struct CopyOfTree<'a> {
    /// How much of a path is the source's root.
    from: usize,
    /// The root of the copy.
    to: &'a [u8],
    /// Which directory that is, once it is there.
    root: Option<Identity>,
    /// Depths of directories that are not copied, as far as the walk is in them.
    skipped: Vec<usize>,
    preserve: bool,
}

impl CopyOfTree<'_> {
    fn take(&mut self, session: &mut Session<'_>, walk: &mut Walk, step: Step) -> Outcome {
        let from = walk.path().to_vec();
        let mut to = self.to.to_vec();
        to.extend_from_slice(from.get(self.from..).unwrap_or_default());
        match step {
            Step::Node(_) => {
                let stat = session.lstat(&from)?;
                copy_node(session, &from, &to, &stat, self.preserve)
            }
            Step::Enter => {
                let made = self.make_directory(session, &from, &to);
                if made.is_err() {
                    self.skipped.push(walk.depth());
                    walk.skip();
                }
                made
            }
            // The walk has left the directory already, so it is one less deep.
            Step::Leave if self.skipped.last() == Some(&(walk.depth() + 1)) => {
                self.skipped.pop();
                Ok(())
            }
            Step::Leave => {
                let stat = session.lstat(&from)?;
                copy_attributes(session, &from, &to, &stat, self.preserve)
            }
        }
    }

    fn make_directory(&mut self, session: &Session<'_>, from: &[u8], to: &[u8]) -> Outcome {
        if self.root.is_some() && self.root == Some(session.identity(from)?) {
            return Err(Failure::other(from, "is the copy itself, and is not copied into itself"));
        }
        match session.mkdir(to, 0o700) {
            Err(Failure::File { error: Error::Exists, .. }) if session.stat(to)?.kind == FileType::Directory => {}
            made => made?,
        }
        if self.root.is_none() {
            self.root = Some(session.identity(to)?);
        }
        Ok(())
    }
}

/// Copies what is no directory.
pub fn copy_node(session: &mut Session<'_>, from: &[u8], to: &[u8], stat: &Stat, preserve: bool) -> Outcome {
    match stat.kind {
        FileType::Regular => copy_file(session, from, to, stat)?,
        FileType::Symlink => {
            let content = session.read_link(from)?;
            match session.symlink(&content, to) {
                Err(Failure::File { error: Error::Exists, .. }) => {
                    session.unlink(to)?;
                    session.symlink(&content, to)?;
                }
                made => made?,
            }
            return if preserve { xattrs::copy(session, from, to) } else { Ok(()) };
        }
        FileType::Directory => return Err(Error::IsADirectory).at(from),
        FileType::Special => return Err(Error::Unsupported("device nodes, sockets and pipes")).at(from),
    }
    copy_attributes(session, from, to, stat, preserve)
}

/// Gives `to` the permissions of `from`, which it is a copy of; with `preserve` its owner, extended attributes and times too.
fn copy_attributes(session: &Session<'_>, from: &[u8], to: &[u8], stat: &Stat, preserve: bool) -> Outcome {
    let attributes = if preserve {
        xattrs::copy(session, from, to)?;
        SetAttr {
            mode: Some(stat.mode),
            uid: Some(stat.uid),
            gid: Some(stat.gid),
            atime: Some(stat.atime),
            mtime: Some(stat.mtime),
        }
    } else {
        SetAttr { mode: Some(stat.mode & 0o777), ..SetAttr::default() }
    };
    session.set_attr(to, &attributes)
}

/// Copies content. Blocks of zeros in a file that has holes become holes again.
fn copy_file(session: &mut Session<'_>, from: &[u8], to: &[u8], stat: &Stat) -> Outcome {
    if session.stat(to).is_ok() && session.identity(to)? == session.identity(from)? {
        return Err(Failure::other(to, "is the same file as the source"));
    }
    let mut reader = Reader::open(session, from)?;
    let mut writer = session.create(to, 0o600, true)?;
    let sparse = stat.allocated < stat.size;
    let mut position = 0u64;
    let mut written = 0u64;
    while let Some(part) = reader.next(session)? {
        for block in part.chunks(if sparse { FRAME_SIZE } else { part.len() }) {
            if !sparse || block.iter().any(|byte| *byte != 0) {
                write_all(&mut writer, position, block).at(to)?;
                written = position + block.len() as u64;
            }
            position += block.len() as u64;
        }
    }
    if written < position { session.truncate(to, position) } else { Ok(()) }
}
