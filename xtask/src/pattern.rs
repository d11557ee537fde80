//! Expected text with gaps, for what varies from run to run.
//!
//! The rules, which README and the scenarios rely on: `…` stands for anything within a line; a
//! line of `…` alone stands for any number of lines; `N` as a word of its own stands for a number,
//! which may have `,` and `.` in it; and any run of blanks is like one blank, so that columns may
//! shift with their numbers. Everything else stands for itself.

/// Whether a whole line is as the pattern has it.
pub fn line_matches(pattern: &str, line: &str) -> bool {
    let line: Vec<char> = squeezed(line).chars().collect();
    Reach::whole(&tokens(&squeezed(pattern)), &line)
}

/// Whether the pattern stands for some part of a line.
pub fn line_contains(pattern: &str, line: &str) -> bool {
    line_matches(&format!("…{pattern}…"), line)
}

/// Compares lines with patterns. The error names the first pattern that fits nowhere.
pub fn lines_match(patterns: &[&str], lines: &[&str]) -> Result<(), String> {
    // The numbers of lines that the patterns so far may stand for.
    let mut reach = Reach::start(lines.len());
    for pattern in patterns {
        let next = match pattern.trim() {
            "…" => reach.any(),
            _ => reach.one(|at| line_matches(pattern, lines[at])),
        };
        if next.is_empty() {
            let furthest = reach.last().and_then(|at| lines.get(at));
            let found = furthest.map_or("the output ends".to_owned(), |line| format!("{line:?}"));
            return Err(format!("expected {pattern:?}, but {found}"));
        }
        reach = next;
    }
    if reach.all_passed() {
        return Ok(());
    }
    let extra = reach.last().and_then(|at| lines.get(at)).copied();
    Err(format!("more output than expected: {:?}", extra.unwrap_or_default()))
}

enum Token {
    Char(char),
    Anything,
    Number,
}

fn tokens(pattern: &str) -> Vec<Token> {
    let chars: Vec<char> = pattern.chars().collect();
    let is_word = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    let token = |(at, &c): (usize, &char)| match c {
        '…' => Token::Anything,
        'N' if !is_word(at.checked_sub(1)) && !is_word(Some(at + 1)) => Token::Number,
        c => Token::Char(c),
    };
    chars.iter().enumerate().map(token).collect()
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Which prefixes of a sequence the part of a pattern read so far can stand for.
struct Reach(Vec<bool>);

impl Reach {
    fn start(len: usize) -> Reach {
        let mut reach = vec![false; len + 1];
        reach[0] = true;
        Reach(reach)
    }

    fn whole(tokens: &[Token], line: &[char]) -> bool {
        let mut reach = Reach::start(line.len());
        for token in tokens {
            reach = match token {
                Token::Anything => reach.any(),
                Token::Char(c) => reach.one(|at| line[at] == *c),
                Token::Number => reach.number(line),
            };
        }
        reach.all_passed()
    }

    /// One more element, if `fits` says so of its position.
    fn one(&self, fits: impl Fn(usize) -> bool) -> Reach {
        let mut next = vec![false; self.0.len()];
        for at in self.positions().filter(|&at| at + 1 < self.0.len()) {
            next[at + 1] = fits(at);
        }
        Reach(next)
    }

    /// Any number of elements.
    fn any(&self) -> Reach {
        let first = self.positions().next().unwrap_or(self.0.len());
        Reach((0..self.0.len()).map(|at| at >= first).collect())
    }

    /// As many characters as make a number.
    fn number(&self, line: &[char]) -> Reach {
        let mut next = vec![false; self.0.len()];
        for from in self.positions() {
            let part = |c: &&char| c.is_ascii_digit() || matches!(c, ',' | '.');
            let len = line[from..].iter().take_while(part).count();
            for to in from + 1..=from + len {
                next[to] |= line[from].is_ascii_digit() && line[to - 1].is_ascii_digit();
            }
        }
        Reach(next)
    }

    fn positions(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len()).filter(|&at| self.0[at])
    }

    fn last(&self) -> Option<usize> {
        self.0.iter().rposition(|&reached| reached)
    }

    fn is_empty(&self) -> bool {
        !self.0.contains(&true)
    }

    fn all_passed(&self) -> bool {
        self.0.last() == Some(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_match_or_not() {
        for (pattern, line) in [
            ("", ""),
            ("total N", "total 1,024"),
            ("…", "anything"),
            ("a…c", "ac"),
            ("a…c…e", "a b c d e"),
            ("hits N  misses N", "hits   3 misses 1234"),
            ("N.N s", "0.25 s"),
            ("(N %)", "(99.5 %)"),
            ("NUMA Nx", "NUMA Nx"),
        ] {
            assert!(line_matches(pattern, line), "{pattern} | {line}");
        }
        for (pattern, line) in [
            ("", "x"),
            ("total N", "total"),
            ("total N", "total x"),
            ("total N", "total 1,"),
            ("a…c", "acd"),
            ("NUMA", "1UMA"),
        ] {
            assert!(!line_matches(pattern, line), "{pattern} | {line}");
        }
        assert!(line_contains("hits N", "cleancache: hits 12, stores 3"));
        assert!(!line_contains("hits N", "hits none"));
    }

    #[test]
    fn blocks_of_lines_match_or_say_where_they_do_not() {
        let lines = ["a 1", "b", "c", "d"];
        for patterns in
            [&["a N", "b", "c", "d"][..], &["a N", "…", "d"], &["…"], &["…", "c", "…"], &["a N", "…", "b", "c", "d"]]
        {
            assert_eq!(lines_match(patterns, &lines), Ok(()), "{patterns:?}");
        }
        for (patterns, complaint) in [
            (&["a N", "c"][..], "expected \"c\", but \"b\""),
            (&["a N"], "more output than expected: \"b\""),
            (&["…", "x"], "expected \"x\", but the output ends"),
        ] {
            assert_eq!(lines_match(patterns, &lines), Err(complaint.to_owned()));
        }
        assert_eq!(lines_match(&[], &[]), Ok(()));
    }
}
