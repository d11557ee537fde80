//! A trace from a file: a line `FILE INDEX` for each page read, both decimal; empty lines and lines that begin with `#` say
//! nothing.

use super::{Access, Page, Size, Trace};
use std::fmt;

/// A line that is no access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Which, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is not 'FILE INDEX': {:?}", self.line, self.text)
    }
}

impl std::error::Error for ParseError {}

/// The trace in `text`. Without a size it runs in half of what it touches, a third of that donated.
///
/// # Errors
/// The first line that is no access.
pub fn recorded(name: &str, text: &str, size: Option<Size>) -> Result<Trace, ParseError> {
    let mut accesses = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let page = parse(line).ok_or_else(|| ParseError { line: at + 1, text: line.into() })?;
        accesses.push(Access::Read(page));
    }
    let mut trace = Trace::new(name, Size::DEFAULT, accesses);
    trace.size = size.unwrap_or_else(|| {
        let half = trace.distinct() / 2;
        Size { memory: (half * 2 / 3).max(256), donated: (half / 3).max(128) }
    });
    Ok(trace)
}

fn parse(line: &str) -> Option<Page> {
    let mut words = line.split_ascii_whitespace();
    let page = Page { file: words.next()?.parse().ok()?, index: words.next()?.parse().ok()? };
    words.next().is_none().then_some(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_reads() {
        let trace = recorded("t", "# a tree\n3 0\n\n 3 1\n70000 12\n", None).expect("a trace");
        let page = |file, index| Access::Read(Page { file, index });
        assert_eq!(trace.accesses, [page(3, 0), page(3, 1), page(70_000, 12)]);
        assert_eq!(trace.size, Size { memory: 256, donated: 128 });
    }

    #[test]
    fn the_first_bad_line_is_named() {
        for bad in ["3", "3 4 5", "x 1", "1 -1", "4294967296 0"] {
            let error = recorded("t", &format!("1 1\n{bad}\n2 2\n"), None).expect_err(bad);
            assert_eq!(error, ParseError { line: 2, text: bad.into() });
        }
    }
}
