//! What has to be on the disk: names, kinds, bytes. Paths are as the host sees them below the disk's root, `/d3/f17`.

use std::collections::BTreeMap;

/// Bytes that say the same; see the guest's command `fill`.
pub const RECORD: u64 = 512;

/// A name's meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Link(String),
    /// A file, by its number here.
    File(u32),
}

/// A file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// The tree.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Everything below the root.
    pub names: BTreeMap<String, Node>,
    /// Files that have a name.
    pub files: BTreeMap<u32, File>,
}

impl Model {
    /// The names that lead to a file.
    pub fn names_of(&self, file: u32) -> Vec<String> {
        let names = self.names.iter().filter(|(_, node)| **node == Node::File(file));
        names.map(|(name, _)| name.clone()).collect()
    }

    /// The file that a name leads to.
    pub fn file_at(&self, path: &str) -> Option<u32> {
        match self.names.get(path) {
            Some(Node::File(file)) => Some(*file),
            _ => None,
        }
    }

    /// Bytes in all files.
    pub fn len(&self) -> u64 {
        self.files.values().map(|file| file.bytes.len() as u64).sum()
    }

    /// `fill` of a file that is there or not.
    pub fn fill(&mut self, path: &str, file: u32, offset: u64, len: u64, tag: &str) {
        self.names.insert(path.to_owned(), Node::File(file));
        let content = self.files.entry(file).or_insert_with(|| File { bytes: Vec::new(), mode: 0o644 });
        let (start, end) = (offset as usize, (offset + len) as usize);
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        let mut at = start;
        while at < end {
            let record = at as u64 / RECORD;
            let stop = end.min(((record + 1) * RECORD) as usize);
            let said = said(tag, record);
            let from = at % RECORD as usize;
            let bytes = said.bytes().cycle().skip(from);
            content.bytes[at..stop].iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
            at = stop;
        }
    }

    /// Another length; what is added is zeros.
    pub fn truncate(&mut self, file: u32, len: u64) {
        if let Some(content) = self.files.get_mut(&file) {
            content.bytes.resize(len as usize, 0);
        }
    }

    /// A hole; the length stays.
    pub fn punch(&mut self, file: u32, offset: u64, len: u64) {
        if let Some(content) = self.files.get_mut(&file) {
            let size = content.bytes.len();
            let (start, end) = ((offset as usize).min(size), ((offset + len) as usize).min(size));
            content.bytes[start..end].fill(0);
        }
    }

    /// A name is gone, and with the last one the file.
    pub fn remove(&mut self, path: &str) {
        if let Some(Node::File(file)) = self.names.remove(path)
            && self.names_of(file).is_empty()
        {
            self.files.remove(&file);
        }
    }

    /// A name, and all below it, is another; what had that is gone.
    pub fn rename(&mut self, from: &str, to: &str) {
        if self.names.get(from) == self.names.get(to) {
            // Two names of one file: nothing happens (rename(2)).
            return;
        }
        self.remove(to);
        let below = format!("{from}/");
        let moved: Vec<String> =
            self.names.keys().filter(|name| *name == from || name.starts_with(&below)).cloned().collect();
        for name in moved {
            if let Some(node) = self.names.remove(&name) {
                self.names.insert(format!("{to}{}", &name[from.len()..]), node);
            }
        }
    }
}

/// What a record says again and again.
pub fn said(tag: &str, record: u64) -> String {
    format!("{tag} {record}\n")
}

/// Whether one path is the other, or lies below it.
pub fn related(one: &str, other: &str) -> bool {
    let below =
        |path: &str, top: &str| path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    below(one, other) || below(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_remembered() {
        let mut model = Model::default();
        model.names.insert("/d".into(), Node::Directory);
        model.fill("/d/a", 1, 510, 4, "x");
        assert_eq!(model.files[&1].bytes[508..], [0, 0, b" 0\nx"[(510 % 4) - 1], b'\n', b'x', b' ']);
        model.names.insert("/b".into(), Node::File(1));
        model.rename("/d", "/e");
        assert_eq!(model.names_of(1), ["/b", "/e/a"]);
        model.rename("/e/a", "/b");
        assert_eq!(model.names_of(1), ["/b", "/e/a"]);
        model.punch(1, 512, 100);
        model.truncate(1, 515);
        assert_eq!(model.files[&1].bytes[511..], [b'\n', 0, 0, 0]);
        model.fill("/f", 2, 0, 1, "y");
        model.rename("/f", "/b");
        model.remove("/e/a");
        assert_eq!((model.files.len(), model.files[&2].bytes.len()), (1, 1));
    }

    #[test]
    fn paths_are_related_along_a_branch() {
        assert!(related("/a", "/a/b") && related("/a/b", "/a") && related("/a", "/a"));
        assert!(!related("/a", "/ab") && !related("/a/b", "/a/c"));
    }
}
