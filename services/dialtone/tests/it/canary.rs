//! Canaries: what people said, their numbers and their codes are in no log line, span or metric, even when everything
//! is logged.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use dialtone::system::Sabotage;
use dialtone_testkit::free_port;
use serde_json::Value;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::process::{Serving, dialtone, outcome};
use crate::weather::{episode, number};

/// Shorter quotes of the tour (a nickname) are found in too many words.
const SHORTEST: usize = 6;

/// What the tour's prose quotes: numbers, codes, texts of SMS and messages.
pub(crate) fn secrets_in(prose: &str) -> BTreeSet<String> {
    let quoted = prose.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
    let words = prose.split(|letter: char| letter.is_whitespace() || ".:,;\"".contains(letter));
    // Access tokens are no less secret.
    let mut secrets = BTreeSet::from(["v4.public.".to_owned()]);
    for text in quoted.filter(|text| text.len() >= SHORTEST) {
        secrets.insert(text.to_owned());
    }
    for word in words {
        let digits = word.trim_start_matches('+');
        let is_number = digits.chars().all(|digit| digit.is_ascii_digit());
        // The service's own numbers are settings, and an operator may see them.
        if is_number && digits.len() >= SHORTEST && !digits.starts_with("1800") {
            secrets.insert(digits.to_owned());
        }
        if word.len() == 20
            && word.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit())
        {
            secrets.insert(word.to_owned());
        }
    }
    secrets
}

/// Whether a secret stands in a text; digits only where they are not part of a longer number.
fn stands_in(secret: &str, text: &str) -> bool {
    let is_digit =
        |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_digit() || letter == '.');
    text.match_indices(secret).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + secret.len()..].chars().next());
        !(secret.len() == 6 && secret.parse::<u32>().is_ok() && (is_digit(before) || is_digit(after)))
    })
}

pub(crate) fn leaks<'a>(secrets: &BTreeSet<String>, lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let leak = |line: &str| {
        let secret = secrets.iter().find(|secret| stands_in(secret, line))?;
        Some(format!("{secret:?} in {line}"))
    };
    lines.filter_map(leak).collect()
}

/// A log line without its time, which is full of digits.
pub(crate) fn timeless(line: &str) -> String {
    match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(mut fields)) => {
            fields.remove("timestamp");
            Value::Object(fields).to_string()
        }
        _ => line.to_owned(),
    }
}

#[test]
fn no_number_code_or_word_of_a_user_is_logged_traced_or_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let [gateway, ops, smpp] = [(); 3].map(|()| free_port());
    let local = |port: u16| format!("127.0.0.1:{port}");
    let settings = [
        ("GATEWAY__LISTEN", local(gateway)),
        ("CENTRE__LISTEN", local(smpp)),
        ("SMS__PROVIDER", local(smpp)),
        ("TELEMETRY__LOG", "trace".to_owned()),
        ("TELEMETRY__FORMAT", "json".to_owned()),
    ];
    let log = folder.path().join("log");
    let mut serving = Serving::start(dialtone(&[], settings, folder.path()), ops, &log);
    serving.wait_ready();
    let urls = [format!("http://{}", local(gateway)), format!("http://{}", local(ops))];
    let args = ["tour", "--gateway", &urls[0], "--sms-centre", &urls[1]];
    let told = outcome(dialtone(&args, [], folder.path()));
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let prose = String::from_utf8(told.stdout).expect("text");

    let secrets = secrets_in(&prose);
    assert!(secrets.len() > 20, "{secrets:?}");
    let logged: Vec<String> = serving.said().lines().map(timeless).collect();
    assert!(logged.len() > 1_000, "hardly anything was logged: {} lines", logged.len());
    assert_eq!(leaks(&secrets, logged.iter().map(String::as_str)), Vec::<String>::new());
    let metrics = serving.get("/metrics").expect("metrics");
    assert!(metrics.contains("dialtone_routing_accepted"), "{metrics}");
    assert_eq!(leaks(&secrets, metrics.lines()), Vec::<String>::new());
}

/// Where everything is logged to.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What goes wrong is what is logged.
#[test]
fn nor_is_it_in_a_storm_with_kills() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::NEW)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        for seed in 1..=6 {
            episode(seed, Sabotage::default());
        }
    });
    let logged =
        String::from_utf8(log.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).expect("text");
    let ours = logged.lines().filter(|line| line.contains(" dialtone_") && !line.contains("TRACE")).count();
    assert!(ours > 100, "hardly anything was logged: {ours} lines");
    let secrets = (0..3).flat_map(|place| [number(place)[1..].to_owned(), format!("m{place}to")]).collect();
    assert_eq!(leaks(&secrets, logged.lines()), Vec::<String>::new());
}

#[test]
fn the_canary_sees_a_leak() {
    let prose =
        "← SMS \"Dialtone code: 819268. Never tell it.\"\nAnna from +16175550182 to +18005550100: \"Ben\"";
    let secrets = secrets_in(prose);
    let leaking = |line: &str| leaks(&secrets, std::iter::once(line)).len();
    assert_eq!(leaking("to=16175550182"), 1);
    assert_eq!(leaking("code 819268"), 1);
    assert_eq!(leaking("Dialtone code: 819268. Never tell it."), 1);
    assert_eq!(leaking("took 0.819268 s, bound to +18005550100, Ben"), 0);
    assert_eq!(timeless(r#"{"timestamp":"12:00:00.819268Z","level":"INFO"}"#), r#"{"level":"INFO"}"#);
}
