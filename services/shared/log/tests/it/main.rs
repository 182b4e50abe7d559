//! The logs: over a disk that crashes, and from one to the other over a bad link.

mod clocks;
mod contract;
mod disk;
mod faults;
mod ground;
mod link;
mod shared;
mod weather;
