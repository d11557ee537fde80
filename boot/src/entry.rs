//! The way in and the way out: assembly, and the linker's symbols.
//!
//! In: PVH enters in 32-bit protected mode, paging off, flat segments, no stack, `ebx` = start info (Xen's
//! `public/arch-x86/hvm/start_info.h`). The code clears .bss, maps the first 4 GiB at their own addresses and goes to
//! 64-bit mode. Out: [`switch`] changes to the kernel's page tables and enters it.
//!
//! There is no interrupt descriptor table: a fault in the boot stage ends in a triple fault.

use bootproto::{Jump, Span};
use core::arch::{asm, global_asm};

/// How much is mapped at its own address while the boot stage runs.
pub const IDENTITY_MAPPED: u64 = 1 << 32;

const STACK_SIZE: usize = 128 * 1024;

static NO_LONG_MODE: [u8; 71] = *b"@refused reason=\"the processor has no long mode or no no-execute bit\"\r\n";

unsafe extern "C" {
    static __image_start: u8;
    static __constant_start: u8;
    static __image_end: u8;
    static __switch: u8;
    fn pvh_entry();
}

/// The memory of the boot stage, .bss and stack included: whole pages.
pub fn image() -> Span {
    Span::between((&raw const __image_start) as u64, (&raw const __image_end) as u64)
}

/// The part of it that is never written, which is all that has to be there when it is entered again.
pub fn constant() -> Span {
    Span::between((&raw const __constant_start) as u64, (&raw const __image_end) as u64)
}

/// The page that [`switch`] lies in.
pub fn switch_page() -> Span {
    Span { start: (&raw const __switch) as u64, len: bootproto::PAGE_SIZE }
}

/// The 32-bit entry.
pub fn address() -> u32 {
    pvh_entry as *const () as usize as u32
}

/// Goes back to the kernel before, by the jump that it has prepared.
///
/// # Safety
/// The fields are what they say, nothing that they name was written to since, and no device writes to memory. The page tables
/// map all memory at its own address, which is where the boot stage runs.
pub unsafe fn go_back(jump: &Jump) -> ! {
    // SAFETY: this code is mapped at the same address by both tables; what comes then is the kernel's own code, which is given
    // what it expects: see `kexec_trampoline` there.
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

unsafe extern "C" {
    /// Loads `cr3`, switches to the stack that ends at `stack_end` (16-byte aligned) and enters the kernel as if by a
    /// call: the stack pointer is 8 below, `rdi` is `boot_info`.
    ///
    /// # Safety
    /// The tables at `cr3` map [`switch_page`] at its own address, executable, and what the kernel needs.
    pub fn switch(cr3: u64, stack_end: u64, entry: u64, boot_info: u64) -> !;
}

global_asm!(
    r#"
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18                      // owner length, content length, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry                     // QEMU reads eight bytes

    .section .note.seal, "a", @note
    .balign 4
    .long 9, 8, 1
    .asciz "Holdover"
    .balign 4
    .long 0, 0                          // blank: the build seals the finished file

    // Blank too: the build copies the kernel's notes here, handover versions and build.
    .long 9, 8, 2
    .asciz "Holdover"
    .balign 4
    .long 0, 0
    .long 9, 64, 3
    .asciz "Holdover"
    .balign 4
    .skip 64

    .section .text.pvh_entry, "ax"
    .code32
    .global pvh_entry
pvh_entry:
    cli
    cld
    mov esp, offset boot_stack_end
    mov ebp, ebx                        // out of cpuid's way

    mov edi, offset __bss_start
    mov ecx, offset __bss_end
    sub ecx, edi
    shr ecx, 2
    xor eax, eax
    rep stosd

    // Long mode and no-execute, or not at all.
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb 2f
    mov eax, 0x80000001
    cpuid
    and edx, (1 << 29) | (1 << 20)
    cmp edx, (1 << 29) | (1 << 20)
    jne 2f

    // Top table -> pointer table -> four directories of 2 MiB pages.
    mov eax, offset early_pointers
    or eax, 3
    mov [early_top], eax
    mov edi, offset early_pointers
    mov eax, offset early_directories
    or eax, 3
    mov ecx, 4
3:  mov [edi], eax
    add edi, 8
    add eax, 4096
    loop 3b
    mov edi, offset early_directories
    mov eax, 0x83                       // present, writable, large
    xor edx, edx
    mov ecx, 2048
4:  mov [edi], eax
    mov [edi + 4], edx
    add edi, 8
    add eax, 0x200000
    loop 4b

    mov eax, offset early_top
    mov cr3, eax
    mov eax, 1 << 5                     // PAE
    mov cr4, eax
    mov ecx, 0xc0000080                 // EFER
    xor edx, edx
    mov eax, (1 << 8) | (1 << 11)       // LME, NXE
    wrmsr
    mov eax, (1 << 31) | (1 << 16) | 0x33 // PG, WP, NE, ET, MP, PE
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    push 8
    mov eax, offset boot_64
    push eax
    retf

    // The serial port as the VMM left it takes the bytes without being set up.
2:  mov esi, offset {no_long_mode}
    mov ecx, {no_long_mode_len}
    mov dx, 0x3f8
    rep outsb
    mov eax, 0x12
    mov dx, 0xf4
    out dx, eax
5:  hlt
    jmp 5b

    .code64
boot_64:
    xor eax, eax
    mov ss, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov rsp, offset boot_stack_end
    mov edi, ebp
    xor ebp, ebp
    call {main}
    ud2

    .section .switch, "ax"
    .balign 4096
    .global __switch, switch
__switch:
switch:
    mov cr3, rdi
    mov rsp, rsi
    mov rdi, rcx
    xor ebp, ebp
    push 0
    jmp rdx

    // The kernel still has this table until it loads its own. Its page is never written, so the descriptors are
    // marked as accessed already.
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            // code, 64-bit
    .quad 0x00cf93000000ffff            // data
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .quad boot_gdt

    .section .bss.early_tables, "aw", @nobits
    .balign 4096
early_top:
    .skip 4096
early_pointers:
    .skip 4096

    .section .uncleared, "aw", @nobits
    .balign 4096
early_directories:
    .skip 4 * 4096
    .skip {stack_size}
boot_stack_end:
    "#,
    main = sym crate::main,
    no_long_mode = sym NO_LONG_MODE,
    no_long_mode_len = const NO_LONG_MODE.len(),
    stack_size = const STACK_SIZE,
);
