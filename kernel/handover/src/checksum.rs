//! The checksums of the frames of a chain: CRC-32C of all of them, the root's own field left out.

use crate::layout::ROOT_CHECKSUM;
use frames::Page;
use frames::checksum::crc32c;

/// The checksum of a whole frame.
pub(crate) fn frame(page: &Page) -> u32 {
    crc32c(0, page)
}

/// The checksum of a root, with the four bytes that hold the checksum itself counted as zeros.
pub(crate) fn root(page: &Page) -> u32 {
    let (before, rest) = page.split_at(ROOT_CHECKSUM.start);
    let (own, after) = rest.split_at(ROOT_CHECKSUM.len());
    let blank = &[0; ROOT_CHECKSUM.end - ROOT_CHECKSUM.start][..own.len()];
    crc32c(crc32c(crc32c(0, before), blank), after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use frames::FRAME_SIZE;

    #[test]
    fn a_roots_checksum_leaves_itself_out_and_nothing_else() {
        let clean = root(&[7; FRAME_SIZE]);
        for at in 0..FRAME_SIZE {
            let mut page = [7; FRAME_SIZE];
            page[at] ^= 0x10;
            assert_eq!(root(&page) == clean, ROOT_CHECKSUM.contains(&at), "byte {at}");
        }
    }
}
