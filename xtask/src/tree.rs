//! Directory trees made up for a purpose, the same on every host: contents come from a seed.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bootproto::image::{About, BuildName, Versions, describe, seal};
use sha2::{Digest, Sha256};

use crate::places::make_dir;

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): small,
/// and good enough that no two pages are alike.
pub struct Random(u64);

impl Random {
    /// A generator; the same seed gives the same numbers.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Bytes without any order.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = len.div_ceil(8);
        let mut bytes: Vec<u8> = (0..words).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }

    /// Lines of words.
    fn text(&mut self, len: usize) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "frame",
            "page",
            "folio",
            "inode",
            "refault",
            "balloon",
            "scratch",
            "handover",
            "evict",
            "donate",
            "kernel",
            "extent",
            "block",
            "mount",
            "reclaim",
            "generation",
        ];
        let mut text = String::new();
        while text.len() < len {
            text += WORDS[self.below(WORDS.len() as u64) as usize];
            text.push(if self.below(8) == 0 { '\n' } else { ' ' });
        }
        text.truncate(len);
        text.into_bytes()
    }
}

/// A directory being filled.
struct Filler {
    top: PathBuf,
    random: Random,
}

impl Filler {
    fn new(top: &Path, seed: u64) -> Result<Filler> {
        make_dir(top)?;
        Ok(Filler { top: top.to_owned(), random: Random::new(seed) })
    }

    /// The path of something to be made; the directories above it are there.
    fn place(&self, path: &str) -> Result<PathBuf> {
        let path = self.top.join(path);
        if let Some(dir) = path.parent() {
            make_dir(dir)?;
        }
        Ok(path)
    }

    fn file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.place(path)?;
        fs::write(&path, bytes).with_context(|| format!("cannot write {path:?}"))
    }

    fn text(&mut self, path: &str, len: usize) -> Result<()> {
        let text = self.random.text(len);
        self.file(path, &text)
    }

    fn noise(&mut self, path: &str, len: usize) -> Result<()> {
        let bytes = self.random.bytes(len);
        self.file(path, &bytes)
    }

    /// A file of which only these bytes at these places are not a hole.
    fn sparse(&mut self, path: &str, len: u64, data: &[u64]) -> Result<()> {
        let path = self.place(path)?;
        let file = File::create(&path).with_context(|| format!("cannot make {path:?}"))?;
        file.set_len(len)?;
        for &at in data {
            file.write_all_at(&self.random.bytes(100), at)?;
        }
        Ok(())
    }

    fn link(&self, path: &str, to: &str) -> Result<()> {
        let path = self.place(path)?;
        symlink(to, &path).with_context(|| format!("cannot make {path:?}"))
    }
}

/// A small tree that has a bit of everything, and the bootable file in /boot.
pub fn sample(top: &Path, bootable: &Path) -> Result<()> {
    let mut tree = Filler::new(top, 1)?;
    tree.file("hello.txt", b"Hello from the disk.\n")?;
    tree.file("empty", b"")?;
    tree.file("name with spaces", b"spaces\n")?;
    tree.file("na\u{ef}ve-\u{65e5}\u{672c}", b"UTF-8\n")?;
    for len in [1, 4095, 4096, 4097, 49152, 49153, 300_000] {
        tree.noise(&format!("sizes/{len}"), len)?;
    }
    for dir in 0..4 {
        for file in 0..8 {
            let len = 1000 + 7001 * file;
            tree.text(&format!("docs/chapter-{dir}/page-{file}.txt"), len)?;
        }
    }
    tree.text("a/b/c/d/e/f/g/h/deep.txt", 5000)?;
    for file in 0..300 {
        tree.text(&format!("many/file-{file:03}"), 64 + file)?;
    }
    tree.noise("big.bin", 2_500_000)?;
    tree.sparse("sparse", 1_000_000, &[0, 500_000, 999_900])?;
    tree.link("links/short", "../hello.txt")?;
    tree.link("links/long", &format!("../{}hello.txt", "docs/../".repeat(12)))?;
    tree.link("links/dangling", "/nowhere")?;
    tree.link("links/loop", "loop")?;
    let (hello, second) = (tree.place("hello.txt")?, tree.place("links/hard")?);
    fs::hard_link(&hello, &second).with_context(|| format!("cannot make {second:?}"))?;
    let boot = tree.place("boot/holdover")?;
    fs::copy(bootable, &boot).with_context(|| format!("cannot write {boot:?}"))?;
    Ok(())
}

/// A tree of about so many bytes in so many files, most of them small and a few large.
pub fn bulk(top: &Path, bytes: u64, files: u32) -> Result<()> {
    let mut tree = Filler::new(top, 2)?;
    let mean = bytes / u64::from(files.max(1));
    for file in 0..files {
        // Sixteen files take turns: fifteen share half of the bytes, one has the other half.
        let len = match file % 16 {
            15 => mean * 8,
            _ => 1 + tree.random.below((mean * 16 / 15).max(1)),
        };
        let len = usize::try_from(len).context("too large")?;
        let path = format!("d{:02}/e{}/f{file:05}", file / 64 % 100, file / 16 % 4);
        if file % 2 == 0 {
            tree.text(&path, len)?;
        } else {
            tree.noise(&path, len)?;
        }
    }
    Ok(())
}

/// One file of `bytes` bytes, no two pages of which are alike.
pub fn large(top: &Path, bytes: u64) -> Result<()> {
    make_dir(top)?;
    let path = top.join("large.bin");
    let mut random = Random::new(11);
    let mut left = bytes;
    let mut file = File::create(&path).with_context(|| format!("cannot make {path:?}"))?;
    while left > 0 {
        let part = random.bytes(left.min(1 << 20) as usize);
        file.write_all(&part).with_context(|| format!("cannot write {path:?}"))?;
        left -= part.len() as u64;
    }
    Ok(())
}

/// Files whose block maps reach every level of indirection with 1 KiB blocks (12 direct, 256
/// single, 65,536 double), and one of more than 4 GiB; nearly all of it holes.
pub fn far(top: &Path) -> Result<()> {
    let mut tree = Filler::new(top, 3)?;
    tree.noise("direct", 12 << 10)?;
    tree.noise("single", 200 << 10)?;
    tree.noise("double", 1 << 20)?;
    let triple = (12 + 256 + 65_536) << 10;
    tree.sparse("triple", triple + 5000, &[0, 20 << 10, 1 << 20, triple + 4000])?;
    tree.sparse("huge", 5 << 30, &[0, (5 << 30) - 100])?;
    Ok(())
}

/// Kernels that no loader may accept, beside the good one in /boot/holdover.
pub fn bad_kernels(top: &Path, bootable: &Path, kernel: &Path) -> Result<()> {
    let mut tree = Filler::new(top, 4)?;
    let good = fs::read(bootable).with_context(|| format!("cannot read {bootable:?}"))?;
    tree.file("boot/holdover", &good)?;
    tree.noise("boot/noise", 100_000)?;
    tree.file("boot/empty", b"")?;
    tree.file("boot/truncated", good.get(..good.len() / 2).unwrap_or_default())?;
    let mut damaged = good.clone();
    // The program headers follow the file header: all their offsets and sizes become nonsense.
    for byte in damaged.iter_mut().take(64 + 3 * 56).skip(64 + 8) {
        *byte ^= 0xa5;
    }
    tree.file("boot/damaged", &damaged)?;
    tree.file("boot/newer", &of_versions(&good, Versions { oldest: 7007, newest: 7009 })?)?;
    tree.file("boot/hollow", &without_kernel(&good)?)?;
    // A good ELF, but one without an entry for PVH.
    let plain = fs::read(kernel).with_context(|| format!("cannot read {kernel:?}"))?;
    tree.file("boot/no-entry", &plain)
}

/// A bootable file that says it reads these handover versions, sealed.
fn of_versions(good: &[u8], versions: Versions) -> Result<Vec<u8>> {
    let mut file = good.to_vec();
    describe(&mut file, &About { versions, build: BuildName::new("of another day") })?;
    seal(&mut file)?;
    Ok(file)
}

/// A bootable file, sealed, whose boot stage finds no kernel in it: the second ELF of the file is none.
fn without_kernel(good: &[u8]) -> Result<Vec<u8>> {
    let mut file = good.to_vec();
    let inner =
        file.windows(4).skip(1).position(|bytes| bytes == b"\x7fELF").context("no kernel in the bootable file")?;
    file[1 + inner] = 0;
    seal(&mut file)?;
    Ok(file)
}

/// What `sha256sum -r` has to print for a tree: each regular file below `top`, named as if `top`
/// were `name`, sorted by line.
pub fn sums(top: &Path, name: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut dirs = vec![(top.to_owned(), name.to_owned())];
    while let Some((dir, name)) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {dir:?}"))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let path = entry.path();
            let name = format!("{name}/{}", entry.file_name().to_string_lossy());
            if kind.is_dir() {
                dirs.push((path, name));
            } else if kind.is_file() {
                lines.push(format!("{}  {name}", sum(&path)?));
            }
        }
    }
    lines.sort();
    Ok(lines)
}

/// The SHA-256 sum of a file, in hexadecimal.
pub fn sum(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {path:?}"))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).with_context(|| format!("cannot read {path:?}"))?;
    Ok(hexadecimal(&hash.finalize()))
}

/// The SHA-256 sum of bytes, in hexadecimal.
pub fn sum_of(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
