//! All that is needed to start guests: a build, QEMU, and a place to work in.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use crate::args::{AccelChoice, MachineFlags, Profile};
use crate::build::{Built, build, build_previous};
use crate::disk::Disk;
use crate::donation::{Donation, Kind as DonationKind};
use crate::guest::{Guest, Limit, Listener};
use crate::host::{Install, Tool};
use crate::machine::{Accel, Board, Console, Machine};
use crate::outcome::Ending;
use crate::places::{Places, WorkDir};
use crate::session::Session;
use crate::size::Size;
use crate::symbolise::{self, Kind};
use crate::toolchain::{Need, Toolchain};

/// What the kernel may call its own unless somebody says otherwise.
pub const MEMORY: Size = Size::mib(64);
/// What is lent on top of that.
pub const DONATION: Donation = Donation { kind: DonationKind::CarveOut, size: Size::mib(16) };

/// A build, and the tools to run it.
#[derive(Clone, Debug)]
pub struct Workshop {
    /// Where things lie.
    pub places: Places,
    /// Whether the host may be changed.
    pub install: Install,
    /// What was built.
    pub built: Built,
    qemu: PathBuf,
    toolchain: Toolchain,
    profile: Profile,
    /// Processors of a machine of which nobody says otherwise.
    processors: u32,
    /// Built when somebody first asks for it.
    previous: Arc<Mutex<Option<Built>>>,
}

impl Workshop {
    /// Finds or installs the tools, and builds.
    pub fn open(places: Places, install: Install, profile: Profile) -> Result<Workshop> {
        let toolchain = Toolchain::find(&places, Need::Build, install)?;
        let qemu = Tool::Qemu.find(install)?;
        let built = build(&places, &toolchain, profile)?;
        Ok(Workshop { places, install, built, qemu, toolchain, profile, processors: 1, previous: Arc::default() })
    }

    /// The same with so many processors in its machines.
    pub fn with_processors(self, processors: u32) -> Workshop {
        Workshop { processors, ..self }
    }

    /// A build that knows the previous version of the handover format only.
    pub fn previous(&self) -> Result<Built> {
        let mut previous = self.previous.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = &*previous {
            return Ok(built.clone());
        }
        let built = build_previous(&self.places, &self.toolchain, self.profile)?;
        Ok(previous.insert(built).clone())
    }

    /// An ordinary machine without a disk, which speaks to a program.
    pub fn machine(&self) -> Machine {
        Machine {
            qemu: self.qemu.clone(),
            bootable: self.built.bootable.clone(),
            board: Board::Q35,
            accel: Accel::Tcg,
            memory: MEMORY,
            donations: Vec::new(),
            disk: None,
            processors: self.processors,
            queues: None,
            policy: None,
            log: None,
            console: Console::Tagged,
            debugger: false,
            qmp: None,
            shared_file: None,
        }
    }

    /// A machine that QMP reaches, and that keeps shared memory in `work`.
    pub fn machine_in(&self, work: &WorkDir) -> Machine {
        Machine { qmp: Some(work.socket().to_owned()), shared_file: Some(work.join("ivshmem")), ..self.machine() }
    }

    /// The machine that a person asked for.
    pub fn machine_for(&self, flags: &MachineFlags, memory: Size, work: &WorkDir) -> Result<Machine> {
        let donations = match &flags.donate[..] {
            [] => vec![DONATION],
            donations => donations.to_vec(),
        };
        let machine = Machine {
            board: flags.machine,
            memory: flags.mem.unwrap_or(memory),
            donations,
            processors: flags.smp,
            queues: None,
            policy: flags.policy.clone(),
            log: flags.log,
            ..self.machine_in(work)
        };
        let accel = self.choose_accel(flags.accel, &machine)?;
        Ok(Machine { accel, ..machine })
    }

    /// Decides between KVM and TCG, and says so on stderr.
    fn choose_accel(&self, choice: AccelChoice, machine: &Machine) -> Result<Accel> {
        let (accel, why) = match choice {
            AccelChoice::Kvm => (Accel::Kvm, "as asked".to_owned()),
            AccelChoice::Tcg => (Accel::Tcg, "as asked".to_owned()),
            AccelChoice::Auto => match self.try_kvm(machine)? {
                Ok(()) => (Accel::Kvm, "the guest boots with it".to_owned()),
                Err(reason) => (Accel::Tcg, reason),
            },
        };
        let name = match accel {
            Accel::Kvm => "KVM",
            Accel::Tcg | Accel::Counted => "TCG",
        };
        eprintln!("accelerator: {name} ({why})");
        Ok(accel)
    }

    /// Proves that KVM runs this very guest: /dev/kvm may be there and still not. Gives the reason
    /// if it does not.
    fn try_kvm(&self, machine: &Machine) -> Result<Result<(), String>> {
        const DEVICE: &str = "/dev/kvm";
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);
        let mut open = std::fs::File::options();
        if let Err(error) = open.read(true).write(true).open(DEVICE) {
            return Ok(Err(format!("{DEVICE}: {error}")));
        }
        let probe = Machine { accel: Accel::Kvm, disk: None, ..machine.clone() };
        let session = Session::start(probe.command()?, &self.places.log("kvm-probe")?)?;
        let limit = Limit::new(PATIENCE);
        let ending = match Guest::boot(session, &mut Nobody, limit) {
            Ok((guest, _)) => guest.power_off(&mut Nobody, limit),
            Err(ending) => ending,
        };
        Ok(match ending {
            Ending::Clean => Ok(()),
            other => Err(format!("under KVM: {other}")),
        })
    }

    /// A panic's backtrace as lines for people.
    pub fn backtrace(&self, ending: &Ending) -> Vec<String> {
        let Ending::Panic { location, trace, .. } = ending else {
            return Vec::new();
        };
        // An exception has no place in the source; its trace begins with the instruction itself.
        let innermost = match location.is_empty() {
            true => Kind::Instruction,
            false => Kind::Return,
        };
        symbolise::backtrace(&self.built.kernel, trace, innermost)
    }

    /// A sound image for machines of this workshop.
    pub fn disk(image: PathBuf) -> Option<Disk> {
        Some(Disk::sound(image))
    }
}

/// A listener that does not care.
struct Nobody;

impl Listener for Nobody {
    fn output(&mut self, _: &[u8]) {}
    fn error(&mut self, _: &str) {}
    fn log(&mut self, _: &str) {}
}
