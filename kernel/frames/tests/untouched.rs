//! Memory that nobody has touched: it is free, and its records are not written until somebody needs its frames.
//!
//!     cargo test -p frames --release --test untouched -- --ignored --nocapture
//!
//! prints what a GiB costs once it is touched, by the clock on the wall.

use frames::{Frame, FrameList, FrameMeta, Layout, Memory, Pfn, PfnRange, Zone, Zones};
use std::alloc::alloc_zeroed;
use std::ptr::{self, NonNull};
use std::time::Instant;

const GIB: u64 = 1 << 18;
/// Frames whose records are written at a time.
const SECTION: u64 = 1024;
/// What a record is full of that nobody has written.
const JUNK: u8 = 0xee;

/// A machine of `frames` frames that has records and no memory, a scratch area of 10 MiB above the first, and `set_aside`. A frame of it is
/// never dropped, which would write to it.
fn machine(frames: u64, set_aside: &[PfnRange], junk: Option<u8>) -> (&'static Memory, NonNull<FrameMeta>) {
    machine_with(frames, set_aside, |records| {
        if let Some(junk) = junk {
            // SAFETY: the block has that many records, and nobody else knows it.
            unsafe { records.write_bytes(junk, frames as usize) };
        }
    })
}

/// Such a machine, whose records hold at first what `fill` writes to them.
fn machine_with(
    frames: u64,
    set_aside: &[PfnRange],
    fill: impl FnOnce(NonNull<FrameMeta>),
) -> (&'static Memory, NonNull<FrameMeta>) {
    let block = std::alloc::Layout::array::<FrameMeta>(frames as usize).expect("a size");
    // SAFETY: the size is not zero.
    let records = NonNull::new(unsafe { alloc_zeroed(block) }).expect("address space").cast();
    fill(records);
    let span = PfnRange { start: Pfn::new(0), count: frames };
    let usable = [PfnRange::new(Pfn::new(1), Pfn::new(160)), PfnRange::new(Pfn::new(300), span.end())];
    let scratch = PfnRange::new(Pfn::new(256), Pfn::new(256 + 2560));
    let layout = Layout { span, scratch, usable: &usable, set_aside, annex: 0 };
    // SAFETY: the records are a block of the right size that is never freed. There are no frames behind the window, but no test
    // looks at one or drops one.
    let memory = unsafe { Memory::install(NonNull::dangling(), records, &layout) };
    (memory.expect("a well-formed layout"), records)
}

/// How many frames have records that are not full of junk.
fn written(records: NonNull<FrameMeta>, frames: u64) -> u64 {
    const SIZE: usize = size_of::<FrameMeta>();
    let is_written = |frame: &u64| {
        // SAFETY: the record lies in the block, which was filled when it was allocated; nobody writes to it meanwhile.
        unsafe { ptr::read_volatile(records.as_ptr().add(*frame as usize).cast::<[u8; SIZE]>()) != [JUNK; SIZE] }
    };
    (0..frames).filter(is_written).count() as u64
}

/// Take 2^`order` frames for good.
fn take(memory: &'static Memory, order: u32) -> PfnRange {
    memory.allocate_run(Zones::Preservable, order).expect("memory").into_range()
}

#[test]
fn records_are_written_where_memory_is_touched_and_nowhere_else() {
    const FRAMES: u64 = GIB / 4 + 300;
    let aside = PfnRange { start: Pfn::new(10 * SECTION + 5), count: 4 * SECTION };
    let parts = [9, SECTION, 3 * SECTION - 9];
    let mut start = aside.start;
    let asides = parts.map(|count| {
        let part = PfnRange { start, count };
        start = part.end();
        part
    });
    let (memory, records) = machine(FRAMES, &asides, Some(JUNK));
    // The scratch area ends in the third section; in two of them frames begin or end to be set aside; the last is not whole.
    let mut sections = 3 + 2;
    assert_eq!(written(records, FRAMES), sections * SECTION + 300);
    let stats = memory.stats();
    assert_eq!((stats.set_aside, stats.owned()), (4 * SECTION, 0));
    assert_eq!(stats.free_scratch + stats.free_normal, FRAMES - 1 - 140 - 4 * SECTION);
    // All that is open goes first.
    let untouched = u64::from(memory.untouched());
    let open = stats.free_normal - untouched;
    for _ in 0..open {
        take(memory, 0);
    }
    assert_eq!(written(records, FRAMES), sections * SECTION + 300);
    for taken in [1, SECTION, 7 * SECTION + 1] {
        let before = u64::from(memory.free_frames(Zones::Preservable));
        let names: Vec<Pfn> = (0..taken).map(|_| take(memory, 0).start).collect();
        assert!(names.iter().all(|pfn| memory.zone_of(*pfn) == Zone::Normal));
        assert_eq!(u64::from(memory.free_frames(Zones::Preservable)), before - taken);
    }
    sections += (1 + SECTION + 7 * SECTION + 1).div_ceil(SECTION);
    assert_eq!(written(records, FRAMES), sections * SECTION + 300);
    // A large block is where a small one would be split.
    let run = take(memory, 10);
    assert_eq!((run.start.get() % SECTION, run.count), (0, SECTION));
    assert_eq!(written(records, FRAMES), (sections + 1) * SECTION + 300);
    // Of what is set aside, that which is claimed.
    for (first, count, touched) in [(0, 1, 0), (SECTION, 2, 1), (SECTION + 2, 1, 0), (2 * SECTION - 6, 2, 1)] {
        let range = PfnRange { start: aside.start.offset(first), count };
        assert_eq!(memory.claim(range).map(|run| run.into_range()), Ok(range));
        sections += touched;
        assert_eq!(written(records, FRAMES), (sections + 1) * SECTION + 300);
    }
}

#[test]
fn what_grows_by_large_blocks_lies_in_one_piece() {
    let (memory, _) = machine(GIB / 16, &[], None);
    // What is left of sections that are in use, or that scratch begins or ends in, is not among it.
    let blocks: Vec<PfnRange> = (0..8).map(|_| take(memory, 10)).collect();
    let joined = blocks.windows(2).filter(|pair| pair[0].end() == pair[1].start).count();
    assert_eq!(joined, blocks.len() - 1, "{blocks:?}");
}

#[test]
fn records_of_another_machine_say_nothing_of_this_one() {
    const FRAMES: u64 = GIB / 16 + 300;
    let aside = PfnRange { start: Pfn::new(8 * SECTION - 5), count: 2 * SECTION };
    let (before, old) = machine(FRAMES, &[aside], Some(JUNK));
    // Every frame is on a list, as it might be in the kernel before.
    let mut list = FrameList::new(before);
    let mut all: Vec<Frame> = std::iter::from_fn(|| before.allocate(Zones::Ephemeral)).collect();
    all.extend(before.claim(aside).expect("set aside"));
    let names: Vec<Pfn> = all.iter().map(Frame::pfn).collect();
    all.into_iter().for_each(|frame| list.push_back(frame));
    assert!(names.iter().all(|&pfn| list.contains(pfn)));
    let (memory, _) = machine_with(FRAMES, &[aside], |records| {
        // SAFETY: both are blocks of as many records, and nobody else knows the new one yet.
        unsafe { ptr::copy_nonoverlapping(old.as_ptr(), records.as_ptr(), FRAMES as usize) }
    });
    std::mem::forget(list);
    let mut list = FrameList::new(memory);
    for pfn in (0..FRAMES + 5000).map(Pfn::new) {
        assert!(!list.contains(pfn) && list.remove(pfn).is_none(), "{pfn:?}");
    }
    // What was set aside counts from when it is claimed.
    let mut run = memory.claim(aside).expect("set aside").into_iter();
    let frame = run.next().expect("a frame");
    std::mem::forget(run);
    let pfn = frame.pfn();
    list.push_back(frame);
    assert!(list.contains(pfn));
    std::mem::forget(list);
}

#[test]
fn all_of_it_can_be_had_and_each_frame_once() {
    const FRAMES: u64 = GIB / 16;
    let (memory, _) = machine(FRAMES, &[], Some(JUNK));
    let mut had = vec![false; FRAMES as usize];
    while let Some(frame) = memory.allocate(Zones::Ephemeral) {
        let range = frames::FrameRun::from(frame).into_range();
        assert!(!std::mem::replace(&mut had[range.start.get() as usize], true));
    }
    assert_eq!(had.iter().filter(|had| **had).count() as u64, FRAMES - 1 - 140);
    assert_eq!((memory.untouched(), memory.free_frames(Zones::Ephemeral)), (0, 0));
}

#[test]
fn a_hypervisor_is_told_of_what_nobody_touched() {
    let (memory, _) = machine(GIB / 16, &[], Some(JUNK));
    let mut told = 0;
    for _ in 0..100 {
        memory.report_free(9, 4, |blocks| {
            told += blocks.iter().map(|block| block.len() as u64).sum::<u64>();
            true
        });
    }
    assert_eq!((memory.untouched(), told % 512), (0, 0));
    assert!(told > GIB / 16 - 2 * SECTION, "{told}");
}

#[test]
fn what_64_gib_cost_at_boot_does_not_grow_with_them() {
    let [few, many] = [1, 64].map(|gib| {
        let (memory, _) = machine(gib * GIB, &[], None);
        assert_eq!(memory.stats().owned(), 0);
        gib * GIB - u64::from(memory.untouched())
    });
    assert_eq!(few, many, "frames with records");
    assert!(few <= 3 * SECTION);
}

#[test]
#[ignore = "prints a time"]
fn what_a_gib_costs_when_it_is_touched() {
    const GIBS: u64 = 4;
    // Memory for the records is there already, as it is in a guest: what the host takes to find some is not counted.
    let (memory, _) = machine(GIBS * GIB, &[], Some(JUNK));
    let before = memory.untouched();
    let start = Instant::now();
    while memory.untouched() > 0 {
        take(memory, 10);
    }
    let gibs = f64::from(before) / GIB as f64;
    println!("{:.3} ms a GiB", start.elapsed().as_secs_f64() * 1000.0 / gibs);
}
