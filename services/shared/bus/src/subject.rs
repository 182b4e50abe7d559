//! A subject and the type that travels on it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// A subject of the bus on which `M` travels.
pub struct Subject<M> {
    name: Cow<'static, str>,
    pattern: &'static str,
    message: PhantomData<fn() -> M>,
}

impl<M> Subject<M> {
    /// A subject that is one for all.
    pub(crate) const fn fixed(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), pattern: name, message: PhantomData }
    }

    /// A subject of many of the same `pattern`.
    pub(crate) const fn of(name: String, pattern: &'static str) -> Self {
        Self { name: Cow::Owned(name), pattern, message: PhantomData }
    }

    /// The subject's name on the wire.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name with placeholders: what metrics are labelled with.
    pub fn pattern(&self) -> &'static str {
        self.pattern
    }
}

impl<M> Clone for Subject<M> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), pattern: self.pattern, message: PhantomData }
    }
}

impl<M> fmt::Debug for Subject<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({})", self.name)
    }
}
