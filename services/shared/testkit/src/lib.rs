//! What tests of the whole repository stand on: its files and manifests, read as a reader would.
//!
//! ```text
//! repository ──files()──► (path, text) … ──Manifest::parse()──► who depends on whom ──► tests/tidy.rs
//! ```
//! Everything here is for tests: what can't be read is a panic that names the file. [`Nats`] and
//! [`CqlStore`] are real servers for tests that want one, [`CqlNodes`] are three of which one
//! may be away, [`CqlProxy`] is one with faults. [`assert_caught`] shows that a property can fail.

mod control;
mod cql;
mod cql_frame;
mod cql_nodes;
mod cql_proxy;
mod every_store;
mod nats;
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub use control::assert_caught;
pub use cql::{CqlStore, cql_nodes};
pub use cql_frame::{CQL_MESSAGE, CqlError};
pub use cql_nodes::{CQL_NODES, CqlNodes};
pub use cql_proxy::{CqlProxy, Fault};
#[doc(hidden)]
pub use every_store::TempDir;
pub use nats::{Nats, free_port};
pub use servers::may_be_cluster;

/// Folders that hold nothing of the repository itself.
const FOREIGN: &[&str] = &["target", "node_modules"];

/// The folder of the repository.
///
/// # Panics
/// If this crate is not where it belongs.
pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    root.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", root.display()))
}

/// A file of the repository.
#[derive(Debug, Clone)]
pub struct File {
    /// From the repository's folder, with slashes.
    pub path: String,
    /// What is in it.
    pub text: String,
}

impl File {
    /// One for tests of tests.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

/// The file at this path, if there is one.
pub fn file(path: &str) -> Option<File> {
    let text = fs::read_to_string(repository().join(path)).ok()?;
    Some(File::new(path, &text))
}

/// All files whose name ends like this, sorted by path. What is hidden, built or run data (`dialtone-*`) is left out.
///
/// # Panics
/// If one can't be read as text.
pub fn files(ending: &str) -> Vec<File> {
    let root = repository();
    let mut found = Vec::new();
    walk(&root, &root, ending, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(root: &Path, folder: &Path, ending: &str, found: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let is_run_data = folder == root && name.starts_with("dialtone-");
        if name.starts_with('.') || FOREIGN.contains(&name.as_str()) || is_run_data {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, ending, found);
        } else if name.ends_with(ending) {
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let path = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            found.push(File { path, text });
        }
    }
}

/// What a crate's manifest says that the house has rules about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The crate's name.
    pub name: String,
    /// Where the crate is.
    pub folder: String,
    /// Whether it takes the lints of the workspace.
    pub inherits_lints: bool,
    /// Names in `[dependencies]`.
    pub normal: BTreeSet<String>,
    /// Names in all tables of dependencies.
    pub all: BTreeSet<String>,
}

impl Manifest {
    /// Reads the few lines that matter; `None` if the file is no crate's.
    pub fn parse(file: &File) -> Option<Self> {
        let folder = file.path.trim_end_matches("Cargo.toml").trim_end_matches('/').to_owned();
        let mut manifest = Self { folder, ..Self::default() };
        let mut table = String::new();
        for line in file.text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                table = name.to_owned();
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let (key, value) = (key.trim(), value.trim());
            match table.as_str() {
                "package" if key == "name" => manifest.name = value.trim_matches('"').to_owned(),
                "lints" if key == "workspace" => manifest.inherits_lints = value == "true",
                "dependencies" | "dev-dependencies" | "build-dependencies" => {
                    let name = key.split('.').next().unwrap_or(key).to_owned();
                    if table == "dependencies" {
                        manifest.normal.insert(name.clone());
                    }
                    manifest.all.insert(name);
                }
                _ => {}
            }
        }
        (!manifest.name.is_empty()).then_some(manifest)
    }

    /// All crates of the workspace, by name.
    pub fn all_of_workspace() -> BTreeMap<String, Self> {
        let parsed = files("Cargo.toml").iter().filter_map(Self::parse).collect::<Vec<_>>();
        parsed.into_iter().map(|manifest| (manifest.name.clone(), manifest)).collect()
    }
}
