//! A regular file of a tmpfs while it is open: it keeps the inode, and a read or a write looks nothing up.

use super::Shared;
use super::node::Node;
use crate::error::Result;
use crate::filesystem::OpenFile;
use alloc::sync::Arc;
use cache::ReadAhead;

/// A regular file held open.
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) node: Arc<Node>,
}

impl OpenFile for Handle {
    fn read(&self, pos: u64, out: &mut [u8], _ahead: &mut ReadAhead) -> Result<usize> {
        let mut state = self.node.lock();
        let (content, attr) = state.parts()?;
        let len = content.read(pos, out)?;
        attr.accessed(self.shared.clock);
        Ok(len)
    }

    fn write(&self, pos: u64, data: &[u8]) -> Result<usize> {
        let mut done = 0;
        while done < data.len() {
            let at = pos.saturating_add(done as u64);
            match self.shared.change(&self.node, |content| content.write(at, &data[done..])) {
                Ok(len) => done += len,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut tree = self.shared.tree.lock();
        let ino = self.node.ino;
        let Some(inode) = tree.inodes.get_mut(&ino) else { return };
        inode.opens -= 1;
        let closed = inode.opens == 0;
        let reaped = tree.reap(ino);
        drop(tree);
        drop(reaped);
        if closed && let Ok((content, _)) = self.node.lock().parts() {
            content.trim();
        }
    }
}
