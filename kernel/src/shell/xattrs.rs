//! Commands for extended attributes: `setfattr`, `getfattr`.

use alloc::vec::Vec;

use fs::Error;
use fs::filesystem::SetXattr;
use fs::vfs::AtEnd;
use prompt::options::{Args, UsageError};
use prompt::text::Shown;
use prompt::xattr::{self, Value};

use super::commands::Command;
use super::failure::At;
use super::{Failure, Outcome, Session};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "setfattr",
        usage: "[-h] -n NAME [-v VALUE] PATH... | [-h] -x NAME PATH...",
        help: "set an extended attribute; -x: remove it; -h: of the link itself; VALUE: text, 0x... or 0s...",
        run: setfattr,
    },
    Command {
        name: "getfattr",
        usage: "[-h] [-d | -n NAME] PATH...",
        help: "the names of extended attributes; -d: values too; -n: this one's; -h: of the link itself",
        run: getfattr,
    },
];

fn at_end(args: &Args<'_>) -> AtEnd {
    if args.has('h') { AtEnd::Keep } else { AtEnd::Follow }
}

fn setfattr(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "hn:v:x:")?;
    let at_end = at_end(&args);
    let value = match (args.value('n'), args.value('x')) {
        (Some(_), None) => {
            let word = args.value('v').unwrap_or_default();
            Some(xattr::parse(word).map_err(|error| Failure::other(word, error))?)
        }
        (None, Some(_)) if args.value('v').is_none() => None,
        _ => return Err(UsageError::Missing("either -n NAME or -x NAME").into()),
    };
    let name = args.value('n').or(args.value('x')).unwrap_or_default();
    session.each(args.some("file")?, |session, path| {
        let (vfs, absolute) = (&session.system.vfs, session.absolute(path));
        match &value {
            Some(value) => vfs.set_xattr(&absolute, at_end, name, value, SetXattr::Either).at(path),
            None => vfs.remove_xattr(&absolute, at_end, name).at(path),
        }
    })
}

fn getfattr(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "hdn:")?;
    let at_end = at_end(&args);
    let (one, values) = (args.value('n'), args.has('d') || args.value('n').is_some());
    session.each(args.some("file")?, |session, path| {
        let absolute = session.absolute(path);
        let names = match one {
            Some(name) => Vec::from([name.to_vec()]),
            None => session.system.vfs.xattr_names(&absolute, at_end).at(path)?,
        };
        let mut lines = Vec::new();
        for name in names {
            let value = if values { Some(session.system.vfs.xattr(&absolute, at_end, &name).at(path)?) } else { None };
            lines.push((name, value));
        }
        if lines.is_empty() {
            return Ok(());
        }
        // With the slash that getfattr takes off.
        session.out.print(format_args!("# file: {}\n", Shown(path)));
        for (name, value) in &lines {
            match value {
                Some(value) => session.out.print(format_args!("{}={}\n", Shown(name), Value(value))),
                None => session.out.print(format_args!("{}\n", Shown(name))),
            }
        }
        session.out.print(format_args!("\n"));
        Ok(())
    })
}

/// Gives `to`, or the link that it is, the extended attributes of `from`. A filesystem that has none to give is passed over; one that
/// can take none is an error, so that none is lost without a word.
pub fn copy(session: &Session<'_>, from: &[u8], to: &[u8]) -> Outcome {
    let (vfs, source, target) = (&session.system.vfs, session.absolute(from), session.absolute(to));
    let names = match vfs.xattr_names(&source, AtEnd::Keep) {
        Err(Error::Unsupported(_)) => return Ok(()),
        names => names.at(from)?,
    };
    for name in names {
        let value = vfs.xattr(&source, AtEnd::Keep, &name).at(from)?;
        vfs.set_xattr(&target, AtEnd::Keep, &name, &value, SetXattr::Either).at(to)?;
    }
    Ok(())
}
