//! Removes from an ELF what a loader does not need: debug information and symbols.
//!
//! The kernel is embedded in the boot stage, and its debug information would be ten times its
//! size. Program headers and loaded bytes stay as and where they are; of the sections those
//! remain that are loaded, because the boot stage finds the kernel's configuration by its
//! section's name. Layouts: ELF-64 Object File Format, version 1.5, figures 2, 5 and 9.

use std::fmt;

const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SECTION_HEADER: usize = 64;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const SHF_ALLOC: u64 = 2;
const SHT_NOBITS: u32 = 8;

/// Why a file could not be stripped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StripError {
    /// Not an ELF of 64 bits, little endian.
    NotElf64,
    /// A header points beyond the end of the file.
    Truncated,
}

impl fmt::Display for StripError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StripError::NotElf64 => "not a 64-bit little-endian ELF",
            StripError::Truncated => "a header points beyond the end of the file",
        })
    }
}

impl std::error::Error for StripError {}

/// Gives a copy of `elf` without what is not loaded.
///
/// # Errors
/// See [`StripError`].
pub fn strip(elf: &[u8]) -> Result<Vec<u8>, StripError> {
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err(StripError::NotElf64);
    }
    let names = section(elf, u16_at(elf, 62)?.into())?;
    let mut sections = vec![[0; SECTION_HEADER].to_vec()];
    let mut strings = vec![0];
    for index in 1..usize::from(u16_at(elf, 60)?) {
        let header = section(elf, index)?;
        if u64_at(header, 8)? & SHF_ALLOC == 0 {
            continue;
        }
        let name = name_of(elf, names, header)?;
        sections.push(renamed(header, strings.len())?);
        strings.extend(name);
        strings.push(0);
    }
    let mut out = slice(elf, 0, loaded_end(elf)?)?.to_vec();
    let own_name = strings.len();
    strings.extend(b".shstrtab\0");
    let strings_at = out.len();
    out.extend(&strings);
    out.resize(out.len().next_multiple_of(8), 0);
    let headers_at = out.len();
    let mut own = renamed(names, own_name)?;
    put(&mut own, 24, &(strings_at as u64).to_le_bytes())?;
    put(&mut own, 32, &(strings.len() as u64).to_le_bytes())?;
    sections.push(own);
    out.extend(sections.concat());
    let count = u16::try_from(sections.len()).map_err(|_| StripError::Truncated)?;
    put(&mut out, 40, &(headers_at as u64).to_le_bytes())?;
    put(&mut out, 60, &count.to_le_bytes())?;
    put(&mut out, 62, &(count - 1).to_le_bytes())?;
    Ok(out)
}

/// The end of the last byte that any program header or loaded section speaks of.
fn loaded_end(elf: &[u8]) -> Result<usize, StripError> {
    let table = usize_at(elf, 32)?;
    let count = usize::from(u16_at(elf, 56)?);
    let mut end = FILE_HEADER.max(add(table, count * PROGRAM_HEADER)?);
    for index in 0..count {
        let header = slice(elf, add(table, index * PROGRAM_HEADER)?, PROGRAM_HEADER)?;
        if matches!(u32_at(header, 0)?, PT_LOAD | PT_NOTE) {
            end = end.max(add(usize_at(header, 8)?, usize_at(header, 32)?)?);
        }
    }
    for index in 1..usize::from(u16_at(elf, 60)?) {
        let header = section(elf, index)?;
        if u64_at(header, 8)? & SHF_ALLOC != 0 && u32_at(header, 4)? != SHT_NOBITS {
            end = end.max(add(usize_at(header, 24)?, usize_at(header, 32)?)?);
        }
    }
    Ok(end)
}

fn section(elf: &[u8], index: usize) -> Result<&[u8], StripError> {
    let at = add(usize_at(elf, 40)?, index * SECTION_HEADER)?;
    slice(elf, at, SECTION_HEADER)
}

fn name_of<'a>(elf: &'a [u8], names: &[u8], header: &[u8]) -> Result<&'a [u8], StripError> {
    let table = slice(elf, usize_at(names, 24)?, usize_at(names, 32)?)?;
    let start = u32_at(header, 0)? as usize;
    let name = table.get(start..).ok_or(StripError::Truncated)?;
    Ok(name.split(|&byte| byte == 0).next().unwrap_or_default())
}

/// A section header with another name, and no links to sections that are gone.
fn renamed(header: &[u8], name: usize) -> Result<Vec<u8>, StripError> {
    let name = u32::try_from(name).map_err(|_| StripError::Truncated)?;
    let mut header = header.to_vec();
    put(&mut header, 0, &name.to_le_bytes())?;
    put(&mut header, 40, &[0; 8])?;
    Ok(header)
}

fn slice(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], StripError> {
    bytes.get(at..add(at, len)?).ok_or(StripError::Truncated)
}

fn add(a: usize, b: usize) -> Result<usize, StripError> {
    a.checked_add(b).ok_or(StripError::Truncated)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Result<(), StripError> {
    let place = bytes.get_mut(at..add(at, value.len())?);
    place.ok_or(StripError::Truncated)?.copy_from_slice(value);
    Ok(())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], StripError> {
    slice(bytes, at, N)?.try_into().map_err(|_| StripError::Truncated)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, StripError> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, StripError> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, StripError> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn usize_at(bytes: &[u8], at: usize) -> Result<usize, StripError> {
    usize::try_from(u64_at(bytes, at)?).map_err(|_| StripError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_program() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    /// Names, addresses and contents of the loaded sections.
    fn loaded_sections(elf: &[u8]) -> Vec<(Vec<u8>, u64, Vec<u8>)> {
        let names = section(elf, u16_at(elf, 62).unwrap().into()).unwrap();
        (1..usize::from(u16_at(elf, 60).unwrap()))
            .map(|index| section(elf, index).unwrap())
            .filter(|header| u64_at(header, 8).unwrap() & SHF_ALLOC != 0)
            .map(|header| {
                let bytes = match u32_at(header, 4).unwrap() {
                    SHT_NOBITS => &[],
                    _ => {
                        let at = usize_at(header, 24).unwrap();
                        slice(elf, at, usize_at(header, 32).unwrap()).unwrap()
                    }
                };
                let name = name_of(elf, names, header).unwrap();
                (name.to_vec(), u64_at(header, 16).unwrap(), bytes.to_vec())
            })
            .collect()
    }

    #[test]
    fn what_is_loaded_stays_and_the_rest_goes() {
        let whole = own_program();
        let small = strip(&whole).unwrap();
        assert!(small.len() < whole.len() / 2, "{} of {}", small.len(), whole.len());
        let kept = loaded_sections(&small);
        assert!(kept.iter().any(|(name, ..)| name == b".text"));
        assert_eq!(kept, loaded_sections(&whole));
        let end = loaded_end(&whole).unwrap();
        let changed = (0..end).filter(|&at| whole[at] != small[at]);
        assert!(changed.into_iter().all(|at| (40..64).contains(&at)));
        assert_eq!(strip(&small).unwrap(), small);
    }

    #[test]
    fn damaged_files_are_refused() {
        assert_eq!(strip(b"#!/bin/sh"), Err(StripError::NotElf64));
        let whole = own_program();
        for len in [6, 63, 64, 100, 5000, whole.len() - 1] {
            assert_eq!(strip(&whole[..len]), Err(StripError::Truncated), "{len}");
        }
    }
}
