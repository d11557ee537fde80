//! The jump: the few instructions between two kernels.
//!
//! They are copied to two pages and run without a stack, at their physical addresses. From the first page, which is in
//! nobody's way, they make the moves; by then the kernel's code, stack and page tables may be gone. One of the moves
//! has put the second page below 4 GiB, where the way from 64-bit mode to 32-bit mode without paging ends, as the PVH
//! entry demands it (Xen's `public/arch-x86/hvm/start_info.h`): `ebx` holds the start info's address.

use super::moves::{CHAIN, CLEAR, DONE};
use crate::arch::{cpu, paging};
use bootproto::Jump;
use core::arch::{asm, global_asm};
use frames::{FRAME_SIZE, Page, PhysAddr};

/// Where in the page the code goes on once it is below 4 GiB.
const BELOW: usize = 256;

unsafe extern "C" {
    static kexec_trampoline: Page;
}

/// The code, position-independent and exactly one page.
pub fn code() -> &'static Page {
    // SAFETY: the assembly below defines a page of read-only data by this name.
    unsafe { &kexec_trampoline }
}

/// The top page table in use, or `None` if the kernel has no address for it.
pub fn current_top_table() -> Option<&'static Page> {
    let table = paging::window(PhysAddr::new(cpu::page_table_root()))?;
    // SAFETY: CR3 names a page of memory, and the window maps all of it. The top table is not changed any more: the
    // kernel's entries are all there from the start, and it is about to end.
    Some(unsafe { &*(table as *const Page) })
}

/// Leaves the kernel for good.
///
/// # Safety
/// The fields are what they say. This is the only processor that runs, no device writes to memory any more, and the page
/// tables map the kernel as it is mapped now, and all memory at its own address.
pub unsafe fn go(jump: &Jump) -> ! {
    // SAFETY: the instruction after the change of page tables is mapped in both. From the jump on, only the two pages, the
    // list and the sources are read, none of which is a destination.
    unsafe {
        asm!(
            "cli",
            "mov cr3, {page_tables}",
            "jmp {code}",
            page_tables = in(reg) jump.page_tables,
            code = in(reg) jump.code,
            in("rdi") jump.moves,
            in("rsi") jump.code_copy,
            in("rdx") u64::from(jump.entry),
            in("rcx") jump.start_info,
            options(noreturn),
        )
    }
}

global_asm!(
    r#"
    .section .rodata.kexec_trampoline, "a"
    .balign 4096
    .global kexec_trampoline
    .code64
kexec_trampoline:
    cld
    mov r8, rsi
    mov ebp, edx
    mov r9d, ecx
    mov rbx, rdi

2:  mov rdi, [rbx]
    mov rsi, [rbx + 8]
    add rbx, 16
    test sil, {done}
    jnz 5f
    test sil, {chain}
    jnz 4f
    mov ecx, 512
    test sil, {clear}
    jnz 3f
    and rsi, -4096
    rep movsq
    jmp 2b
3:  xor eax, eax
    rep stosq
    jmp 2b
4:  and rsi, -4096
    mov rbx, rsi
    jmp 2b

5:  lea rax, [r8 + {below}]
    jmp rax

    // Below 4 GiB from here on. The page's end serves as a stack of two words.
    .org kexec_trampoline + {below}
    mov ebx, r9d
    lea rsp, [r8 + {page}]
    lea rax, [rip + kexec_gdt]
    mov [rip + kexec_gdt_pointer + 2], rax
    lgdt [rip + kexec_gdt_pointer]
    lidt [rip + kexec_no_idt]
    mov eax, 1 << 5                     // PAE alone, as long as there is paging
    mov cr4, rax
    push 8
    lea rax, [rip + kexec_flat]
    push rax
    retfq

    .code32
kexec_flat:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    mov eax, 0x11                       // ET, PE: paging ends here
    mov cr0, eax
    mov ecx, 0xc0000080                 // EFER: and with it long mode
    xor eax, eax
    xor edx, edx
    wrmsr
    mov cr4, eax
    mov cr3, eax
    jmp ebp

    .balign 8
kexec_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            // code, 32-bit, all 4 GiB
    .quad 0x00cf93000000ffff            // data
kexec_gdt_pointer:
    .word kexec_gdt_pointer - kexec_gdt - 1
    .quad 0
kexec_no_idt:
    .word 0
    .quad 0
    .org kexec_trampoline + {page}
    .code64
    "#,
    done = const DONE,
    chain = const CHAIN,
    clear = const CLEAR,
    below = const BELOW,
    page = const FRAME_SIZE,
);
