//! What a bootable file says of the kernel in it: which handover versions it reads and writes, and what it calls itself.
//!
//! The kernel's own file carries both as notes ([`KernelNotes`]), made of the constants that it is compiled with. The build
//! copies them into the bootable file around it ([`About::of`], [`describe`]) before that is sealed, so that they cannot
//! drift. A bootable file without them is older than they are: such kernels know version 1 and nothing else.

use super::notes::Notes;
use super::{ImageError, SEAL_OWNER};
use core::fmt;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Type of the note with the handover versions; its owner is [`SEAL_OWNER`].
pub const VERSIONS_TYPE: u32 = 2;
/// Type of the note with the build's name; its owner is [`SEAL_OWNER`].
pub const BUILD_TYPE: u32 = 3;
/// Bytes of the note with the build's name, which is filled up with NULs.
pub const BUILD_MAX: usize = 64;

/// Handover versions that a kernel reads and writes: all from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

impl Versions {
    /// Those of kernels that do not say.
    pub const UNSAID: Versions = Versions { oldest: 1, newest: 1 };

    /// The newest that both know.
    pub fn newest_common(self, other: Versions) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }

    /// Versions that make sense, or an error.
    fn checked(self) -> Result<Versions, ImageError> {
        let Versions { oldest, newest } = self;
        if oldest >= 1 && oldest <= newest { Ok(self) } else { Err(ImageError::BadVersions { oldest, newest }) }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.oldest, self.newest)
    }
}

/// What a kernel's build calls itself. What is longer than [`BUILD_MAX`] bytes is cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BuildName([u8; BUILD_MAX]);

impl BuildName {
    /// No name, which older files have.
    pub const NONE: BuildName = BuildName([0; BUILD_MAX]);

    /// A name.
    pub const fn new(name: &str) -> BuildName {
        let mut bytes = [0; BUILD_MAX];
        let mut at = 0;
        while at < name.len() && at < BUILD_MAX {
            bytes[at] = name.as_bytes()[at];
            at += 1;
        }
        BuildName(bytes)
    }

    /// Its bytes, up to the first NUL.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

impl fmt::Display for BuildName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_bytes() {
            [] => f.write_str("without a name"),
            name => name.escape_ascii().fmt(f),
        }
    }
}

impl fmt::Debug for BuildName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuildName({self})")
    }
}

/// What a file says of its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Handover versions.
    pub versions: Versions,
    /// The build.
    pub build: BuildName,
}

impl About {
    /// What the notes in a file say that is in memory as a whole, the kernel's own or a bootable one.
    ///
    /// # Errors
    /// [`ImageError::NoAbout`] if it lacks one of the notes, and whatever else is wrong with its headers.
    pub fn of(file: &[u8]) -> Result<About, ImageError> {
        let notes = Notes::of_slice(file)?;
        if notes.versions.is_none() || notes.build.is_none() {
            return Err(ImageError::NoAbout);
        }
        About::find(&notes)
    }

    /// What the notes say; where there are none, what that means.
    pub(super) fn find(notes: &Notes) -> Result<About, ImageError> {
        let versions = notes.versions.as_ref().map_or(Versions::UNSAID, |(_, note)| note.versions());
        let build = notes.build.map_or(BuildName::NONE, |(_, name)| BuildName(name));
        Ok(About { versions: versions.checked()?, build })
    }
}

/// Writes into the notes of a bootable file what it has to say of its kernel. It is to be sealed after that.
///
/// # Errors
/// [`ImageError::NoAbout`] if it lacks one of the notes, and whatever else is wrong with its headers.
pub fn describe(file: &mut [u8], about: &About) -> Result<(), ImageError> {
    let notes = Notes::of_slice(file)?;
    let versions = VersionsNote { oldest: about.versions.oldest.into(), newest: about.versions.newest.into() };
    let (versions_at, _) = notes.versions.ok_or(ImageError::NoAbout)?;
    let (build_at, _) = notes.build.ok_or(ImageError::NoAbout)?;
    for (offset, content) in [(versions_at, versions.as_bytes()), (build_at, &about.build.0)] {
        let start = offset as usize;
        let place = file.get_mut(start..start.saturating_add(content.len())).ok_or(ImageError::NoAbout)?;
        place.copy_from_slice(content);
    }
    Ok(())
}

/// The content of the note with the versions. A linked boot stage has zeros here.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct VersionsNote {
    oldest: U32,
    newest: U32,
}

impl VersionsNote {
    fn versions(&self) -> Versions {
        Versions { oldest: self.oldest.get(), newest: self.newest.get() }
    }
}

/// The two notes as a kernel puts them into its own file, in a section that is kept.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C, align(4))]
pub struct KernelNotes {
    versions: RawNote<8>,
    build: RawNote<BUILD_MAX>,
}

impl KernelNotes {
    /// The notes of a kernel that knows these versions.
    pub const fn new(versions: Versions, build: &str) -> KernelNotes {
        let ([a, b, c, d], [e, f, g, h]) = (versions.oldest.to_le_bytes(), versions.newest.to_le_bytes());
        KernelNotes {
            versions: RawNote::new(VERSIONS_TYPE, [a, b, c, d, e, f, g, h]),
            build: RawNote::new(BUILD_TYPE, BuildName::new(build).0),
        }
    }
}

/// A note of ours, as it lies in a file: the lengths of name and content, the type, the name, the content.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct RawNote<const LEN: usize> {
    header: [[u8; 4]; 3],
    /// With the NUL, and padded to a multiple of four.
    owner: [u8; 12],
    content: [u8; LEN],
}

impl<const LEN: usize> RawNote<LEN> {
    const fn new(kind: u32, content: [u8; LEN]) -> RawNote<LEN> {
        let mut owner = [0; 12];
        owner.split_at_mut(SEAL_OWNER.len()).0.copy_from_slice(SEAL_OWNER);
        let owner_len = SEAL_OWNER.len() as u32 + 1;
        RawNote { header: [owner_len.to_le_bytes(), (LEN as u32).to_le_bytes(), kind.to_le_bytes()], owner, content }
    }
}
