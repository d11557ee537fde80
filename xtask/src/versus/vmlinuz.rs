//! The ELF inside Debian's vmlinuz, which QEMU can enter by PVH as it enters Holdover.
//!
//! Layouts: Linux, Documentation/arch/x86/boot.rst (the setup header) and lib/decompress_unlz4.c (LZ4's legacy frames); LZ4, doc/lz4_Block_format.md.

use anyhow::{Context, Result, bail};

/// Where the setup header says how many sectors of code come first, where behind them the packed kernel is, and how long.
const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD: usize = 0x248;
const PAYLOAD_LEN: usize = 0x24c;
const SECTOR: usize = 512;
const LZ4_LEGACY: u32 = 0x184c_2102;
/// The most that one block has, unpacked.
const BLOCK: usize = 8 << 20;
/// No kernel is larger.
const MOST: usize = 512 << 20;
/// A match is at least so long.
const SHORTEST: usize = 4;

/// Unpacks it.
pub fn kernel(file: &[u8]) -> Result<Vec<u8>> {
    let sectors = *file.get(SETUP_SECTORS).context("the kernel is cut off")?;
    let start = (usize::from(sectors) + 1) * SECTOR + u32_at(file, PAYLOAD)? as usize;
    let packed = file.get(start..start + u32_at(file, PAYLOAD_LEN)? as usize).context("the kernel is cut off")?;
    if u32_at(packed, 0)? != LZ4_LEGACY {
        bail!("the kernel is packed by something else than LZ4");
    }
    // What follows the last block is the length.
    let end = packed.len().saturating_sub(4);
    let (mut at, mut kernel) = (4, Vec::new());
    while at < end {
        let len = u32_at(packed, at)? as usize;
        at += 4;
        let block = packed.get(at..at + len).context("a block is cut off")?;
        unpack(block, &mut kernel)?;
        at += len;
    }
    if !kernel.starts_with(b"\x7fELF") || kernel.len() != u32_at(packed, end)? as usize {
        bail!("what was unpacked is no ELF of the length that it should have");
    }
    Ok(kernel)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).context("the kernel is cut off")?;
    Ok(u32::from_le_bytes(*word))
}

/// Unpacks one block onto the end of `out`.
fn unpack(block: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut rest = block.iter().copied();
    let begin = out.len();
    while let Some(token) = rest.next() {
        let literals = length(token >> 4, &mut rest)?;
        let taken = out.len();
        out.extend(rest.by_ref().take(literals));
        if out.len() - taken < literals {
            bail!("a block ends within literals");
        }
        // The last sequence has no match.
        let Some(low) = rest.next() else { break };
        let offset = usize::from(u16::from_le_bytes([low, rest.next().context("a block ends within an offset")?]));
        let len = length(token & 15, &mut rest)? + SHORTEST;
        if offset == 0 || offset > out.len() - begin || out.len() - begin + len > BLOCK || out.len() > MOST {
            bail!("a match lies outside its block");
        }
        // A match may reach into itself.
        for from in out.len() - offset..out.len() - offset + len {
            out.push(out[from]);
        }
    }
    Ok(())
}

/// A length that begins in a token, and goes on as long as bytes are full.
fn length(begun: u8, rest: &mut impl Iterator<Item = u8>) -> Result<usize> {
    let mut length = usize::from(begun);
    if begun == 15 {
        loop {
            let more = rest.next().context("a block ends within a length")?;
            length += usize::from(more);
            if more < 255 {
                break;
            }
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vmlinuz of one block, with the length that it says it has.
    fn packed(block: &[u8], len: u32) -> Vec<u8> {
        let mut file = vec![0; 2 * SECTOR];
        file[SETUP_SECTORS] = 1;
        file[PAYLOAD_LEN..PAYLOAD_LEN + 4].copy_from_slice(&(block.len() as u32 + 12).to_le_bytes());
        for part in [&LZ4_LEGACY.to_le_bytes()[..], &(block.len() as u32).to_le_bytes(), block, &len.to_le_bytes()] {
            file.extend(part);
        }
        file
    }

    #[test]
    fn literals_and_matches_that_reach_into_themselves_are_unpacked() {
        // Five literals and a match of 4 + 15 + 2 bytes two back; then one literal.
        let block = b"\x5f\x7fELFx\x02\x00\x02\x10y";
        let kernel = kernel(&packed(block, 27)).unwrap();
        assert_eq!(kernel, b"\x7fELFxFxFxFxFxFxFxFxFxFxFxFy"[..27].to_vec());
    }

    #[test]
    fn what_is_damaged_is_refused() {
        for (block, len) in [
            (&b"\x5f\x7fELFx\x02\x00\x02\x10y"[..], 26),
            (b"\x5f\x7fELFx\x06\x00\x02\x10y", 27),
            (b"\x5f\x7fELFx\x00\x00\x02\x10y", 27),
            (b"\x5f\x7fELFx\x02", 5),
            (b"\x5f\x7fELFx\x02\x00\xff", 300),
            (b"\xf0\x01\x7fELF", 16),
        ] {
            assert!(kernel(&packed(block, len)).is_err(), "{block:?}");
        }
        assert!(kernel(b"short").is_err());
    }
}
