//! What a line still has to do when a kexec ends the kernel in the middle of it.
//!
//! The rest waits in a file of the tmpfs, which crosses with everything else there. The next kernel's shell takes the file away
//! before it does anything, so nobody sees it; where the handover failed, or /tmp is mounted not to be handed over,
//! there is none, and the rest is forgotten.

use alloc::vec::Vec;

use super::failure::At;
use super::files::write_all;
use super::session::Rest;
use super::{Outcome, Session};

/// Where the rest of a line waits.
const PATH: &[u8] = b"/tmp/.rest-of-line";

/// A file longer than this is none of ours.
const MAX_SIZE: u64 = 2 * prompt::editor::MAX_LINE as u64;

/// Leaves `rest` for the next kernel. Where there is nothing more to do the file only says how the line went, and it is not worth
/// giving up a kexec for want of it.
pub fn leave(session: &Session<'_>, rest: &Rest) -> Outcome {
    match rest.line.trim_ascii().is_empty() {
        true if rest.succeeded => Ok(()),
        true => write(session, rest).or(Ok(())),
        false => write(session, rest),
    }
}

fn write(session: &Session<'_>, rest: &Rest) -> Outcome {
    let mut file = session.create(PATH, 0o600, true)?;
    let status: &[u8] = if rest.succeeded { b"0\n" } else { b"1\n" };
    write_all(&mut file, 0, &[status, &rest.line].concat()).at(PATH)
}

/// Takes what the previous kernel left, if it left anything.
pub fn take(session: &mut Session<'_>) -> Option<Rest> {
    let size = session.lstat(PATH).ok()?.size;
    let content = read(session, size);
    session.unlink(PATH).ok()?;
    let (status, line) = content?.split_first().map(|(status, line)| (*status, line.to_vec()))?;
    Some(Rest { succeeded: status == b'0', line: line.trim_ascii_start().to_vec() })
}

/// Takes back what [`leave`] left, because the kexec failed.
pub fn forget(session: &Session<'_>) {
    // Without a file there is nothing to take back.
    drop(session.unlink(PATH));
}

fn read(session: &Session<'_>, size: u64) -> Option<Vec<u8>> {
    if size > MAX_SIZE {
        return None;
    }
    let mut content = Vec::new();
    content.try_reserve_exact(size as usize).ok()?;
    content.resize(size as usize, 0);
    let read = session.open(PATH).ok()?.read_at(0, &mut content).ok()?;
    content.truncate(read);
    Some(content)
}
