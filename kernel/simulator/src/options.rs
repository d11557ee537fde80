//! What can be typed.

use crate::trace::Size;

/// How to call the simulator.
pub const USAGE: &str = "usage: simulator [--trace PATH]... [--only NAME]... [--memory PAGES --donated PAGES] [--json]
  --trace PATH   a recorded trace too: a line 'FILE INDEX' for each page read
  --only NAME    only this trace, of those that are made here
  --memory, --donated
                 what to run in: 4096 and 2048 pages, or half of what a recorded trace touches
  --json         for programs";

/// What was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Recorded traces.
    pub traces: Vec<String>,
    /// The synthetic traces to run; all, when there is none.
    pub only: Vec<String>,
    /// The memory.
    pub size: Option<Size>,
    /// The table as JSON.
    pub json: bool,
}

impl Options {
    /// Read the words of a command line.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let (mut memory, mut donated) = (None, None);
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--trace" => options.traces.push(value()?),
                "--only" => options.only.push(value()?),
                "--memory" => memory = Some(pages(&value()?)?),
                "--donated" => donated = Some(pages(&value()?)?),
                "--json" => options.json = true,
                _ => return Err(format!("what is {word}?")),
            }
        }
        options.size = match (memory, donated) {
            (Some(memory), Some(donated)) => Some(Size { memory, donated }),
            (None, None) => None,
            _ => return Err("--memory and --donated go together".into()),
        };
        Ok(options)
    }
}

/// 64 MiB to 4 GiB are plenty, and less than 128 pages no machine at all.
fn pages(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (128..=1 << 20).contains(number));
    number.ok_or_else(|| format!("{text} is no number of pages between 128 and {}", 1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn options_are_read() {
        let options = parse("--trace a --json --memory 1000 --trace b --donated 500 --only compile").expect("options");
        let size = Some(Size { memory: 1000, donated: 500 });
        assert_eq!(
            options,
            Options { traces: vec!["a".into(), "b".into()], only: vec!["compile".into()], size, json: true }
        );
        assert_eq!(parse(""), Ok(Options::default()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in
            ["--trace", "--memory 1000", "--memory 1 --donated 500", "--memory x --donated 500", "--jsno", "file"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
