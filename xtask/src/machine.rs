//! The machine: what it consists of, and the QEMU command line that makes it.
//!
//! One [`Machine`] value describes one guest completely; [`Machine::command`] is the only place
//! that knows QEMU's options.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use clap::ValueEnum;
use protocol::exit;
use serde::Deserialize;

use crate::args::LogLevel;
use crate::size::Size;

/// The board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Board {
    /// A PC with PCI Express; SeaBIOS
    Q35,
    /// Without PCI; virtio over MMIO; qboot
    Microvm,
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Board::Q35 => "q35",
            Board::Microvm => "microvm",
        })
    }
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// The processor itself.
    Kvm,
    /// QEMU's translator.
    Tcg,
    /// The translator, with one instruction counted as one nanosecond: runs repeat exactly.
    Counted,
}

/// Memory lent to the guest on top of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Donation {
    /// A range of ordinary memory that the guest sets apart at boot.
    CarveOut(Size),
}

impl Donation {
    /// How much is lent.
    pub fn size(self) -> Size {
        match self {
            Donation::CarveOut(size) => size,
        }
    }
}

impl FromStr for Donation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("carveout", size)) => {
                size.parse().map(Donation::CarveOut).map_err(|error: crate::size::SizeError| error.to_string())
            }
            _ => Err(format!("'{text}' is not carveout=SIZE")),
        }
    }
}

impl TryFrom<String> for Donation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// As the kernel's command line has it.
impl fmt::Display for Donation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Donation::CarveOut(size) => write!(f, "carveout:{size}"),
        }
    }
}

/// The image behind /disk. Nothing that the guest writes ever reaches the file.
#[derive(Clone, Debug)]
pub struct Disk {
    /// A raw image.
    pub image: PathBuf,
    /// The 512-byte sector that cannot be read, if the disk is to be faulty.
    pub bad_sector: Option<u64>,
}

/// Who reads the serial line.
#[derive(Clone, Debug)]
pub enum Console {
    /// A program, over pipes; see the `protocol` crate.
    Tagged,
    /// A person at this terminal; a copy of everything goes to the file.
    Terminal(PathBuf),
}

/// A guest, described.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The program that runs it.
    pub qemu: PathBuf,
    /// The bootable file.
    pub bootable: PathBuf,
    /// The board.
    pub board: Board,
    /// The accelerator.
    pub accel: Accel,
    /// What the kernel may call its own.
    pub memory: Size,
    /// What it gets on top.
    pub donations: Vec<Donation>,
    /// Its disk.
    pub disk: Option<Disk>,
    /// Processors.
    pub processors: u32,
    /// Log level, if not the kernel's choice.
    pub log: Option<LogLevel>,
    /// Who reads the serial line.
    pub console: Console,
    /// Whether to wait for a debugger.
    pub debugger: bool,
}

impl Machine {
    /// The kernel's command line.
    pub fn kernel_words(&self) -> String {
        let console = match self.console {
            Console::Tagged => "tagged",
            Console::Terminal(_) => "plain",
        };
        let mut words = format!("console={console}");
        if let Some(level) = self.log {
            words += &format!(" loglevel={}", level.word());
        }
        if !self.donations.is_empty() {
            let donations: Vec<String> = self.donations.iter().map(Donation::to_string).collect();
            words += &format!(" donate={}", donations.join(","));
        }
        words
    }

    /// The memory that QEMU gives the guest: its own, and what is donated.
    fn total_memory(&self) -> Size {
        let donated: Size = self.donations.iter().map(|donation| donation.size()).sum();
        self.memory + donated
    }

    /// The whole command line.
    pub fn command(&self) -> Command {
        let mut qemu = Command::new(&self.qemu);
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        match self.board {
            Board::Q35 => qemu.args(["-machine", "q35", "-vga", "none"]),
            // The 8254 is what the kernel measures its clock with.
            Board::Microvm => qemu.args([
                "-machine",
                "microvm,x-option-roms=off,isa-serial=on,pit=on,pic=on,rtc=on",
                "-global",
                "virtio-mmio.force-legacy=false",
            ]),
        };
        qemu.args(["-nic", "none"]);
        match self.accel {
            Accel::Kvm => qemu.args(["-accel", "kvm", "-cpu", "host"]),
            Accel::Tcg => qemu.args(["-accel", "tcg", "-cpu", "max"]),
            Accel::Counted => {
                qemu.args(["-accel", "tcg,thread=single", "-cpu", "max"]).args(["-icount", "shift=0,sleep=off"])
            }
        };
        qemu.arg("-smp").arg(self.processors.to_string());
        qemu.arg("-m").arg(self.total_memory().to_string());
        qemu.arg("-kernel").arg(&self.bootable);
        qemu.arg("-append").arg(self.kernel_words());
        qemu.arg("-device").arg(format!("isa-debug-exit,iobase={:#x},iosize=0x04", exit::PORT));
        if let Some(disk) = &self.disk {
            qemu.arg("-drive").arg(disk.option());
            qemu.arg("-device").arg(match self.board {
                Board::Q35 => "virtio-blk-pci,drive=disk,disable-legacy=on",
                Board::Microvm => "virtio-blk-device,drive=disk",
            });
        }
        match &self.console {
            Console::Tagged => qemu.args(["-serial", "stdio"]),
            Console::Terminal(log) => {
                // The multiplexer gives Ctrl-A x; without signals Ctrl-C is the guest's.
                let mut terminal = OsString::from("stdio,id=terminal,mux=on,signal=off,logfile=");
                terminal.push(escaped(log));
                qemu.arg("-chardev").arg(terminal);
                qemu.args(["-serial", "chardev:terminal", "-mon", "chardev=terminal"])
            }
        };
        if self.debugger {
            qemu.args(["-s", "-S"]);
        }
        qemu
    }
}

impl Disk {
    fn option(&self) -> OsString {
        let mut option = OsString::from("if=none,id=disk,format=raw,snapshot=on,");
        match self.bad_sector {
            None => option.push("file="),
            Some(sector) => {
                option.push("file.driver=blkdebug,file.inject-error.0.event=read_aio,");
                option.push(format!("file.inject-error.0.sector={sector},"));
                option.push("file.inject-error.0.errno=5,file.image.driver=file,");
                option.push("file.image.filename=");
            }
        }
        option.push(escaped(&self.image));
        option
    }
}

/// A path inside an option: a comma is doubled.
fn escaped(path: &Path) -> OsString {
    match path.to_str() {
        Some(text) => text.replace(',', ",,").into(),
        None => path.into(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Machine {
        Machine {
            qemu: "qemu-system-x86_64".into(),
            bootable: "/t/holdover".into(),
            board: Board::Q35,
            accel: Accel::Tcg,
            memory: Size::mib(64),
            donations: vec![Donation::CarveOut(Size::mib(16))],
            disk: Some(Disk { image: "/t/a,b.img".into(), bad_sector: None }),
            processors: 1,
            log: Some(LogLevel::Debug),
            console: Console::Tagged,
            debugger: false,
        }
    }

    fn line(machine: &Machine) -> String {
        let command = machine.command();
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn donated_memory_comes_on_top() {
        assert!(line(&example()).contains("-m 80M "));
        assert_eq!(example().kernel_words(), "console=tagged loglevel=debug donate=carveout:16M");
    }

    #[test]
    fn a_comma_in_a_path_stays_in_it() {
        assert!(line(&example()).contains("snapshot=on,file=/t/a,,b.img "));
    }

    #[test]
    fn microvm_has_no_pci_device() {
        let machine = Machine { board: Board::Microvm, ..example() };
        assert!(!line(&machine).contains("pci"));
        assert!(line(&machine).contains("virtio-blk-device,drive=disk"));
    }

    #[test]
    fn donations_parse() {
        assert_eq!("carveout=16M".parse(), Ok(Donation::CarveOut(Size::mib(16))));
        for text in ["carveout", "carveout=x", "balloon=16M", "=1M"] {
            assert!(text.parse::<Donation>().is_err(), "{text}");
        }
    }
}
