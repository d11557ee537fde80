//! CRC-32C (Castagnoli; RFC 3720, 12.1), by the processor's own instruction where it has one: the checksum of everything that
//! crosses a kexec, page by page.
//!
//! It is here because the instruction needs `unsafe`, and all below the kernel that hashes knows this crate.

#[cfg(target_arch = "x86_64")]
use core::arch::{asm, x86_64::__cpuid};
#[cfg(target_arch = "x86_64")]
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
use crc::{CRC_32_ISCSI, Crc, Table};

/// For processors without the instruction. The table of sixteen rows costs 16 KiB and a tenth of the time.
static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Bytes that one turn of the fast loop takes.
#[cfg(target_arch = "x86_64")]
const TURN: usize = 128;

/// The checksum of `bytes` behind those that `seed` is the checksum of; 0 is that of none.
///
/// ```
/// use frames::checksum::crc32c;
/// assert_eq!(crc32c(crc32c(0, b"12345"), b"6789"), 0xe306_9283);
/// ```
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if has_instruction() {
        // SAFETY: the processor says that it has the instruction.
        return unsafe { by_instruction(seed, bytes) };
    }
    by_table(seed, bytes)
}

#[cfg(target_arch = "x86_64")]
fn has_instruction() -> bool {
    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    /// Asked once, since in a virtual machine the question is expensive.
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);

    match ANSWER.load(Relaxed) {
        UNKNOWN => {
            // Intel SDM 2A, CPUID: leaf 1, ECX bit 20 is SSE4.2.
            let yes = __cpuid(1).ecx & (1 << 20) != 0;
            ANSWER.store(if yes { YES } else { NO }, Relaxed);
            yes
        }
        answer => answer == YES,
    }
}

fn by_table(seed: u32, bytes: &[u8]) -> u32 {
    // The library wants the register as the algorithm's definition has it, first bit first.
    let mut digest = CRC32C.digest_with_initial((!seed).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// # Safety
/// The processor has SSE4.2.
#[cfg(target_arch = "x86_64")]
unsafe fn by_instruction(seed: u32, bytes: &[u8]) -> u32 {
    let mut crc = u64::from(!seed);
    let (turns, rest) = bytes.as_chunks::<TURN>();
    for turn in turns {
        // SAFETY: the instructions read the 128 bytes of `turn` and change `crc` alone; there are such instructions, by the caller.
        unsafe {
            asm!(
                "crc32 {crc}, qword ptr [{at}]",
                "crc32 {crc}, qword ptr [{at} + 8]",
                "crc32 {crc}, qword ptr [{at} + 16]",
                "crc32 {crc}, qword ptr [{at} + 24]",
                "crc32 {crc}, qword ptr [{at} + 32]",
                "crc32 {crc}, qword ptr [{at} + 40]",
                "crc32 {crc}, qword ptr [{at} + 48]",
                "crc32 {crc}, qword ptr [{at} + 56]",
                "crc32 {crc}, qword ptr [{at} + 64]",
                "crc32 {crc}, qword ptr [{at} + 72]",
                "crc32 {crc}, qword ptr [{at} + 80]",
                "crc32 {crc}, qword ptr [{at} + 88]",
                "crc32 {crc}, qword ptr [{at} + 96]",
                "crc32 {crc}, qword ptr [{at} + 104]",
                "crc32 {crc}, qword ptr [{at} + 112]",
                "crc32 {crc}, qword ptr [{at} + 120]",
                at = in(reg) turn.as_ptr(),
                crc = inout(reg) crc,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
    }
    for byte in rest {
        // SAFETY: the instruction changes `crc` alone; there is such an instruction, by the caller.
        unsafe {
            asm!(
                "crc32 {crc:e}, {byte}",
                byte = in(reg_byte) *byte,
                crc = inout(reg) crc,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }
    !(crc as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_polynomial_is_castagnolis() {
        // The check values of the CRC catalogue and of RFC 3720, B.4.
        for crc in [crc32c, by_table] {
            assert_eq!(crc(0, b""), 0);
            assert_eq!(crc(0, b"123456789"), 0xe306_9283);
            assert_eq!(crc(0, &[0; 32]), 0x8a91_36aa);
            assert_eq!(crc(0, &[0xff; 32]), 0x62a8_ab43);
        }
    }

    proptest! {
        #[test]
        fn both_ways_agree_wherever_the_bytes_are_cut(
            bytes in prop::collection::vec(any::<u8>(), 0..700), at in any::<prop::sample::Index>()
        ) {
            let (first, second) = bytes.split_at(at.index(bytes.len() + 1));
            let expected = CRC32C.checksum(&bytes);
            prop_assert_eq!(crc32c(crc32c(0, first), second), expected);
            prop_assert_eq!(by_table(by_table(0, first), second), expected);
        }
    }
}
