//! A visit to a guest: it is booted, told some lines, and powered off.
//!
//! For whoever wants what a guest says and has nothing to decide: anything but that is an error, which names the line and says where
//! the serial log is.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use crate::guest::{Guest, Limit, Record};
use crate::machine::Machine;
use crate::outcome::Ending;
use crate::session::Session;
use crate::workshop::Workshop;

/// How long a boot or a line may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// A guest that waits for a line.
pub struct Visit<'a> {
    guest: Guest,
    host: Host<'a>,
    /// The time-stamp counter at the first prompt.
    pub booted: u64,
}

/// What a visit takes place in.
struct Host<'a> {
    workshop: &'a Workshop,
    log: PathBuf,
    patience: Duration,
}

impl<'a> Visit<'a> {
    /// Starts QEMU by `command`, with a serial log of this name, and waits for the prompt.
    pub fn begin(workshop: &'a Workshop, command: Command, name: &str) -> Result<Visit<'a>> {
        Self::patient(workshop, command, name, PATIENCE)
    }

    /// The same where a boot, or a line, may take so long.
    pub fn patient(workshop: &'a Workshop, command: Command, name: &str, patience: Duration) -> Result<Visit<'a>> {
        let host = Host { workshop, log: workshop.places.log(name)?, patience };
        let session = Session::start(command, &host.log)?;
        let booted = Guest::boot(session, &mut Record::default(), Limit::new(patience));
        let (guest, booted) = booted.map_err(|ending| host.unfit("boot", ending))?;
        Ok(Visit { guest, host, booted })
    }

    /// Gives the guest a line, and what it says until it is ready for the next; of a kexec, what the next kernel says too.
    pub fn tell(&mut self, line: &str) -> Result<Record> {
        let mut said = Record::default();
        let done = self.guest.command(line, &mut said, Limit::new(self.host.patience));
        if done.map_err(|ending| self.host.unfit(line, ending))?.failed {
            bail!("{line}: {}\nserial log: {}", said.errors.join("; "), self.host.log.display());
        }
        Ok(said)
    }

    /// Powers the guest off.
    pub fn end(self) -> Result<()> {
        match self.guest.power_off(&mut Record::default(), Limit::new(self.host.patience)) {
            Ending::Clean => Ok(()),
            other => Err(self.host.unfit("poweroff", other)),
        }
    }
}

impl Host<'_> {
    fn unfit(&self, line: &str, ending: Ending) -> anyhow::Error {
        let lines = [vec![format!("{line}: {ending}")], self.workshop.backtrace(&ending)].concat();
        anyhow!("{}\nserial log: {}", lines.join("\n"), self.log.display())
    }
}

/// A whole visit, and what the guest said to each line.
pub fn visit(workshop: &Workshop, machine: &Machine, name: &str, lines: &[&str]) -> Result<Vec<Record>> {
    let mut visit = Visit::begin(workshop, machine.command()?, name)?;
    let said = lines.iter().map(|line| visit.tell(line)).collect::<Result<_>>()?;
    visit.end()?;
    Ok(said)
}
