//! QEMU killed in the middle of writing, again and again, each time with a new disk.
//!
//! Whatever the guest flushed is in the image, as the host lives on. e2fsck must be able to repair it; what was there at the
//! last `sync`, or at the last one of the file itself, and was not touched since must be there as it was; and each sector that is
//! not zeros must say that it is of the file it is in, and of that place in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::disk_ops::generate::{DISK, Generator, Operation};
use crate::disk_ops::inspect::{self, Found};
use crate::disk_ops::model::{Model, Node, RECORD, related, said};
use crate::disk_ops::{Bench, PATIENCE, Run, machine, make_disk};
use crate::guest::{Guest, Limit, Record};
use crate::outcome::Ending;
use crate::session::Session;
use crate::tree::Random;
use crate::workshop::Workshop;
use crate::wrong::Wrong;

/// The disk.
const DISK_BYTES: u64 = 12 << 20;
/// From the first sync on the guest has so long, in milliseconds.
const MOST_LIFE: u64 = 2_500;
/// Operations in a line; one line in so many ends with a sync, and one in so many of the others with that of a file.
const BATCH: usize = 12;
const SYNC: u64 = 3;
const SYNC_FILE: u64 = 2;

/// Kills so many guests; `Ok(Err(_))` is what was found to be wrong.
pub fn kill(workshop: &Workshop, name: &str, run: Run) -> Result<Result<String, String>> {
    let mut random = Random::new(run.seed);
    let (mut kept, mut repaired) = (0, 0);
    for at in 0..run.count {
        let run = Run { seed: random.below(u64::MAX), ..run };
        let log = workshop.places.log(name)?;
        match once(workshop, name, run, &log)? {
            Ok(Survey { files, repairs }) => {
                kept += files;
                repaired += u32::from(repairs);
            }
            Err(wrong) => {
                return Ok(Err(format!("kill {}: {}", at + 1, wrong.report(workshop, &run.to_string(), &log))));
            }
        }
    }
    Ok(Ok(format!("{} kills, {repaired} images repaired, {kept} files that were synced", run.count)))
}

/// What was looked at.
struct Survey {
    files: usize,
    repairs: bool,
}

fn once(workshop: &Workshop, name: &str, run: Run, log: &Path) -> Result<Result<Survey, Wrong>> {
    let work = workshop.places.work_dir(name)?;
    let image = work.join("disk.img");
    make_disk(&image, run.block_size, DISK_BYTES, workshop.install)?;
    let session = Session::start(machine(workshop, &work, &image).command()?, log)?;
    let guest = match Guest::boot(session, &mut Record::default(), Limit::new(PATIENCE)) {
        Ok((guest, _)) => guest,
        Err(ending) => return Ok(Err(Wrong::Ending(ending))),
    };
    let mut victim = Victim { bench: Bench::new(guest, Generator::new(run.seed, true)), kept: Kept::default() };
    match victim.live() {
        // The guest goes with this.
        Ok(()) => drop(victim.bench.guest),
        Err(wrong) => return Ok(Err(wrong)),
    }
    let (status, said) = inspect::e2fsck(&image, "-fy", workshop.install)?;
    if status > 1 {
        return Ok(Err(Wrong::Found(format!("e2fsck -fy ends with {status}: {said}"))));
    }
    let found = inspect::tree(&image, &work.join("out"), workshop.install)?;
    let wrong = lost(&victim.kept, &found).or_else(|| found.iter().find_map(foreign));
    Ok(match wrong {
        Some(wrong) => Err(Wrong::Found(format!("{wrong}; e2fsck -fy ends with {status}: {said}"))),
        None => Ok(Survey { files: victim.kept.synced.files.len(), repairs: status == 1 }),
    })
}

/// A guest that is going to be killed.
struct Victim {
    bench: Bench,
    kept: Kept,
}

/// What has to be there afterwards.
#[derive(Default)]
struct Kept {
    /// The model at the last sync.
    synced: Model,
    /// What was begun since.
    touched: Vec<Operation>,
    /// Files of it that were synced by themselves later: how much had been begun by then.
    alone: BTreeMap<String, usize>,
}

impl Victim {
    fn live(&mut self) -> Result<(), Wrong> {
        self.step(true, Limit::new(PATIENCE))?;
        let length = Duration::from_millis(self.bench.generator.below(MOST_LIFE));
        let limit = Limit { length, deadline: Instant::now() + length };
        loop {
            let sync = self.bench.generator.below(SYNC) == 0;
            match self.step(sync, limit) {
                Ok(()) => {}
                Err(Wrong::Ending(Ending::TimedOut { .. })) => return Ok(()),
                Err(wrong) => return Err(wrong),
            }
        }
    }

    fn step(&mut self, sync: bool, limit: Limit) -> Result<(), Wrong> {
        let batch = self.bench.batch(BATCH);
        self.kept.touched.extend(batch.iter().cloned());
        self.bench.line(&batch, if sync { "sync" } else { "" }, limit)?;
        if sync {
            // What was spoilt was removed after the sync.
            self.bench.succeed("sync", limit)?;
            self.kept = Kept { synced: self.bench.model.clone(), ..Kept::default() };
        } else if self.bench.generator.below(SYNC_FILE) == 0 {
            self.sync_file(limit)?;
        }
        Ok(())
    }

    fn sync_file(&mut self, limit: Limit) -> Result<(), Wrong> {
        let Bench { generator, model, .. } = &mut self.bench;
        let Some((path, file, _)) = generator.some_file(model) else { return Ok(()) };
        self.bench.succeed(&format!("sync {DISK}{path}"), limit)?;
        let content = self.bench.model.files.get(&file).cloned().unwrap_or_default();
        self.kept.synced.names.insert(path.clone(), Node::File(file));
        self.kept.synced.files.insert(file, content);
        self.kept.alone.insert(path, self.kept.touched.len());
        Ok(())
    }
}

/// What was synced, was not touched since, and is not as it was.
fn lost(Kept { synced, touched, alone }: &Kept, found: &BTreeMap<String, Found>) -> Option<String> {
    let is_touched = |path: &str, node: &Node| {
        touched.iter().skip(alone.get(path).copied().unwrap_or(0)).any(|operation| {
            let same_file = matches!(node, Node::File(file) if operation.file == Some(*file));
            same_file || operation.paths.iter().any(|other| related(path, other))
        })
    };
    synced
        .names
        .iter()
        .filter(|(path, node)| !is_touched(path, node))
        .find_map(|(path, node)| inspect::differs(synced, path, node, found.get(path)))
}

/// A sector that is of another file, or of another place in it.
fn foreign((path, found): (&String, &Found)) -> Option<String> {
    let Found::File(_, bytes) = found else { return None };
    let mut of = None;
    for (record, sector) in (0..).zip(bytes.chunks(RECORD as usize)) {
        if sector.iter().all(|byte| *byte == 0) {
            continue;
        }
        let text = String::from_utf8_lossy(&sector[..sector.len().min(40)]).into_owned();
        let tag = text.split(' ').next().unwrap_or_default();
        let whole = said(tag, record).bytes().cycle().zip(sector).all(|(wanted, byte)| wanted == *byte);
        let file = tag.split('.').next().unwrap_or_default().to_owned();
        if !whole || *of.get_or_insert_with(|| file.clone()) != file {
            return Some(format!("{path}: sector {record} of the file has what is not its own: {text:?}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_files_own_is_noticed() {
        let mut model = Model::default();
        model.fill("/a", 1, 0, 2048, "i1.7");
        model.punch(1, 512, 512);
        let found = |bytes: &[u8]| foreign((&"/a".to_owned(), &Found::File(0o644, bytes.to_vec())));
        let bytes = model.files[&1].bytes.clone();
        assert_eq!(found(&bytes), None);
        let mut moved = bytes.clone();
        moved.rotate_left(1024);
        assert!(found(&moved).is_some());
        let mut torn = bytes.clone();
        torn[1300] ^= 1;
        assert!(found(&torn).is_some());
        model.fill("/a", 1, 512, 512, "i2.9");
        assert!(found(&model.files[&1].bytes).is_some());
        assert!(found(b"something else").is_some());
    }
}
