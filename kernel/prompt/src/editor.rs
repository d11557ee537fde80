//! The line editor: a line, a cursor, a history, and what to send to the terminal after each key.
//!
//! Nobody tells a serial line how wide the terminal is, so the editor draws within the first [`WIDTH`] columns and scrolls a
//! longer line sideways. A line has at most [`MAX_LINE`] bytes and the history [`MAX_HISTORY`] lines; what is too much rings the
//! bell.

use crate::keys::Key;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Columns that are used.
pub const WIDTH: usize = 80;
/// The longest line, in bytes.
pub const MAX_LINE: usize = 4096;
/// Lines that are remembered.
pub const MAX_HISTORY: usize = 64;

/// What a key led to, beyond a change of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The line is finished.
    Line(Vec<u8>),
    /// The line was given up.
    Cancelled,
    /// The end of all input.
    End,
    /// The word before the cursor is to be completed.
    Complete,
}

/// A line that is being edited. Each call appends to `screen` what the terminal needs to show the result.
#[derive(Debug, Default)]
pub struct Editor {
    prompt: Vec<u8>,
    line: Vec<u8>,
    /// Where in the line the cursor is, in bytes, never inside a character.
    cursor: usize,
    /// The first byte that is shown.
    first: usize,
    history: VecDeque<Vec<u8>>,
    /// How many lines back in the history the line comes from; 0 for a new line.
    back: usize,
    /// The new line, while an old one is shown.
    draft: Vec<u8>,
}

/// Characters are counted by their first bytes (RFC 3629: 10xxxxxx goes on).
fn begins_character(byte: u8) -> bool {
    byte & 0xc0 != 0x80
}

fn columns(text: &[u8]) -> usize {
    text.iter().filter(|byte| begins_character(**byte)).count()
}

impl Editor {
    /// Begins a new line after `prompt`.
    pub fn begin(&mut self, prompt: &[u8], screen: &mut Vec<u8>) {
        self.prompt.clear();
        self.prompt.extend_from_slice(prompt);
        self.line.clear();
        self.draft.clear();
        (self.cursor, self.first, self.back) = (0, 0, 0);
        self.redraw(screen);
    }

    /// What stands before the cursor.
    pub fn before_cursor(&self) -> &[u8] {
        self.line.get(..self.cursor).unwrap_or_default()
    }

    /// Puts `text` in place of everything from byte `start` to the cursor.
    pub fn replace(&mut self, start: usize, text: &[u8], screen: &mut Vec<u8>) {
        let start = start.min(self.cursor);
        if self.line.len() - (self.cursor - start) + text.len() > MAX_LINE {
            screen.push(b'\x07');
            return;
        }
        self.line.splice(start..self.cursor, text.iter().copied());
        self.cursor = start + text.len();
        self.redraw(screen);
    }

    /// Does what `key` asks for.
    pub fn key(&mut self, key: Key, screen: &mut Vec<u8>) -> Option<Action> {
        match key {
            Key::Text(c) => {
                self.insert(c, screen);
                return None;
            }
            Key::Enter => return Some(self.finish(screen)),
            Key::Tab => return Some(Action::Complete),
            Key::Cancel => {
                screen.extend_from_slice(b"^C\n");
                return Some(Action::Cancelled);
            }
            Key::EndOfInput if self.line.is_empty() => {
                screen.push(b'\n');
                return Some(Action::End);
            }
            Key::Backspace => self.remove(self.left_of(self.cursor), self.cursor),
            Key::Delete | Key::EndOfInput => self.remove(self.cursor, self.right_of(self.cursor)),
            Key::KillBefore => self.remove(0, self.cursor),
            Key::KillAfter => self.remove(self.cursor, self.line.len()),
            Key::KillWord => self.remove(self.word_left(), self.cursor),
            Key::Left => self.cursor = self.left_of(self.cursor),
            Key::Right => self.cursor = self.right_of(self.cursor),
            Key::WordLeft => self.cursor = self.word_left(),
            Key::WordRight => self.cursor = self.word_right(),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.line.len(),
            Key::Up => self.recall(self.back.saturating_add(1)),
            Key::Down => self.recall(self.back.saturating_sub(1)),
            Key::ClearScreen => screen.extend_from_slice(b"\x1b[H\x1b[2J"),
        }
        self.redraw(screen);
        None
    }

    /// Draws prompt and line anew, over what stands in the terminal's line.
    pub fn redraw(&mut self, screen: &mut Vec<u8>) {
        let room = self.room();
        self.first = self.first.min(self.cursor);
        let mut before = columns(self.shown(self.cursor));
        // A third at a time, so that not every further key moves the whole line.
        let keep = if before < room { before } else { room - room / 3 };
        while before > keep {
            self.first = self.right_of(self.first);
            before -= 1;
        }
        let mut end = self.first;
        for _ in 0..room {
            end = self.right_of(end);
        }
        screen.push(b'\r');
        screen.extend_from_slice(&self.prompt);
        screen.extend_from_slice(self.shown(end));
        screen.extend_from_slice(b"\x1b[K");
        // Cursor left, one column each; never more than the width of the line.
        for _ in before..columns(self.shown(end)) {
            screen.push(b'\x08');
        }
    }

    /// Columns for the line: one less than there are, so that the terminal never wraps.
    fn room(&self) -> usize {
        (WIDTH - 1).saturating_sub(columns(&self.prompt)).max(16)
    }

    /// The line from the first byte that is shown up to `end`.
    fn shown(&self, end: usize) -> &[u8] {
        self.line.get(self.first..end).unwrap_or_default()
    }

    fn insert(&mut self, c: char, screen: &mut Vec<u8>) {
        let mut bytes = [0; 4];
        let text = c.encode_utf8(&mut bytes).as_bytes();
        if self.line.len() + text.len() > MAX_LINE {
            screen.push(b'\x07');
            return;
        }
        let at_end = self.cursor == self.line.len();
        self.line.splice(self.cursor..self.cursor, text.iter().copied());
        self.cursor += text.len();
        if at_end && columns(self.shown(self.cursor)) < self.room() {
            screen.extend_from_slice(text);
        } else {
            self.redraw(screen);
        }
    }

    fn remove(&mut self, start: usize, end: usize) {
        self.line.drain(start..end);
        self.cursor = start;
    }

    fn finish(&mut self, screen: &mut Vec<u8>) -> Action {
        screen.push(b'\n');
        let line = core::mem::take(&mut self.line);
        if !line.trim_ascii().is_empty() && self.history.back() != Some(&line) {
            if self.history.len() == MAX_HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(line.clone());
        }
        Action::Line(line)
    }

    /// Shows the line `back` lines ago, if there is one.
    fn recall(&mut self, back: usize) {
        if back > self.history.len() || back == self.back {
            return;
        }
        if self.back == 0 {
            self.draft = core::mem::take(&mut self.line);
        }
        self.back = back;
        let old = self.history.len().checked_sub(back).and_then(|at| self.history.get(at));
        self.line = old.cloned().unwrap_or_else(|| core::mem::take(&mut self.draft));
        (self.cursor, self.first) = (self.line.len(), 0);
    }

    /// Where the character before byte `at` begins.
    fn left_of(&self, at: usize) -> usize {
        let before = self.line.get(..at).unwrap_or_default();
        before.iter().rposition(|byte| begins_character(*byte)).unwrap_or(0)
    }

    /// Where the character at byte `at` ends.
    fn right_of(&self, at: usize) -> usize {
        let after = self.line.get(at.saturating_add(1)..).unwrap_or_default();
        let length = after.iter().position(|byte| begins_character(*byte)).unwrap_or(after.len());
        at.saturating_add(1 + length).min(self.line.len())
    }

    /// Where the word that ends before the cursor begins.
    fn word_left(&self) -> usize {
        let end = self.before_cursor().trim_ascii_end();
        end.iter().rposition(u8::is_ascii_whitespace).map_or(0, |space| space + 1)
    }

    /// Where the word that begins after the cursor ends.
    fn word_right(&self) -> usize {
        let after = self.line.get(self.cursor..).unwrap_or_default();
        let blanks = after.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let word = after.iter().skip(blanks).take_while(|byte| !byte.is_ascii_whitespace()).count();
        self.cursor + blanks + word
    }
}
