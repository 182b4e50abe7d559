//! `dialtone`: everything in one process, one service, a phone, the tour.

use std::process::ExitCode;

use clap::Parser;
use dialtone::cli::{self, Cli};

/// Messages are freed on other threads than they were made on: the system's allocator is slow at that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nobody installed a provider before main");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(cli::run(Cli::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dialtone: {error:#}");
            ExitCode::FAILURE
        }
    }
}
