//! Commands for the machine and for the shell itself.

use alloc::string::String;
use alloc::vec::Vec;
use log::warn;

use prompt::options::Args;

use super::commands::{Command, FAMILIES, all, find, gap};
use super::{Failure, Outcome, Session, kexec};
use crate::console::dmesg;
use crate::drivers::virtio::blk::{self, Disk};
use crate::fault::{self, Stage};
use crate::generation::{Provoke, Step};
use crate::smp::chores::{self, Chore};
use crate::{bench, demo, power, smp, time};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "kexec",
        usage: "[load [PATH]|exec|abort|status|PATH]",
        help: "go on in a fresh kernel; /tmp stays. load: get the file PATH ready, or the image that is running; exec: go on in \
               it; abort: forget it; without these words: both at once",
        run: kexec::run,
    },
    Command { name: "kho", usage: "", help: "which generation this is, and what crossed the last kexec", run: kho },
    Command { name: "demo", usage: "", help: "the whole story in half a minute, kexec included", run: demo::run },
    Command {
        name: "bench",
        usage: "[NAME...]",
        help: "measure operations; `bench -l` lists the names",
        run: bench::run,
    },
    Command {
        name: "cpus",
        usage: "",
        help: "the CPUs that take part, by number, the ids of their APICs, how often disks called them, and how often \
               they made frames free or wrote behind when they had nothing to do",
        run: cpus,
    },
    Command { name: "uptime", usage: "", help: "how long this kernel has been running", run: uptime },
    Command {
        name: "dmesg",
        usage: "",
        help: "the latest lines of the kernel's log, and which locks were waited for",
        run: print_log,
    },
    Command { name: "echo", usage: "[-n] [TEXT...]", help: "print the words; -n: no newline", run: echo },
    Command { name: "help", usage: "[COMMAND...]", help: "this list, or one command", run: help },
    Command {
        name: "fault",
        usage: "panic|double-fault|stack-overflow|oom|other-panic|other-overflow|stale-page|disk-reset|disk-breaks|\
                handover|kexec-STEP|next-STAGE",
        help: "break the kernel on purpose; other-panic, other-overflow: on CPU 1, the former while all write; stale-page: CPU 1 reads a page that was unmapped; disk-reset, \
               disk-breaks: the disk at the next request, the latter at the last CPU's; handover: spoil what the next kexec hands over; kexec-load, -ahead, \
               -handover, -prepare: call the next kexec off after that; next-early, -late, -overflow, -other: let the next kernel \
               fail; next-mute: let it do without CPU 1",
        run: provoke,
    },
    Command { name: "poweroff", usage: "", help: "end the machine (so does Control-D)", run: power_off },
];

/// A frame or more at a time, until there are none.
const OOM_STEP: usize = 64 * 1024;

fn kho(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    Args::parse(words, "")?.exactly([])?;
    let system = session.system;
    let mut report = String::new();
    let _ = system.generation.report(system, &mut report);
    session.out.print(format_args!("{report}"));
    Ok(())
}

fn cpus(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    Args::parse(words, "")?.exactly([])?;
    for (number, id) in smp::all() {
        let part = if smp::online().any(|online| online == number) { "online" } else { "left out" };
        let rooms = [Chore::Room, Chore::PreservableRoom].map(|chore| chores::begun(chore, number)).iter().sum::<u64>();
        let (behind, calls) = (chores::begun(Chore::WriteBehind, number), blk::calls(number));
        session.out.print(format_args!(
            "CPU {number}  APIC {id}  {part}  disk interrupts: {calls}  reclaims: {rooms}  write-behinds: {behind}\n"
        ));
    }
    Ok(())
}

fn uptime(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    Args::parse(words, "")?.exactly([])?;
    let up = time::uptime();
    let seconds = up.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    session.out.print(format_args!("up {hours}:{minutes:02}:{rest:02}.{:03}", up.subsec_millis()));
    session.out.print(format_args!(", generation {}\n", session.system.generation.number));
    Ok(())
}

fn print_log(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    Args::parse(words, "")?.exactly([])?;
    let log = dmesg::snapshot().ok_or_else(|| Failure::other("log", fs::Error::NoMemory))?;
    session.out.line(&log);
    // Output takes everything.
    let _ = dmesg::contention(&mut session.out);
    Ok(())
}

fn echo(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let (newline, words) = match words.split_first() {
        Some((first, rest)) if first == b"-n" => (&b""[..], rest),
        _ => (&b"\n"[..], words),
    };
    let mut line = words.join(&b' ');
    line.extend_from_slice(newline);
    session.out.bytes(&line);
    Ok(())
}

fn help(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "")?;
    if !args.operands.is_empty() {
        return session.each(&args.operands, |session, name| {
            let command = find(name).ok_or_else(|| Failure::other(name, "no such command"))?;
            let Command { name, usage, help, .. } = command;
            session.out.print(format_args!("{name}{}{usage}\n    {help}\n", gap(usage)));
            Ok(())
        });
    }
    let widest = all().map(|command| command.name.len()).max().unwrap_or(0);
    for (family, commands) in FAMILIES {
        session.out.print(format_args!("{family}\n"));
        for Command { name, help, .. } in commands {
            session.out.print(format_args!("  {name:widest$}  {help}\n"));
        }
    }
    session
        .out
        .print(format_args!("`help COMMAND` shows options. In a line: 'a b' \"a b\" a\\ b  ;  #  > FILE  >> FILE\n"));
    Ok(())
}

fn provoke(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    let args = Args::parse(words, "")?;
    let [kind] = args.exactly(["kind of fault"])?;
    session.out.flush();
    match kind {
        b"panic" => fault::panic(),
        b"double-fault" => fault::double_fault(),
        b"stack-overflow" => fault::stack_overflow(),
        b"oom" => exhaust_memory(),
        b"other-panic" => {
            fault::other_panics();
            Err(Failure::other(kind, "there is no other CPU"))
        }
        b"other-overflow" => {
            fault::other_overflows();
            Err(Failure::other(kind, "there is no other CPU"))
        }
        b"stale-page" => fault::stale_page(session.system.memory)
            .map_err(|reason| Failure::other(kind, reason))
            .and_then(|()| Err(Failure::other(kind, "nobody noticed"))),
        b"disk-reset" => disk(session, kind).map(|disk| disk.forget()),
        b"disk-breaks" => disk(session, kind).map(|disk| disk.spoil()),
        word => {
            let what = provocation(word).ok_or_else(|| Failure::invalid("kind of fault", word))?;
            session.system.generation.provoke(what);
            warn!(target: "kexec", "the next kexec will go wrong, as asked for: {what:?}");
            Ok(())
        }
    }
}

fn disk<'a>(session: &'a Session<'_>, kind: &[u8]) -> Result<&'a Disk, Failure> {
    session.system.machine.disk().map(|disk| &**disk).ok_or_else(|| Failure::other(kind, "there is no disk"))
}

/// What a word lets go wrong with the next kexec.
fn provocation(word: &[u8]) -> Option<Provoke> {
    let called_off = |step| Some(Provoke::CallOff(step));
    match word {
        b"handover" => Some(Provoke::SpoiltHandover),
        b"kexec-load" => called_off(Step::Load),
        b"kexec-ahead" => called_off(Step::Ahead),
        b"kexec-handover" => called_off(Step::Handover),
        b"kexec-prepare" => called_off(Step::Prepare),
        _ => {
            let stage = core::str::from_utf8(word.strip_prefix(b"next-")?).ok()?;
            Stage::named(stage).map(Provoke::NextFails)
        }
    }
}

/// Allocates until the heap gives up, which ends the kernel.
fn exhaust_memory() -> ! {
    loop {
        core::mem::forget(Vec::<u8>::with_capacity(OOM_STEP));
    }
}

fn power_off(session: &mut Session<'_>, words: &[Vec<u8>]) -> Outcome {
    Args::parse(words, "")?.exactly([])?;
    session.out.flush();
    // Nobody is left who could act on a disk that does not take what it is given, but it should be known.
    if let Err(error) = session.system.vfs.sync() {
        warn!(target: "power", "not everything is on disk: {error}");
    }
    power::power_off()
}
