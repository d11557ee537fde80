//! The language of a command line: words, quotes, `;`, `#` and redirection, as in a POSIX shell and no more than that.
//!
//! `'...'` takes everything as it stands, `"..."` all but backslash and `"`, a backslash takes the next byte as it stands, `;`
//! ends a command, `#` at the start of a word begins a comment, `>` and `>>` name a file for the output. Patterns and
//! variables are not expanded. What a POSIX shell would read as an operator and this one does not have (`|`, `&`, `<`,
//! `` ` ``, brackets) is an error, so that no command does something else than was meant.

use alloc::vec::Vec;
use core::fmt;

/// One command of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Its name and arguments, at least the name.
    pub words: Vec<Vec<u8>>,
    /// Where its output goes, if not to the terminal.
    pub output: Option<Redirect>,
    /// Where in the line the next command begins; the line's length after the last.
    pub rest: usize,
}

/// A file that takes a command's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The file's path, as it was typed.
    pub path: Vec<u8>,
    /// `>>`: keep what is in it.
    pub append: bool,
}

/// Why a line is no list of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntaxError {
    /// This quote is not closed.
    OpenQuote(char),
    /// The line ends in a backslash.
    TrailingBackslash,
    /// `>` is not followed by a file.
    NoTarget,
    /// A command has two redirections.
    TwoTargets,
    /// There is a redirection but no command.
    NoCommand,
    /// A word has a zero byte in it, which no name can have.
    Nul,
    /// An operator that this shell does not have.
    Operator(char),
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenQuote(quote) => write!(f, "the quote {quote} is not closed"),
            Self::TrailingBackslash => f.write_str("nothing follows the last backslash"),
            Self::NoTarget => f.write_str("no file follows >"),
            Self::TwoTargets => f.write_str("the output can go to one file only"),
            Self::NoCommand => f.write_str("there is no command before >"),
            Self::Nul => f.write_str("a word cannot hold a zero byte"),
            Self::Operator(operator) => write!(f, "{operator} is not supported; quote it if it is part of a word"),
        }
    }
}

impl core::error::Error for SyntaxError {}

/// Bytes that mean something when they are not quoted.
fn is_special(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"'\"\\;#<>|&`()".contains(&byte)
}

/// What stands next in a line.
enum Token {
    Word(Vec<u8>),
    Redirect { append: bool },
    Semicolon,
    Comment,
    End,
}

/// Reads tokens from a line, one after the other.
struct Lexer<'a> {
    line: &'a [u8],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn bump(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn token(&mut self) -> Result<Token, SyntaxError> {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
        match self.peek() {
            None => Ok(Token::End),
            Some(b'#') => {
                self.at = self.line.len();
                Ok(Token::Comment)
            }
            Some(b';') => {
                self.at += 1;
                Ok(Token::Semicolon)
            }
            Some(b'>') => {
                self.at += 1;
                let append = self.peek() == Some(b'>');
                self.at += usize::from(append);
                Ok(Token::Redirect { append })
            }
            Some(byte @ (b'<' | b'|' | b'&' | b'`' | b'(' | b')')) => Err(SyntaxError::Operator(char::from(byte))),
            Some(_) => self.word().map(Token::Word),
        }
    }

    fn word(&mut self) -> Result<Vec<u8>, SyntaxError> {
        let mut word = Vec::new();
        while let Some(byte) = self.peek() {
            match byte {
                b'\'' | b'"' => {
                    self.at += 1;
                    self.quoted(byte, &mut word)?;
                }
                b'\\' => {
                    self.at += 1;
                    word.push(self.bump().ok_or(SyntaxError::TrailingBackslash)?);
                }
                // A `#` inside a word is an ordinary byte.
                byte if byte != b'#' && is_special(byte) => break,
                byte => {
                    self.at += 1;
                    word.push(byte);
                }
            }
        }
        if word.contains(&0) { Err(SyntaxError::Nul) } else { Ok(word) }
    }

    fn quoted(&mut self, quote: u8, word: &mut Vec<u8>) -> Result<(), SyntaxError> {
        let open = SyntaxError::OpenQuote(char::from(quote));
        loop {
            match self.bump().ok_or(open)? {
                byte if byte == quote => return Ok(()),
                b'\\' if quote == b'"' => match self.bump().ok_or(open)? {
                    byte @ (b'"' | b'\\' | b'$' | b'`') => word.push(byte),
                    byte => word.extend([b'\\', byte]),
                },
                byte => word.push(byte),
            }
        }
    }
}

/// The commands of a line, in order. Empty ones are left out.
pub fn parse(line: &[u8]) -> Result<Vec<Command>, SyntaxError> {
    let mut lexer = Lexer { line, at: 0 };
    let mut commands = Vec::new();
    let mut command = Command::default();
    loop {
        match lexer.token()? {
            Token::Word(word) => command.words.push(word),
            Token::Redirect { append } => {
                let Token::Word(path) = lexer.token()? else { return Err(SyntaxError::NoTarget) };
                if command.output.replace(Redirect { path, append }).is_some() {
                    return Err(SyntaxError::TwoTargets);
                }
            }
            end @ (Token::Semicolon | Token::Comment | Token::End) => {
                command.rest = lexer.at;
                if !command.words.is_empty() {
                    commands.push(core::mem::take(&mut command));
                } else if command.output.is_some() {
                    return Err(SyntaxError::NoCommand);
                }
                if !matches!(end, Token::Semicolon) {
                    return Ok(commands);
                }
            }
        }
    }
}

/// The word that a line ends in, for completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWord {
    /// Where it begins in the line.
    pub start: usize,
    /// What it says so far, quotes taken off.
    pub word: Vec<u8>,
    /// Whether it is the name of a command.
    pub is_command: bool,
}

/// The word at the end of an unfinished line; an empty one after a space. `None` where a quote is open or the line makes no
/// sense.
pub fn last_word(line: &[u8]) -> Option<LastWord> {
    let mut lexer = Lexer { line, at: 0 };
    let mut is_command = true;
    let mut before = 0;
    loop {
        match lexer.token().ok()? {
            Token::Word(word) => {
                if lexer.at == line.len() {
                    let blanks = line.get(before..)?.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                    return Some(LastWord { start: before + blanks, word, is_command });
                }
                is_command = false;
            }
            Token::Redirect { .. } => is_command = false,
            Token::Semicolon => is_command = true,
            Token::Comment => return None,
            Token::End => return Some(LastWord { start: line.len(), word: Vec::new(), is_command }),
        }
        before = lexer.at;
    }
}

/// `word` written so that [`parse`] reads it as this one word.
pub fn quote(word: &[u8]) -> Vec<u8> {
    if word.is_empty() {
        return b"''".to_vec();
    }
    let mut quoted = Vec::with_capacity(word.len());
    for &byte in word {
        if is_special(byte) {
            quoted.push(b'\\');
        }
        quoted.push(byte);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn words(line: &str) -> Vec<Vec<Vec<u8>>> {
        parse(line.as_bytes()).expect("parses").into_iter().map(|command| command.words).collect()
    }

    #[test]
    fn words_quotes_and_comments() {
        assert_eq!(words("ls  -l\t/tmp"), [[b"ls".to_vec(), b"-l".to_vec(), b"/tmp".to_vec()]]);
        assert_eq!(
            words(r#"write 'a b' "c \" \n d" e\ f # g ; h"#)[0][1..],
            [b"a b".to_vec(), b"c \" \\n d".to_vec(), b"e f".to_vec()]
        );
        assert_eq!(words("echo a#b ''"), [[b"echo".to_vec(), b"a#b".to_vec(), b"".to_vec()]]);
        assert_eq!(words(" ; ;# nothing"), Vec::<Vec<Vec<u8>>>::new());
    }

    #[test]
    fn commands_know_where_the_rest_begins() {
        let line = b"a 1;b ';' 2 > 'out file' ; c";
        let commands = parse(line).expect("parses");
        let rests: Vec<&[u8]> = commands.iter().map(|command| &line[command.rest..]).collect();
        assert_eq!(rests, [&b"b ';' 2 > 'out file' ; c"[..], b" c", b""]);
        assert_eq!(commands[1].output, Some(Redirect { path: b"out file".to_vec(), append: false }));
    }

    #[test]
    fn every_error_has_its_cause() {
        for (line, error) in [
            ("echo 'a", SyntaxError::OpenQuote('\'')),
            ("echo \"a\\", SyntaxError::OpenQuote('"')),
            ("echo a\\", SyntaxError::TrailingBackslash),
            ("echo >", SyntaxError::NoTarget),
            ("echo > ; ls", SyntaxError::NoTarget),
            ("echo > a >> b", SyntaxError::TwoTargets),
            ("> a", SyntaxError::NoCommand),
            ("echo a\0b", SyntaxError::Nul),
            ("cat a | sha256sum", SyntaxError::Operator('|')),
            ("sync & ls", SyntaxError::Operator('&')),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(error), "{line}");
        }
    }

    #[test]
    fn the_last_word_is_found() {
        let last = |line: &str| last_word(line.as_bytes()).map(|last| (last.start, last.word, last.is_command));
        assert_eq!(last(""), Some((0, vec![], true)));
        assert_eq!(last("sha"), Some((0, b"sha".to_vec(), true)));
        assert_eq!(last("cat /di"), Some((4, b"/di".to_vec(), false)));
        assert_eq!(last("cat  a\\ b"), Some((5, b"a b".to_vec(), false)));
        assert_eq!(last("cat a; l"), Some((7, b"l".to_vec(), true)));
        assert_eq!(last("cat "), Some((4, vec![], false)));
        assert_eq!(last("echo >/t"), Some((6, b"/t".to_vec(), false)));
        assert_eq!(last("echo 'a"), None);
        assert_eq!(last("echo # a"), None);
    }
}
