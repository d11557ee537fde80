//! Operations made up from a seed: what is typed, which paths it concerns, and what becomes of the model.
//!
//! Operations of one line concern different paths and files, so that each is a success or a failure by itself, in whatever order one
//! looks at them.

use crate::disk_ops::model::{Model, Node, RECORD, related};
use crate::tree::Random;

/// Where the guest has the disk.
pub const DISK: &str = "/disk";
/// Names in a directory, and how deep directories lie.
const NAMES: u64 = 40;
const DEEPEST: usize = 4;
/// The longest file.
const LONGEST: u64 = 3 << 20;
/// Refusals until the disk counts as full; from then on it is emptied, until half of what it had is left.
const REFUSALS: u32 = 8;

/// What an operation does to the model.
#[derive(Clone, Debug)]
pub enum Effect {
    /// `fill`.
    Fill { path: String, file: u32, offset: u64, len: u64, tag: String },
    /// `cp` of this content.
    Copy { path: String, file: u32, from: u32 },
    /// Another length.
    Truncate { file: u32, len: u64 },
    /// A hole.
    Punch { file: u32, offset: u64, len: u64 },
    /// A name goes.
    Remove { path: String },
    /// A name moves.
    Rename { from: String, to: String },
    /// A name comes.
    Name { path: String, node: Node },
    /// Other permission bits.
    Mode { file: u32, mode: u32 },
    /// The guest prints this.
    Says { line: String },
}

/// An operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What is typed.
    pub command: String,
    /// What it concerns.
    pub paths: Vec<String>,
    /// The file that it changes or reads.
    pub file: Option<u32>,
    /// What it does.
    pub effect: Effect,
}

impl Operation {
    /// Whether both can be in one line.
    pub fn is_apart_from(&self, other: &Operation) -> bool {
        let shared = self.file.is_some() && self.file == other.file;
        !shared && self.paths.iter().all(|path| other.paths.iter().all(|taken| !related(path, taken)))
    }
}

/// Makes operations.
pub struct Generator {
    random: Random,
    serial: u64,
    files: u32,
    /// Refused since it began to grow.
    refused: u32,
    /// While it shrinks: how many bytes it may still have at the end of that.
    ebb: Option<u64>,
    /// Everything in whole records, so that a record is of one time; and no copies, whose bytes say another file.
    whole: bool,
}

impl Generator {
    /// What is made follows from `seed` and the model.
    pub fn new(seed: u64, whole: bool) -> Generator {
        Generator { random: Random::new(seed), serial: 0, files: 0, refused: 0, ebb: None, whole }
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    /// There was no space for an operation.
    pub fn refused(&mut self, model: &Model) {
        self.refused += 1;
        if self.refused == REFUSALS {
            self.ebb = Some(model.len() / 2);
        }
    }

    /// One that fits the model.
    pub fn next(&mut self, model: &Model) -> Operation {
        if self.ebb.is_some_and(|least| model.len() <= least) {
            (self.ebb, self.refused) = (None, 0);
        }
        let growing = self.ebb.is_none();
        loop {
            self.serial += 1;
            let made = match self.random.below(100) {
                0..22 => self.new_file(model, growing),
                22..34 => self.overwrite(model, growing),
                34..42 if growing => self.overwrite(model, growing),
                34..56 if !growing => self.remove(model),
                42..48 => self.remove(model),
                48..56 => self.truncate(model),
                56..60 => self.punch(model),
                60..65 => self.mkdir(model),
                65..68 => self.rmdir(model),
                68..75 => self.rename(model),
                75..80 => self.link(model),
                80..83 => self.symlink(model),
                83..85 => self.chmod(model),
                85..88 if !self.whole => self.copy(model),
                _ => self.read(model),
            };
            if let Some(operation) = made {
                return operation;
            }
        }
    }

    fn directory(&mut self, model: &Model) -> String {
        let directories: Vec<&String> =
            model.names.iter().filter(|(_, node)| **node == Node::Directory).map(|(name, _)| name).collect();
        match self.random.below(directories.len() as u64 + 1).checked_sub(1) {
            None => String::new(),
            Some(at) => directories[at as usize].clone(),
        }
    }

    /// A path that nothing has.
    fn free_path(&mut self, model: &Model, letter: char) -> Option<String> {
        let directory = self.directory(model);
        if directory.matches('/').count() >= DEEPEST {
            return None;
        }
        // Some names are long, so that directories grow.
        let tail = if self.random.below(6) == 0 { "-with-a-name-that-takes-room".repeat(4) } else { String::new() };
        let path = format!("{directory}/{letter}{}{tail}", self.random.below(NAMES));
        (!model.names.contains_key(&path)).then_some(path)
    }

    fn some(&mut self, model: &Model, wanted: impl Fn(&Node) -> bool) -> Option<String> {
        let count = model.names.values().filter(|node| wanted(node)).count() as u64;
        let at = if count == 0 { return None } else { self.random.below(count) };
        model.names.iter().filter(|(_, node)| wanted(node)).nth(at as usize).map(|(name, _)| name.clone())
    }

    /// A file: its path, number and length.
    pub fn some_file(&mut self, model: &Model) -> Option<(String, u32, u64)> {
        let path = self.some(model, |node| matches!(node, Node::File(_)))?;
        let file = model.file_at(&path)?;
        Some((path, file, model.files.get(&file)?.bytes.len() as u64))
    }

    /// A length or position, in whole records if need be.
    fn amount(&mut self, most: u64) -> u64 {
        let amount = self.random.below(most.max(1));
        if self.whole { amount / RECORD * RECORD } else { amount }
    }

    fn length(&mut self, growing: bool) -> u64 {
        let most = match self.random.below(12) {
            0..3 if growing => 250_000,
            0..5 => 40_000,
            _ => 6_000,
        };
        self.amount(most) + RECORD
    }

    fn fill(&mut self, path: String, file: u32, offset: u64, len: u64) -> Operation {
        let tag = format!("i{file}.{}", self.serial);
        Operation {
            command: format!("fill -o {offset} -l {len} {DISK}{path} {tag}"),
            paths: vec![path.clone()],
            file: Some(file),
            effect: Effect::Fill { path, file, offset, len, tag },
        }
    }

    fn new_number(&mut self) -> u32 {
        self.files += 1;
        self.files
    }

    fn new_file(&mut self, model: &Model, growing: bool) -> Option<Operation> {
        let path = self.free_path(model, 'f')?;
        let file = self.new_number();
        let len = self.length(growing);
        Some(self.fill(path, file, 0, len))
    }

    fn overwrite(&mut self, model: &Model, growing: bool) -> Option<Operation> {
        let (path, file, size) = self.some_file(model)?;
        let offset = match self.random.below(3) {
            0 => size,
            1 => self.amount(size + 1),
            _ => self.amount(size + 50_000),
        };
        let len = self.length(growing);
        (offset + len <= LONGEST).then(|| self.fill(path, file, offset, len))
    }

    fn truncate(&mut self, model: &Model) -> Option<Operation> {
        let (path, file, size) = self.some_file(model)?;
        let len = match self.random.below(4) {
            0 => 0,
            1 => self.amount((size + 300_000).min(LONGEST)),
            _ => self.amount(size + 1),
        };
        let command = format!("truncate -s {len} {DISK}{path}");
        Some(Operation { command, paths: vec![path], file: Some(file), effect: Effect::Truncate { file, len } })
    }

    fn punch(&mut self, model: &Model) -> Option<Operation> {
        let (path, file, size) = self.some_file(model)?;
        let (offset, len) = (self.amount(size + 1), self.amount(size + 1) + RECORD);
        let command = format!("fallocate -p -o {offset} -l {len} {DISK}{path}");
        Some(Operation { command, paths: vec![path], file: Some(file), effect: Effect::Punch { file, offset, len } })
    }

    fn remove(&mut self, model: &Model) -> Option<Operation> {
        let path = self.some(model, |node| *node != Node::Directory)?;
        let command = format!("rm {DISK}{path}");
        let file = model.file_at(&path);
        Some(Operation { command, paths: vec![path.clone()], file, effect: Effect::Remove { path } })
    }

    fn mkdir(&mut self, model: &Model) -> Option<Operation> {
        let path = self.free_path(model, 'd')?;
        let command = format!("mkdir {DISK}{path}");
        let effect = Effect::Name { path: path.clone(), node: Node::Directory };
        Some(Operation { command, paths: vec![path], file: None, effect })
    }

    fn rmdir(&mut self, model: &Model) -> Option<Operation> {
        let path = self.some(model, |node| *node == Node::Directory)?;
        let inside = format!("{path}/");
        if model.names.keys().any(|name| name.starts_with(&inside)) {
            return None;
        }
        let command = format!("rmdir {DISK}{path}");
        Some(Operation { command, paths: vec![path.clone()], file: None, effect: Effect::Remove { path } })
    }

    fn rename(&mut self, model: &Model) -> Option<Operation> {
        let from = self.some(model, |_| true)?;
        let is_directory = model.names.get(&from) == Some(&Node::Directory);
        // Over a file half of the time.
        let to = match self.random.below(2) {
            0 if !is_directory => self.some(model, |node| matches!(node, Node::File(_)))?,
            _ => self.free_path(model, if is_directory { 'd' } else { 'f' })?,
        };
        if related(&from, &to) {
            return None;
        }
        // What goes is as much concerned as what moves.
        let file = model.file_at(&to).or(model.file_at(&from));
        if model.file_at(&to).is_some() && model.file_at(&to) == model.file_at(&from) {
            return None;
        }
        let command = format!("mv {DISK}{from} {DISK}{to}");
        Some(Operation { command, paths: vec![from.clone(), to.clone()], file, effect: Effect::Rename { from, to } })
    }

    fn link(&mut self, model: &Model) -> Option<Operation> {
        let (target, file, _) = self.some_file(model)?;
        let path = self.free_path(model, 'f')?;
        let command = format!("ln {DISK}{target} {DISK}{path}");
        let effect = Effect::Name { path: path.clone(), node: Node::File(file) };
        Some(Operation { command, paths: vec![target, path], file: Some(file), effect })
    }

    fn symlink(&mut self, model: &Model) -> Option<Operation> {
        let path = self.free_path(model, 'l')?;
        // Short ones are in the inode, long ones in a block.
        let target = "../to/nowhere".repeat(1 + self.random.below(8) as usize);
        let command = format!("ln -s {target} {DISK}{path}");
        let effect = Effect::Name { path: path.clone(), node: Node::Link(target) };
        Some(Operation { command, paths: vec![path], file: None, effect })
    }

    fn chmod(&mut self, model: &Model) -> Option<Operation> {
        let (path, file, _) = self.some_file(model)?;
        let mode = 0o400 | self.random.below(0o400) as u32;
        let command = format!("chmod {mode:o} {DISK}{path}");
        Some(Operation { command, paths: vec![path], file: Some(file), effect: Effect::Mode { file, mode } })
    }

    fn copy(&mut self, model: &Model) -> Option<Operation> {
        let (source, from, _) = self.some_file(model)?;
        let path = self.free_path(model, 'f')?;
        let file = self.new_number();
        let command = format!("cp {DISK}{source} {DISK}{path}");
        let effect = Effect::Copy { path: path.clone(), file, from };
        Some(Operation { command, paths: vec![source, path], file: Some(from), effect })
    }

    fn read(&mut self, model: &Model) -> Option<Operation> {
        let (path, file, _) = self.some_file(model)?;
        let sum = crate::tree::sum_of(&model.files.get(&file)?.bytes);
        let command = format!("sha256sum {DISK}{path}");
        let effect = Effect::Says { line: format!("{sum}  {DISK}{path}") };
        Some(Operation { command, paths: vec![path], file: Some(file), effect })
    }
}

impl Effect {
    /// The operation succeeded.
    pub fn happen(&self, model: &mut Model) {
        match self {
            Effect::Fill { path, file, offset, len, tag } => model.fill(path, *file, *offset, *len, tag),
            Effect::Copy { path, file, from } => {
                let content = model.files.get(from).cloned().unwrap_or_default();
                model.names.insert(path.clone(), Node::File(*file));
                model.files.insert(*file, content);
            }
            Effect::Truncate { file, len } => model.truncate(*file, *len),
            Effect::Punch { file, offset, len } => model.punch(*file, *offset, *len),
            Effect::Remove { path } => model.remove(path),
            Effect::Rename { from, to } => model.rename(from, to),
            Effect::Name { path, node } => {
                model.names.insert(path.clone(), node.clone());
            }
            Effect::Mode { file, mode } => {
                if let Some(file) = model.files.get_mut(file) {
                    file.mode = *mode;
                }
            }
            Effect::Says { .. } => {}
        }
    }

    /// Names of a file whose content is anybody's guess once the operation failed half way; they have to go.
    pub fn spoilt(&self, model: &Model) -> Vec<String> {
        match self {
            Effect::Fill { path, file, .. } | Effect::Copy { path, file, .. } => {
                let mut names = model.names_of(*file);
                names.push(path.clone());
                names
            }
            Effect::Truncate { file, .. } | Effect::Punch { file, .. } => model.names_of(*file),
            _ => Vec::new(),
        }
    }
}
