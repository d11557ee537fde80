//! Names that are handed out: of pools, filesystems and files. A place may be used again after its holder left, so a name has the
//! place's serial number in it, and an old name is refused as stale.

use core::fmt;
use frames::chunks::Chunks;

/// A name that refers to nothing: never handed out, or its holder has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleId;

impl fmt::Display for StaleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name that refers to nothing any more")
    }
}

impl core::error::Error for StaleId {}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            slot: u32,
            serial: u32,
        }

        impl $name {
            /// Its place, from 0: no other live holder has the same.
            #[inline]
            pub fn slot(self) -> u32 {
                self.slot
            }

            /// How many holders that place had before.
            #[inline]
            pub fn serial(self) -> u32 {
                self.serial
            }
        }

        impl From<(u32, u32)> for $name {
            fn from((slot, serial): (u32, u32)) -> Self {
                Self { slot, serial }
            }
        }

        impl From<$name> for (u32, u32) {
            #[inline]
            fn from(name: $name) -> Self {
                (name.slot, name.serial)
            }
        }
    };
}

name!(
    /// A pool of donated frames.
    PoolId
);
name!(
    /// A mounted filesystem.
    FsId
);
name!(
    /// A file of a mounted filesystem.
    FileId
);

/// Holders by name. It grows by pieces of `N`, so that it never needs much memory in one.
#[derive(Debug)]
pub(crate) struct Table<T, const N: usize> {
    places: Chunks<Place<T>, N>,
    /// The first free place, each of which leads to the next.
    free: u32,
}

#[derive(Debug)]
pub(crate) struct Place<T> {
    serial: u32,
    holder: Holder<T>,
}

#[derive(Debug)]
enum Holder<T> {
    Here(T),
    /// Nobody; the next free place.
    Free(u32),
}

impl<T> Place<T> {
    fn holder(&self) -> Option<&T> {
        match &self.holder {
            Holder::Here(holder) => Some(holder),
            Holder::Free(_) => None,
        }
    }

    fn holder_mut(&mut self) -> Option<&mut T> {
        match &mut self.holder {
            Holder::Here(holder) => Some(holder),
            Holder::Free(_) => None,
        }
    }
}

impl<T, const N: usize> Table<T, N> {
    pub(crate) const fn new() -> Self {
        Self { places: Chunks::new(), free: 0 }
    }

    pub(crate) fn insert<I: From<(u32, u32)>>(&mut self, holder: T) -> I {
        let slot = self.free;
        self.places.grow(slot as usize, |at| Place { serial: 0, holder: Holder::Free(at as u32 + 1) });
        let mut serial = 0;
        if let Some(place) = self.places.get_mut(slot as usize) {
            serial = place.serial;
            if let Holder::Free(next) = core::mem::replace(&mut place.holder, Holder::Here(holder)) {
                self.free = next;
            }
        }
        I::from((slot, serial))
    }

    pub(crate) fn remove(&mut self, name: impl Into<(u32, u32)>) -> Option<T> {
        let (slot, serial) = name.into();
        let place = self.places.get_mut(slot as usize).filter(|place| place.serial == serial)?;
        place.holder()?;
        let Holder::Here(holder) = core::mem::replace(&mut place.holder, Holder::Free(self.free)) else { return None };
        place.serial = place.serial.wrapping_add(1);
        self.free = slot;
        Some(holder)
    }

    #[inline]
    pub(crate) fn get(&self, name: impl Into<(u32, u32)>) -> Option<&T> {
        let (slot, serial) = name.into();
        self.places.get(slot as usize).filter(|place| place.serial == serial)?.holder()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, name: impl Into<(u32, u32)>) -> Option<&mut T> {
        let (slot, serial) = name.into();
        self.places.get_mut(slot as usize).filter(|place| place.serial == serial)?.holder_mut()
    }

    /// Every holder, with its name.
    pub(crate) fn iter<I: From<(u32, u32)>>(&self) -> impl Iterator<Item = (I, &T)> {
        self.places
            .iter()
            .enumerate()
            .filter_map(|(slot, place)| place.holder().map(|holder| (I::from((slot as u32, place.serial)), holder)))
    }
}
