//! Options and operands of a command, as getopt(3) reads them: `-la`, `-s 4K`, `-s4K`, `--` ends the options; options and
//! operands may be mixed.

use crate::text::Shown;
use alloc::vec::Vec;
use core::fmt;

/// What a command was called with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args<'a> {
    flags: Vec<u8>,
    values: Vec<(u8, &'a [u8])>,
    /// Everything that is no option, in order.
    pub operands: Vec<&'a [u8]>,
}

/// How a command was called wrongly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// There is no such option.
    UnknownOption(Vec<u8>),
    /// This option wants a value.
    NoValue(char),
    /// Something that the command cannot do without is missing.
    Missing(&'static str),
    /// There is one operand too many.
    Extra(Vec<u8>),
    /// A word is not what should stand in its place.
    Invalid {
        /// What should stand there.
        what: &'static str,
        /// What does.
        word: Vec<u8>,
    },
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOption(option) => write!(f, "{}: unknown option", Shown(option)),
            Self::NoValue(option) => write!(f, "-{option}: the option needs a value"),
            Self::Missing(what) => write!(f, "missing {what}"),
            Self::Extra(operand) => write!(f, "{}: one operand too many", Shown(operand)),
            Self::Invalid { what, word } => write!(f, "{}: invalid {what}", Shown(word)),
        }
    }
}

impl core::error::Error for UsageError {}

impl<'a> Args<'a> {
    /// Sorts `words`, the command's name left out. `known` lists the options' letters; a colon after one says that it has a value.
    pub fn parse(words: &'a [Vec<u8>], known: &str) -> Result<Self, UsageError> {
        let mut args = Self::default();
        let mut words = words.iter().map(Vec::as_slice);
        while let Some(word) = words.next() {
            match word {
                b"--" => args.operands.extend(words.by_ref()),
                [b'-', letters @ ..] if !letters.is_empty() => args.take(word, letters, known, &mut words)?,
                operand => args.operands.push(operand),
            }
        }
        Ok(args)
    }

    /// Takes the options of one word.
    fn take(
        &mut self,
        word: &[u8],
        mut letters: &'a [u8],
        known: &str,
        words: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), UsageError> {
        while let Some((&letter, rest)) = letters.split_first() {
            let known = known.as_bytes();
            let at = known.iter().position(|one| *one == letter && letter != b':');
            let at = at.ok_or_else(|| UsageError::UnknownOption(word.to_vec()))?;
            if known.get(at + 1) != Some(&b':') {
                self.flags.push(letter);
                letters = rest;
                continue;
            }
            let value = if rest.is_empty() { words.next() } else { Some(rest) };
            self.values.push((letter, value.ok_or(UsageError::NoValue(char::from(letter)))?));
            return Ok(());
        }
        Ok(())
    }

    /// Whether the option `flag` was given.
    pub fn has(&self, flag: char) -> bool {
        self.flags.iter().any(|one| char::from(*one) == flag)
    }

    /// The value that the option `flag` was given last.
    pub fn value(&self, flag: char) -> Option<&'a [u8]> {
        self.values.iter().rev().find(|(one, _)| char::from(*one) == flag).map(|(_, value)| *value)
    }

    /// All operands, of which there must be one; `what` names it.
    pub fn some(&self, what: &'static str) -> Result<&[&'a [u8]], UsageError> {
        if self.operands.is_empty() { Err(UsageError::Missing(what)) } else { Ok(&self.operands) }
    }

    /// Exactly as many operands as `names` names.
    pub fn exactly<const N: usize>(&self, names: [&'static str; N]) -> Result<[&'a [u8]; N], UsageError> {
        if let Some(extra) = self.operands.get(N) {
            return Err(UsageError::Extra(extra.to_vec()));
        }
        let found: Result<[&[u8]; N], _> = self.operands.as_slice().try_into();
        found.map_err(|_| UsageError::Missing(names.get(self.operands.len()).copied().unwrap_or("operand")))
    }

    /// One operand, or none.
    pub fn at_most_one(&self) -> Result<Option<&'a [u8]>, UsageError> {
        match self.operands.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            [_, extra, ..] => Err(UsageError::Extra(extra.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Vec<u8>> {
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn options_and_operands_are_told_apart() {
        let words = words("-la a -s 4K b -s8K -- -x -");
        let args = Args::parse(&words, "lars:").expect("parses");
        assert!(args.has('l') && args.has('a') && !args.has('r'));
        assert_eq!(args.value('s'), Some(&b"8K"[..]));
        assert_eq!(args.operands, [&b"a"[..], b"b", b"-x", b"-"]);
    }

    #[test]
    fn wrong_calls_are_refused() {
        let parse = |line: &str| Args::parse(&words(line), "ls:").map(|_| ());
        assert_eq!(parse("-lx"), Err(UsageError::UnknownOption(b"-lx".to_vec())));
        assert_eq!(parse("-:"), Err(UsageError::UnknownOption(b"-:".to_vec())));
        assert_eq!(parse("a -s"), Err(UsageError::NoValue('s')));
        let words = words("a b c");
        let args = Args::parse(&words, "").expect("parses");
        assert_eq!(args.exactly(["source", "target"]), Err(UsageError::Extra(b"c".to_vec())));
        assert_eq!(args.exactly(["1", "2", "3", "4"]), Err(UsageError::Missing("4")));
    }
}
