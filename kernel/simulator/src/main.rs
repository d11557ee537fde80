//! `cargo xtask bench policy`: the table of policies.
#![forbid(unsafe_code)]

use simulator::options::{Options, USAGE};
use simulator::report::Report;
use simulator::table;
use simulator::trace::{self, Size, Trace};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("simulator: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            // Whoever read the table has seen enough.
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("simulator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<String, String> {
    let traces = traces(options)?;
    if traces.is_empty() {
        return Err("there is no such trace".into());
    }
    let rows = table::rows();
    let columns = table::measure(&traces, &rows).map_err(|(error, trace)| format!("{trace}: {error}"))?;
    let report = Report { traces: &traces, rows: &rows, columns: &columns };
    Ok(if options.json { report.json() } else { report.text() })
}

fn traces(options: &Options) -> Result<Vec<Trace>, String> {
    let mut traces = trace::synthetic(options.size.unwrap_or(Size::DEFAULT));
    if !options.only.is_empty() {
        traces.retain(|trace| options.only.contains(&trace.name));
    }
    for path in &options.traces {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let name =
            std::path::Path::new(path).file_stem().map_or_else(|| path.clone(), |stem| stem.to_string_lossy().into());
        let trace = trace::recorded(&name, &text, options.size).map_err(|error| format!("{path}: {error}"))?;
        if trace.accesses.is_empty() {
            return Err(format!("{path}: an empty trace"));
        }
        traces.push(trace);
    }
    Ok(traces)
}
