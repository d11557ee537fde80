//! Permission bits: `chmod`'s argument, and the ten letters of `ls -l`.

use core::fmt;

/// Why a word says nothing about permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeError;

impl fmt::Display for ModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid mode (wanted: octal such as 644, or changes such as u+x,go-w)")
    }
}

impl core::error::Error for ModeError {}

/// The bits that `old` has after the change that `word` describes: octal, or a list of `[ugoa...][+-=][rwxst...]`
/// (POSIX chmod, without X and copied permissions; without `ugoa` all three are meant, there is no umask here).
pub fn change(old: u16, word: &[u8]) -> Result<u16, ModeError> {
    if !word.is_empty() && word.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        let mode = word.iter().try_fold(0u16, |mode, digit| mode.checked_mul(8)?.checked_add(u16::from(digit - b'0')));
        return mode.filter(|mode| *mode <= 0o7777).ok_or(ModeError);
    }
    word.split(|byte| *byte == b',').try_fold(old, clause)
}

/// Apply one `[ugoa...][+-=][rwxst...]`.
fn clause(old: u16, clause: &[u8]) -> Result<u16, ModeError> {
    let at = clause.iter().position(|byte| b"+-=".contains(byte)).ok_or(ModeError)?;
    let (who, change) = clause.split_at(at);
    let (operator, letters) = change.split_first().ok_or(ModeError)?;
    let mut classes = who.iter().try_fold(0u16, |classes, letter| {
        Ok(classes
            | match letter {
                b'u' => 0o4700,
                b'g' => 0o2070,
                b'o' => 0o1007,
                b'a' => 0o7777,
                _ => return Err(ModeError),
            })
    })?;
    if who.is_empty() {
        classes = 0o7777;
    }
    let bits = letters.iter().try_fold(0u16, |bits, letter| {
        Ok(bits
            | match letter {
                b'r' => 0o444 & classes,
                b'w' => 0o222 & classes,
                b'x' => 0o111 & classes,
                b's' => 0o6000 & classes,
                b't' => 0o1000,
                _ => return Err(ModeError),
            })
    })?;
    Ok(match operator {
        b'+' => old | bits,
        b'-' => old & !bits,
        _ => (old & !(classes & 0o0777)) | bits,
    })
}

/// Shows permission bits as `ls -l` does after the letter for the type: `rwxr-xr-x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letters(pub u16);

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = self.0;
        for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
            let execute = mode >> shift & 1 != 0;
            let last = match (mode & special != 0, execute) {
                (true, true) => letter,
                (true, false) => letter.to_ascii_uppercase(),
                (false, true) => 'x',
                (false, false) => '-',
            };
            let read = if mode >> shift & 4 != 0 { 'r' } else { '-' };
            let write = if mode >> shift & 2 != 0 { 'w' } else { '-' };
            write!(f, "{read}{write}{last}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn modes_change_as_chmod_does() {
        for (old, word, new) in [
            (0o644, "755", 0o755),
            (0o644, "4755", 0o4755),
            (0o644, "u+x", 0o744),
            (0o644, "+x", 0o755),
            (0o777, "go-w", 0o755),
            (0o777, "o=", 0o770),
            (0o644, "a=r,u+w", 0o644),
            (0o755, "u+s,+t", 0o5755),
            (0o640, "g=rw", 0o660),
        ] {
            assert_eq!(change(old, word.as_bytes()), Ok(new), "{old:o} {word}");
        }
        for word in ["", "8", "77777", "177777777777", "u", "z+x", "u+z", "u+x,", "-1"] {
            assert_eq!(change(0o644, word.as_bytes()), Err(ModeError), "{word}");
        }
    }

    #[test]
    fn modes_are_shown_as_ls_does() {
        assert_eq!(format!("{}", Letters(0o755)), "rwxr-xr-x");
        assert_eq!(format!("{}", Letters(0o1777)), "rwxrwxrwt");
        assert_eq!(format!("{}", Letters(0o6640)), "rwSr-S---");
    }
}
