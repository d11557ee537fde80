//! The balloon against hosts that keep the rules and hosts that do not.

mod common;

use common::{FILE_PAGES, Guest};
use donors::balloon::{BATCH, Balloon, BalloonDevice, Statistic, Tag};
use donors::{Donor, Fault};
use frames::arena::{Arena, BASE};
use frames::{Frame, FrameRun, Pfn, PfnRange, Zones};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;

/// What a host and its device do.
#[derive(Default)]
struct Host {
    target: u32,
    actual: u32,
    has: BTreeSet<Pfn>,
    /// How many more requests are answered before this happens.
    breaks_after: Option<(u32, Fault)>,
    stops: bool,
    must_tell: bool,
    deflates_on_oom: bool,
    wants_statistics: bool,
    told: Vec<Statistic>,
    report_room: usize,
    reported: u64,
    resets: u32,
}

impl Host {
    fn answer(&mut self) -> Result<(), Fault> {
        match &mut self.breaks_after {
            Some((0, fault)) => Err(*fault),
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[derive(Clone)]
struct Device(Arc<Mutex<Host>>);

impl Device {
    fn new(host: Host) -> Self {
        Self(Arc::new(Mutex::new(host)))
    }

    fn host<R>(&self, look: impl FnOnce(&mut Host) -> R) -> R {
        look(&mut self.0.lock().unwrap())
    }
}

impl BalloonDevice for Device {
    fn acknowledge(&mut self) -> Result<(), Fault> {
        assert_eq!(self.host(|host| host.resets), 0, "a device that was reset is asked");
        Ok(())
    }

    fn target(&mut self) -> Result<u32, Fault> {
        Ok(self.host(|host| host.target))
    }

    fn set_actual(&mut self, pages: u32) -> Result<(), Fault> {
        self.host(|host| host.actual = pages);
        Ok(())
    }

    fn inflate(&mut self, pfns: &[Pfn]) -> Result<(), Fault> {
        assert!(!pfns.is_empty() && pfns.len() <= BATCH);
        self.host(|host| {
            for &pfn in pfns {
                assert!(host.has.insert(pfn), "{pfn:?} is given twice");
            }
            host.answer()
        })
    }

    fn deflate(&mut self, pfns: &[Pfn]) -> Result<(), Fault> {
        assert!(!pfns.is_empty() && pfns.len() <= BATCH);
        self.host(|host| {
            host.answer()?;
            for pfn in pfns {
                assert!(host.has.remove(pfn), "{pfn:?} is not the host's");
            }
            Ok(())
        })
    }

    fn must_tell(&self) -> bool {
        self.host(|host| host.must_tell)
    }

    fn deflates_on_oom(&self) -> bool {
        self.host(|host| host.deflates_on_oom)
    }

    fn wants_statistics(&mut self) -> Result<bool, Fault> {
        Ok(self.host(|host| core::mem::take(&mut host.wants_statistics)))
    }

    fn tell_statistics(&mut self, statistics: &[Statistic]) -> Result<(), Fault> {
        self.host(|host| host.told = statistics.to_vec());
        Ok(())
    }

    fn report_room(&self) -> usize {
        self.host(|host| host.report_room)
    }

    fn report(&mut self, blocks: &mut [FrameRun]) -> Result<(), Fault> {
        self.host(|host| {
            assert!(blocks.len() <= host.report_room);
            host.reported += blocks.iter().map(|block| block.len() as u64).sum::<u64>();
            blocks.iter_mut().for_each(|block| block.bytes_mut().fill(0));
            host.answer()
        })
    }

    fn reset(&mut self) -> bool {
        self.host(|host| {
            host.resets += 1;
            if host.stops {
                host.has.clear();
            }
            host.stops
        })
    }
}

fn settle(balloon: &Balloon<Device>) {
    for _ in 0..100 {
        if !balloon.serve() {
            return;
        }
    }
    panic!("there is always more to do");
}

fn a_good_host() -> Host {
    Host { stops: true, ..Host::default() }
}

#[test]
fn the_pool_goes_first_and_the_guest_gets_its_own_back_first() {
    let arena = Arena::new(4096);
    let guest = Guest::new(&arena);
    let device = Device::new(a_good_host());
    let balloon = Balloon::start(guest.cache.clone(), device.clone(), 1000).unwrap();
    assert_eq!(guest.donated("balloon"), 1000);
    let free = arena.memory().free_frames(Zones::Ephemeral);

    device.host(|host| host.target = 700);
    settle(&balloon);
    assert_eq!((guest.donated("balloon"), arena.memory().free_frames(Zones::Ephemeral)), (300, free));
    assert_eq!(device.host(|host| (host.has.len(), host.actual)), (700, 700));

    device.host(|host| host.target = 1500);
    settle(&balloon);
    assert_eq!((guest.donated("balloon"), arena.memory().free_frames(Zones::Ephemeral)), (0, free - 500));

    device.host(|host| host.target = 1200);
    settle(&balloon);
    assert_eq!((guest.donated("balloon"), arena.memory().free_frames(Zones::Ephemeral)), (0, free - 200));

    device.host(|host| host.target = 0);
    settle(&balloon);
    assert_eq!((guest.donated("balloon"), arena.memory().free_frames(Zones::Ephemeral)), (1000, free));
    assert_eq!(device.host(|host| (host.has.len(), host.actual)), (0, 0));
}

#[test]
fn frames_with_inherited_pages_are_a_part_of_the_share() {
    let inherited = PfnRange { start: BASE.offset(1000), count: 600 };
    let arena = Arena::new(4096).kexec(&[inherited]);
    let guest = Guest::over(arena.memory());
    guest.inherit(inherited);
    let device = Device::new(a_good_host());
    let balloon = Balloon::start(guest.cache.clone(), device.clone(), 1000).unwrap();
    assert_eq!((guest.donated("balloon"), guest.cache.inherited().left), (400, 600));
    let free = arena.memory().free_frames(Zones::Ephemeral);

    device.host(|host| host.target = 700);
    settle(&balloon);
    assert_eq!(device.host(|host| (host.has.len(), host.actual)), (700, 700));
    assert_eq!(guest.donated("balloon") + guest.cache.inherited().left, 300);
    assert_eq!(arena.memory().free_frames(Zones::Ephemeral), free, "nothing of the guest's own was taken");

    device.host(|host| host.target = 0);
    settle(&balloon);
    guest.cache.renounce();
    assert_eq!((guest.donated("balloon"), arena.memory().free_frames(Zones::Ephemeral)), (1000, free));
}

#[test]
fn a_piece_of_work_is_bounded() {
    let arena = Arena::new(16384);
    let guest = Guest::new(&arena);
    let device = Device::new(Host { target: 9000, ..a_good_host() });
    let balloon = Balloon::start(guest.cache.clone(), device.clone(), 9000).unwrap();
    assert!(balloon.serve(), "all of it at once");
    assert!(device.host(|host| host.has.len()) <= 16 * BATCH);
    settle(&balloon);
    assert_eq!(device.host(|host| host.has.len()), 9000);
}

#[test]
fn the_guest_keeps_its_watermarks() {
    keep_watermarks(|_| {});
    // Somebody else is to make frames free, and is late.
    keep_watermarks(|guest| guest.cache.on_few(Box::new(|_| true)));
}

fn keep_watermarks(prepare: impl FnOnce(&Guest)) {
    let arena = Arena::new(2048);
    let guest = Guest::new(&arena);
    prepare(&guest);
    let device = Device::new(Host { target: 2048, ..a_good_host() });
    let balloon = Balloon::start(guest.cache.clone(), device.clone(), 100).unwrap();
    (0..FILE_PAGES).for_each(|page| guest.read(page));
    settle(&balloon);
    let free = arena.memory().free_frames(Zones::Ephemeral);
    assert!(free >= arena.memory().watermarks().low, "{free} frames are left");
    assert!(device.host(|host| host.has.len()) > 1500, "clean pages are given up");
    (0..FILE_PAGES).for_each(|page| guest.read(page));
}

#[test]
fn an_absurd_target_changes_nothing() {
    let arena = Arena::new(2048);
    let guest = Guest::new(&arena);
    let device = Device::new(Host { target: 50, ..a_good_host() });
    let balloon = Balloon::start(guest.cache.clone(), device.clone(), 100).unwrap();
    settle(&balloon);
    for absurd in [2049, u32::MAX] {
        device.host(|host| host.target = absurd);
        settle(&balloon);
        assert_eq!(device.host(|host| (host.has.len(), host.resets)), (50, 0));
    }
    device.host(|host| host.target = 60);
    settle(&balloon);
    assert_eq!(device.host(|host| host.has.len()), 60);
}

#[test]
fn a_host_that_lies_loses_its_device_and_frames_that_it_may_have_are_not_used() {
    for fault in [Fault::Silent, Fault::Garbage("a token that was not given")] {
        for target in [600, 0] {
            let arena = Arena::new(2048);
            let guest = Guest::new(&arena);
            let device = Device::new(Host { target: 300, ..Host::default() });
            let balloon = Balloon::start(guest.cache.clone(), device.clone(), 100).unwrap();
            settle(&balloon);
            device.host(|host| (host.target, host.breaks_after) = (target, Some((0, fault))));
            settle(&balloon);
            settle(&balloon);
            let has = device.host(|host| host.has.clone());
            assert_eq!(device.host(|host| host.resets), 1);
            assert_eq!(balloon.away(), has.len() as u64);
            let mut all: Vec<Frame> = core::iter::from_fn(|| arena.memory().allocate(Zones::Ephemeral)).collect();
            assert!(all.iter().all(|frame| !has.contains(&frame.pfn())), "the host may have it");
            assert_eq!(balloon.relieve(10), 0);
            all.clear();
        }
    }
}

#[test]
fn after_a_confirmed_reset_every_frame_is_used_again() {
    let arena = Arena::new(2048);
    let guest = Guest::new(&arena);
    let free = arena.memory().free_frames(Zones::Ephemeral);
    let device = Device::new(Host { target: 300, ..a_good_host() });
    let balloon = Balloon::start(guest.cache.clone(), device.clone(), 100).unwrap();
    settle(&balloon);
    device.host(|host| (host.target, host.breaks_after) = (900, Some((1, Fault::Silent))));
    settle(&balloon);
    assert_eq!((guest.donated("balloon"), balloon.away()), (100, 0));
    assert_eq!(arena.memory().free_frames(Zones::Ephemeral), free - 100);
}

#[test]
fn when_memory_is_short_the_pool_gives_and_then_the_host_if_it_may() {
    for deflates_on_oom in [false, true] {
        let arena = Arena::new(2048);
        let guest = Guest::new(&arena);
        let device = Device::new(Host { target: 600, deflates_on_oom, ..a_good_host() });
        let balloon = Balloon::start(guest.cache.clone(), device.clone(), 1000).unwrap();
        settle(&balloon);
        assert_eq!(balloon.relieve(300), 300);
        assert_eq!(device.host(|host| host.has.len()), 600);
        assert_eq!(balloon.relieve(300), if deflates_on_oom { 300 } else { 100 });
        assert_eq!(device.host(|host| host.has.len()), if deflates_on_oom { 400 } else { 600 });
        // Memory is plenty again: what was lent to the guest is paid back.
        settle(&balloon);
        assert_eq!(device.host(|host| host.has.len()), 600);
        assert_eq!(guest.donated("balloon"), 400);
    }
}

#[test]
fn what_the_host_gets_is_not_taken_from_the_host() {
    let arena = Arena::new(2048);
    let guest = Guest::new(&arena);
    let device = Device::new(Host { target: 500, deflates_on_oom: true, ..a_good_host() });
    let balloon = Arc::new(Balloon::start(guest.cache.clone(), device.clone(), 100).unwrap());
    let lender = Arc::downgrade(&balloon);
    guest.cache.on_shortage(Box::new(move |frames| lender.upgrade().map_or(0, |balloon| balloon.relieve(frames))));
    settle(&balloon);
    // Somebody has taken even the reserve; and the host wants more.
    let few = arena.memory().watermarks().min / 2;
    let mut ours: Vec<Frame> = Vec::new();
    while arena.memory().free_frames(Zones::Ephemeral) > few {
        ours.extend(arena.memory().allocate(Zones::Ephemeral));
    }
    device.host(|host| host.target = 1000);
    settle(&balloon);
    let mut text = String::new();
    balloon.report(&mut text).unwrap();
    assert!(text.contains("taken back 0 "), "{text}");
    // Whoever needs a frame gets one of the host's.
    let had = ours.len();
    ours.extend(core::iter::from_fn(|| guest.cache.allocate(Zones::Ephemeral).ok()).take(200));
    assert_eq!(ours.len(), had + 200);
    assert!(device.host(|host| host.has.len()) <= 300);
}

#[test]
fn another_processor_may_ask_while_frames_are_found_for_the_host() {
    let arena = Arena::new(2048);
    let guest = Guest::new(&arena);
    let device = Device::new(Host { target: 500, deflates_on_oom: true, ..a_good_host() });
    let balloon = Arc::new(Balloon::start(guest.cache.clone(), device.clone(), 100).unwrap());
    settle(&balloon);
    // What whoever serves it gets, and what another does, when frames become few.
    let answers = Arc::new(Mutex::new(None));
    let (lender, noted) = (Arc::downgrade(&balloon), answers.clone());
    guest.cache.on_few(Box::new(move |_| {
        if let (Some(balloon), Ok(mut answers)) = (lender.upgrade(), noted.lock()) {
            answers.get_or_insert_with(|| {
                let another = thread::scope(|scope| scope.spawn(|| balloon.relieve(8)).join());
                (balloon.relieve(8), another.expect("it does not panic"))
            });
        }
        false
    }));
    device.host(|host| host.target = 2048);
    settle(&balloon);
    assert_eq!(*answers.lock().unwrap(), Some((0, 8)));
}

#[test]
fn below_the_locks_of_the_caches_only_the_host_is_asked() {
    let arena = Arena::new(2048);
    let guest = Guest::new(&arena);
    let device = Device::new(Host { target: 1200, deflates_on_oom: true, ..a_good_host() });
    let balloon = Balloon::start(guest.cache.clone(), device.clone(), 1000).unwrap();
    settle(&balloon);
    let free = arena.memory().free_frames(Zones::Ephemeral);
    assert_eq!(balloon.relieve_at_once(500), 500);
    assert_eq!(arena.memory().free_frames(Zones::Ephemeral), free + 500);
    assert_eq!((device.host(|host| host.has.len()), guest.donated("balloon")), (700, 0));
    device.host(|host| host.breaks_after = Some((0, Fault::Silent)));
    assert_eq!(balloon.relieve_at_once(500), 0);
    assert_eq!(balloon.relieve(500), 0, "a device that broke the rules is asked again");
    assert_eq!(device.host(|host| host.resets), 0);
    settle(&balloon);
    assert_eq!((device.host(|host| host.resets), balloon.away()), (1, 0));
}

#[test]
fn a_host_that_must_be_told_is_told_before_the_kernel_goes() {
    for must_tell in [false, true] {
        let arena = Arena::new(2048);
        let guest = Guest::new(&arena);
        let device = Device::new(Host { target: 600, must_tell, ..Host::default() });
        let balloon = Balloon::start(guest.cache.clone(), device.clone(), 1000).unwrap();
        settle(&balloon);
        balloon.quiesce();
        assert_eq!(device.host(|host| (host.has.is_empty(), host.resets)), (must_tell, 1));
        assert!(!balloon.serve());
    }
}

#[test]
fn the_host_hears_how_the_guest_does() {
    let arena = Arena::new(2048);
    let guest = Guest::new(&arena);
    let device = Device::new(Host { wants_statistics: true, ..a_good_host() });
    let balloon = Balloon::start(guest.cache.clone(), device.clone(), 100).unwrap();
    (0..FILE_PAGES).for_each(|page| guest.read(page));
    balloon.serve();
    let told = device.host(|host| host.told.clone());
    let value = |tag: Tag| told.iter().find(|statistic| statistic.tag == tag).map(|statistic| statistic.value);
    assert_eq!(value(Tag::MajorFaults), Some(u64::from(FILE_PAGES)));
    assert_eq!(value(Tag::Caches), Some(u64::from(FILE_PAGES) * 4096));
    assert_eq!(value(Tag::Total), Some(2048 * 4096));
    device.host(|host| host.told.clear());
    balloon.serve();
    assert!(device.host(|host| host.told.is_empty()), "nobody asked");
}

#[test]
fn the_host_hears_of_large_free_blocks_when_it_has_what_it_wants() {
    let arena = Arena::new(8192);
    let guest = Guest::new(&arena);
    let device = Device::new(Host { report_room: 2, target: 100, ..a_good_host() });
    let balloon = Balloon::start(guest.cache.clone(), device.clone(), 200).unwrap();
    settle(&balloon);
    assert!(device.host(|host| host.reported) > 6000);
    (0..FILE_PAGES).for_each(|page| guest.read(page));
    let before = device.host(|host| host.reported);
    settle(&balloon);
    assert_eq!(device.host(|host| host.reported), before, "told twice");
}

#[test]
fn blocks_that_a_silent_host_heard_of_are_not_used() {
    let arena = Arena::new(4096);
    let guest = Guest::new(&arena);
    let device = Device::new(Host { report_room: 1, breaks_after: Some((0, Fault::Silent)), ..Host::default() });
    let balloon = Balloon::start(guest.cache.clone(), device.clone(), 0).unwrap();
    let free = arena.memory().free_frames(Zones::Ephemeral);
    settle(&balloon);
    let heard = device.host(|host| host.reported);
    assert!(heard >= 512);
    assert_eq!(u64::from(arena.memory().free_frames(Zones::Ephemeral)), u64::from(free) - heard);
    // The arena would miss them.
    core::mem::forget(arena);
}

#[derive(Clone, Debug)]
enum Step {
    Target(u32),
    Serve,
    Relieve(usize),
    Read(u32),
    Allocate(usize),
    Free(usize),
    Break(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..1200_u32).prop_map(Step::Target),
        6 => Just(Step::Serve),
        2 => (1..300_usize).prop_map(Step::Relieve),
        4 => (0..FILE_PAGES).prop_map(Step::Read),
        2 => (1..200_usize).prop_map(Step::Allocate),
        2 => (1..200_usize).prop_map(Step::Free),
        1 => (0..6_u32).prop_map(Step::Break),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens, the host has exactly the frames that the balloon keeps for it, nobody else has one of those, and every frame
    /// comes home in the end (the arena sees to that).
    #[test]
    fn no_frame_is_lost_and_none_has_two_owners(
        steps in prop::collection::vec(step(), 1..80),
        stops in any::<bool>(),
        deflates_on_oom in any::<bool>(),
    ) {
        let arena = Arena::with_scratch(1024, 128);
        let guest = Guest::new(&arena);
        let device = Device::new(Host { stops, deflates_on_oom, ..Host::default() });
        let balloon = Balloon::start(guest.cache.clone(), device.clone(), 300).unwrap();
        let mut ours: Vec<Frame> = Vec::new();
        for step in steps {
            match step {
                Step::Target(target) => device.host(|host| host.target = target),
                Step::Serve => settle(&balloon),
                Step::Relieve(frames) => {
                    let before = arena.memory().free_frames(Zones::Ephemeral);
                    let freed = balloon.relieve(frames);
                    prop_assert!(freed <= frames);
                    let free = arena.memory().free_frames(Zones::Ephemeral);
                    // Where the device broke the rules meanwhile, the guest may have got its own back too.
                    match device.host(|host| host.resets) {
                        0 => prop_assert_eq!(free, before + freed as u32),
                        _ => prop_assert!(free >= before + freed as u32),
                    }
                }
                Step::Read(page) => guest.read(page),
                Step::Allocate(count) => {
                    ours.extend((0..count).map_while(|_| guest.cache.allocate(Zones::Preservable).ok()));
                }
                Step::Free(count) => ours.truncate(ours.len().saturating_sub(count)),
                Step::Break(after) => device.host(|host| host.breaks_after = Some((after, Fault::Silent))),
            }
            let (has, resets) = device.host(|host| (host.has.clone(), host.resets));
            prop_assert_eq!(has.len() as u64, balloon.away());
            if resets == 0 {
                prop_assert_eq!(device.host(|host| host.actual) as u64, balloon.away());
            }
            prop_assert!(ours.iter().all(|frame| !has.contains(&frame.pfn())));
            // Frames of the scratch area neither go to the host nor into the pool that feeds it.
            prop_assert!(has.iter().all(|pfn| arena.memory().zone_of(*pfn) == frames::Zone::Normal));
        }
    }
}
