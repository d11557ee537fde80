//! Playing a scenario: disk, guest, steps, end.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::disk_ops::{self, Run};
use crate::generations;
use crate::guest::{Done, Guest, Limit, Listener, Record};
use crate::machine::Machine;
use crate::outcome::Ending;
use crate::pattern::{line_contains, lines_match};
use crate::scenario::changing::ChangingDisk;
use crate::scenario::check::{Context, check, find};
use crate::scenario::disk::{Prepared, host_sums};
use crate::scenario::host::Host;
use crate::scenario::{Kernel, OnDisk, Scenario, Step, transcript};
use crate::session::Session;
use crate::workshop::Workshop;

/// What generations or operations of a scenario do follows from this.
const SEED: u64 = 1;

/// Plays it.
///
/// # Errors
/// What the host could not do.
pub fn play(workshop: &Workshop, scenario: &Scenario) -> Result<Result<(), String>> {
    if let Some(count) = scenario.generations {
        return Ok(generations::live(workshop, &scenario.name, SEED, count)?.map(drop));
    }
    let run = |OnDisk { count, block_size }| Run { seed: SEED, count, block_size };
    if let Some(on_disk) = scenario.fs_ops {
        return Ok(disk_ops::operate(workshop, &scenario.name, run(on_disk))?.map(drop));
    }
    if let Some(on_disk) = scenario.fs_kill {
        return Ok(disk_ops::kill::kill(workshop, &scenario.name, run(on_disk))?.map(drop));
    }
    let work = workshop.places.work_dir(&scenario.name)?;
    let prepared = scenario.disk.prepare(workshop, &work)?;
    let bootable = match scenario.kernel {
        Kernel::Current => workshop.built.bootable.clone(),
        Kernel::Previous => workshop.previous()?.bootable,
    };
    let machine = workshop.machine_in(&work);
    let machine = Machine {
        bootable,
        board: scenario.machine,
        memory: scenario.memory,
        donations: scenario.donate.clone(),
        processors: scenario.processors.unwrap_or(machine.processors),
        queues: scenario.queues,
        disk: prepared.disk.clone(),
        ..machine
    };
    let log = workshop.places.log(&scenario.name)?;
    let session = Session::start(machine.command()?, &log)?;
    let limit = Limit::new(Duration::from_secs(scenario.timeout.into()));
    let mut said = Record::default();
    let ending = match Guest::boot(session, &mut said, limit) {
        Err(ending) => ending,
        Ok((guest, _)) => {
            for pattern in &scenario.boot_log {
                if let Err(problem) = find(pattern, &said.log, "log of the boot") {
                    return Ok(Err(problem));
                }
            }
            let disk = prepared.disk.as_ref().map(|disk| ChangingDisk {
                image: disk.image.clone(),
                tree: prepared.tree.clone(),
                install: workshop.install,
            });
            let host = Host::new(work.socket(), work.join("ivshmem")).with_disk(disk);
            let mut player =
                Player { workshop, scenario, prepared: &prepared, host, limit, context: Context::default() };
            match player.steps(guest)? {
                Ok(ending) => ending,
                Err(problem) => return Ok(Err(problem)),
            }
        }
    };
    Ok(judge_end(workshop, scenario, &ending))
}

struct Player<'a> {
    workshop: &'a Workshop,
    scenario: &'a Scenario,
    prepared: &'a Prepared,
    host: Host,
    limit: Limit,
    context: Context,
}

impl Player<'_> {
    /// Does all steps and powers off, unless the guest ends before.
    fn steps(&mut self, mut guest: Guest) -> Result<Result<Ending, String>> {
        for step in &self.scenario.steps {
            let mut said = Record::default();
            match self.host.command(&mut guest, &step.run, &step.host, &mut said, self.limit) {
                (Err(ending), _) => return Ok(Ok(ending)),
                (Ok(_), Err(error)) => return Ok(Err(format!("{}: host: {error:#}", step.run))),
                (Ok(done), Ok(())) => {
                    if let Err(problem) = self.step(step, done, &said)? {
                        return Ok(Err(format!("{}: {problem}", step.run)));
                    }
                }
            }
        }
        if let Some(path) = &self.scenario.transcript {
            let path = self.workshop.places.root().join(path);
            let document = fs::read_to_string(&path).with_context(|| format!("{path:?}"))?;
            for exchange in transcript::parse(&document).with_context(|| format!("{path:?}"))? {
                let mut said = Interleaved::default();
                match guest.command(&exchange.command, &mut said, self.limit) {
                    Err(ending) => return Ok(Ok(ending)),
                    Ok(_) => {
                        let patterns: Vec<&str> = exchange.answer.iter().map(|line| &**line).collect();
                        let text = String::from_utf8_lossy(&said.0);
                        let lines: Vec<&str> = text.lines().collect();
                        if let Err(problem) = lines_match(&patterns, &lines) {
                            return Ok(Err(format!("{}: {problem}", exchange.command)));
                        }
                    }
                }
            }
        }
        Ok(Ok(guest.power_off(&mut Record::default(), self.limit)))
    }

    fn step(&mut self, step: &Step, done: Done, said: &Record) -> Result<Result<(), String>> {
        self.context.sums = match &step.sums {
            Some(sums) => Some(host_sums(&self.prepared.tree, &sums.of, &sums.named)?),
            None => None,
        };
        let verdict = check(step, done, said, &self.context);
        if let Some(label) = &step.label {
            let output = String::from_utf8_lossy(&said.output).into_owned();
            self.context.earlier.insert(label.clone(), output);
        }
        Ok(verdict.and_then(|()| self.host.check(step, self.limit).map_err(|error| format!("host: {error:#}"))))
    }
}

/// The way the guest ended against the way it should have.
fn judge_end(workshop: &Workshop, scenario: &Scenario, ending: &Ending) -> Result<(), String> {
    let backtrace = workshop.backtrace(ending);
    let Some(message) = scenario.ends.is_met_by(ending) else {
        let lines = [vec![ending.to_string()], backtrace].concat();
        return Err(lines.join("\n"));
    };
    if let Some(pattern) = &scenario.message
        && !line_contains(pattern, message)
    {
        return Err(format!("no {pattern:?} in the message {message:?}"));
    }
    scenario.backtrace.iter().try_for_each(|pattern| find(pattern, &backtrace, "backtrace"))
}

/// Output and error output as a person sees them, in one stream.
#[derive(Default)]
struct Interleaved(Vec<u8>);

impl Listener for Interleaved {
    fn output(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    fn error(&mut self, line: &str) {
        self.0.extend(line.as_bytes());
        self.0.push(b'\n');
    }

    fn log(&mut self, _: &str) {}
}
