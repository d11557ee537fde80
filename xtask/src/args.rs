//! What a person may type. Only shapes and help texts; what they mean is in the verbs' modules.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::donation::Donation;
use crate::image::BLOCK_SIZES;
use crate::machine::Board;
use crate::size::{Amount, Size};

/// Build, run and test Holdover.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
pub struct Cli {
    /// Install nothing; only say what is missing
    #[arg(long, global = true)]
    pub no_install: bool,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Install what is missing: QEMU, e2fsprogs, the guest's `core`
    Setup,
    /// Build the bootable file
    Build(Build),
    /// Boot the guest and give it commands
    Run(Run),
    /// Let the guest tell its story, in under half a minute; or show one thing at length
    Demo(Demo),
    /// Run the host's tests, then the scenarios in QEMU
    Test(Test),
    /// Measure in counted instructions, and print a table; or compare policies
    Bench(Bench),
    /// Show where the instructions of one measurement go: a flame graph and a table
    Profile(Profiled),
    /// Tell the QEMU of the guest that `run` started last to give or take memory
    Qmp(Qmp),
    /// Check formatting and lints, for host and guest
    Lint,
}

/// What `qmp` does.
#[derive(Args, Debug)]
pub struct Qmp {
    #[command(subcommand)]
    pub request: Request,
}

/// A wish to a running QEMU.
#[derive(Subcommand, Debug)]
pub enum Request {
    /// Set how much the host takes back of what the balloon leaves to the guest: 0 gives all of it to the guest
    Balloon {
        /// What the host wants to have
        size: Amount,
    },
    /// Set how much virtio-mem should have plugged; the rest of it goes back to the host
    Mem {
        /// What the guest should have
        size: Amount,
    },
    /// Print what the guest reports by the balloon's statistics queue
    Stats,
    /// Anything else is one command in JSON, such as '{"execute":"query-status"}'
    #[command(external_subcommand)]
    Raw(Vec<String>),
}

/// How the guest is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// With assertions and lock-order checks.
    Dev,
    /// As fast as it gets.
    Release,
}

/// Flags that choose a [`Profile`].
#[derive(Args, Debug, Clone, Copy)]
pub struct ProfileFlags {
    /// Build with optimisation
    #[arg(long, conflicts_with = "debug")]
    release: bool,
    /// Build with assertions
    #[arg(long)]
    debug: bool,
}

impl ProfileFlags {
    /// The profile that was asked for, or else `default`.
    pub fn or(self, default: Profile) -> Profile {
        match (self.release, self.debug) {
            (true, _) => Profile::Release,
            (_, true) => Profile::Dev,
            _ => default,
        }
    }
}

/// Flags of `build`.
#[derive(Args, Debug)]
pub struct Build {
    #[command(flatten)]
    pub profile: ProfileFlags,
}

/// Which accelerator QEMU is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccelChoice {
    /// KVM if the guest is seen to boot with it, else TCG
    Auto,
    /// Hardware virtualisation
    Kvm,
    /// Emulation
    Tcg,
}

/// How much the kernel writes to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Losses and refusals
    Error,
    /// What is wrong
    Warn,
    /// What goes on
    Info,
    /// What a developer wants to know
    Debug,
    /// Everything
    Trace,
}

impl LogLevel {
    /// The word that the kernel's command line takes.
    pub fn word(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// Flags that describe the machine, common to `run` and `demo`.
#[derive(Args, Debug, Clone)]
pub struct MachineFlags {
    /// Board: q35 has PCI, microvm has virtio over MMIO
    #[arg(long, value_name = "BOARD", value_enum, default_value_t = Board::Q35)]
    pub machine: Board,
    /// Memory that the kernel may call its own [default: 64M; demo: 32M; demo balloon: 48M]
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<Size>,
    /// Memory donated on top of that, as KIND=SIZE, several with commas between; KIND is carveout, balloon, mem
    /// or ivshmem [default: carveout=16M; demo balloon: balloon=64M]
    #[arg(long, value_name = "KIND=SIZE", value_delimiter = ',')]
    pub donate: Vec<Donation>,
    /// Which page leaves cleancache when its pools are full: lru, 2q, mq, s3-fifo, arc or density [default: density]
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// Accelerator
    #[arg(long, value_enum, default_value_t = AccelChoice::Auto)]
    pub accel: AccelChoice,
    /// Number of processors
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=255))]
    pub smp: u32,
    /// How much the kernel logs
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub log: Option<LogLevel>,
    /// How long the boot, or one command, may take
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub timeout: Duration,
    #[command(flatten)]
    pub profile: ProfileFlags,
}

/// Flags of `run`.
#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    pub machine: MachineFlags,
    /// What /disk shows: a directory, or an image [default: a sample tree]
    #[arg(long, value_name = "PATH")]
    pub disk: Option<PathBuf>,
    /// What the guest writes to the image stays in it; it is forgotten otherwise
    #[arg(long, requires = "disk")]
    pub write: bool,
    /// Shell commands, separated by `;`: their output goes to stdout, the rest to stderr.
    /// Exit status: 0 all succeeded, 1 a command failed, 2 the host failed, 3 the guest panicked,
    /// 4 time-out, 5 the guest ended in any other way
    #[arg(long, value_name = "COMMANDS")]
    pub exec: Option<String>,
    /// Wait for a debugger on port 1234
    #[arg(long)]
    pub gdb: bool,
}

/// What `demo` can show at length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Story {
    /// The host squeezes a busy guest by its balloon, and releases it; leaves a picture of the timeline
    Balloon,
    /// A busy guest goes on in another build of the kernel; leaves a picture with the gap in it
    Kexec,
}

/// Flags of `demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// What to show [default: the guest's own story]
    #[arg(value_enum)]
    pub story: Option<Story>,
    #[command(flatten)]
    pub machine: MachineFlags,
}

/// Flags of `test`.
#[derive(Args, Debug)]
pub struct Test {
    /// Run only scenarios whose name contains this, and no host tests
    pub filter: Option<String>,
    /// Processors of each guest, of scenarios that do not say how many and of the soak and the like
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: u32,
    /// Leave the host's tests out
    #[arg(long)]
    pub no_host: bool,
    /// Say what there is, and run nothing
    #[arg(long)]
    pub list: bool,
    /// Soak a guest in random operations instead; the seed that is printed repeats them
    #[arg(long, conflicts_with_all = ["filter", "list"])]
    pub soak: bool,
    /// Take a guest through so many kexecs instead, with a tree that changes in between
    #[arg(long, value_name = "N", conflicts_with_all = ["soak", "faults", "filter", "list"], value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub generations: Option<u32>,
    /// Only give the handover format and ext2 what a fuzzer makes up, for so many seconds; needs a nightly compiler
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["generations", "soak", "faults", "filter", "list"], value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub fuzz: Option<u32>,
    /// Do so many random operations on the guest's disk and on a model, and compare, instead
    #[arg(long, value_name = "N", conflicts_with_all = ["soak", "generations", "faults", "filter", "list"], value_parser = clap::value_parser!(u32).range(1..))]
    pub fs_ops: Option<u32>,
    /// Kill so many guests while they write to their disks, and see that nothing is lost, instead
    #[arg(long, value_name = "N", conflicts_with_all = ["soak", "generations", "faults", "fs_ops", "filter", "list"], value_parser = clap::value_parser!(u32).range(1..))]
    pub fs_kill: Option<u32>,
    /// Block size of the file system for --fs-ops and --fs-kill: 1024, 2048 or 4096 [default: each in turn]
    #[arg(long, value_name = "BYTES", value_parser = block_size)]
    pub block_size: Option<u32>,
    /// Mount and walk so many damaged images, instead
    #[arg(long, value_name = "N", conflicts_with_all = ["soak", "generations", "faults", "fs_ops", "fs_kill", "filter", "list"], value_parser = clap::value_parser!(u32).range(1..))]
    pub fs_images: Option<u32>,
    /// Seed of the soak, the generations, operations, kills or images [default: from the clock]
    #[arg(long, value_name = "N", conflicts_with_all = ["faults", "filter", "list"])]
    pub seed: Option<u64>,
    /// How long to soak
    #[arg(long, value_name = "M", requires = "soak", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub minutes: u32,
    /// Only put known faults back, one at a time, and see that the tests notice; is part of the host's tests
    #[arg(long, conflicts_with_all = ["soak", "filter", "list"])]
    pub faults: bool,
    /// How many scenarios run at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
    #[command(flatten)]
    pub profile: ProfileFlags,
}

/// What else `bench` measures.
#[derive(Subcommand, Debug)]
pub enum Measure {
    /// Compare policies of cleancache by simulation, over traces of reads
    Policy(Policy),
}

/// Flags of `bench policy`.
#[derive(Args, Debug)]
pub struct Policy {
    /// Only over traces that are made up: record none in a guest
    #[arg(long)]
    pub made_up: bool,
    /// For the simulator
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// Kernels that `bench` can compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rival {
    /// Debian's
    Linux,
}

/// Flags of `bench`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    pub what: Option<Measure>,
    /// Write JSON to a file too; without a name print it instead of the table
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// Draw the figures beside their limits
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Count instructions on this board only
    #[arg(long, value_name = "BOARD", value_enum)]
    pub machine: Option<Board>,
    /// Do the same in turn with another kernel too, in the same QEMU, by the clock on the wall: ratios
    #[arg(long, value_name = "KERNEL", value_enum)]
    pub vs: Option<Rival>,
    /// Measure nothing but those ratios
    #[arg(long, requires = "vs")]
    pub only: bool,
    /// Measure cleancache with 1,000,000 pages too, in a guest of 6 GiB
    #[arg(long)]
    pub large: bool,
    /// Measure twice, and fail if a figure differs by 1 %, is above its limit, or is 3 % worse than qemu/bench-baseline.toml
    #[arg(long, conflicts_with_all = ["machine", "vs"])]
    pub check: bool,
    /// Write the figures to qemu/bench-baseline.toml
    #[arg(long, conflicts_with_all = ["machine", "vs", "check"])]
    pub bless: bool,
}

/// Flags of `profile`.
#[derive(Args, Debug)]
pub struct Profiled {
    /// A measurement; `bench -l` in the guest lists them. Of first-byte also with a size, as first-byte-256M
    pub bench: String,
    /// Measure on this board [default: microvm]
    #[arg(long, value_name = "BOARD", value_enum)]
    pub machine: Option<Board>,
    /// Where the picture goes [default: target/holdover/profile-BENCH.svg]
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

fn block_size(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|size| BLOCK_SIZES.contains(size));
    size.ok_or_else(|| format!("one of {BLOCK_SIZES:?} is wanted"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(0) | Err(_) => Err("a number of seconds above 0 is wanted".to_owned()),
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_call_parses() {
        let cli = Cli::try_parse_from(
            "xtask run --disk /usr/share --mem 64M --donate carveout=16M --smp 2 --accel tcg"
                .split(' ')
                .chain(["--exec", "ls -l; free"]),
        )
        .unwrap();
        let Verb::Run(run) = cli.verb else {
            panic!("{cli:?}");
        };
        assert_eq!(run.machine.mem, Some(Size::mib(64)));
        assert_eq!(run.machine.donate.len(), 1);
        assert_eq!(run.exec.as_deref(), Some("ls -l; free"));
    }

    #[test]
    fn what_is_meant_for_the_simulator_reaches_it() {
        let cli = Cli::try_parse_from(["xtask", "bench", "policy", "--made-up", "--json", "zipf"]).unwrap();
        let Verb::Bench(Bench { what: Some(Measure::Policy(policy)), .. }) = cli.verb else {
            panic!("{cli:?}");
        };
        assert!(policy.made_up);
        assert_eq!(policy.args, ["--json", "zipf"]);
    }

    #[test]
    fn a_request_to_qemu_is_a_word_that_is_known_or_json() {
        let request = |words: &[&str]| match Cli::try_parse_from(["xtask", "qmp"].iter().chain(words)).unwrap().verb {
            Verb::Qmp(qmp) => qmp.request,
            other => panic!("{other:?}"),
        };
        assert!(matches!(request(&["balloon", "0"]), Request::Balloon { size } if size.bytes() == 0));
        assert!(matches!(request(&["{}"]), Request::Raw(words) if words == ["{}"]));
    }
}
