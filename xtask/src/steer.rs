//! `qmp`: memory given to and taken from a guest that runs, by the QEMU that runs it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::args::Request;
use crate::places::{Places, WorkDir};
use crate::qmp::Qmp;

/// Writes down how to reach the guest that is about to start.
pub fn remember(places: &Places, work: &WorkDir) -> Result<()> {
    let path = places.last_guest();
    fs::write(&path, work.socket().as_os_str().as_encoded_bytes()).with_context(|| format!("cannot write {path:?}"))
}

/// Does as asked, to the guest that was started last.
pub fn steer(places: &Places, request: &Request) -> Result<()> {
    let path = places.last_guest();
    let socket = fs::read_to_string(&path).context("no guest was started by `cargo xtask run`")?;
    let mut qmp = Qmp::connect(&PathBuf::from(socket)).context("is the guest still running?")?;
    match request {
        Request::Balloon { size } => {
            qmp.set_balloon(size.bytes())?;
            println!("the host has {} bytes and wants {}", qmp.balloon()?, size.bytes());
        }
        Request::Mem { size } => {
            qmp.set_mem(size.bytes())?;
            println!("the guest has {} bytes plugged and should have {}", qmp.mem()?, size.bytes());
        }
        Request::Stats => {
            for (name, value) in qmp.guest_stats()? {
                println!("{name:24} {value}");
            }
        }
        Request::Raw(words) => {
            let [word] = &words[..] else {
                bail!("one command in JSON is wanted; put it in quotes");
            };
            let request = serde_json::from_str(word).with_context(|| format!("'{word}' is neither known nor JSON"))?;
            println!("{}", serde_json::to_string_pretty(&qmp.request(&request)?)?);
        }
    }
    Ok(())
}
