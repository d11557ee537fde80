//! The guest's disk, and what goes wrong in it.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;

use crate::machine::escaped;

/// The image behind /disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// A raw image.
    pub image: PathBuf,
    /// Whether what the guest writes reaches the file; it lives in a temporary one otherwise.
    pub keep: bool,
    /// Whether the guest may write to it at all.
    pub read_only: bool,
    /// What goes wrong in it.
    pub faults: Vec<Fault>,
}

/// A request that fails, by QEMU's blkdebug.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fault {
    /// What is to fail.
    pub on: Access,
    /// The 512-byte sector that the request touches; any, if it is not given.
    pub sector: Option<u64>,
    /// Whether it fails once only.
    #[serde(default)]
    pub once: bool,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A flush.
    Flush,
}

impl Disk {
    /// A disk that forgets what is written to it, and in which nothing goes wrong.
    pub fn sound(image: PathBuf) -> Disk {
        Disk { image, keep: false, read_only: false, faults: Vec::new() }
    }

    /// What QEMU's `-drive` is told.
    pub(crate) fn option(&self) -> OsString {
        let mut option = OsString::from("if=none,id=disk,format=raw,");
        // Errors come to the guest, even the one that the host's disk is full; else QEMU would stop.
        option.push("rerror=report,werror=report,");
        option.push(match self {
            Disk { read_only: true, .. } => "readonly=on,",
            Disk { keep: true, .. } => "cache=writeback,",
            _ => "snapshot=on,",
        });
        if self.faults.is_empty() {
            option.push("file=");
        } else {
            option.push("file.driver=blkdebug,");
            for (at, fault) in self.faults.iter().enumerate() {
                option.push(fault.option(at));
            }
            option.push("file.image.driver=file,file.image.filename=");
        }
        option.push(escaped(&self.image));
        option
    }
}

impl Fault {
    fn option(self, at: usize) -> String {
        let Fault { on, sector, once } = self;
        let (event, kind) = match on {
            Access::Read => ("read_aio", "read"),
            Access::Write => ("write_aio", "write"),
            Access::Flush => ("flush_to_disk", "flush"),
        };
        let sector = sector.map_or(String::new(), |sector| format!("file.inject-error.{at}.sector={sector},"));
        let once = if once { "on" } else { "off" };
        format!(
            "file.inject-error.{at}.event={event},file.inject-error.{at}.iotype={kind},file.inject-error.{at}.errno=5,{sector}\
             file.inject-error.{at}.once={once},"
        )
    }
}
