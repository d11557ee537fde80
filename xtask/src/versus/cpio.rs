//! An initramfs: an archive in cpio's newc format (Linux: Documentation/driver-api/early-userspace/buffer-format.rst).

use std::fmt::Write;

/// Archives files in the root directory, by name, all of them executable.
pub fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (index, (name, bytes)) in files.iter().enumerate() {
        add(&mut archive, index + 1, 0o100_755, name, bytes);
    }
    add(&mut archive, 0, 0, "TRAILER!!!", &[]);
    archive
}

fn add(archive: &mut Vec<u8>, ino: usize, mode: u32, name: &str, bytes: &[u8]) {
    let mut header = String::from("070701");
    let fields = [ino, mode as usize, 0, 0, 1, 0, bytes.len(), 0, 0, 0, 0, name.len() + 1, 0];
    for field in fields {
        let _ = write!(header, "{field:08x}");
    }
    archive.extend(header.as_bytes());
    archive.extend(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend(bytes);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_are_aligned() {
        let archive = archive(&[("init", b"hello".to_vec())]);
        let text = String::from_utf8_lossy(&archive);
        assert!(text.starts_with("070701") && text.len().is_multiple_of(4));
        // 110 bytes of header, five of name, one to fill.
        assert_eq!(&archive[116..121], b"hello");
        assert!(text.contains("TRAILER!!!"));
    }
}
