//! Return addresses to functions and source lines, by the debug information of the kernel ELF.

use std::path::Path;

use addr2line::Loader;
use anyhow::{Result, anyhow};

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The address of the instruction itself.
    Instruction,
    /// The address after a call; the call is what people want to see.
    Return,
}

/// One line for each function that was active at `address`, inlined ones first.
///
/// # Errors
/// If the file or its debug information cannot be read.
pub fn describe(kernel: &Path, address: u64, kind: Kind) -> Result<Vec<String>> {
    let loader = Loader::new(kernel).map_err(|error| anyhow!("{kernel:?}: {error}"))?;
    let probe = match kind {
        Kind::Instruction => address,
        Kind::Return => address.saturating_sub(1),
    };
    let mut frames = loader.find_frames(probe).map_err(|error| anyhow!("{kernel:?}: {error}"))?;
    let mut lines = Vec::new();
    while let Some(frame) = frames.next().map_err(|error| anyhow!("{kernel:?}: {error}"))? {
        let function = match &frame.function {
            Some(function) => function.demangle()?.into_owned(),
            None => "?".to_owned(),
        };
        let place = frame.location.and_then(|location| {
            let line = location.line.unwrap_or(0);
            location.file.map(|file| format!(" at {file}:{line}"))
        });
        lines.push(function + &place.unwrap_or_default());
    }
    if lines.is_empty() {
        let symbol = loader.find_symbol(probe).unwrap_or("?");
        lines.push(symbol.to_owned());
    }
    Ok(lines)
}

/// A whole backtrace as lines for people. An address that cannot be resolved is shown as it is.
pub fn backtrace(kernel: &Path, trace: &[u64], innermost: Kind) -> Vec<String> {
    let mut lines = Vec::new();
    for (depth, &address) in trace.iter().enumerate() {
        let kind = if depth == 0 { innermost } else { Kind::Return };
        let functions = describe(kernel, address, kind).unwrap_or_else(|error| vec![format!("? ({error})")]);
        for (inlined, function) in functions.iter().enumerate() {
            lines.push(match inlined {
                0 => format!("{depth:3}: {address:#018x} {function}"),
                _ => format!("{:23} {function}", ""),
            });
        }
    }
    lines
}

/// The addresses that a panicking kernel showed to a person: the indented lines after the last
/// `backtrace:`. Also says of what kind the first is: after an exception, whose registers are
/// shown, it is the instruction itself.
pub fn addresses_in(log: &str) -> (Vec<u64>, Kind) {
    let Some((before, after)) = log.rsplit_once("backtrace:") else {
        return (Vec::new(), Kind::Return);
    };
    let panic = before.rsplit_once("kernel panic:").map_or("", |(_, text)| text);
    let kind = if panic.lines().any(|line| line.starts_with("  at ")) { Kind::Return } else { Kind::Instruction };
    let addresses =
        after.lines().skip(1).map_while(|line| u64::from_str_radix(line.trim().strip_prefix("0x")?, 16).ok()).collect();
    (addresses, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test program stands in for the kernel. Unlike the kernel it is not loaded where its ELF
    /// says, but by some distance above, which the system knows.
    #[test]
    fn a_function_of_this_program_is_found_by_its_address() {
        let program = std::env::current_exe().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let lowest = maps.lines().find(|line| line.ends_with(program.to_str().unwrap())).unwrap();
        let loaded_at = u64::from_str_radix(lowest.split('-').next().unwrap(), 16).unwrap();
        let here = addresses_in as fn(&str) -> (Vec<u64>, Kind) as usize as u64;
        let lines = describe(&program, here - loaded_at, Kind::Instruction).unwrap();
        let found = lines.last().unwrap();
        assert!(found.starts_with("xtask::symbolise::addresses_in at "), "{found}");
        assert!(found.contains("symbolise.rs:"), "{found}");
    }

    #[test]
    fn addresses_are_read_from_a_log_for_people() {
        let log = "x\r\nkernel panic: why\r\n  at a.rs:1\r\nbacktrace:\r\n  0xff10\r\n  0x20\r\nend";
        assert_eq!(addresses_in(log), (vec![0xff10, 0x20], Kind::Return));
        let log = "kernel panic: page fault\nrip 0\nbacktrace:\n  0x30\n";
        assert_eq!(addresses_in(log), (vec![0x30], Kind::Instruction));
        assert_eq!(addresses_in("all is well").0, Vec::<u64>::new());
    }
}
