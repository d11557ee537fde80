//! What is cached of an ext2 is what is on its disk or newer, wherever it is: in the page cache or in cleancache, as a file's page
//! or as one of the disk.

mod common;
mod ext2_support;

use cache::DropWhat;
use common::{Machine, Numbers};
use ext2_support::{WriteDisk, check, empty_image, get, mount, put, with_disk};
use frames::checksum::crc32c;
use fs::Vfs;
use fs::ext2::Ext2;
use fs::filesystem::{FileSystem, SetAttr};

const PAGE: usize = 4096;

/// The pages of the disk itself that are cached anywhere; each is as the disk has it.
fn of_the_disk(machine: &Machine, disk: &WriteDisk) -> Vec<usize> {
    let image = disk.image();
    let heritages = machine.cache.heritages();
    let [heritage] = &heritages[..] else { panic!("{heritages:?}") };
    assert_eq!(heritage.identity.superblock, crc32c(0, &image[1024..2048]));
    let (mut found, mut pages) = (Vec::new(), Vec::new());
    for handed in machine.cache.handed_files(heritage.fs).iter().filter(|handed| handed.file.ino == 0) {
        machine.cache.handed_pages(handed, &mut 10_000, &mut pages);
        for page in &pages {
            let on_disk = &image[page.index as usize * PAGE..][..PAGE];
            assert_eq!(page.sum, crc32c(0, on_disk), "page {} of the disk", page.index);
            found.push(page.index as usize);
        }
    }
    found
}

#[test]
fn the_page_of_the_superblock_is_never_an_old_one() {
    for block_size in [1024, 2048] {
        let name = format!("superblock, blocks of {block_size}");
        let disk = WriteDisk::new(empty_image(&name, block_size, 2 << 10, &["-N", "64"]));
        let machine = Machine::new(512);
        // With small blocks the first descriptors are in the same page. They are read when it is mounted, which changes the superblock.
        let fs = mount(&machine, &disk).unwrap();
        of_the_disk(&machine, &disk);
        fs.lookup(fs.root(), b"lost+found").unwrap();
        of_the_disk(&machine, &disk);
        fs.unmount().unwrap();
        drop(fs);
        // Mounted for reading it stays as it was read.
        let fs = Ext2::mount(disk.clone(), machine.cache.clone()).unwrap();
        assert!(of_the_disk(&machine, &disk).contains(&0));
        fs.unmount().unwrap();
        check(&name, &disk.image());
    }
}

#[test]
fn a_page_of_the_disk_that_holds_content_beside_metadata_is_dropped_when_that_changes() {
    for (block_size, donated) in [(1024, 0), (2048, 0), (1024, 300)] {
        let name = format!("beside, blocks of {block_size}, {donated} donated");
        let disk = WriteDisk::new(empty_image(&name, block_size, 2 << 10, &["-N", "64"]));
        let machine = Machine::with_cleancache(512, donated, true);
        let vfs = with_disk(&machine, &disk);
        let mut content = Numbers(1).bytes(40 * block_size);
        put(&vfs, "/disk/file", 0, &content);
        vfs.unmount(b"/disk").unwrap();
        vfs.mount(b"/disk", mount(&machine, &disk).unwrap()).unwrap();
        // The indirect block lies between the content, and its page comes into the cache when the file is read.
        assert!(get(&vfs, "/disk/file") == content);
        let image = disk.image();
        let place = |index: usize| {
            let bytes = &content[index * block_size..][..block_size];
            image.chunks(block_size).position(|block| block == bytes).unwrap() * block_size / PAGE
        };
        let neighbours: Vec<usize> = (11..13).map(place).collect();
        let there = of_the_disk(&machine, &disk);
        assert!(neighbours.iter().any(|page| there.contains(page)), "{neighbours:?}, {there:?}");
        if donated > 0 {
            machine.cache.drop_caches(DropWhat::Pages);
        }
        for round in 0..2 {
            content[11 * block_size..13 * block_size].fill(0x40 + round);
            put(&vfs, "/disk/file", 11 * block_size as u64, &content[11 * block_size..13 * block_size]);
            vfs.fsync(b"/disk/file").unwrap();
            of_the_disk(&machine, &disk);
        }
        machine.cache.drop_caches(DropWhat::Pages);
        assert!(get(&vfs, "/disk/file") == content);
        vfs.unmount(b"/disk").unwrap();
        check(&name, &disk.image());
    }
}

/// A file of 16 pages, all of which are in cleancache and nowhere else.
fn stored(machine: &Machine, vfs: &Vfs, content: &[u8]) {
    put(vfs, "/disk/file", 0, content);
    vfs.sync().unwrap();
    machine.cache.drop_caches(DropWhat::Pages);
    assert_eq!(machine.cache.stats().pages(), 0);
    // Read back, and stored again.
    assert!(get(vfs, "/disk/file") == content);
    machine.cache.drop_caches(DropWhat::Pages);
    assert!(in_cleancache(machine) >= 16);
}

fn in_cleancache(machine: &Machine) -> u64 {
    machine.cache.cleancache().fs_stats().iter().map(|fs| fs.cached).sum()
}

#[test]
fn what_is_stored_and_changed_is_read_as_it_is_now() {
    type Deed = fn(&Vfs, &mut Vec<u8>);
    let deeds: [(&str, Deed); 7] = [
        ("a page written over", |vfs, content| {
            content[3 * PAGE..4 * PAGE].fill(1);
            put(vfs, "/disk/file", 3 * PAGE as u64, &content[3 * PAGE..4 * PAGE]);
        }),
        ("a part of a page", |vfs, content| {
            content[5 * PAGE + 100..5 * PAGE + 200].fill(2);
            put(vfs, "/disk/file", 5 * PAGE as u64 + 100, &[2; 100]);
        }),
        ("cut within a page, and grown again", |vfs, content| {
            vfs.truncate(b"/disk/file", 2 * PAGE as u64 + 1000).unwrap();
            vfs.truncate(b"/disk/file", 16 * PAGE as u64).unwrap();
            content[2 * PAGE + 1000..].fill(0);
        }),
        ("cut at the end of a page, and written far behind", |vfs, content| {
            vfs.truncate(b"/disk/file", 2 * PAGE as u64).unwrap();
            put(vfs, "/disk/file", 16 * PAGE as u64 - 1, &[9]);
            content[2 * PAGE..].fill(0);
            content[16 * PAGE - 1] = 9;
        }),
        ("a hole of pages", |vfs, content| {
            vfs.punch(b"/disk/file", 4 * PAGE as u64, 3 * PAGE as u64).unwrap();
            content[4 * PAGE..7 * PAGE].fill(0);
        }),
        ("a hole that begins and ends within pages", |vfs, content| {
            vfs.punch(b"/disk/file", 4 * PAGE as u64 + 17, 3 * PAGE as u64).unwrap();
            content[4 * PAGE + 17..7 * PAGE + 17].fill(0);
        }),
        ("another file under the name", |vfs, content| {
            vfs.unlink(b"/disk/file").unwrap();
            content.fill(8);
            put(vfs, "/disk/file", 0, content);
        }),
    ];
    for (block_size, exclusive) in [(1024, true), (4096, true), (1024, false), (4096, false)] {
        for (what, deed) in deeds {
            let name = format!("{what}, {block_size}, {exclusive}");
            let disk = WriteDisk::new(empty_image(&name, block_size, 2 << 10, &["-N", "64"]));
            let machine = Machine::with_cleancache(512, 300, exclusive);
            let vfs = with_disk(&machine, &disk);
            let mut content = Numbers(1).bytes(16 * PAGE);
            stored(&machine, &vfs, &content);
            deed(&vfs, &mut content);
            assert!(get(&vfs, "/disk/file") == content, "{name}: at once");
            vfs.sync().unwrap();
            for _ in 0..2 {
                machine.cache.drop_caches(DropWhat::Pages);
                assert!(get(&vfs, "/disk/file") == content, "{name}: after it was evicted");
            }
            machine.cache.drop_caches(DropWhat::All);
            assert!(get(&vfs, "/disk/file") == content, "{name}: on the disk");
            vfs.unmount(b"/disk").unwrap();
            check(&name, &disk.image());
        }
    }
}

#[test]
fn what_is_gone_leaves_nothing_in_cleancache() {
    let disk = WriteDisk::new(empty_image("gone", 4096, 2 << 10, &["-N", "64"]));
    let machine = Machine::with_cleancache(512, 300, true);
    let vfs = with_disk(&machine, &disk);
    let content = Numbers(1).bytes(16 * PAGE);
    let gone = |deed: &dyn Fn()| {
        stored(&machine, &vfs, &content);
        let before = in_cleancache(&machine);
        deed();
        before - in_cleancache(&machine)
    };
    assert!(gone(&|| vfs.truncate(b"/disk/file", 2 * PAGE as u64).unwrap()) >= 14);
    assert!(gone(&|| vfs.punch(b"/disk/file", 3 * PAGE as u64, 9 * PAGE as u64).unwrap()) >= 9);
    assert!(gone(&|| vfs.unlink(b"/disk/file").unwrap()) >= 16);
    assert!(gone(&|| put(&vfs, "/disk/file", PAGE as u64, &[7; 5 * PAGE])) >= 5);
    vfs.unmount(b"/disk").unwrap();
    assert_eq!(in_cleancache(&machine), 0);
    check("gone", &disk.image());
}

#[test]
fn pages_of_the_disk_that_are_stored_are_dropped_when_metadata_is_written() {
    for block_size in [1024, 4096] {
        let name = format!("stored metadata, blocks of {block_size}");
        let disk = WriteDisk::new(empty_image(&name, block_size, 8 << 10, &["-N", "512"]));
        let machine = Machine::with_cleancache(1024, 500, true);
        let vfs = with_disk(&machine, &disk);
        for n in 0..60 {
            put(&vfs, &format!("/disk/{n}"), 0, &vec![n as u8; 20 * block_size]);
        }
        let mut found = 0;
        for round in 0..4u16 {
            vfs.unmount(b"/disk").unwrap();
            vfs.mount(b"/disk", mount(&machine, &disk).unwrap()).unwrap();
            (0..60).for_each(|n| drop(get(&vfs, &format!("/disk/{n}"))));
            machine.cache.drop_caches(DropWhat::Pages);
            found += of_the_disk(&machine, &disk).len();
            for n in 0..60 {
                let path = format!("/disk/{n}");
                let attr = SetAttr { mode: Some(0o600 + round), ..SetAttr::default() };
                vfs.set_attr(path.as_bytes(), &attr).unwrap();
                vfs.truncate(path.as_bytes(), ((19 - round as usize) * block_size) as u64).unwrap();
            }
            vfs.sync().unwrap();
            of_the_disk(&machine, &disk);
        }
        assert!(found > 20, "{found}");
        vfs.unmount(b"/disk").unwrap();
        check(&name, &disk.image());
    }
}
