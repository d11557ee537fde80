//! Lays out the boot stage and finds the kernel that it carries.
//!
//! The kernel's ELF file comes by the environment variable `HOLDOVER_KERNEL`, stripped of what is not loaded.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=link.ld");
    println!("cargo::rerun-if-env-changed=HOLDOVER_KERNEL");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("link.ld");
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
        println!("cargo::rustc-link-arg-bins=--no-eh-frame-hdr");
    }

    let kernel = match env::var_os("HOLDOVER_KERNEL").map(PathBuf::from) {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", path.display());
            fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?
        }
        // Enough to check and to test the boot stage; one without a kernel says so when it is booted.
        None => Vec::new(),
    };
    fs::write(Path::new(&env::var("OUT_DIR")?).join("kernel.elf"), kernel)?;
    Ok(())
}
