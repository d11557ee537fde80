//! The list of what is tested of a handover, `docs/handover-tests.md`, against the tests that there are.
#![cfg(test)]

use std::fs;
use std::path::Path;

use crate::scenario;

/// A test as the list names it.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Scenario(String),
    Host { package: String, program: String, test: String },
}

/// The tests in a row of the table, and what is no test.
fn named(row: &str) -> Vec<Result<Named, String>> {
    let Some(tests) = row.trim_end().trim_end_matches('|').rsplit('|').next() else { return Vec::new() };
    let one = |text: &str| match text.strip_prefix("scenario ") {
        Some(name) => name.strip_prefix('`')?.strip_suffix('`').map(|name| Named::Scenario(name.to_owned())),
        None => {
            let (file, test) = text.strip_prefix('`')?.strip_suffix('`')?.split_once(": ")?;
            let (package, program) = file.split_once('/')?;
            let [package, program, test] = [package, program, test].map(str::to_owned);
            Some(Named::Host { package, program, test })
        }
    };
    tests.split(", ").map(str::trim).map(|text| one(text).ok_or(text.to_owned())).collect()
}

#[test]
fn every_test_of_a_handover_that_is_listed_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let list = fs::read_to_string(root.join("docs/handover-tests.md")).unwrap();
    let scenarios = scenario::load(root).unwrap();
    let rows: Vec<&str> = list.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    for named in rows.into_iter().flat_map(named) {
        let there = match &named {
            Err(_) => false,
            Ok(Named::Scenario(name)) => scenarios.iter().any(|scenario| scenario.name == *name),
            Ok(Named::Host { package, program, test }) => {
                let file = root.join("kernel").join(package).join("tests").join(program).with_extension("rs");
                let text = fs::read_to_string(file).unwrap_or_default();
                let marked = |at: usize| text[..at].trim_end().ends_with("#[test]");
                text.match_indices(&format!("fn {test}(")).any(|(at, _)| marked(at))
            }
        };
        assert!(there, "docs/handover-tests.md names {named:?}, which is not there");
    }
}

#[test]
fn rows_are_read() {
    let row = "| what, and more | `fs/tmpfs: it_works`, scenario `kexec-tree`, something |";
    let host = Named::Host { package: "fs".to_owned(), program: "tmpfs".to_owned(), test: "it_works".to_owned() };
    let scenario = Named::Scenario("kexec-tree".to_owned());
    assert_eq!(named(row), [Ok(host), Ok(scenario), Err("something".to_owned())]);
}
