//! Handovers that are damaged, bit by bit, or forged: an ordinary boot, or a tree in which every file is right or quarantined.

mod hostile;

use frames::arena::BASE;
use frames::{FRAME_SIZE, Pfn};
use fs::tmpfs::Fault;
use hostile::mutate::{Random, mutate};
use hostile::oracle::{Said, Seen};
use hostile::{CONTENT, Forgery, Image, Verdict, live_through, live_through_bytes, seeds::seeds};
use std::path::Path;

fn seed(name: &str) -> Image {
    let (_, seed) = seeds().into_iter().find(|(known, _)| *known == name).expect("a seed");
    seed.image()
}

fn restored(image: &Image) -> (Said, Seen) {
    match live_through(image) {
        Verdict::Restored(said, seen) => (said, seen),
        Verdict::Refused(error) => panic!("refused: {error}"),
    }
}

#[test]
fn what_is_as_it_should_be_is_restored_whole() {
    for (name, seed) in seeds() {
        let (said, seen) = restored(&seed.image());
        assert_eq!((&seen.named[..], seen.quarantined.len()), (&[][..], 0), "{name}");
        let files = said.filesystems.iter().flat_map(|fs| fs.inodes.values());
        assert!(files.filter(|file| file.size > 0).all(|file| file.broken.is_empty()), "{name}");
    }
    assert_eq!(restored(&seed("tree")).1.whole.len(), 4);
}

#[test]
fn each_single_bit_of_the_metadata() {
    for name in ["tree", "caches"] {
        let mut image = seed(name);
        for sequence in 0..image.chain.len() {
            for bit in 0..FRAME_SIZE * 8 {
                image.chain[sequence][bit / 8] ^= 1 << (bit % 8);
                assert!(image.open().is_err(), "{name}: bit {bit} of frame {sequence}");
                image.chain[sequence][bit / 8] ^= 1 << (bit % 8);
            }
        }
        image.open().unwrap();
    }
}

/// Files of which everything that is said is what was said before are what they were before, or named.
fn others_are_whole(before: &(Said, Seen), after: &(Said, Seen), what: &str) {
    let file = |said: &Said, ino| said.filesystems.iter().find_map(|fs| fs.inodes.get(ino).cloned());
    let lost = |ino| after.1.named.iter().any(|lost| lost.ino == ino || lost.fault == Fault::NoRoot);
    for (ino, whole) in &before.1.whole {
        let was = file(&before.0, ino).expect("it was whole");
        if file(&after.0, ino).is_some_and(|is| is.items == was.items && is.broken.is_empty()) && !lost(*ino) {
            match after.1.whole.get(ino) {
                Some(is) => assert!(is == whole, "{what}: inode {ino} is not what it was"),
                // Nothing leads to it any more, which is said of it or of the directory above.
                None => assert!(!after.1.named.is_empty(), "{what}: inode {ino} is gone, and nobody says so"),
            }
        }
    }
}

#[test]
fn each_single_bit_of_the_metadata_under_checksums_that_are_right() {
    for name in ["tree", "tree-1", "caches"] {
        let image = seed(name);
        let before = restored(&image);
        assert_eq!(image.chain.len(), 1);
        let used = u64::from_le_bytes(image.chain[0][40..48].try_into().unwrap()) as usize + 128;
        let (mut refused, mut survived) = (0, 0);
        for bit in 0..used * 8 {
            let mut image = image.clone();
            image.chain[0][bit / 8] ^= 1 << (bit % 8);
            image.reseal();
            match live_through(&image) {
                Verdict::Refused(_) => refused += 1,
                Verdict::Restored(said, seen) => {
                    survived += 1;
                    others_are_whole(&before, &(said, seen), &format!("{name}: bit {bit}"));
                }
            }
        }
        assert!(refused > 500 && survived > 500, "{name}: {refused} refused, {survived} survived");
    }
}

#[test]
fn random_bytes_over_whole_frames_of_metadata() {
    let mut random = Random::new(4);
    let image = seed("long");
    for round in 0..400 {
        let mut image = image.clone();
        let from = if round % 2 == 0 { 0 } else { 128 };
        let sequence = random.below(image.chain.len());
        image.chain[sequence][from..].iter_mut().for_each(|byte| *byte = random.next() as u8);
        assert!(image.open().is_err(), "the checksum is a random number");
        image.reseal();
        live_through(&image);
    }
}

/// The file that has the frame.
fn owner(said: &Said, frame: Pfn) -> Option<u64> {
    let wanted = hostile::content(frame);
    let files = said.filesystems.iter().flat_map(|fs| &fs.inodes);
    files.into_iter().find(|(_, file)| file.pages.values().any(|page| page[..] == wanted[..])).map(|(&ino, _)| ino)
}

/// The file that has the frame is quarantined, if the frame holds data of one; all others are what they were.
fn damaged(image: &Image, before: &(Said, Seen), frame: Pfn, byte: usize, change: u8) {
    let mut image = image.clone();
    image.damage.push((frame, byte, change));
    let after = restored(&image);
    let hit = owner(&before.0, frame);
    assert_eq!(after.1.quarantined.iter().copied().collect::<Vec<_>>(), hit.into_iter().collect::<Vec<_>>());
    for (ino, file) in before.1.whole.iter().filter(|(ino, _)| Some(**ino) != hit) {
        assert!(after.1.whole.get(ino) == Some(file), "{frame:?}: inode {ino} is not what it was");
    }
}

#[test]
fn bits_of_the_content() {
    let mut random = Random::new(5);
    let (tree, two) = (seed("tree"), seed("two"));
    let before = restored(&tree);
    for frame in (CONTENT..CONTENT + 40).map(|frame| BASE.offset(frame)) {
        for _ in 0..24 {
            damaged(&tree, &before, frame, random.below(FRAME_SIZE), 1 << random.below(8));
        }
    }
    // Each bit of one page, the last of a file.
    let before = restored(&two);
    let frame = BASE.offset(CONTENT + 5);
    assert!(owner(&before.0, frame).is_some());
    for bit in 0..FRAME_SIZE * 8 {
        damaged(&two, &before, frame, bit / 8, 1 << (bit % 8));
    }
}

#[test]
fn mutations_of_the_corpus() {
    let corpus = corpus();
    let mut random = Random::new(std::env::var("HOLDOVER_SEED").map_or(6, |seed| seed.parse().expect("a number")));
    let rounds = std::env::var("HOLDOVER_MUTATIONS").map_or(6000, |rounds| rounds.parse().expect("a number"));
    let (mut refused, mut survived) = (0, 0);
    for _ in 0..rounds {
        let mut forgery = corpus[random.below(corpus.len())].clone();
        let other = &corpus[random.below(corpus.len())].payload;
        mutate(&mut forgery, other, &mut random);
        match live_through(&forgery.image()) {
            Verdict::Refused(_) => refused += 1,
            Verdict::Restored(..) => survived += 1,
        }
    }
    assert!(survived * 5 > rounds, "most are refused, so little is tested: {refused}, {survived}");
}

/// What the fuzzer begins with, and what it found.
fn corpus() -> Vec<Forgery> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../handover/fuzz/corpus/restore");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).expect("the corpus").map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| Forgery::from_bytes(&std::fs::read(file).unwrap())).collect()
}

/// `HOLDOVER_WRITE_CORPUS=1` writes them.
#[test]
fn the_corpus_has_the_seeds_and_survives() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../handover/fuzz/corpus/restore");
    for (name, seed) in seeds() {
        let file = directory.join(name);
        if std::env::var_os("HOLDOVER_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(&file, seed.to_bytes()).unwrap();
        }
        assert_eq!(Forgery::from_bytes(&std::fs::read(&file).expect("in the corpus")), seed, "{name}");
    }
    for forgery in corpus() {
        live_through_bytes(&forgery.to_bytes());
    }
    live_through_bytes(&[]);
}
