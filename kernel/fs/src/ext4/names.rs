//! Numbers for what the crate names by path alone: directories, links, device nodes.
//!
//! They are above all numbers of the disk, are given out in turn and never again, and those that were looked for lately are kept:
//! so memory is bounded however many names there are. A number that was forgotten means [`Error::NotFound`]; whoever holds a
//! path asks for it anew.

use crate::error::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// The number of the root directory; the others follow.
pub(super) const ROOT: u64 = 1 << 32;
/// Names that are kept.
const ROOM: usize = 4096;

/// What a number stands for.
#[derive(Debug)]
pub(super) struct Node {
    /// From the root of the filesystem, without a slash at its end.
    pub(super) path: Vec<u8>,
}

#[derive(Debug)]
struct Known {
    node: Arc<Node>,
    /// When it was looked for last.
    used: u64,
}

/// The numbers.
#[derive(Debug)]
pub(super) struct Names {
    by_number: HashMap<u64, Known>,
    by_path: HashMap<Vec<u8>, u64>,
    next: u64,
    now: u64,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { by_number: HashMap::new(), by_path: HashMap::new(), next: ROOT + 1, now: 0 }
    }

    /// What `number` stands for.
    pub(super) fn get(&mut self, number: u64) -> Option<Arc<Node>> {
        if number == ROOT {
            return Some(Arc::new(Node { path: b"/".to_vec() }));
        }
        self.now += 1;
        let known = self.by_number.get_mut(&number)?;
        known.used = self.now;
        Some(known.node.clone())
    }

    /// The number of `path`, which is given one where it has none.
    pub(super) fn number(&mut self, path: &[u8]) -> Result<u64> {
        if path == b"/" {
            return Ok(ROOT);
        }
        self.now += 1;
        if let Some(number) = self.by_path.get(path) {
            if let Some(known) = self.by_number.get_mut(number) {
                known.used = self.now;
            }
            return Ok(*number);
        }
        if self.by_number.len() >= ROOM {
            self.forget();
        }
        self.by_number.try_reserve(1).map_err(|_| Error::NoMemory)?;
        self.by_path.try_reserve(1).map_err(|_| Error::NoMemory)?;
        let number = self.next;
        self.next += 1;
        let node = Arc::new(Node { path: path.to_vec() });
        self.by_number.insert(number, Known { node, used: self.now });
        self.by_path.insert(path.to_vec(), number);
        Ok(number)
    }

    /// Keep at most half: those that were looked for last.
    fn forget(&mut self) {
        let mut times: Vec<u64> = self.by_number.values().map(|known| known.used).collect();
        let (_, middle, _) = times.select_nth_unstable(ROOM / 2);
        let middle = *middle;
        self.by_number.retain(|_, known| known.used > middle);
        let Self { by_number, by_path, .. } = self;
        by_path.retain(|_, number| by_number.contains_key(number));
    }

    pub(super) fn clear(&mut self) {
        self.by_number.clear();
        self.by_path.clear();
    }
}

/// The path of `name` in the directory `dir`.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if dir == b"/" { b"" } else { b"/" };
    [dir, slash, name].concat()
}

/// The path of the directory that holds `path`.
pub(super) fn above(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        None | Some(0) => b"/",
        Some(slash) => path.get(..slash).unwrap_or(b"/"),
    }
}
