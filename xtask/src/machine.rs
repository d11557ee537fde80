//! The machine: what it consists of, and the QEMU command line that makes it.
//!
//! One [`Machine`] value describes one guest completely; [`Machine::command`] is the only place
//! that knows QEMU's options.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use protocol::exit;
use serde::Deserialize;

use crate::args::LogLevel;
use crate::disk::Disk;
use crate::donation::{Donation, Kind};
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
    /// Cleancache's policy, if not the kernel's choice.
    pub policy: Option<String>,
    /// Log level, if not the kernel's choice.
    pub log: Option<LogLevel>,
    /// Who reads the serial line.
    pub console: Console,
    /// Whether to wait for a debugger.
    pub debugger: bool,
    /// Where QEMU listens for commands, if it should.
    pub qmp: Option<PathBuf>,
    /// The file behind ivshmem; needed only if that is among the donations.
    pub shared_file: Option<PathBuf>,
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
        if let Some(policy) = &self.policy {
            words += &format!(" policy={policy}");
        }
        if !self.donations.is_empty() {
            let donations: Vec<String> = self.donations.iter().map(Donation::to_string).collect();
            words += &format!(" donate={}", donations.join(","));
        }
        words
    }

    /// The memory that the guest has when it starts: its own, and what is donated out of that.
    fn total_memory(&self) -> Size {
        let inside = self.donations.iter().filter(|donation| donation.kind.is_inside());
        self.memory + inside.map(|donation| donation.size).sum()
    }

    /// The first donation of a kind.
    fn donation(&self, kind: Kind) -> Option<Donation> {
        self.donations.iter().copied().find(|donation| donation.kind == kind)
    }

    /// The whole command line.
    ///
    /// # Errors
    /// If there is no such machine: a donation that the board has no device for, or two by one device.
    pub fn command(&self) -> Result<Command> {
        self.command_for(&self.bootable, &self.kernel_words(), None)
    }

    /// The same for another kernel on this machine, with its words, and perhaps an initramfs.
    ///
    /// # Errors
    /// As for [`Machine::command`].
    pub fn command_for(&self, kernel: &Path, words: &str, initramfs: Option<&Path>) -> Result<Command> {
        self.check_donations()?;
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
        qemu.arg("-m").arg(self.memory_option());
        qemu.arg("-kernel").arg(kernel);
        qemu.arg("-append").arg(words);
        if let Some(initramfs) = initramfs {
            qemu.arg("-initrd").arg(initramfs);
        }
        qemu.arg("-device").arg(format!("isa-debug-exit,iobase={:#x},iosize=0x04", exit::PORT));
        if let Some(disk) = &self.disk {
            qemu.arg("-drive").arg(disk.option());
            qemu.arg("-device").arg(self.disk_device());
        }
        self.add_donors(&mut qemu)?;
        if let Some(socket) = &self.qmp {
            let mut listen = OsString::from("unix:");
            listen.push(escaped(socket));
            listen.push(",server=on,wait=off");
            qemu.arg("-qmp").arg(listen);
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
        Ok(qemu)
    }

    /// The disk, with a queue for each processor: on q35 that is what QEMU does by itself. A guest whose instructions are counted gets no
    /// interrupts of it and looks on, since its clock would jump when it halts.
    fn disk_device(&self) -> String {
        match (self.board, self.accel) {
            (Board::Q35, Accel::Counted) => "virtio-blk-pci,drive=disk,disable-legacy=on,vectors=0".to_owned(),
            (Board::Q35, _) => "virtio-blk-pci,drive=disk,disable-legacy=on".to_owned(),
            (Board::Microvm, _) => format!("virtio-blk-device,drive=disk,num-queues={}", self.processors),
        }
    }

    /// One device each is all that the guest looks for, and a microvm has none that needs PCI.
    fn check_donations(&self) -> Result<()> {
        for (at, donation) in self.donations.iter().enumerate() {
            let kind = donation.kind;
            let again = self.donations.iter().take(at).any(|earlier| earlier.kind == kind);
            if again && kind != Kind::CarveOut {
                bail!("memory is donated by {kind} twice; once is all there can be");
            }
            if kind.needs_pci() && self.board == Board::Microvm {
                bail!("memory cannot be donated by {kind} on microvm, which has no PCI; take q35");
            }
        }
        Ok(())
    }

    /// What virtio-mem can plug needs room above the memory that is there from the start.
    fn memory_option(&self) -> String {
        let total = self.total_memory();
        match self.donation(Kind::Mem) {
            None => total.to_string(),
            Some(donation) => format!("size={total},maxmem={}", total + donation.size + ALIGNMENT_OF_DIMMS),
        }
    }

    /// The devices through which memory is donated and taken back.
    fn add_donors(&self, qemu: &mut Command) -> Result<()> {
        if self.donation(Kind::Balloon).is_some() {
            const FEATURES: &str = "id=balloon0,deflate-on-oom=on,free-page-reporting=on";
            qemu.arg("-device").arg(match self.board {
                Board::Q35 => format!("virtio-balloon-pci,{FEATURES},disable-legacy=on"),
                Board::Microvm => format!("virtio-balloon-device,{FEATURES}"),
            });
        }
        if let Some(Donation { size, .. }) = self.donation(Kind::Mem) {
            qemu.arg("-object").arg(format!("memory-backend-ram,id=vm0,size={size}"));
            qemu.arg("-device").arg(format!("virtio-mem-pci,id=vmem0,memdev=vm0,requested-size={size}"));
        }
        if let Some(Donation { size, .. }) = self.donation(Kind::Ivshmem) {
            let file = self.shared_file.as_deref().context("there is no file for the memory behind ivshmem")?;
            let mut backend = OsString::from(format!("memory-backend-file,id=hm,size={size},share=on,mem-path="));
            backend.push(escaped(file));
            qemu.arg("-object").arg(backend);
            qemu.args(["-device", "ivshmem-plain,memdev=hm"]);
        }
        Ok(())
    }
}

/// QEMU may want to place a memory device at a multiple of this.
const ALIGNMENT_OF_DIMMS: Size = Size::mib(1024);

/// A path inside an option: a comma is doubled.
pub(crate) fn escaped(path: &Path) -> OsString {
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
            donations: vec![Donation { kind: Kind::CarveOut, size: Size::mib(16) }],
            disk: Some(Disk::sound("/t/a,b.img".into())),
            processors: 1,
            policy: Some("lru".to_owned()),
            log: Some(LogLevel::Debug),
            console: Console::Tagged,
            debugger: false,
            qmp: None,
            shared_file: None,
        }
    }

    fn line(machine: &Machine) -> String {
        let command = machine.command().unwrap();
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn donated_memory_comes_on_top() {
        assert!(line(&example()).contains("-m 80M "));
        assert_eq!(example().kernel_words(), "console=tagged loglevel=debug policy=lru donate=carveout:16M");
    }

    #[test]
    fn a_comma_in_a_path_stays_in_it() {
        assert!(line(&example()).contains("snapshot=on,file=/t/a,,b.img "));
    }

    #[test]
    fn microvm_has_no_pci_device() {
        let machine = Machine { board: Board::Microvm, ..example() };
        assert!(!line(&machine).contains("pci"));
        assert!(line(&machine).contains("virtio-blk-device,drive=disk,num-queues=1"));
        let machine = Machine { processors: 4, ..machine };
        assert!(line(&machine).contains("virtio-blk-device,drive=disk,num-queues=4"));
    }

    #[test]
    fn where_instructions_are_counted_no_disk_interrupts() {
        assert!(!line(&example()).contains("vectors"));
        assert!(
            line(&Machine { accel: Accel::Counted, ..example() })
                .contains("virtio-blk-pci,drive=disk,disable-legacy=on,vectors=0")
        );
    }

    fn with(board: Board, donations: &str) -> Machine {
        let donations = donations.split(',').map(|donation| donation.parse().unwrap()).collect();
        Machine { board, donations, shared_file: Some("/t/shared".into()), ..example() }
    }

    #[test]
    fn only_what_is_inside_adds_to_the_memory_at_the_start() {
        let machine = with(Board::Q35, "carveout=16M,balloon=64M,mem=32M,ivshmem=8M");
        let line = line(&machine);
        assert!(line.contains("-m size=144M,maxmem=1200M "), "{line}");
        for device in ["virtio-balloon-pci,id=balloon0,", "virtio-mem-pci,id=vmem0,", "ivshmem-plain,memdev=hm"] {
            assert!(line.contains(device), "{line}");
        }
        assert!(line.contains("size=8M,share=on,mem-path=/t/shared "), "{line}");
        let words = machine.kernel_words();
        assert!(words.ends_with(" donate=carveout:16M,balloon:64M,mem:32M,ivshmem:8M"), "{words}");
    }

    #[test]
    fn a_microvm_has_a_balloon_and_nothing_that_needs_pci() {
        assert!(line(&with(Board::Microvm, "balloon=64M")).contains("virtio-balloon-device,id=balloon0"));
        for donation in ["mem=32M", "ivshmem=8M"] {
            let error = with(Board::Microvm, donation).command().unwrap_err().to_string();
            assert!(error.contains("PCI"), "{error}");
        }
    }

    #[test]
    fn a_device_is_there_once_and_ivshmem_has_a_file() {
        assert!(with(Board::Q35, "balloon=8M,balloon=8M").command().is_err());
        assert!(with(Board::Q35, "carveout=8M,carveout=8M").command().is_ok());
        assert!(Machine { shared_file: None, ..with(Board::Q35, "ivshmem=8M") }.command().is_err());
    }

    #[test]
    fn qmp_listens_where_it_is_told_to() {
        assert!(!line(&example()).contains("-qmp"));
        let machine = Machine { qmp: Some("/t/x.qmp".into()), ..example() };
        assert!(line(&machine).contains("-qmp unix:/t/x.qmp,server=on,wait=off "));
    }
}
