//! The chassis from outside: calls over both kinds of channel, and a process's ports.

mod authority;
mod handler;
mod local;
mod network;
mod ports;
mod process;
mod tls;
