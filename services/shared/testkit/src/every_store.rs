//! One suite over every engine of a store.

pub use tempfile::TempDir;

/// Makes a test of each case over memory, over a folder and, if there is one, over a CQL server. A case is an
/// `async fn(&StoreUrl)` in the module that names it, and gets a store in which nothing is yet; the schemas are the room's,
/// and `what` is said on stderr of what is left out.
#[macro_export]
macro_rules! over_every_store {
    ($what:literal, $schemas:expr, { $($case:ident)* }) => {
        mod over_memory {
            $(#[tokio::test]
            async fn $case() {
                let disk = dialtone_store::MemoryDisk::new();
                super::$case(&dialtone_store::StoreUrl::memory(&disk)).await;
            })*
        }
        mod over_a_folder {
            $(#[tokio::test]
            async fn $case() {
                let folder = $crate::TempDir::new().expect("a folder for the test");
                super::$case(&dialtone_store::StoreUrl::Folder(folder.path().join("store"))).await;
            })*
        }
        mod over_a_cql_server {
            $(#[tokio::test]
            async fn $case() {
                let Some(store) = $crate::CqlStore::fresh($what, &$schemas).await else { return };
                super::$case(&store.open().await).await;
                store.remove().await;
            })*
        }
    };
}
