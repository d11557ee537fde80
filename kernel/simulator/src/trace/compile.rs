//! A build, twice: every source is read once, with headers that most share; its object is written, read again when its directory
//! is packed into a library, and the libraries are read when the program is linked.

use super::{Access, Page, Size, Trace};
use crate::rng::{Rng, Zipf};

/// Directories, each of which becomes a library.
const DIRECTORIES: u32 = 12;
/// Headers that a source includes.
const INCLUDES: u32 = 30;
/// Of these, the ones that all sources include.
const COMMON: u32 = 10;
/// Files of a kind, at most: their numbers do not meet.
const KIND: u32 = 1 << 16;

/// Files of one kind.
struct Kind {
    first: u32,
    pages: Vec<u32>,
}

impl Kind {
    /// `files` files of 1 to `most` pages.
    fn new(number: u32, files: u32, most: u32, rng: &mut Rng) -> Self {
        Self { first: number * KIND, pages: (0..files).map(|_| 1 + rng.below(most)).collect() }
    }

    fn each(&self, file: u32) -> impl Iterator<Item = Page> {
        let (number, pages) = (self.first + file, self.pages.get(file as usize).copied().unwrap_or(0));
        (0..pages).map(move |index| Page { file: number, index })
    }

    fn read(&self, file: u32, into: &mut Vec<Access>) {
        into.extend(self.each(file).map(Access::Read));
    }

    fn write(&self, file: u32, into: &mut Vec<Access>) {
        into.extend(self.each(file).map(Access::Write));
    }
}

pub(super) fn compile(name: &str, size: Size) -> Trace {
    let mut rng = Rng::new(0xc0);
    // Sources enough to fill the page cache, objects for as much again, headers for half of it.
    let sources = (size.memory as u32 / 6 / DIRECTORIES).max(1) * DIRECTORIES;
    let in_directory = sources / DIRECTORIES;
    let source = Kind::new(0, sources, 11, &mut rng);
    let header = Kind::new(1, (size.memory as u32 / 8).max(INCLUDES), 7, &mut rng);
    let object = Kind::new(2, sources, 11, &mut rng);
    let library = Kind { first: 3 * KIND, pages: vec![in_directory * 6; DIRECTORIES as usize] };
    let program = Kind { first: 4 * KIND, pages: vec![sources * 3] };
    let popular = Zipf::new(header.pages.len() as u32, 0.7);

    // A source includes the same headers each time that it is compiled.
    let mut include = |at: u32| if at < COMMON { at } else { popular.draw(&mut rng) };
    let includes: Vec<Vec<u32>> = (0..sources).map(|_| (0..INCLUDES).map(&mut include).collect()).collect();

    let mut accesses = Vec::new();
    for _ in 0..2 {
        for directory in 0..DIRECTORIES {
            let members = directory * in_directory..(directory + 1) * in_directory;
            for file in members.clone() {
                source.read(file, &mut accesses);
                includes[file as usize].iter().for_each(|&included| header.read(included, &mut accesses));
                object.write(file, &mut accesses);
            }
            members.for_each(|file| object.read(file, &mut accesses));
            library.write(directory, &mut accesses);
        }
        (0..DIRECTORIES).for_each(|directory| library.read(directory, &mut accesses));
        program.write(0, &mut accesses);
    }
    Trace::new(name, size, accesses)
}
