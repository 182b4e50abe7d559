//! The chassis from outside: calls over both kinds of channel, and a process's ports.

mod handler;
mod local;
mod ports;
