//! `dialtone nats-config`: the configuration of a nats-server on which every process may do what its services need.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use dialtone_bus::Service;
use dialtone_bus::users::{Password, ServerTls, User, is_password, is_user_name, server_config};
use dialtone_chassis::Chassis;
use dialtone_vocab::NodeId;

/// Random bytes of a password, which is written with twice as many digits.
const PASSWORD_BYTES: usize = 32;

/// What is wanted.
#[derive(Debug, Default, Args)]
pub(crate) struct Wanted {
    /// A folder with a file per user that holds its password, which is for `bus.password_file`; what is missing is made
    /// (mode 0600). Without it passwords are variables of the server's environment, as $GATEWAY_PASSWORD.
    #[arg(long, value_name = "FOLDER")]
    passwords: Option<PathBuf>,
    /// A user, for `bus.user`, and what lives in its processes, as in core=identity,contacts, or all=all. May be given
    /// several times. Default: one user per service, with its name.
    #[arg(long = "user", value_name = "NAME=SERVICES")]
    users: Vec<String>,
    /// The server's certificate, PEM: it talks TLS, and processes need `bus.ca_file`.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The key of the certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

/// The configuration.
///
/// # Errors
/// Users that are none, and files that can't be read or made.
pub(crate) fn print(wanted: &Wanted) -> Result<String> {
    let mut names = named(&wanted.users)?;
    if names.is_empty() {
        names = Service::ALL.map(|service| (service.name().to_owned(), vec![service])).to_vec();
    }
    let mut users = Vec::new();
    for (name, services) in names {
        let password = match &wanted.passwords {
            Some(folder) => Password::Text(password(folder, &name)?),
            None => Password::Variable(format!("{}_PASSWORD", name.to_uppercase().replace('-', "_"))),
        };
        users.push(User { name, services, password });
    }
    let files = wanted.tls_certificate.clone().zip(wanted.tls_key.clone());
    let tls = files.map(|(certificate, key)| ServerTls { certificate, key });
    Ok(server_config(&users, tls.as_ref()))
}

/// Users as the command line names them.
fn named(users: &[String]) -> Result<Vec<(String, Vec<Service>)>> {
    let mut all: Vec<(String, Vec<Service>)> = Vec::new();
    for user in users {
        let Some((name, services)) = user.split_once('=') else {
            bail!("--user {user}: a name and its services, as in core=identity,contacts");
        };
        if !is_user_name(name) {
            bail!("--user {user}: a name has 1 to 63 of a-z, 0-9 and -");
        }
        if all.iter().any(|(other, _)| other == name) {
            bail!("--user {user}: {name} is there already");
        }
        all.push((name.to_owned(), services_of(services).with_context(|| format!("--user {user}"))?));
    }
    Ok(all)
}

fn services_of(list: &str) -> Result<Vec<Service>> {
    if list == "all" {
        return Ok(Service::ALL.to_vec());
    }
    let service = |name| Service::named(name).with_context(|| format!("{name:?} is no service"));
    list.split(',').map(service).collect()
}

/// The password of a user, made if there is none.
fn password(folder: &Path, user: &str) -> Result<String> {
    let path = folder.join(user);
    let named = || format!("--passwords: {}", path.display());
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(folder, &path).with_context(named)?;
            fs::read_to_string(&path)
        }
        read => read,
    };
    let text = text.with_context(named)?;
    let password = text.trim();
    if !is_password(password) {
        bail!("{}: visible ASCII without \" and \\ that does not begin with $, and nothing else", named());
    }
    Ok(password.to_owned())
}

/// Makes a password that only its owner may read: written whole, then given its name, so that nobody reads half of one
/// and of two commands at once one wins.
fn make(folder: &Path, path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let rng = Chassis::real(NodeId::new("nats-config")).rng;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", hex::encode(rng.bytes::<PASSWORD_BYTES>()))?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(error.error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use dialtone_bus::{Bus, BusConfig, Login, subjects};
    use dialtone_proto::bus::v1::Heartbeat;
    use dialtone_testkit::Nats;

    use super::*;
    use crate::settings::SERVICES;

    fn wanted(passwords: Option<&Path>, users: &[&str]) -> Wanted {
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        Wanted { passwords: passwords.map(Path::to_owned), users, ..Wanted::default() }
    }

    #[test]
    fn the_bus_knows_the_services_that_may_live_in_a_process() {
        assert_eq!(Service::ALL.map(Service::name), SERVICES);
    }

    #[test]
    fn passwords_are_made_once_and_private() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join("passwords");
        fs::create_dir(&folder).expect("made");
        fs::write(folder.join("sms"), "chosen\n").expect("written");
        let first = print(&wanted(Some(&folder), &[])).expect("printed");
        assert_eq!(print(&wanted(Some(&folder), &[])).expect("printed"), first);
        let mut all = Vec::new();
        for service in SERVICES {
            let path = folder.join(service);
            let password = fs::read_to_string(&path).expect("read").trim().to_owned();
            assert!(
                first.contains(&format!("user: \"{service}\"\n      password: \"{password}\"")),
                "{first}"
            );
            if service != "sms" {
                assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
                assert_eq!(password.len(), 2 * PASSWORD_BYTES);
            }
            all.push(password);
        }
        assert!(all.contains(&"chosen".to_owned()), "what is there is taken");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), SERVICES.len(), "each has its own");
        assert_eq!(fs::read_dir(&folder).expect("listed").count(), SERVICES.len());

        fs::write(folder.join("sms"), "two words").expect("written");
        let error = print(&wanted(Some(&folder), &[])).expect_err("refused").to_string();
        assert!(error.contains("passwords/sms") && !error.contains("two words"), "{error}");
    }

    #[test]
    fn without_a_folder_passwords_are_left_to_the_environment() {
        let text = print(&wanted(None, &["core-1=identity,contacts"])).expect("printed");
        assert!(text.contains("password: $CORE_1_PASSWORD\n"), "{text}");
        assert_eq!(text.matches("user: ").count(), 1, "{text}");
    }

    #[test]
    fn users_that_are_none_are_named() {
        for (users, named) in [
            (&["core"][..], "core"),
            (&["Core=sms"], "a-z"),
            (&["core=smtp"], "smtp"),
            (&["core="], "no service"),
            (&["a=sms", "a=routing"], "already"),
        ] {
            let error = format!("{:#}", print(&wanted(None, users)).expect_err("refused"));
            assert!(error.contains(named) && error.contains(users[users.len() - 1]), "{error}");
        }
    }

    #[tokio::test]
    async fn a_server_takes_it_and_lets_its_users_in() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join("passwords");
        let text = print(&wanted(Some(&folder), &["core=identity,contacts", "all=all"])).expect("printed");
        let path = home.path().join("nats.conf");
        fs::write(&path, text).expect("written");
        let Some(server) = Nats::start_own("a server with printed users", Some(&path)) else { return };
        let chassis = Chassis::real(NodeId::new("x"));
        for user in ["core", "all"] {
            let login = Some(Login { user: user.into(), password_file: folder.join(user) });
            let config = BusConfig { login, ..BusConfig::at(server.url()) };
            let bus = Bus::connect(&config, &chassis).await.expect("let in");
            let mut beats = bus.subscribe(&subjects::heartbeat()).await.expect("subscribed");
            bus.publish(&subjects::heartbeat(), Heartbeat::default()).await.expect("published");
            assert!(beats.next().await.is_some());
        }
        assert!(Bus::connect(&BusConfig::at(server.url()), &chassis).await.is_err(), "nobody else");
    }
}
