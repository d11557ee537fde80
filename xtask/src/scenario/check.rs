//! Judging a step: what the guest said against what it should have said.

use std::collections::BTreeMap;

use crate::guest::{Done, Record};
use crate::pattern::{line_contains, lines_match};
use crate::scenario::{Bounds, Step};

/// What a step is judged by, beside the step itself.
#[derive(Debug, Default)]
pub struct Context {
    /// Outputs of earlier steps, by label.
    pub earlier: BTreeMap<String, String>,
    /// The host's sums, sorted, if the step asks for them.
    pub sums: Option<Vec<String>>,
    /// Processors of the guest.
    pub processors: u32,
}

/// Judges a step; the error says what is wrong.
pub fn check(step: &Step, done: Done, said: &Record, context: &Context) -> Result<(), String> {
    let output = String::from_utf8_lossy(&said.output);
    let lines: Vec<&str> = output.lines().collect();
    if done.failed != step.fails {
        return Err(match said.errors.first() {
            Some(error) => format!("failed: {error}"),
            None if done.failed => "failed, and did not say why".to_owned(),
            None => "succeeded, but ought to fail".to_owned(),
        });
    }
    for pattern in &step.output {
        find(pattern, &lines, "output")?;
    }
    for pattern in &step.errors {
        find(pattern, &said.errors, "error output")?;
    }
    for pattern in &step.log {
        find(pattern, said.log.iter(), "log")?;
    }
    for pattern in &step.absent {
        if let Some(line) = lines.iter().find(|line| line_contains(pattern, line)) {
            return Err(format!("unexpected in the output: {line:?}"));
        }
    }
    if let Some(exactly) = &step.exactly {
        lines_match(&exactly.lines().collect::<Vec<_>>(), &lines)?;
    }
    for (name, bounds) in &step.numbers {
        within(name, *bounds, context.processors, &output)?;
    }
    if let Some(sums) = &context.sums {
        let mut found = lines.clone();
        found.sort_unstable();
        same_lines(sums, &found)?;
    }
    if let Some(label) = &step.same_as
        && context.earlier.get(label).is_none_or(|earlier| *earlier != output)
    {
        return Err(format!("the output is not that of '{label}'"));
    }
    Ok(())
}

/// Looks for a line with a pattern in it.
pub fn find<T: AsRef<str>>(pattern: &str, lines: impl IntoIterator<Item = T>, place: &str) -> Result<(), String> {
    match lines.into_iter().any(|line| line_contains(pattern, line.as_ref())) {
        true => Ok(()),
        false => Err(format!("no {pattern:?} in the {place}")),
    }
}

/// The sum of all numbers with this name, as `name N`, `name=N` or `name: N`, is within bounds.
fn within(name: &str, bounds: Bounds, processors: u32, output: &str) -> Result<(), String> {
    let numbers: Vec<u64> = output
        .match_indices(name)
        .filter(|(at, _)| !output[..*at].ends_with(|c: char| c.is_alphanumeric()))
        .filter_map(|(at, _)| number_after(&output[at + name.len()..]))
        .collect();
    let sum: u64 = numbers.iter().sum();
    if numbers.is_empty() {
        return Err(format!("no number of {name} in the output"));
    }
    bounds.check(sum, processors).map_err(|wrong| format!("{name} is {wrong}"))
}

/// The number that follows, after at most `:`, `=` and blanks.
fn number_after(text: &str) -> Option<u64> {
    let digits = text.trim_start_matches([' ', ':', '=']);
    if digits.len() == text.len() {
        return None;
    }
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(digits.len());
    digits[..end].replace(',', "").parse().ok()
}

/// Both are sorted.
fn same_lines(expected: &[String], found: &[&str]) -> Result<(), String> {
    let missing = expected.iter().find(|line| found.binary_search(&line.as_str()).is_err());
    let extra = found.iter().find(|line| expected.binary_search_by(|probe| probe.as_str().cmp(line)).is_err());
    match (missing, extra) {
        (Some(missing), Some(extra)) => Err(format!("sums differ: {missing:?} expected, {extra:?} found")),
        (Some(missing), None) => Err(format!("no sum {missing:?}")),
        (None, Some(extra)) => Err(format!("one sum too many: {extra:?}")),
        (None, None) if expected.len() != found.len() => Err("a sum came twice".to_owned()),
        (None, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Done = Done { failed: false, kexec_tsc: None, prompt_tsc: 0 };

    fn said(output: &str) -> Record {
        Record {
            output: output.as_bytes().to_vec(),
            errors: vec!["cat: /x: not found".to_owned()],
            measured: Vec::new(),
            log: ["[    0.1] INFO  kho: generation 1".to_owned()].into(),
        }
    }

    fn judge(step: &str, output: &str) -> Result<(), String> {
        let step: Step = toml::from_str(&format!("run = 'x'\n{step}")).unwrap();
        let context = Context {
            earlier: [("first".to_owned(), "a\n".to_owned())].into(),
            sums: step.sums.as_ref().map(|_| vec!["1  /a".to_owned(), "2  /b".to_owned()]),
            processors: 2,
        };
        check(&step, DONE, &said(output), &context)
    }

    #[test]
    fn what_is_asked_for_is_found() {
        for (step, output) in [
            ("", "anything"),
            ("output = ['hits N', 'st…s']", "hits 3\nstores 4\n"),
            ("errors = ['cat: /x']", ""),
            ("log = ['generation N']", ""),
            ("absent = ['panic']", "all is well"),
            ("exactly = '''\na\n…\nd'''", "a\nb\nc\nd\n"),
            ("numbers = { hits = { min = 3, max = 3 } }", "hits: 1 hits=2 whits 9"),
            ("numbers.stores.min = 1000", "stores  1,000"),
            ("numbers.tables.max-each-cpu = 4", "tables 8"),
            ("sums = { of = '', named = '' }", "2  /b\n1  /a\n"),
            ("same-as = 'first'", "a\n"),
        ] {
            assert_eq!(judge(step, output), Ok(()), "{step}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (step, output, complaint) in [
            ("fails = true", "", "failed: cat: /x: not found"),
            ("output = ['hits N']", "hits\n", "no \"hits N\" in the output"),
            ("errors = ['ls']", "", "no \"ls\" in the error output"),
            ("log = ['generation 2']", "", "no \"generation 2\" in the log"),
            ("absent = ['panic']", "a panic", "unexpected in the output: \"a panic\""),
            ("exactly = 'a'", "b\n", "expected \"a\", but \"b\""),
            ("numbers.hits.min = 4", "hits 3", "hits is 3, beyond 4"),
            ("numbers.tables.max-each-cpu = 4", "tables 9", "tables is 9, beyond 0 to 8"),
            ("numbers.hits.min = 0", "hits none", "no number of hits"),
            ("sums = { of = '', named = '' }", "1  /a\n", "no sum \"2  /b\""),
            ("sums = { of = '', named = '' }", "1  /a\n2  /b\n2  /b\n", "twice"),
            ("same-as = 'first'", "b\n", "not that of 'first'"),
        ] {
            let error = judge(step, output).unwrap_err();
            assert!(error.contains(complaint), "{step}: {error}");
        }
    }
}
