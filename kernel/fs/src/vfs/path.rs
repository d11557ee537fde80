//! Paths as text: splitting, joining, and the limits on their length. Touches no filesystem.
//!
//! A `..` is never cancelled against the name before it, since only a walk knows where a symbolic link leads.

use crate::error::{Error, Result};
use alloc::vec::Vec;

/// The longest name, in bytes.
pub const NAME_MAX: usize = 255;
/// The longest path, in bytes.
pub const PATH_MAX: usize = 4095;

/// The absolute path that `path` stands for when the working directory is `cwd`, without empty parts and `.`.
///
/// `cwd` must be a real path, as [`real_path`](super::Vfs::real_path) gives it: absolute and free of links, so that `..` at
/// the beginning of `path` takes names off it. A `..` further on stays, for the walk. What `cd path` is to remember is
/// `vfs.real_path(&join(cwd, path))`.
pub fn join(cwd: &[u8], path: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(cwd.len() + path.len() + 2);
    let mut real = true;
    let base: &[u8] = if path.starts_with(b"/") { b"" } else { cwd };
    let count = base.split(is_slash).count();
    for (at, part) in base.split(is_slash).chain(path.split(is_slash)).enumerate() {
        match part {
            b"" | b"." => {}
            b".." if real => {
                let keep = joined.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                joined.truncate(keep);
            }
            _ => {
                // What comes out of `path` itself may be a symbolic link.
                real = real && at < count;
                joined.push(b'/');
                joined.extend_from_slice(part);
            }
        }
    }
    if joined.is_empty() || (path.ends_with(b"/") && !real) {
        // A slash at the end asks for a directory.
        joined.push(b'/');
    }
    joined
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// Refuse a path that no walk may begin with.
pub(super) fn check(path: &[u8]) -> Result<()> {
    match path {
        [] => Err(Error::NotFound),
        _ if path.len() > PATH_MAX => Err(Error::NameTooLong),
        _ if path.contains(&0) => Err(Error::InvalidName),
        _ => Ok(()),
    }
}

/// The first part of `path` and all that comes after it; `None` when there is no part left.
pub(super) fn first(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = path.iter().position(|byte| *byte != b'/')?;
    let (_, path) = path.split_at(start);
    let end = path.iter().position(is_slash).unwrap_or(path.len());
    Some(path.split_at(end))
}

/// A path to a name that is to be removed or moved.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Last<'a> {
    /// The path of the directory that holds it.
    pub(super) dir: &'a [u8],
    /// The name.
    pub(super) name: &'a [u8],
    /// A slash follows, so that it must be a directory.
    pub(super) slash: bool,
}

/// Take the last name off `path`; [`Error::InvalidName`] where it is none, or `.` or `..`.
pub(super) fn last(path: &[u8]) -> Result<Last<'_>> {
    check(path)?;
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let (named, slashes) = path.split_at(end);
    let start = named.iter().rposition(is_slash).map_or(0, |at| at + 1);
    match named.split_at(start) {
        (_, b"" | b"." | b"..") => Err(Error::InvalidName),
        (_, name) if name.len() > NAME_MAX => Err(Error::NameTooLong),
        (dir, name) => Ok(Last { dir: if dir.is_empty() { b"/" } else { dir }, name, slash: !slashes.is_empty() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_normalises() {
        let cases: [(&str, &str, &str); 12] = [
            ("/", "", "/"),
            ("/", "a", "/a"),
            ("/disk/a", "", "/disk/a"),
            ("/disk/a", "./b//c", "/disk/a/b/c"),
            ("/disk/a", "../b", "/disk/b"),
            ("/disk/a", "../../../b", "/b"),
            ("/disk/a", "..", "/disk"),
            ("/disk/a", "/b/.", "/b"),
            ("/disk", "link/../b", "/disk/link/../b"),
            ("/disk", "/..", "/"),
            ("/disk", "a/", "/disk/a/"),
            ("/disk", "../", "/"),
        ];
        for (cwd, path, joined) in cases {
            assert_eq!(join(cwd.as_bytes(), path.as_bytes()), joined.as_bytes(), "{cwd} + {path}");
        }
    }

    #[test]
    fn the_last_name_comes_off() {
        assert_eq!(last(b"/a/b"), Ok(Last { dir: b"/a/", name: b"b", slash: false }));
        assert_eq!(last(b"b//"), Ok(Last { dir: b"/", name: b"b", slash: true }));
        for path in [&b"/"[..], b"/a/..", b"/a/./"] {
            assert_eq!(last(path), Err(Error::InvalidName));
        }
        assert_eq!(last(b""), Err(Error::NotFound));
        assert_eq!(last(&[b'x'; 256]), Err(Error::NameTooLong));
        assert_eq!(last(&[b'/'; 4096]), Err(Error::NameTooLong));
    }

    #[test]
    fn parts_come_off_the_front() {
        assert_eq!(first(b"//a/b"), Some((&b"a"[..], &b"/b"[..])));
        assert_eq!(first(b"b"), Some((&b"b"[..], &b""[..])));
        assert_eq!(first(b"//"), None);
    }
}
