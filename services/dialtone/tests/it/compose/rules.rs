//! What must hold of the file, each rule a function from it to complaints.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Parser as _;
use dialtone::cli::Cli;
use dialtone::settings::Settings;

use super::file::{Compose, Condition, Container};

pub(super) type Complaints = Vec<String>;

/// Where the file is, and what was prepared for it.
pub(super) struct Around<'a> {
    pub(super) repository: &'a Path,
    /// `"NAME SERVICE"` of every process of the local cluster.
    pub(super) cluster: &'a BTreeSet<(String, String)>,
    /// The names in the certificate.
    pub(super) certified: &'a BTreeSet<String>,
}

impl Around<'_> {
    fn deploy(&self) -> PathBuf {
        self.repository.join("deploy")
    }

    /// All rules.
    pub(super) fn complaints(&self, compose: &Compose) -> Complaints {
        let mut all = self.cluster_rule(compose);
        all.extend(names_rule(compose));
        all.extend(ports_rule(compose));
        for (name, container) in &compose.services {
            let own = [
                image_rule(container),
                self.build_rule(container),
                self.mounts_rule(compose, container),
                health_rule(container),
                after_rule(compose, container),
                if container.is_ours() { self.settings_rule(compose, name, container) } else { Vec::new() },
            ];
            all.extend(own.into_iter().flatten().map(|complaint| format!("{name}: {complaint}")));
        }
        all
    }

    /// The same processes as in the cluster on one machine.
    fn cluster_rule(&self, compose: &Compose) -> Complaints {
        let runs = compose.services.iter().flat_map(|(name, container)| {
            container.runs().iter().map(|service| (name.clone(), service.clone()))
        });
        let here: BTreeSet<_> = runs.collect();
        here.symmetric_difference(self.cluster)
            .map(|(name, service)| format!("{name} ({service}) is not in both of them"))
            .collect()
    }

    /// What an image is built from is there.
    fn build_rule(&self, container: &Container) -> Complaints {
        let Some(build) = &container.build else { return Vec::new() };
        let context = self.deploy().join(&build.context);
        let dockerfile = context.join(&build.dockerfile);
        let is_there = context.join("Cargo.lock").is_file() && dockerfile.is_file();
        if is_there { Vec::new() } else { vec![format!("nothing to build from at {}", dockerfile.display())] }
    }

    /// Everything that is mounted is there, or is a volume with a name.
    fn mounts_rule(&self, compose: &Compose, container: &Container) -> Complaints {
        let mut complaints = Vec::new();
        for volume in &container.volumes {
            let source = volume.split(':').next().unwrap_or_default();
            let is_path = source.starts_with(['.', '/']);
            if is_path && !self.deploy().join(source).exists() {
                complaints.push(format!("nothing is at {source}"));
            }
            if !is_path && !compose.volumes.contains_key(source) {
                complaints.push(format!("no volume {source}"));
            }
        }
        for used in &container.secrets {
            match compose.secrets.get(&used.source) {
                Some(secret) if Path::new(&secret.file).is_file() => {}
                _ => complaints.push(format!("no secret {}", used.source)),
            }
        }
        complaints
    }

    /// Its command is one of Dialtone's, its configuration is taken, every file in it is mounted, and it is where others
    /// look for it.
    fn settings_rule(&self, compose: &Compose, name: &str, container: &Container) -> Complaints {
        let words = std::iter::once("dialtone").chain(container.command.iter().map(String::as_str));
        if let Err(error) = Cli::try_parse_from(words) {
            return vec![format!("command: {error}")];
        }
        let config = container.command.iter().skip_while(|word| *word != "--config").nth(1);
        let mounts = Mounts::of(&self.deploy(), compose, container);
        let Some(config) = config.and_then(|path| mounts.host(path)) else {
            return vec!["its --config is not mounted".to_owned()];
        };
        let settings = Settings::load(Some(&config), container.environment.clone());
        let settings = settings.and_then(|settings| settings.check_for(container.runs()).map(|()| settings));
        match settings {
            Ok(settings) => [
                files_rule(&settings, container, &mounts),
                self.addresses_rule(&settings, compose, name, container),
                stop_rule(&settings, container),
            ]
            .concat(),
            Err(error) => vec![error.to_string()],
        }
    }

    /// Whoever is called is called where it is, under a name of its certificate.
    fn addresses_rule(
        &self,
        settings: &Settings,
        compose: &Compose,
        name: &str,
        container: &Container,
    ) -> Complaints {
        let port = settings.internal.listen.port();
        let mut complaints = Vec::new();
        let mut expect = |what: &str, found: &str, wanted: &str| {
            if found != wanted {
                complaints.push(format!("{what} is {found:?}, wanted is {wanted:?}"));
            }
        };
        expect("node.name", &settings.node.name, name);
        expect("internal.advertise", &settings.internal.advertise, &format!("https://{name}:{port}"));
        let internal = &settings.internal;
        for (service, urls) in [
            ("identity", &internal.identity),
            ("contacts", &internal.contacts),
            ("presence", &internal.presence),
            ("routing", &internal.routing),
            ("offline", &internal.offline),
            ("sms", &internal.sms),
        ] {
            let runs = compose.services.iter().filter(|(_, other)| other.runs() == [service]);
            let wanted: Vec<_> = runs.map(|(name, _)| format!("https://{name}:{port}")).collect();
            expect(&format!("internal.{service}"), urls, &wanted.join(","));
        }
        expect("bus.url", &settings.bus.url, "nats://nats:4222");
        expect("store.url", &settings.store.url, "scylla://scylla:9042");
        expect(
            "sms.provider",
            &settings.sms.provider,
            &format!("centre-1:{}", settings.centre.listen.port()),
        );
        if let [service] = container.runs() {
            expect("bus.user", &settings.bus.user, service);
        }
        let hosts = [name, "nats"].into_iter().filter(|_| !container.runs().is_empty());
        let nameless = hosts.filter(|host| !self.certified.contains(*host));
        complaints.extend(nameless.map(|host| format!("the certificate does not name {host}")));
        complaints
    }
}

/// What is where in a container.
struct Mounts(BTreeMap<String, PathBuf>);

impl Mounts {
    fn of(deploy: &Path, compose: &Compose, container: &Container) -> Self {
        let volumes = container.volumes.iter().filter_map(|volume| {
            let mut parts = volume.split(':');
            Some((parts.next().map(|source| deploy.join(source))?, parts.next()?.to_owned()))
        });
        let secrets = container.secrets.iter().filter_map(|used| {
            let secret = compose.secrets.get(&used.source)?;
            Some((PathBuf::from(&secret.file), format!("/run/secrets/{}", used.target)))
        });
        Self(volumes.chain(secrets).map(|(source, target)| (target, source)).collect())
    }

    /// Where a path of the container is on the host, if something is there.
    fn host(&self, path: &str) -> Option<PathBuf> {
        let under = |(target, source): (&String, &PathBuf)| match path.strip_prefix(target.as_str())? {
            "" => Some(source.clone()),
            below => Some(source.join(below.strip_prefix('/')?)),
        };
        self.0.iter().find_map(under).filter(|path| path.exists())
    }
}

fn files_rule(settings: &Settings, container: &Container, mounts: &Mounts) -> Complaints {
    let mut files =
        vec![("bus.ca_file", &settings.bus.ca_file), ("secrets.folder", &settings.secrets.folder)];
    let internal = &settings.internal;
    files.extend([
        ("internal.ca_file", &internal.ca_file),
        ("internal.cert_file", &internal.cert_file),
        ("internal.key_file", &internal.key_file),
    ]);
    if !container.runs().is_empty() {
        files.push(("bus.password_file", &settings.bus.password_file));
    }
    let gone = files.into_iter().filter(|(_, path)| mounts.host(path).is_none());
    gone.map(|(setting, path)| format!("{setting}: nothing is mounted at {path:?}")).collect()
}

/// Docker kills what has not ended in time.
fn stop_rule(settings: &Settings, container: &Container) -> Complaints {
    let grace = container.stop_grace_period.as_deref().and_then(|text| text.strip_suffix('s')?.parse().ok());
    match grace {
        Some(grace) if settings.node.drain_seconds < grace => Vec::new(),
        _ => vec!["stop_grace_period: longer than node.drain_seconds".to_owned()],
    }
}

/// An image has a version, and what it is is not for the registry to decide.
fn image_rule(container: &Container) -> Complaints {
    match container.image.rsplit_once(':') {
        Some((_, tag)) if !tag.is_empty() && tag != "latest" => Vec::new(),
        _ => vec![format!("image {} has no version", container.image)],
    }
}

/// Whoever goes on can be asked how it is; nobody of ours runs as root.
fn health_rule(container: &Container) -> Complaints {
    let mut complaints = Vec::new();
    let goes_on = container.restart == "unless-stopped";
    if goes_on != container.health().is_some_and(|test| test.first().is_some_and(|word| word == "CMD")) {
        complaints.push("a health check, if and only if it goes on".to_owned());
    }
    if container.is_ours() && container.user.as_deref().is_none_or(|user| user.starts_with(['0', ':'])) {
        complaints.push("runs as root".to_owned());
    }
    complaints
}

/// Whoever is waited for is there, and can come to what is waited for.
fn after_rule(compose: &Compose, container: &Container) -> Complaints {
    let mut complaints = Vec::new();
    for (name, after) in &container.depends_on {
        let fits = compose.services.get(name).is_some_and(|other| match after.condition {
            Condition::ServiceHealthy => other.health().is_some(),
            Condition::ServiceCompletedSuccessfully => other.restart == "on-failure",
        });
        if !fits {
            complaints.push(format!("waits for {name}, which never comes to that"));
        }
    }
    let wanted = if container.runs().is_empty() { &[][..] } else { &["migrate", "nats"] };
    let missing = wanted.iter().filter(|name| !container.depends_on.contains_key(**name));
    complaints.extend(missing.map(|name| format!("does not wait for {name}")));
    complaints
}

/// What is named is used, and what is used is named elsewhere.
fn names_rule(compose: &Compose) -> Complaints {
    let all = || compose.services.values();
    let volumes: BTreeSet<_> = all()
        .flat_map(|container| &container.volumes)
        .filter_map(|volume| volume.split(':').next())
        .collect();
    let secrets: BTreeSet<_> =
        all().flat_map(|container| &container.secrets).map(|used| used.source.as_str()).collect();
    let idle = compose.volumes.keys().filter(|name| !volumes.contains(name.as_str()));
    let unread = compose.secrets.keys().filter(|name| !secrets.contains(name.as_str()));
    let mut complaints: Complaints = idle.chain(unread).map(|name| format!("nobody uses {name}")).collect();
    if !all().any(|container| container.is_ours() && container.build.is_some()) {
        complaints.push("nobody builds the image".to_owned());
    }
    complaints
}

/// No port twice; all on loopback, and each leads to a listener.
fn ports_rule(compose: &Compose) -> Complaints {
    let (mut taken, mut complaints) = (BTreeSet::new(), Vec::new());
    for (name, container) in &compose.services {
        for (host, inside) in container.published() {
            if !host.starts_with("127.0.0.1:") || !taken.insert(host.to_owned()) {
                complaints.push(format!("{name}: {host} is public or taken"));
            }
            let listens = match container.runs() {
                [service] if service == "gateway" => "8080",
                [service] if service == "centre" => "9090",
                _ => "none",
            };
            if inside != listens {
                complaints.push(format!("{name}: nobody listens at {inside}"));
            }
        }
    }
    for name in ["gateway-1", "gateway-2", "centre-1"] {
        if compose.services.get(name).is_none_or(|container| container.ports.len() != 1) {
            complaints.push(format!("{name} can't be reached"));
        }
    }
    complaints
}
