//! Commands for filesystems as a whole: `df`, `mount`, `umount`, `sync`, `drop_caches`.

use alloc::string::String;
use alloc::vec::Vec;

use cache::DropWhat;
use frames::FRAME_SIZE;
use fs::filesystem::StatFs;
use fs::tmpfs::Options;
use fs::vfs::MountInfo;
use prompt::options::Args;
use prompt::size::{Human, parse_size};
use prompt::text::Shown;

use super::commands::Command;
use super::failure::At;
use super::{Failure, Outcome, Session};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "df",
        usage: "[-h] [-i] [PATH...]",
        help: "space on filesystems; -h: short sizes; -i: inodes",
        run: df,
    },
    Command {
        name: "mount",
        usage: "[-o OPTION,...] [SOURCE POINT]",
        help: "what is mounted where; or mount vda or tmpfs at POINT; options of tmpfs: size=SIZE, handover=no",
        run: mount,
    },
    Command { name: "umount", usage: "POINT...", help: "take a filesystem out of the tree", run: umount },
    Command {
        name: "sync",
        usage: "[PATH...]",
        help: "write everything that has changed to the disks, or just these files and directories",
        run: sync,
    },
    Command {
        name: "drop_caches",
        usage: "[1|3]",
        help: "empty the page cache, into cleancache (1) or together with it (3, the default)",
        run: drop_caches,
    },
];

/// One line of `df`.
struct Row {
    source: String,
    point: Vec<u8>,
    space: StatFs,
}

fn df(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "hik")?;
    let mounts = session.system.vfs.mounts();
    let mut rows = Vec::new();
    let mut add = |session: &Session<'_>, mount: &MountInfo| -> Outcome {
        let space = session.system.vfs.stat_fs(&mount.path).at(&mount.path)?;
        rows.push(Row { source: mount.source.clone(), point: mount.path.clone(), space });
        Ok(())
    };
    let outcome = if args.operands.is_empty() {
        mounts.iter().try_for_each(|mount| add(session, mount))
    } else {
        session.each(&args.operands, |session, path| {
            let point = session.identity(path)?.mount_point();
            let mount = mounts.iter().find(|mount| mount.path == point);
            add(session, mount.ok_or_else(|| Failure::other(path, "no filesystem is mounted here"))?)
        })
    };
    if outcome.is_ok() || !rows.is_empty() {
        print_space(session, &rows, args.has('h'), args.has('i'));
    }
    outcome
}

fn print_space(session: &mut Session<'_>, rows: &[Row], human: bool, inodes: bool) {
    let widest = rows.iter().map(|row| row.source.len()).max().unwrap_or(0).max("Filesystem".len());
    let unit = match (inodes, human) {
        (true, _) => "Inodes",
        (false, true) => "Size",
        (false, false) => "1K-blocks",
    };
    session.out.print(format_args!(
        "{:widest$} {unit:>10} {:>10} {:>10} {:>4} Mounted on\n",
        "Filesystem", "Used", "Available", "Use%"
    ));
    for Row { source, point, space } in rows {
        let (all, free) = match inodes {
            true => (space.inodes, space.free_inodes),
            false => {
                (space.blocks.saturating_mul(space.block_size), space.free_blocks.saturating_mul(space.block_size))
            }
        };
        let used = all.saturating_sub(free);
        // Rounded up, as df does; nothing is no part of nothing.
        let percent = (u128::from(used) * 100).div_ceil(u128::from(all).max(1));
        let point = Shown(point);
        let numbers = [all, used, free];
        session.out.print(format_args!("{source:widest$}"));
        for number in numbers {
            match (inodes, human) {
                (false, true) => session.out.print(format_args!(" {:>10}", Human(number))),
                (false, false) => session.out.print(format_args!(" {:>10}", number / 1024)),
                (true, _) => session.out.print(format_args!(" {number:>10}")),
            }
        }
        session.out.print(format_args!(" {percent:>3}% {point}\n"));
    }
}

fn mount(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "o:")?;
    let options = args.value('o');
    if !args.operands.is_empty() || options.is_some() {
        let [source, point] = args.exactly(["source", "mount point"])?;
        let absolute = session.absolute(point);
        return match (source, options) {
            (b"tmpfs", _) => {
                session.system.mount_tmpfs(&absolute, tmpfs_options(options.unwrap_or_default())?).at(point)
            }
            (_, None) => session.system.mount(source, &absolute).at(point),
            (_, Some(_)) => Err(fs::Error::Unsupported("options for a disk")).at(point),
        };
    }
    for mount in session.system.vfs.mounts() {
        let access = if mount.read_only { "ro" } else { "rw" };
        let (source, point, kind) = (&mount.source, Shown(&mount.path), mount.kind);
        let comma = if mount.options.is_empty() { "" } else { "," };
        session.out.print(format_args!("{source} on {point} type {kind} ({access}{comma}{})\n", mount.options));
    }
    Ok(())
}

/// The options of a tmpfs, as they stand after `-o`.
fn tmpfs_options(words: &[u8]) -> Outcome<Options> {
    let mut options = Options::default();
    for word in words.split(|byte| *byte == b',').filter(|word| !word.is_empty()) {
        match word {
            b"handover=no" => options.handover = false,
            b"handover=yes" => options.handover = true,
            [b's', b'i', b'z', b'e', b'=', size @ ..] => {
                let size = parse_size(size).map_err(|error| Failure::other(word, error))?;
                if size < FRAME_SIZE as u64 {
                    return Err(Failure::invalid("size: it is less than a page", word));
                }
                options.size = Some(size);
            }
            _ => return Err(Failure::invalid("option of tmpfs", word)),
        }
    }
    Ok(options)
}

fn umount(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    session.each(Args::parse(words, "")?.some("mount point")?, |session, point| {
        let absolute = session.absolute(point);
        session.system.unmount(&absolute).at(point)
    })
}

fn sync(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "")?;
    if args.operands.is_empty() {
        return session.system.vfs.sync().map_err(|error| Failure::other("filesystems", error));
    }
    session.each(&args.operands, |session, path| {
        let absolute = session.absolute(path);
        session.system.vfs.fsync(&absolute).at(path)
    })
}

fn drop_caches(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "")?;
    let what = match args.at_most_one()? {
        Some(b"1") => DropWhat::Pages,
        None | Some(b"3") => DropWhat::All,
        Some(word) => return Err(Failure::invalid("choice (1 or 3)", word)),
    };
    let dropped = session.system.cache.drop_caches(what);
    session.out.print(format_args!("{dropped} pages dropped\n"));
    Ok(())
}
