//! The logs: over a disk that crashes, and from one to the other over a bad link.

mod disk;
mod link;
mod shared;
mod weather;
