//! A walk through a tree, without recursion and without following symbolic links.
//!
//! Files come in the order in which `LC_ALL=C sort` would put their full paths, so that two walks over equal trees give equal
//! output. Each directory is read when it is entered; what is made in it afterwards is not seen. A directory that holds itself,
//! which only a damaged disk has, is reported and not entered, so that a walk ends; no walk is deeper than the longest path has
//! names.

use alloc::vec;
use alloc::vec::Vec;

use fs::filesystem::{DirEntry, FileType};

use super::files::Identity;
use super::{Failure, Outcome, Session};

/// One step of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A directory; what is in it comes next.
    Enter,
    /// Anything else.
    Node(FileType),
    /// The end of a directory.
    Leave,
}

/// A directory that is being walked through.
struct Level {
    entries: vec::IntoIter<DirEntry>,
    /// How much of the path is the directory's.
    path_length: usize,
    identity: Identity,
}

/// A walk. It begins with the step of its root.
pub struct Walk {
    path: Vec<u8>,
    levels: Vec<Level>,
    /// The root, before the first step.
    root: Option<FileType>,
}

impl Walk {
    /// A walk from `root` on; a root that is a symbolic link is followed where `follow` says so.
    pub fn new(session: &Session<'_>, root: &[u8], follow: bool) -> Outcome<Self> {
        let stat = if follow { session.stat(root)? } else { session.lstat(root)? };
        Ok(Self { path: root.to_vec(), levels: Vec::new(), root: Some(stat.kind) })
    }

    /// Where the walk is: the path of the last step, beginning with the root as it was given.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// How many directories the walk is in.
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The next step; `None` at the end. After a failure the walk goes on with what is left.
    pub fn step(&mut self, session: &Session<'_>) -> Outcome<Option<Step>> {
        session.check()?;
        if let Some(kind) = self.root.take() {
            return self.arrive(session, kind).map(Some);
        }
        let Some(level) = self.levels.last_mut() else { return Ok(None) };
        self.path.truncate(level.path_length);
        let Some(entry) = level.entries.next() else {
            self.levels.pop();
            return Ok(Some(Step::Leave));
        };
        if self.path.last() != Some(&b'/') {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&entry.name);
        self.arrive(session, entry.kind).map(Some)
    }

    /// Do not go into the directory that was just entered. Its `Leave` comes all the same.
    pub fn skip(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.entries = Vec::new().into_iter();
        }
    }

    fn arrive(&mut self, session: &Session<'_>, kind: FileType) -> Outcome<Step> {
        if kind != FileType::Directory {
            return Ok(Step::Node(kind));
        }
        let identity = session.identity(&self.path)?;
        if self.levels.iter().any(|level| level.identity == identity) {
            return Err(Failure::other(&self.path, "the directory holds itself"));
        }
        let mut entries = session.entries(&self.path)?;
        entries.sort_unstable_by(|a, b| sort_key(a).cmp(sort_key(b)));
        self.levels.push(Level { entries: entries.into_iter(), path_length: self.path.len(), identity });
        Ok(Step::Enter)
    }
}

/// A directory sorts as if its name ended in `/`, because the paths of what is in it go on so.
fn sort_key(entry: &DirEntry) -> impl Iterator<Item = u8> {
    let slash = (entry.kind == FileType::Directory).then_some(b'/');
    entry.name.iter().copied().chain(slash)
}
