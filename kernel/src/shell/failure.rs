//! Why a command failed.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use fs::Error;
use prompt::options::UsageError;
use prompt::text::Shown;

/// How a command ended.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a command failed. What a person sees is `COMMAND: {failure}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was called wrongly; its usage is shown too.
    Usage(UsageError),
    /// An operation on a file failed.
    File {
        /// The path as it was given or found.
        path: Vec<u8>,
        /// Why.
        error: Error,
    },
    /// Something else failed.
    Other {
        /// What it was tried on.
        subject: Vec<u8>,
        /// Why, in words.
        reason: String,
    },
    /// Control-C was typed.
    Interrupted,
    /// The output could not be written; that is reported where the output is closed.
    Output,
    /// Every reason was said already.
    Said,
}

impl Failure {
    /// A failure of something that is no operation on a file.
    pub fn other(subject: impl AsRef<[u8]>, reason: impl fmt::Display) -> Self {
        Self::Other { subject: subject.as_ref().to_vec(), reason: reason.to_string() }
    }

    /// A word that is not what should stand in its place.
    pub fn invalid(what: &'static str, word: &[u8]) -> Self {
        Self::Usage(UsageError::Invalid { what, word: word.to_vec() })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => write!(f, "{error}"),
            Self::File { path, error } => write!(f, "{}: {error}", Named(path)),
            Self::Other { subject, reason } => write!(f, "{}: {reason}", Named(subject)),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Output => f.write_str("the output cannot be written"),
            Self::Said => f.write_str("failed"),
        }
    }
}

impl core::error::Error for Failure {}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

/// A path or a name in a message; the empty one has to be visible.
pub struct Named<'a>(pub &'a [u8]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("''") } else { write!(f, "{}", Shown(self.0)) }
    }
}

/// Names the file that an operation failed on.
pub trait At<T> {
    /// The result, its error with `path`.
    fn at(self, path: &[u8]) -> Outcome<T>;
}

impl<T> At<T> for Result<T, Error> {
    fn at(self, path: &[u8]) -> Outcome<T> {
        self.map_err(|error| Failure::File { path: path.to_vec(), error })
    }
}
