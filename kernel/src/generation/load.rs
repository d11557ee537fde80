//! Before the jump: what is to run next is read, checked and kept in memory, and what can be done ahead is done.

use alloc::string::String;
use core::fmt;

use bootproto::image::{About, BuildName};
use fs::tmpfs::Census;
use log::warn;

use super::ahead::Ahead;
use super::way_back::Back;
use super::{Generation, KexecError, Step};
use crate::kexec::{Found, Image, Target};
use crate::machine::BUILD;
use crate::note::VERSIONS;
use crate::system::System;

/// What runs next.
#[derive(Debug)]
pub struct Loaded {
    /// Where it came from, for people.
    name: String,
    /// The file that was loaded; without one the image that is running is entered again.
    image: Option<Image>,
    about: About,
    /// The handover version that it will be given.
    pub(super) version: u32,
    /// What it takes to come back.
    pub(super) back: Back,
    pub(super) ahead: Ahead,
}

impl Loaded {
    /// Gets ready what is to run next.
    fn new(system: &System, path: Option<&[u8]>) -> Result<Self, KexecError> {
        let Some(path) = path else {
            let about = About { versions: VERSIONS, build: BuildName::new(BUILD) };
            let (version, back) = (VERSIONS.newest, Back::of_running(VERSIONS.newest));
            let name = String::from("the image that is running");
            return Ok(Self { name, image: None, about, version, back, ahead: Ahead::default() });
        };
        let mut file = system.vfs.open(path).map_err(KexecError::File)?;
        let size = file.stat().map_err(KexecError::File)?.size;
        let read = |at: u64, out: &mut [u8]| file.read_at(at, out);
        let scratch = system.machine.parcel.scratch;
        let (image, found) = Image::load(&system.cache, scratch, VERSIONS, size, read).map_err(KexecError::Load)?;
        let Found { about, version, sealed } = found;
        if !sealed {
            warn!(target: "kexec", "the image carries no seal, so damage to it cannot be seen");
        }
        let name = String::from_utf8_lossy(path).into_owned();
        let back = Back::of_another(system, version);
        Ok(Self { name, image: Some(image), about, version, back, ahead: Ahead::default() })
    }

    /// What to start.
    pub(super) fn target(&self, system: &System) -> Target<'_> {
        let parcel = &system.machine.parcel;
        match &self.image {
            Some(image) => Target::Loaded(image),
            None => Target::Running { boot_image: parcel.boot_image, entry: parcel.boot_entry },
        }
    }

    fn frames(&self) -> u64 {
        let image = self.image.as_ref().map_or(0, Image::frames);
        (image + self.back.image().map_or(0, Image::frames)) as u64
    }

    /// The build that runs next.
    pub(super) fn build(&self) -> &BuildName {
        &self.about.build
    }
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, image, about, version, back, ahead } = self;
        let About { versions, build } = about;
        writeln!(
            f,
            "loaded: {}, in {} frames",
            name.as_bytes().escape_ascii(),
            image.as_ref().map_or(0, Image::frames)
        )?;
        writeln!(f, "build: {build}")?;
        writeln!(f, "handover: it reads versions {versions}, version {version} will be written")?;
        writeln!(f, "way back: {back}")?;
        writeln!(f, "ahead: {ahead}")
    }
}

/// Reads and checks the file at `path`, or takes the image that is running, and does the work ahead. `called_off` is asked after each
/// step. Whatever was loaded before is forgotten.
///
/// # Errors
/// [`KexecError`], with everything as it was.
pub fn load(system: &System, path: Option<&[u8]>, called_off: &mut dyn FnMut() -> bool) -> Result<(), KexecError> {
    let loaded = ready(system, path, called_off)?;
    let before = system.generation.loaded.lock().replace(loaded);
    // Its frames are freed with no lock held.
    drop(before);
    Ok(())
}

/// Forgets what was loaded; says whether there was anything.
pub fn abort(system: &System) -> bool {
    let loaded = system.generation.loaded.lock().take();
    loaded.is_some()
}

/// Writes what `kexec status` shows.
///
/// # Errors
/// Those of `out`.
pub fn status(system: &System, out: &mut dyn fmt::Write) -> fmt::Result {
    // Looking at the filesystems takes locks that come before this one.
    let Census { summed, windows, .. } = system.preserved();
    match &*system.generation.loaded.lock() {
        Some(loaded) => {
            write!(out, "{loaded}")?;
            writeln!(out, "checksums: {summed} of {windows} windows of files")
        }
        None => writeln!(out, "nothing is loaded; `kexec exec` enters the running image again, build {BUILD}"),
    }
}

/// Gets ready what is to run next, up to the work ahead.
pub(super) fn ready(
    system: &System,
    path: Option<&[u8]>,
    called_off: &mut dyn FnMut() -> bool,
) -> Result<Loaded, KexecError> {
    let mut loaded = Loaded::new(system, path)?;
    system.generation.made(Step::Load, called_off)?;
    loaded.ahead = Ahead::all(system, called_off)?;
    system.generation.made(Step::Ahead, called_off)?;
    Ok(loaded)
}

impl Generation {
    /// Frames that what runs next takes up, and what it takes to come back.
    pub fn loaded_frames(&self) -> u64 {
        self.loaded.lock().as_ref().map_or(0, Loaded::frames)
    }

    /// What runs next, taken out.
    pub(super) fn take_loaded(&self) -> Option<Loaded> {
        self.loaded.lock().take()
    }

    /// Puts back what runs next.
    pub(super) fn put_loaded(&self, loaded: Loaded) {
        *self.loaded.lock() = Some(loaded);
    }
}
