//! Taking checksums of content ahead of a kexec, a bounded piece at a time, and saying what of it was lost since the last.
//!
//! One file is locked at a time, and the tree only to find the next. What is changed afterwards loses its checksum and is found
//! again; so, called now and then, this leaves little to do when the kexec comes, however much there is. Several processors may be
//! at it: each passes over files that another has locked.

use super::casualty::{Casualty, Fault};
use super::node::Node;
use super::tree::{Body, Tree};
use super::{Shared, Tmpfs};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeBounds;
use core::sync::atomic::Ordering::Relaxed;

/// How far the checksums have got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pages that were hashed just now.
    pub hashed: u64,
    /// Files that still have content without a checksum. 0: there is nothing to do.
    pub left: u64,
}

impl Tmpfs {
    /// Take checksums of windows that have none, of `most_pages` pages at most, but of one window at least. What nobody has claimed
    /// of them is claimed; a window that came with its checksum is not touched. A filesystem that is not handed over wants none.
    pub fn take_sums(&self, most_pages: u64) -> Progress {
        let mut hashed = 0;
        while self.without_sums() > 0 {
            // There may be more that no inode has: of files that are on their way out.
            let node = match self.shared.next_without_sums() {
                Next::File(node) => node,
                Next::Busy => break,
                Next::Nothing => return Progress { hashed, left: 0 },
            };
            if hashed > 0 && hashed + u64::from(handover::SUM_PAGES) > most_pages {
                break;
            }
            if let Ok((content, _)) = node.lock().parts() {
                hashed += content.take_sums(most_pages.saturating_sub(hashed));
            }
        }
        Progress { hashed, left: self.without_sums() }
    }

    /// How many files have content without a checksum: 0 if there is nothing for [`take_sums`](Self::take_sums) to do.
    pub fn without_sums(&self) -> u64 {
        if self.shared.options.handover { self.shared.space.without_sums() } else { 0 }
    }

    /// Files that came with the handover and turned out to be damaged when they were claimed.
    pub fn lost(&self) -> Vec<Casualty> {
        if self.claims().lost == 0 {
            return Vec::new();
        }
        lost_in(&self.shared.tree.lock())
    }
}

/// What to take checksums of next.
enum Next {
    /// This has content without one.
    File(Arc<Node>),
    /// Only files that somebody else has locked.
    Busy,
    /// Nothing that an inode has.
    Nothing,
}

impl Shared {
    /// A file that has content without a checksum: the one that this was about last, as long as it has, then the next.
    fn next_without_sums(&self) -> Next {
        let tree = self.tree.lock();
        let at = self.sums_at.load(Relaxed);
        let mut busy = false;
        let node = first_without_sums(&tree, at.., &mut busy).or_else(|| first_without_sums(&tree, ..at, &mut busy));
        match node {
            Some(node) => {
                self.sums_at.store(node.ino, Relaxed);
                Next::File(node)
            }
            None if busy => Next::Busy,
            None => Next::Nothing,
        }
    }
}

/// The first of these files that has content without a checksum; notes whether some could not be asked.
fn first_without_sums(tree: &Tree, inos: impl RangeBounds<u64>, busy: &mut bool) -> Option<Arc<Node>> {
    let mut wants = |node: &Node| match node.try_lock() {
        Some(state) => state.content().is_some_and(|content| !content.settled),
        None => {
            *busy = true;
            false
        }
    };
    tree.inodes.range(inos).map(|(_, inode)| &inode.node).find(|node| wants(node)).cloned()
}

/// Each file once, under the first name that is found.
fn lost_in(tree: &Tree) -> Vec<Casualty> {
    let (mut lost, mut seen) = (Vec::new(), BTreeSet::new());
    let mut waiting = Vec::from([(tree.root, Vec::new())]);
    while let Some((dir, path)) = waiting.pop() {
        let Ok(directory) = tree.directory(dir) else { continue };
        for (_, name, ino) in directory.after(0) {
            let Ok(inode) = tree.inode(ino) else { continue };
            let full = || [&path[..], b"/", name].concat();
            let fault = match &inode.body {
                Body::Directory(_) => {
                    waiting.push((ino, full()));
                    continue;
                }
                _ => inode.node.lock().content().and_then(|content| content.quarantined()),
            };
            if let Some(fault @ (Fault::Sum { .. } | Fault::Frames)) = fault
                && seen.insert(ino)
            {
                lost.push(Casualty { path: full(), ino, fault });
            }
        }
    }
    lost
}
