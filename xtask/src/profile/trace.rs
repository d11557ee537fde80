//! The trace that QEMU writes, followed through calls and returns.
//!
//! With one instruction to a block, a line of the trace is an instruction. Which of them are calls is read from the kernel's own
//! bytes; a return is known by where it leads: just behind a call that is under way. Whatever else changes the flow (tail calls,
//! interrupts) leaves the calls under way as they are.

use std::collections::HashMap;
use std::io::BufRead;

use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::abi::{PF_X, PT_LOAD};
use elf::endian::LittleEndian;

/// The longest call instruction.
const LONGEST_CALL: u64 = 8;
/// How many calls one return may leave: more than one if a function that was called did not come back.
const DEEPEST: usize = 64;

/// What an instruction does to the calls under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Call,
    Return,
    Other,
}

/// The kernel's instructions, by address.
pub struct Code(Vec<(u64, Vec<u8>)>);

impl Code {
    /// Takes them out of its ELF.
    pub fn of(elf: &[u8]) -> Result<Code> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(elf).context("the kernel is no ELF")?;
        let segments = file.segments().context("the kernel has no segments")?;
        let code = segments.iter().filter(|segment| segment.p_type == PT_LOAD && segment.p_flags & PF_X != 0);
        code.map(|segment| Ok((segment.p_vaddr, file.segment_data(&segment)?.to_vec())))
            .collect::<Result<_>>()
            .map(Code)
    }

    fn step(&self, pc: u64) -> Step {
        let bytes =
            self.0.iter().find_map(|(start, bytes)| bytes.get(usize::try_from(pc.checked_sub(*start)?).ok()?..));
        let mut bytes = bytes.unwrap_or_default().iter();
        // Prefixes that calls and returns are found with: REX, sizes, segments without meaning, repetition.
        let opcode = bytes.find(|byte| !matches!(byte, 0x40..=0x4f | 0x66 | 0x67 | 0x2e | 0x3e | 0xf2 | 0xf3));
        match (opcode, bytes.next()) {
            (Some(0xe8), _) => Step::Call,
            // Near and indirect: /2 of the group.
            (Some(0xff), Some(operand)) if operand >> 3 & 7 == 2 => Step::Call,
            (Some(0xc2 | 0xc3), _) => Step::Return,
            _ => Step::Other,
        }
    }
}

/// Calls under way: from where the innermost was made, and those around it. The first is none.
#[derive(Clone, Copy, Debug)]
struct Call {
    site: u64,
    around: usize,
}

/// A walk along a trace, and what was counted on the way.
pub struct Walk {
    code: Code,
    steps: HashMap<u64, Step>,
    calls: Vec<Call>,
    known: HashMap<(usize, u64), usize>,
    /// The innermost call under way.
    now: usize,
    last: Option<u64>,
    counts: HashMap<(usize, u64), u64>,
}

impl Walk {
    /// A walk that begins in the middle: who called is not known.
    pub fn new(code: Code) -> Walk {
        let calls = vec![Call { site: 0, around: 0 }];
        Walk { code, steps: HashMap::new(), calls, known: HashMap::new(), now: 0, last: None, counts: HashMap::new() }
    }

    /// Follows a trace to its end.
    pub fn follow(&mut self, mut trace: impl BufRead) -> Result<()> {
        let mut line = Vec::new();
        while trace.read_until(b'\n', &mut line).context("the trace breaks off")? > 0 {
            if let Some(pc) = address(&line) {
                self.enter(pc);
            }
            line.clear();
        }
        Ok(())
    }

    /// The next instruction is that at `pc`.
    fn enter(&mut self, pc: u64) {
        if let Some(last) = self.last {
            let code = &self.code;
            match self.steps.entry(last).or_insert_with(|| code.step(last)) {
                // An interrupt can come between a call and what is called: the same instruction is then met again.
                Step::Call if pc != last => self.call(last),
                Step::Return => self.come_back(pc),
                _ => {}
            }
        }
        self.last = Some(pc);
        *self.counts.entry((self.now, pc)).or_default() += 1;
    }

    fn call(&mut self, site: u64) {
        let calls = &mut self.calls;
        self.now = *self.known.entry((self.now, site)).or_insert_with_key(|&(around, site)| {
            calls.push(Call { site, around });
            calls.len() - 1
        });
    }

    fn come_back(&mut self, pc: u64) {
        let mut at = self.now;
        for _ in 0..DEEPEST {
            let Some(call) = self.calls.get(at).filter(|_| at > 0) else { break };
            if (1..=LONGEST_CALL).contains(&pc.wrapping_sub(call.site)) {
                self.now = call.around;
                return;
            }
            at = call.around;
        }
        if at == 0 {
            // It came back to somebody who called before the trace began.
            self.now = 0;
        }
    }

    /// What was counted: how often which instruction, and from where the calls under way were made, the outermost first.
    pub fn counts(&self) -> impl Iterator<Item = (Vec<u64>, u64, u64)> {
        self.counts.iter().map(|(&(innermost, pc), &count)| {
            let mut sites = Vec::new();
            let mut at = innermost;
            while let Some(call) = self.calls.get(at).filter(|_| at > 0) {
                sites.push(call.site);
                at = call.around;
            }
            sites.reverse();
            (sites, pc, count)
        })
    }
}

/// The address in a line such as `Trace 0: 0x7f2a14000100 [00000000/ffffffff80001234/0040c0b0/ff000201]`.
fn address(line: &[u8]) -> Option<u64> {
    let line = str::from_utf8(line).ok()?;
    let mut fields = line.strip_prefix("Trace ")?.split_once('[')?.1.split('/');
    u64::from_str_radix(fields.nth(1)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0x1000;

    /// A walk over code that has `pieces` at such distances from its start, along the instructions at such distances.
    fn walk(pieces: &[(usize, &[u8])], along: &[u64]) -> Vec<(Vec<u64>, u64, u64)> {
        let mut bytes = vec![0x90; 0x100];
        for (at, piece) in pieces {
            bytes[*at..at + piece.len()].copy_from_slice(piece);
        }
        let mut walk = Walk::new(Code(vec![(START, bytes)]));
        let trace: String = along.iter().map(|at| format!("Trace 0: 0x7f [0/{:x}/0/0] \n", START + at)).collect();
        walk.follow(trace.as_bytes()).unwrap();
        let mut counts: Vec<_> = walk
            .counts()
            .map(|(sites, pc, count)| (sites.iter().map(|site| site - START).collect(), pc - START, count))
            .collect();
        counts.sort();
        counts
    }

    #[test]
    fn calls_and_returns_are_followed() {
        let code: &[(usize, &[u8])] =
            &[(0, &[0xe8, 0, 0, 0, 0]), (0x20, &[0x41, 0xff, 0x54, 0x24, 8]), (0x60, &[0xc3])];
        // Calls 0x20, which calls 0x60 by a pointer; both come back.
        let counts = walk(code, &[0, 0x20, 0x60, 0x25, 0x26, 0x60, 5, 6, 6]);
        assert_eq!(
            counts,
            [
                (vec![], 0, 1),
                (vec![], 5, 1),
                (vec![], 6, 2),
                (vec![0], 0x20, 1),
                (vec![0], 0x25, 1),
                (vec![0], 0x26, 1),
                (vec![0], 0x60, 1),
                (vec![0, 0x20], 0x60, 1),
            ]
        );
    }

    #[test]
    fn a_return_may_leave_several_calls_or_lead_before_the_trace() {
        let code: &[(usize, &[u8])] = &[(0, &[0xe8]), (0x20, &[0xe8]), (0x40, &[0xf3, 0xc3])];
        assert!(walk(code, &[0, 0x20, 0x40, 5]).contains(&(vec![], 5, 1)));
        assert!(walk(code, &[0, 0x20, 0x40, 0x90]).contains(&(vec![], 0x90, 1)));
    }

    #[test]
    fn what_is_no_instruction_is_passed_over() {
        assert_eq!(
            address(b"Trace 0: 0x7f [00000000/ffffffff80001234/0040c0b0/ff000201] \n"),
            Some(0xffff_ffff_8000_1234)
        );
        assert_eq!(address(b"Stopped execution of TB chain before 0x7f [ffffffff80001234]"), None);
        assert_eq!(address(b"\xff"), None);
    }
}
