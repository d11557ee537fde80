//! What the host does to a guest while a step's command runs, and what it looks at afterwards.
//!
//! Actions happen one after the other beside the guest, each once the command has printed so many lines: so they are tied
//! to how far the guest is, and not to the clock. Nothing here waits beyond the limit of the scenario.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use protocol::parse::Event;

use crate::guest::{Done, Guest, Limit, Listener, Record};
use crate::outcome::Ending;
use crate::qmp::{POLL, Qmp};
use crate::scenario::action::{Action, Amounts, Shared};
use crate::scenario::changing::ChangingDisk;
use crate::scenario::{Bounds, Step};
use crate::tree::Random;

/// How long the guest may take to follow what the host asks for.
const PATIENCE: Duration = Duration::from_secs(30);
const PAGE: usize = 4096;

/// How far a command is.
#[derive(Default)]
struct Progress {
    /// Lines printed, and whether it has ended.
    state: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, (u64, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, lines: u64) {
        self.lock().0 += lines;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lock().1 = true;
        self.changed.notify_all();
    }

    /// Waits for so many lines.
    fn wait(&self, lines: u64) -> Result<()> {
        let waiting = |state: &mut (u64, bool)| state.0 < lines && !state.1;
        let state = self.changed.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        match state.0 {
            printed if printed < lines => {
                bail!("the command printed only {printed} lines, so nothing came after {lines}")
            }
            _ => Ok(()),
        }
    }
}

/// Counts lines on their way into a record.
struct Counted<'a> {
    said: &'a mut Record,
    progress: &'a Progress,
}

impl Listener for Counted<'_> {
    fn output(&mut self, bytes: &[u8]) {
        self.said.output(bytes);
        self.progress.add(bytes.iter().filter(|byte| **byte == b'\n').count() as u64);
    }

    fn error(&mut self, line: &str) {
        self.said.error(line);
    }

    fn log(&mut self, line: &str) {
        self.said.log(line);
    }

    fn event(&mut self, event: Event<'_>) {
        self.said.event(event);
    }
}

/// The host's end of what a guest was lent.
pub struct Host {
    socket: PathBuf,
    shared: PathBuf,
    disk: Option<ChangingDisk>,
    qmp: Option<Qmp>,
}

impl Host {
    /// The host of a guest whose QEMU listens at `socket`, and whose ivshmem is in the file `shared`.
    pub fn new(socket: &Path, shared: PathBuf) -> Host {
        Host { socket: socket.to_owned(), shared, disk: None, qmp: None }
    }

    /// The same, with a disk that can be changed under the guest.
    pub fn with_disk(self, disk: Option<ChangingDisk>) -> Host {
        Host { disk, ..self }
    }

    /// The guest's QEMU.
    pub fn qmp(&mut self) -> Result<&mut Qmp> {
        match &mut self.qmp {
            Some(qmp) => Ok(qmp),
            unconnected => Ok(unconnected.insert(Qmp::connect(&self.socket)?)),
        }
    }

    /// Gives a command to the guest and does `actions` meanwhile. The second part of the answer says what became of them.
    pub fn command(
        &mut self,
        guest: &mut Guest,
        line: &str,
        actions: &[Action],
        said: &mut Record,
        limit: Limit,
    ) -> (Result<Done, Ending>, Result<()>) {
        if actions.is_empty() {
            return (guest.command(line, said, limit), Ok(()));
        }
        let progress = Progress::default();
        thread::scope(|scope| {
            let acting = scope.spawn(|| {
                actions.iter().try_for_each(|action| {
                    progress.wait(action.after_lines)?;
                    self.act(action, limit)
                })
            });
            let done = guest.command(line, &mut Counted { said, progress: &progress }, limit);
            progress.end();
            let acted = acting.join().unwrap_or_else(|_| bail!("the host panicked"));
            (done, acted)
        })
    }

    fn act(&mut self, action: &Action, limit: Limit) -> Result<()> {
        if let Some(taken) = action.balloon {
            self.qmp()?.set_balloon(taken.bytes())?;
        }
        if let Some(plugged) = action.mem {
            self.qmp()?.set_mem(plugged.bytes())?;
        }
        if let Some(Shared::Ivshmem) = action.scribble {
            scribble(&self.shared)?;
        }
        if let Some(file) = &action.rewrite {
            self.disk()?.rewrite(file)?;
        }
        if let Some(file) = &action.swap {
            self.disk()?.swap(file)?;
        }
        if let Some(request) = &action.qmp {
            self.qmp()?.request(&serde_json::from_str(request)?)?;
        }
        if let Some(seconds) = action.pause {
            thread::sleep(Duration::from_secs(seconds.into()));
        }
        if let Some(wanted) = action.wait_balloon {
            self.wait_balloon(wanted, limit)?;
        }
        if let Some(wanted) = action.wait_mem {
            self.wait_mem(wanted, limit)?;
        }
        Ok(())
    }

    fn disk(&self) -> Result<&ChangingDisk> {
        self.disk.as_ref().context("there is no disk that was made from a tree")
    }

    /// Looks at what the step says of the host's side.
    pub fn check(&mut self, step: &Step, limit: Limit) -> Result<()> {
        if let Some(wanted) = step.balloon_actual {
            self.wait_balloon(wanted, limit)?;
        }
        if let Some(wanted) = step.mem_plugged {
            self.wait_mem(wanted, limit)?;
        }
        if !step.guest_stats.is_empty() {
            let qmp = self.qmp()?;
            until(limit, || {
                let stats = qmp.guest_stats()?;
                Ok(outside(&step.guest_stats, &stats))
            })?;
        }
        Ok(())
    }

    fn wait_balloon(&mut self, wanted: Amounts, limit: Limit) -> Result<()> {
        let qmp = self.qmp()?;
        until(limit, || {
            let taken = qmp.balloon()?;
            Ok((!wanted.contain(taken)).then(|| format!("the host has {taken} bytes by the balloon")))
        })
    }

    fn wait_mem(&mut self, wanted: Amounts, limit: Limit) -> Result<()> {
        let qmp = self.qmp()?;
        until(limit, || {
            let plugged = qmp.mem()?;
            Ok((!wanted.contain(plugged)).then(|| format!("virtio-mem has {plugged} bytes plugged")))
        })
    }
}

/// Looks again and again until there is no complaint. The last one is the error.
fn until(limit: Limit, mut look: impl FnMut() -> Result<Option<String>>) -> Result<()> {
    let deadline = limit.deadline.min(Instant::now() + PATIENCE);
    while let Some(complaint) = look()? {
        if Instant::now() >= deadline {
            bail!("{complaint}, for longer than it should");
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// The first number that is not within its bounds.
fn outside(bounds: &BTreeMap<String, Bounds>, stats: &BTreeMap<String, u64>) -> Option<String> {
    bounds.iter().find_map(|(name, bounds)| match stats.get(name) {
        None => Some(format!("the guest does not report {name}")),
        // What the device is told does not depend on how many processors there are.
        Some(&value) => bounds.check(value, 1).err().map(|wrong| format!("{name} is {wrong}")),
    })
}

/// Changes one byte in every page of a file.
fn scribble(path: &Path) -> Result<()> {
    let name = || format!("cannot scribble over {path:?}");
    let file = File::options().read(true).write(true).open(path).with_context(name)?;
    let pages = file.metadata().with_context(name)?.len() / PAGE as u64;
    if pages == 0 {
        bail!("there is nothing in {path:?} to scribble over");
    }
    let mut random = Random::new(6);
    for page in 0..pages {
        let at = page * PAGE as u64 + random.below(PAGE as u64);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).with_context(name)?;
        file.write_all_at(&byte.map(|byte| !byte), at).with_context(name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_waits_for_its_line_and_complains_if_it_never_comes() {
        let progress = Progress::default();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| progress.wait(2));
            progress.add(1);
            assert!(!waiting.is_finished());
            progress.add(1);
            assert!(waiting.join().unwrap().is_ok());
            let in_vain = scope.spawn(|| progress.wait(3));
            progress.end();
            let error = in_vain.join().unwrap().unwrap_err().to_string();
            assert!(error.contains("only 2 lines"), "{error}");
        });
    }

    #[test]
    fn no_page_stays_as_it_was() {
        let path = std::env::temp_dir().join(format!("xtask-scribble-{}", std::process::id()));
        std::fs::write(&path, [7; 3 * PAGE]).unwrap();
        scribble(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 3 * PAGE);
        assert!(bytes.chunks(PAGE).all(|page| page.iter().filter(|byte| **byte != 7).count() == 1));
        std::fs::write(&path, []).unwrap();
        assert!(scribble(&path).is_err());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn bounds_of_statistics_are_kept_or_named() {
        let bounds: BTreeMap<String, Bounds> = toml::from_str("stat-free-memory = { min = 5 }").unwrap();
        let stats = |value| [("stat-free-memory".to_owned(), value)].into();
        assert_eq!(outside(&bounds, &stats(5)), None);
        assert!(outside(&bounds, &stats(4)).unwrap().contains("is 4"));
        assert!(outside(&bounds, &BTreeMap::new()).unwrap().contains("does not report"));
    }
}
