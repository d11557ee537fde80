//! Starting another processor: the way from real mode into the kernel.
//!
//! A processor that is started begins in real mode at the start of a page below 1 MiB. That page is frame 0, which is nobody's and
//! is never handed over, so nothing has to be set aside. The code goes through 32-bit mode into the page tables that the boot
//! processor uses, with the same control registers, and takes its stack and its number from the page. The boot processor starts one
//! after the other; a stack can be taken once, so a processor that comes late finds none and halts.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use frames::{FRAME_SIZE, Memory, Page};
use x86_64::registers::control::{Cr0, Cr4};
use x86_64::registers::model_specific::{Efer, EferFlags};

use super::paging::{self, PagingError};
use super::{apic, cpu, idt, segments};

/// Where in the page the code reads what it is to be, in words of 64 bits.
const WORDS: usize = 256;
const CR0: usize = 0;
const CR3: usize = 1;
const CR4: usize = 2;
const EFER: usize = 3;
const STACK: usize = 4;
const NUMBER: usize = 5;
const TABLES: usize = 6;
const ENTRY: usize = 7;
const ALL_WORDS: usize = 8;

unsafe extern "C" {
    static start_trampoline: [u8; FRAME_SIZE];
}

/// Frame 0, with the code in it, for as long as processors are started.
#[derive(Debug)]
pub struct Trampoline(&'static [AtomicU64; ALL_WORDS]);

/// The page's number, for [`apic::Command::Start`].
pub const PAGE: u8 = 0;

impl Trampoline {
    /// Puts the code into frame 0, which is memory and stays nobody's. `entered` is where processors arrive.
    ///
    /// # Errors
    /// If the frame cannot be mapped at its own address, or the page tables lie where 32-bit code cannot reach them.
    pub fn lay(memory: &'static Memory, entered: fn() -> !) -> Result<Self, PagingError> {
        let tables = cpu::page_table_root();
        if u32::try_from(tables).is_err() {
            return Err(PagingError::BadAddress(tables));
        }
        paging::show_frame_zero_at_zero(memory)?;
        let page = paging::WINDOW as *mut u8;
        // SAFETY: frame 0 is memory (the caller's knowledge), the window shows it, and nobody owns it: the allocator never has it. Its
        // words are reached as atomics only, from here on.
        let words = unsafe {
            page.cast::<Page>().copy_from_nonoverlapping((&raw const start_trampoline).cast(), 1);
            &*page.add(WORDS).cast::<[AtomicU64; ALL_WORDS]>()
        };
        let this = Self(words);
        this.set(CR0, Cr0::read_raw());
        this.set(CR3, tables);
        this.set(CR4, Cr4::read_raw());
        // That long mode is active is for the processor to say.
        this.set(EFER, (Efer::read() - EferFlags::LONG_MODE_ACTIVE).bits());
        this.set(ENTRY, arrive as *const () as u64);
        ENTERED.call_once(|| entered);
        Ok(this)
    }

    /// Prepares what the next processor to come becomes.
    pub fn offer(&self, number: usize, tables: &'static segments::Tables, stack: u64) {
        self.set(NUMBER, number as u64);
        self.set(TABLES, core::ptr::from_ref(tables).expose_provenance() as u64);
        self.set(STACK, stack);
    }

    /// Takes the offer back; says whether it was still there. If it was not, a processor has come.
    pub fn withdraw(&self) -> bool {
        self.word(STACK).swap(0, Ordering::AcqRel) != 0
    }

    /// Takes the page out of the page tables again.
    ///
    /// # Errors
    /// [`PagingError`], if some processor may still have it.
    pub fn clear(self) -> Result<(), PagingError> {
        paging::unmap_page(0)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.0[index % ALL_WORDS]
    }

    fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Release);
    }
}

/// Where processors go when they are in the kernel.
static ENTERED: spin::Once<fn() -> !> = spin::Once::new();

/// The first Rust code of another processor, on its own stack.
extern "C" fn arrive(number: u64, tables: &'static segments::Tables) -> ! {
    segments::load(tables, number as usize);
    idt::init();
    apic::switch_on();
    match ENTERED.get() {
        Some(entered) => entered(),
        None => cpu::halt_forever(),
    }
}

global_asm!(
    r#"
    .section .rodata.start_trampoline, "a"
    .balign 4096
    .global start_trampoline
    .code16
start_trampoline:
    cli
    cld
    xor ebx, ebx
    mov ds, bx
    lgdt [bx + {gdt_pointer}]
    mov eax, 0x11                       // ET, PE
    mov cr0, eax
    .byte 0x66, 0xea                    // to 32-bit code
    .long start_protected - start_trampoline
    .word 8

    .code32
start_protected:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, [ebx + {cr4}]
    mov cr4, eax
    mov eax, [ebx + {cr3}]
    mov cr3, eax
    mov ecx, 0xc0000080                 // EFER
    mov eax, [ebx + {efer}]
    mov edx, [ebx + {efer} + 4]
    wrmsr
    mov eax, [ebx + {cr0}]
    mov cr0, eax
    .byte 0xea                          // to 64-bit code
    .long start_long - start_trampoline
    .word 24

    .code64
start_long:
    movabs rbx, {window}                // where the page can be written to
    xor eax, eax
    xchg rax, [rbx + {stack}]
    test rax, rax
    jz 2f
    mov rsp, rax
    mov rdi, [rbx + {number}]
    mov rsi, [rbx + {tables}]
    xor ebp, ebp
    push rbp
    jmp [rbx + {entry}]
2:  hlt
    jmp 2b

    .org start_trampoline + {gdt}
    .quad 0
    .quad 0x00cf9b000000ffff            // code, 32-bit
    .quad 0x00cf93000000ffff            // data
    .quad 0x00af9b000000ffff            // code, 64-bit
    .org start_trampoline + {gdt_pointer}
    .word 4 * 8 - 1
    .long {gdt}
    .org start_trampoline + {page}
    .code64
    "#,
    gdt = const 192,
    gdt_pointer = const 224,
    cr0 = const WORDS + 8 * CR0,
    cr3 = const WORDS + 8 * CR3,
    cr4 = const WORDS + 8 * CR4,
    efer = const WORDS + 8 * EFER,
    stack = const WORDS + 8 * STACK,
    number = const WORDS + 8 * NUMBER,
    tables = const WORDS + 8 * TABLES,
    entry = const WORDS + 8 * ENTRY,
    window = const paging::WINDOW,
    page = const FRAME_SIZE,
);
