//! From a trap to Rust: the entry stubs, the registers they save, and who handles which vector.
//!
//! `extern "x86-interrupt"` is not stable, so each vector has a naked stub. A stub pushes the error code if the
//! processor did not, then its number, and joins the common path, which saves every general register, calls
//! [`dispatch`], and returns from the trap. The kernel is compiled without vector registers, so there is nothing more
//! to save. Interrupt handlers take no lock: they may have interrupted whoever holds it.

use core::arch::naked_asm;
use core::fmt;
use core::mem::{MaybeUninit, offset_of};

use super::{apic, cpu, local, stacks};
use crate::drivers::attention;
use crate::drivers::virtio::blk;
use crate::smp::{calls, stop};
use crate::{console, panic};

/// Vector of the serial port's interrupt (first of the range above the exceptions).
pub const VECTOR_SERIAL: u8 = 0x20;
/// Vector that all devices share which want to be served when it suits.
pub const VECTOR_DEVICES: u8 = 0x21;
/// Vector of the local APIC's timer.
pub const VECTOR_ALARM: u8 = 0x22;
/// Vector by which a processor is called by another.
pub const VECTOR_CALL: u8 = 0x23;
/// Vector by which a processor is woken: it does nothing but that.
pub const VECTOR_WAKE: u8 = 0x24;
/// Vector by which a disk calls the processor whose queue has something new.
pub const VECTOR_DISKS: u8 = 0x25;
/// Vector of the local APIC's spurious interrupt, which must not be acknowledged.
pub const VECTOR_SPURIOUS: u8 = 0xff;

/// The interrupted registers, as the stubs and the processor pushed them, lowest address first.
#[repr(C)]
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the registers they are named after")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error_code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Entry for a vector whose error code the processor pushes.
#[unsafe(naked)]
pub unsafe extern "C" fn entry_with_code<const VECTOR: u8>() -> ! {
    naked_asm!("push {vector}", "jmp {common}", vector = const VECTOR, common = sym common_entry)
}

/// Entry for a vector without an error code; pushes 0 in its place.
#[unsafe(naked)]
pub unsafe extern "C" fn entry<const VECTOR: u8>() -> ! {
    naked_asm!("push 0", "push {vector}", "jmp {common}", vector = const VECTOR, common = sym common_entry)
}

/// The processor aligned the stack to 16 and pushed 40 bytes; with error code, vector and 15 registers that makes 176,
/// so the call below finds the stack aligned as the ABI wants it.
#[unsafe(naked)]
unsafe extern "C" fn common_entry() -> ! {
    naked_asm!(
        "push rax",
        "push rbx",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push rbp",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov rdi, rsp",
        "cld",
        "call {dispatch}",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rbp",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rbx",
        "pop rax",
        "add rsp, 16",
        "iretq",
        dispatch = sym dispatch,
    )
}

/// The registers as they are now, in the form of a trap. Inlined, so that they are those of the caller, whose frame is
/// still there when a backtrace starts from them.
#[inline(always)]
pub fn snapshot() -> TrapFrame {
    let mut frame = MaybeUninit::<TrapFrame>::zeroed();
    // SAFETY: the function writes the frame, whose fields may be any numbers, and clobbers what the C ABI lets it.
    unsafe {
        store_registers(frame.as_mut_ptr());
        frame.assume_init()
    }
}

/// Writes the registers that its caller had. Those that a call may change are as they happen to be.
#[unsafe(naked)]
unsafe extern "C" fn store_registers(frame: *mut TrapFrame) {
    naked_asm!(
        "mov [rdi + 0], r15",
        "mov [rdi + 8], r14",
        "mov [rdi + 16], r13",
        "mov [rdi + 24], r12",
        "mov [rdi + 32], r11",
        "mov [rdi + 40], r10",
        "mov [rdi + 48], r9",
        "mov [rdi + 56], r8",
        "mov [rdi + 64], rbp",
        "mov [rdi + 72], rdi",
        "mov [rdi + 80], rsi",
        "mov [rdi + 88], rdx",
        "mov [rdi + 96], rcx",
        "mov [rdi + 104], rbx",
        "mov [rdi + 112], rax",
        "pushfq",
        "pop rax",
        "mov [rdi + {rflags}], rax",
        "mov rax, [rsp]",
        "mov [rdi + {rip}], rax",
        "lea rax, [rsp + 8]",
        "mov [rdi + {rsp}], rax",
        "mov eax, cs",
        "mov [rdi + {cs}], rax",
        "mov eax, ss",
        "mov [rdi + {ss}], rax",
        "ret",
        rflags = const offset_of!(TrapFrame, rflags),
        rip = const offset_of!(TrapFrame, rip),
        rsp = const offset_of!(TrapFrame, rsp),
        cs = const offset_of!(TrapFrame, cs),
        ss = const offset_of!(TrapFrame, ss),
    )
}

/// Decides what a trap means. Every exception is a bug of ours and ends the kernel.
extern "C" fn dispatch(frame: &TrapFrame) {
    match u8::try_from(frame.vector) {
        Ok(VECTOR_SERIAL) => {
            console::input::on_interrupt();
            apic::end_of_interrupt();
        }
        Ok(VECTOR_DEVICES) => {
            attention::ring();
            apic::on_devices();
        }
        Ok(VECTOR_ALARM) => {
            // Others are woken by it, and that is all.
            if local::number() == 0 {
                attention::alarm();
            }
            apic::end_of_interrupt();
        }
        Ok(VECTOR_CALL) => {
            calls::answer();
            apic::end_of_interrupt();
        }
        Ok(VECTOR_WAKE) => apic::end_of_interrupt(),
        Ok(VECTOR_DISKS) => {
            blk::on_interrupt();
            apic::end_of_interrupt();
        }
        Ok(VECTOR_SPURIOUS) => {}
        Ok(NMI) => {
            stop::on_nmi();
            panic::on_exception(frame, &Cause::of(frame));
        }
        _ => panic::on_exception(frame, &Cause::of(frame)),
    }
}

/// What an exception was about, in words.
#[derive(Clone, Copy, Debug)]
pub enum Cause {
    /// A page fault in the hole under a stack.
    StackOverflow {
        /// Which stack ran over.
        stack: &'static str,
        /// The address that was touched.
        address: u64,
    },
    /// Any other page fault.
    PageFault {
        /// The address that was touched.
        address: u64,
        /// The processor's error code (Intel SDM vol. 3, 4.7).
        code: u64,
    },
    /// Any other exception, by vector.
    Exception {
        /// Its name in the manual.
        name: &'static str,
        /// Its error code, or 0.
        code: u64,
    },
}

const NMI: u8 = 2;
const PAGE_FAULT: u64 = 14;

/// Names of the vectors below 32 (Intel SDM vol. 3, table 6-1).
const NAMES: [&str; 32] = [
    "divide error",
    "debug exception",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack-segment fault",
    "general protection fault",
    "page fault",
    "reserved exception 15",
    "x87 floating-point error",
    "alignment check",
    "machine check",
    "SIMD floating-point error",
    "virtualization exception",
    "control protection exception",
    "reserved exception 22",
    "reserved exception 23",
    "reserved exception 24",
    "reserved exception 25",
    "reserved exception 26",
    "reserved exception 27",
    "hypervisor injection exception",
    "VMM communication exception",
    "security exception",
    "reserved exception 31",
];

impl Cause {
    fn of(frame: &TrapFrame) -> Self {
        let code = frame.error_code;
        if frame.vector == PAGE_FAULT {
            let address = cpu::fault_address();
            return match stacks::guarded_by(address) {
                Some(stack) => Self::StackOverflow { stack, address },
                None => Self::PageFault { address, code },
            };
        }
        let name = usize::try_from(frame.vector)
            .ok()
            .and_then(|vector| NAMES.get(vector).copied())
            .unwrap_or("unexpected interrupt");
        Self::Exception { name, code }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::StackOverflow { stack, address } => {
                write!(f, "stack overflow: the {stack} reached its guard page at {address:#x}")
            }
            Self::PageFault { address, code } => {
                let access = match (code & 0x10 != 0, code & 2 != 0) {
                    (true, _) => "executing",
                    (false, true) => "writing",
                    (false, false) => "reading",
                };
                let why = if code & 1 == 0 { "not mapped" } else { "not permitted" };
                write!(f, "page fault {access} {address:#x}: {why}")
            }
            Self::Exception { name, code } => write!(f, "{name} (error code {code:#x})"),
        }
    }
}

/// Three registers, to be shown in one line.
#[derive(Clone, Copy, Debug)]
pub struct Row([(&'static str, u64); 3]);

impl TrapFrame {
    /// All registers, in lines of three.
    pub fn rows(&self) -> [Row; 7] {
        [
            Row([("rip", self.rip), ("rsp", self.rsp), ("rbp", self.rbp)]),
            Row([("rax", self.rax), ("rbx", self.rbx), ("rcx", self.rcx)]),
            Row([("rdx", self.rdx), ("rsi", self.rsi), ("rdi", self.rdi)]),
            Row([("r8", self.r8), ("r9", self.r9), ("r10", self.r10)]),
            Row([("r11", self.r11), ("r12", self.r12), ("r13", self.r13)]),
            Row([("r14", self.r14), ("r15", self.r15), ("flg", self.rflags)]),
            Row([("cs", self.cs), ("ss", self.ss), ("cr2", cpu::fault_address())]),
        ]
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third] = self.0;
        write!(f, "{:3} {:016x}  {:3} {:016x}  {:3} {:016x}", first.0, first.1, second.0, second.1, third.0, third.1)
    }
}
