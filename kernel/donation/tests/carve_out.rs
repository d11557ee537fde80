//! The carve-out: any range at once, and none twice.

mod common;

use common::{FILE_PAGES, Guest};
use donors::Donor;
use donors::carve_out::{CarveOut, RangeError};
use frames::arena::{Arena, BASE};
use frames::{FrameRun, PfnRange};
use proptest::prelude::*;

const FRAMES: u64 = 256;

fn with_carve_out(test: impl FnOnce(&Guest, &CarveOut)) {
    let range = PfnRange { start: BASE.offset(512), count: FRAMES };
    let arena = Arena::new(1024).kexec(&[range]);
    {
        let guest = Guest::over(arena.memory());
        let carve_out = CarveOut::lend(guest.cache.clone(), range, [].into_iter()).unwrap();
        test(&guest, &carve_out);
    }
}

#[test]
fn a_range_comes_in_one_piece_whatever_is_in_it() {
    with_carve_out(|guest, carve_out| {
        // More than the page cache holds, so that the carve-out has pages too.
        (0..FILE_PAGES).chain(0..FILE_PAGES).for_each(|page| guest.read(page));
        guest.cache.reclaim(300);
        let run = carve_out.allocate(200).unwrap();
        assert_eq!((run.len(), guest.donated("carveout")), (200, FRAMES - 200));
        assert!(matches!(carve_out.allocate(57), Err(RangeError::NoRange { wanted: 57, longest: 56 })));
        assert_eq!(carve_out.out(), [run.range()]);
        (0..FILE_PAGES).for_each(|page| guest.read(page));
        carve_out.free(run).unwrap();
        assert_eq!((guest.donated("carveout"), carve_out.out().len()), (FRAMES, 0));
        drop(carve_out.allocate(FRAMES).unwrap());
    });
}

#[test]
fn frames_with_inherited_pages_are_had_like_the_others() {
    let range = PfnRange { start: BASE.offset(512), count: FRAMES };
    // Some before the range, most of them in it.
    let inherited = PfnRange { start: BASE.offset(502), count: 110 };
    let arena = Arena::new(1024).kexec(&[PfnRange { start: inherited.start, count: FRAMES + 10 }]);
    let guest = Guest::over(arena.memory());
    let carve_out = CarveOut::lend(guest.cache.clone(), range, [inherited].into_iter()).unwrap();
    guest.inherit(inherited);
    assert_eq!((guest.donated("carveout"), guest.cache.inherited().left), (FRAMES - 100, 110));
    // From the top: what nobody has a page in, then what is inherited.
    let taken = carve_out.take_back(FRAMES - 90);
    assert_eq!((taken.free, taken.used), (FRAMES - 100, 10));
    let run = carve_out.allocate(50).unwrap();
    assert_eq!((run.start(), guest.cache.inherited().left), (range.start, 50));
    carve_out.free(run).unwrap();
    assert_eq!(guest.donated("carveout") + guest.cache.inherited().cold - 10, 90);
    drop(carve_out.allocate(90).unwrap());
    assert_eq!(guest.cache.inherited().left, 10, "those outside the range stay");
    guest.cache.renounce();
}

#[test]
fn frames_that_are_not_out_are_handed_back() {
    with_carve_out(|guest, carve_out| {
        let frame = guest.cache.allocate(frames::Zones::Ephemeral).unwrap();
        let pfn = frame.pfn();
        match carve_out.free(FrameRun::from(frame)) {
            Err(RangeError::NotOut(run)) => assert_eq!(run.start(), pfn),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn taking_back_begins_at_the_top() {
    with_carve_out(|guest, carve_out| {
        assert_eq!(carve_out.take_back(10).frames(), 10);
        let run = carve_out.allocate(FRAMES - 10).unwrap();
        assert_eq!(run.start(), BASE.offset(512));
        assert_eq!((carve_out.take_back(10).frames(), guest.donated("carveout")), (0, 0));
        let mut text = String::new();
        carve_out.report(&mut text).unwrap();
        assert_eq!(
            text,
            "carveout: 0 frames lent, the longest piece 0; 246 allocated in 1 pieces; 10 are ordinary memory now\n"
        );
        carve_out.free(run).unwrap();
    });
}

proptest! {
    /// Ranges that are out never overlap, and what is lent, out and gone adds up.
    #[test]
    fn ranges_are_given_once(sizes in prop::collection::vec((1..80_u64, any::<bool>()), 1..60)) {
        with_carve_out(|guest, carve_out| {
            let mut out: Vec<FrameRun> = Vec::new();
            for (size, give_back) in sizes {
                if give_back && !out.is_empty() {
                    let run = out.swap_remove(size as usize % out.len());
                    // In two pieces, where it has two.
                    if run.len() > 1 {
                        let (first, second) = run.split_at(1);
                        carve_out.free(second).unwrap();
                        carve_out.free(first).unwrap();
                    } else {
                        carve_out.free(run).unwrap();
                    }
                } else if let Ok(run) = carve_out.allocate(size) {
                    assert_eq!(run.len() as u64, size);
                    out.push(run);
                }
                let outside: u64 = out.iter().map(|run| run.len() as u64).sum();
                assert_eq!(guest.donated("carveout") + outside, FRAMES);
                let mut ranges: Vec<PfnRange> = out.iter().map(FrameRun::range).collect();
                ranges.sort_unstable();
                assert!(ranges.windows(2).all(|pair| pair[0].end() <= pair[1].start));
            }
        });
    }
}
