//! The time-stamp counter: reading it, and finding out how fast it runs.
//!
//! The processor or the hypervisor is asked first, and then what the kernel before knew is taken, because that costs nothing; the answer of
//! last resort is half a millisecond of the 8254. Under `-icount shift=0` that is half a million instructions, on a first boot.

use core::fmt;
use x86_64::instructions::port::Port;

use super::cpu;

/// Where the frequency came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// CPUID leaf 0x15: crystal clock and ratio (Intel SDM vol. 3, 19.7.3).
    Crystal,
    /// CPUID leaf 0x40000010: the hypervisor says so.
    Hypervisor,
    /// CPUID leaf 0x16: the base frequency.
    BaseFrequency,
    /// The kernel before said so.
    Inherited,
    /// Measured against the 8254.
    Measured,
    /// Nobody knows; one tick counts as a nanosecond.
    Assumed,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crystal => "from the crystal ratio",
            Self::Hypervisor => "from the hypervisor",
            Self::BaseFrequency => "from the base frequency",
            Self::Inherited => "from the kernel before",
            Self::Measured => "measured",
            Self::Assumed => "assumed",
        })
    }
}

/// The counter's value now.
#[inline]
pub fn now() -> u64 {
    // SAFETY: rdtsc reads a counter and has no other effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Ticks per second, and who says so. `known` is what the kernel before said, or 0.
pub fn frequency(known: u64) -> (u64, Source) {
    crystal()
        .map(|hz| (hz, Source::Crystal))
        .or_else(|| hypervisor().map(|hz| (hz, Source::Hypervisor)))
        .or_else(|| base_frequency().map(|hz| (hz, Source::BaseFrequency)))
        .or_else(|| plausible(known).map(|hz| (hz, Source::Inherited)))
        .or_else(|| measure().map(|hz| (hz, Source::Measured)))
        .unwrap_or((1_000_000_000, Source::Assumed))
}

fn crystal() -> Option<u64> {
    let leaf = cpu::cpuid(0x15)?;
    let scaled = u64::from(leaf.ecx).checked_mul(u64::from(leaf.ebx))?;
    plausible(scaled.checked_div(u64::from(leaf.eax))?)
}

fn hypervisor() -> Option<u64> {
    let leaf = cpu::cpuid(0x4000_0010)?;
    plausible(u64::from(leaf.eax) * 1_000)
}

fn base_frequency() -> Option<u64> {
    let leaf = cpu::cpuid(0x16)?;
    plausible(u64::from(leaf.eax & 0xffff) * 1_000_000)
}

/// Leaves that are present but not filled in read as zero.
fn plausible(hz: u64) -> Option<u64> {
    (100_000_000..=20_000_000_000).contains(&hz).then_some(hz)
}

/// Input clock of the 8254.
const PIT_HZ: u64 = 1_193_182;
/// Half a millisecond of it.
const PIT_TICKS: u16 = 597;
/// More looks than half a millisecond can hold; without an 8254, whose counter then stands still, the loop ends here.
const MAX_LOOKS: u32 = 100_000;

/// Counts ticks while channel 0 of the 8254 goes down by [`PIT_TICKS`]. Channel 2 would need port 0x61, which a microvm
/// does not have; channel 0 is nobody's, since its interrupt is masked.
fn measure() -> Option<u64> {
    let mut mode = Port::<u8>::new(0x43);
    let mut counter = Port::<u8>::new(0x40);
    // SAFETY: the ports belong to the 8254, which nothing else here uses. Channel 0 is set to count down from 65536 over
    // and over (mode 2, low byte first).
    unsafe {
        mode.write(0b0011_0100);
        counter.write(0);
        counter.write(0);
    }
    let mut look = || {
        // SAFETY: as above; the latch command freezes the count for the two reads that follow.
        let count = unsafe {
            mode.write(0);
            u16::from_le_bytes([counter.read(), counter.read()])
        };
        (count, now())
    };
    // The first look only waits until the counter has been loaded.
    look();
    let (first, start) = look();
    for _ in 0..MAX_LOOKS {
        let (count, end) = look();
        let passed = first.wrapping_sub(count);
        if passed >= PIT_TICKS {
            return plausible(end.wrapping_sub(start).checked_mul(PIT_HZ)? / u64::from(passed));
        }
    }
    None
}
