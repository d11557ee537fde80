//! Keys out of the bytes that a terminal sends: control characters, and the escape sequences of ECMA-48 terminals (xterm,
//! VT100, the Linux console).

/// A key, by what it means to a line editor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character of text, no control character.
    Text(char),
    /// Return.
    Enter,
    /// Tab.
    Tab,
    /// Backspace.
    Backspace,
    /// Delete, of the character under the cursor.
    Delete,
    /// Left arrow, Control-B.
    Left,
    /// Right arrow, Control-F.
    Right,
    /// Control-left, Alt-B.
    WordLeft,
    /// Control-right, Alt-F.
    WordRight,
    /// Home, Control-A.
    Home,
    /// End, Control-E.
    End,
    /// Up arrow, Control-P.
    Up,
    /// Down arrow, Control-N.
    Down,
    /// Control-U: everything before the cursor goes.
    KillBefore,
    /// Control-K: everything from the cursor on goes.
    KillAfter,
    /// Control-W: the word before the cursor goes.
    KillWord,
    /// Control-C.
    Cancel,
    /// Control-D.
    EndOfInput,
    /// Control-L.
    ClearScreen,
}

/// How far into an escape sequence the decoder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// After a carriage return: a newline belongs to it.
    Return,
    /// After ESC.
    Escape,
    /// After ESC O.
    Single,
    /// Within a UTF-8 character: what is there of it, and how much that is.
    Character { bytes: [u8; 4], have: u8 },
    /// After ESC [, with the numbers so far: the first, and the one after the last semicolon.
    Sequence { first: u8, last: u8 },
}

/// Turns bytes into keys, one byte at a time. What it does not know it swallows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    state: State,
}

impl Decoder {
    /// Takes the next byte; returns the key that it completes, if any.
    pub fn feed(&mut self, byte: u8) -> Option<Key> {
        match core::mem::take(&mut self.state) {
            State::Ground => self.ground(byte),
            State::Return if byte == b'\n' => None,
            State::Return => self.ground(byte),
            State::Escape => self.escape(byte),
            State::Single => Self::final_byte(byte, 0, 0),
            State::Sequence { first, last } => self.sequence(byte, first, last),
            State::Character { bytes, have } if byte & 0xc0 == 0x80 => self.character(bytes, have, byte),
            State::Character { .. } => self.ground(byte),
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x03 => Key::Cancel,
            0x04 => Key::EndOfInput,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x08 | 0x7f => Key::Backspace,
            b'\t' => Key::Tab,
            b'\n' => Key::Enter,
            0x0b => Key::KillAfter,
            0x0c => Key::ClearScreen,
            b'\r' => {
                self.state = State::Return;
                Key::Enter
            }
            0x0e => Key::Down,
            0x10 => Key::Up,
            0x15 => Key::KillBefore,
            0x17 => Key::KillWord,
            0x1b => {
                self.state = State::Escape;
                return None;
            }
            b' '..=b'~' => Key::Text(char::from(byte)),
            _ => return self.character([0; 4], 0, byte),
        })
    }

    /// Takes one byte of a UTF-8 character. What can become no character is dropped.
    fn character(&mut self, mut bytes: [u8; 4], have: u8, byte: u8) -> Option<Key> {
        *bytes.get_mut(usize::from(have))? = byte;
        let have = have + 1;
        match core::str::from_utf8(bytes.get(..usize::from(have))?) {
            Ok(text) => text.chars().next().filter(|c| !c.is_control()).map(Key::Text),
            Err(error) => {
                if error.error_len().is_none() {
                    self.state = State::Character { bytes, have };
                }
                None
            }
        }
    }

    fn escape(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' => self.state = State::Sequence { first: 0, last: 0 },
            b'O' => self.state = State::Single,
            0x1b => self.state = State::Escape,
            b'b' => return Some(Key::WordLeft),
            b'f' => return Some(Key::WordRight),
            // A control character is meant even after a stray ESC.
            byte if byte < b' ' => return self.ground(byte),
            _ => {}
        }
        None
    }

    fn sequence(&mut self, byte: u8, first: u8, last: u8) -> Option<Key> {
        match byte {
            b'0'..=b'9' => {
                let digit = |number: u8| number.saturating_mul(10).saturating_add(byte - b'0');
                // Until a semicolon both numbers are the same one.
                let first = if first == last { digit(first) } else { first };
                self.state = State::Sequence { first, last: digit(last) };
                None
            }
            b';' => {
                // 255 marks that the first number is complete; no key has that number.
                self.state = State::Sequence { first: if first == 0 { 255 } else { first }, last: 0 };
                None
            }
            b' '..=b'?' => {
                self.state = State::Sequence { first, last };
                None
            }
            byte if byte < b' ' => self.ground(byte),
            byte => Self::final_byte(byte, first, last),
        }
    }

    /// The key of a sequence that ends in `byte`. A second number of 5 is the Control key.
    fn final_byte(byte: u8, first: u8, last: u8) -> Option<Key> {
        let control = last == 5 && first != last;
        Some(match (byte, first) {
            (b'A', _) => Key::Up,
            (b'B', _) => Key::Down,
            (b'C', _) if control => Key::WordRight,
            (b'D', _) if control => Key::WordLeft,
            (b'C', _) => Key::Right,
            (b'D', _) => Key::Left,
            (b'H', _) | (b'~', 1 | 7) => Key::Home,
            (b'F', _) | (b'~', 4 | 8) => Key::End,
            (b'~', 3) => Key::Delete,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        bytes.iter().filter_map(|byte| decoder.feed(*byte)).collect()
    }

    #[test]
    fn sequences_of_common_terminals() {
        assert_eq!(keys(b"\x1b[A\x1bOB\x1b[C\x1b[D"), [Key::Up, Key::Down, Key::Right, Key::Left]);
        assert_eq!(keys(b"\x1b[H\x1bOF\x1b[1~\x1b[4~\x1b[3~"), [Key::Home, Key::End, Key::Home, Key::End, Key::Delete]);
        assert_eq!(
            keys(b"\x1b[1;5C\x1b[1;5D\x1bb\x1bf"),
            [Key::WordRight, Key::WordLeft, Key::WordLeft, Key::WordRight]
        );
    }

    #[test]
    fn a_line_end_is_one_key() {
        assert_eq!(
            keys(b"a\r\nb\rc\n\n"),
            [Key::Text('a'), Key::Enter, Key::Text('b'), Key::Enter, Key::Text('c'), Key::Enter, Key::Enter]
        );
    }

    #[test]
    fn unknown_sequences_leave_nothing_behind() {
        assert_eq!(keys(b"\x1b[200~\x1b[99999;99999;99999Zx"), [Key::Text('x')]);
        assert_eq!(keys(b"\x1b[15;\x03y"), [Key::Cancel, Key::Text('y')]);
        assert_eq!(keys("ü".as_bytes()), [Key::Text('ü')]);
        assert_eq!(keys(b"\xc3\x03\x80\xff\xf0\x9d\x84\x9eg"), [Key::Cancel, Key::Text('\u{1d11e}'), Key::Text('g')]);
    }
}
