//! The editor against two models: a vector of characters with a cursor, and a terminal that draws what it is sent.

use prompt::editor::{Action, Editor, MAX_LINE, WIDTH};
use prompt::keys::{Decoder, Key};
use proptest::prelude::*;

/// One line of a terminal that knows what the editor sends, and panics at anything else.
#[derive(Default)]
struct Terminal {
    cells: Vec<char>,
    column: usize,
    escape: String,
}

impl Terminal {
    fn show(&mut self, bytes: &[u8]) {
        for c in std::str::from_utf8(bytes).expect("whole characters").chars() {
            if !self.escape.is_empty() || c == '\x1b' {
                self.escape.push(c);
                match self.escape.as_str() {
                    "\x1b[K" => self.cells.truncate(self.column),
                    "\x1b[2J" => self.cells.clear(),
                    "\x1b[H" => self.column = 0,
                    other => {
                        assert!(other.len() < 4, "unknown sequence {other:?}");
                        continue;
                    }
                }
                self.escape.clear();
                continue;
            }
            match c {
                '\r' => self.column = 0,
                '\x08' => self.column = self.column.checked_sub(1).expect("left of the line"),
                '\x07' => {}
                '\n' => (self.cells, self.column) = (Vec::new(), 0),
                c => {
                    assert!(self.column < WIDTH - 1, "the terminal would wrap");
                    self.cells.resize(self.cells.len().max(self.column + 1), ' ');
                    self.cells[self.column] = c;
                    self.column += 1;
                }
            }
        }
    }
}

/// The obvious editor.
#[derive(Default)]
struct Model {
    line: Vec<char>,
    cursor: usize,
    history: Vec<Vec<char>>,
    back: usize,
    draft: Vec<char>,
}

impl Model {
    fn word_left(&self) -> usize {
        let mut at = self.cursor;
        while at > 0 && self.line[at - 1] == ' ' {
            at -= 1;
        }
        while at > 0 && self.line[at - 1] != ' ' {
            at -= 1;
        }
        at
    }

    fn word_right(&self) -> usize {
        let mut at = self.cursor;
        while at < self.line.len() && self.line[at] == ' ' {
            at += 1;
        }
        while at < self.line.len() && self.line[at] != ' ' {
            at += 1;
        }
        at
    }

    fn recall(&mut self, back: usize) {
        if back > self.history.len() || back == self.back {
            return;
        }
        if self.back == 0 {
            self.draft = self.line.clone();
        }
        self.line = if back == 0 { self.draft.clone() } else { self.history[self.history.len() - back].clone() };
        (self.cursor, self.back) = (self.line.len(), back);
    }

    fn key(&mut self, key: &Press) {
        match *key {
            Press::Char(c) => {
                self.line.insert(self.cursor, c);
                self.cursor += 1;
            }
            Press::Key(Key::Backspace) if self.cursor > 0 => {
                self.cursor -= 1;
                self.line.remove(self.cursor);
            }
            Press::Key(Key::Delete) if self.cursor < self.line.len() => drop(self.line.remove(self.cursor)),
            Press::Key(Key::Left) => self.cursor = self.cursor.saturating_sub(1),
            Press::Key(Key::Right) => self.cursor = (self.cursor + 1).min(self.line.len()),
            Press::Key(Key::Home) => self.cursor = 0,
            Press::Key(Key::End) => self.cursor = self.line.len(),
            Press::Key(Key::KillBefore) => {
                self.line.drain(..self.cursor);
                self.cursor = 0;
            }
            Press::Key(Key::KillAfter) => self.line.truncate(self.cursor),
            Press::Key(Key::KillWord) => {
                let start = self.word_left();
                self.line.drain(start..self.cursor);
                self.cursor = start;
            }
            Press::Key(Key::WordLeft) => self.cursor = self.word_left(),
            Press::Key(Key::WordRight) => self.cursor = self.word_right(),
            Press::Key(Key::Up) => self.recall(self.back + 1),
            Press::Key(Key::Down) => self.recall(self.back.saturating_sub(1)),
            Press::Key(Key::Enter) => {
                let line = std::mem::take(&mut self.line);
                if line.iter().any(|c| *c != ' ') && self.history.last() != Some(&line) {
                    self.history.push(line);
                }
                (self.cursor, self.back) = (0, 0);
            }
            Press::Key(_) => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Press {
    Char(char),
    Key(Key),
}

fn presses() -> impl Strategy<Value = Vec<Press>> {
    let character = prop::sample::select(vec!['a', 'b', ' ', 'x', 'ü', '€', '𝄞']).prop_map(Press::Char);
    let key = prop::sample::select(vec![
        Key::Backspace,
        Key::Delete,
        Key::Left,
        Key::Right,
        Key::Home,
        Key::End,
        Key::KillBefore,
        Key::KillAfter,
        Key::KillWord,
        Key::WordLeft,
        Key::WordRight,
        Key::Up,
        Key::Down,
        Key::Enter,
        Key::ClearScreen,
    ])
    .prop_map(Press::Key);
    prop::collection::vec(prop_oneof![8 => character, 3 => key], 0..400)
}

const PROMPT: &str = "holdover:/# ";

proptest! {
    #[test]
    fn the_line_is_the_models_and_the_screen_shows_it(presses in presses()) {
        let (mut editor, mut model, mut terminal) = (Editor::default(), Model::default(), Terminal::default());
        let mut screen = Vec::new();
        editor.begin(PROMPT.as_bytes(), &mut screen);
        for press in &presses {
            let before: String = model.line.iter().collect();
            model.key(press);
            match press {
                Press::Char(c) => prop_assert_eq!(editor.key(Key::Text(*c), &mut screen), None),
                Press::Key(Key::Enter) => {
                    prop_assert_eq!(editor.key(Key::Enter, &mut screen), Some(Action::Line(before.into_bytes())));
                    editor.begin(PROMPT.as_bytes(), &mut screen);
                }
                Press::Key(key) => prop_assert_eq!(editor.key(*key, &mut screen), None),
            }
            let before: String = model.line[..model.cursor].iter().collect();
            prop_assert_eq!(editor.before_cursor(), before.as_bytes());
            terminal.show(&std::mem::take(&mut screen));

            let shown: String = terminal.cells.iter().collect();
            let shown = shown.strip_prefix(PROMPT).expect("the prompt is there");
            let line: String = model.line.iter().collect();
            let scroll = model.cursor - (terminal.column - PROMPT.len());
            let room = WIDTH - 1 - PROMPT.len();
            let expected: String = line.chars().skip(scroll).take(room).collect();
            prop_assert_eq!(shown, expected);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (mut editor, mut decoder, mut screen) = (Editor::default(), Decoder::default(), Vec::new());
        editor.begin(b"# ", &mut screen);
        for byte in bytes {
            if let Some(key) = decoder.feed(byte) && editor.key(key, &mut screen).is_some_and(|action| action != Action::Complete) {
                editor.begin(b"# ", &mut screen);
            }
        }
    }
}

#[test]
fn a_line_has_an_end() {
    let (mut editor, mut screen) = (Editor::default(), Vec::new());
    editor.begin(b"# ", &mut screen);
    for _ in 0..MAX_LINE + 10 {
        editor.key(Key::Text('x'), &mut screen);
    }
    assert_eq!(screen.last(), Some(&b'\x07'));
    assert_eq!(editor.before_cursor().len(), MAX_LINE);
}
