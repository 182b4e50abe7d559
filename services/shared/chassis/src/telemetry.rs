//! Logs, traces and metrics of a process.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::Registry;
use serde::Deserialize;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::is_url;

/// How a process tells about itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is logged, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// `text` for people, `json` for machines.
    pub format: Format,
    /// Where traces go, as an OTLP gRPC URL; empty: nowhere.
    pub otlp: String,
}

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl TryFrom<String> for Format {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("telemetry.format: `text` or `json`"),
        }
    }
}

impl Config {
    /// Whether every setting is one.
    ///
    /// # Errors
    /// The setting and what it may be.
    pub fn check(&self) -> Result<(), &'static str> {
        // To the library any bare word is a module: a level with a slip in it would silence everything.
        let is_slip =
            |part: &str| !part.contains(['=', '[', ':', '_']) && part.parse::<LevelFilter>().is_err();
        if EnvFilter::try_new(&self.log).is_err() || self.log.split(',').any(|part| is_slip(part.trim())) {
            return Err(
                "telemetry.log: error, warn, info, debug, trace, or by module as in info,dialtone_routing=debug",
            );
        }
        if !self.otlp.is_empty() && !is_url(&self.otlp, &["http", "https"]) {
            return Err("telemetry.otlp: a URL such as http://127.0.0.1:4317, or empty");
        }
        Ok(())
    }
}

/// Libraries that show what they carry when they are asked for every detail: messages of the bus, keys of rows.
const CARRIERS: [&str; 2] = ["async_nats", "scylla"];

/// Not whatever somebody set to be logged: no number, code or word of a user.
fn tells_nobody(metadata: &Metadata<'_>) -> bool {
    let crate_name = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= Level::INFO || !CARRIERS.contains(&crate_name)
}

/// What must be kept while the process runs.
pub struct Telemetry {
    /// For `/metrics`.
    pub registry: Registry,
    meters: SdkMeterProvider,
    traces: Option<SdkTracerProvider>,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter does not parse.
    #[error("telemetry.log: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The OTLP address does not parse.
    #[error("telemetry.otlp: {0}")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The metrics exporter could not be made.
    #[error("metrics: {0}")]
    Metrics(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// Something set up logging before us.
    #[error("logging is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Metrics alone: for tests and tools that print no log.
///
/// # Errors
/// [`TelemetryError::Metrics`].
pub fn metrics_only() -> Result<Telemetry, TelemetryError> {
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()?;
    let meters = SdkMeterProvider::builder().with_reader(exporter).build();
    opentelemetry::global::set_meter_provider(meters.clone());
    Ok(Telemetry { registry, meters, traces: None })
}

/// Everything, as configured. Call it before anything makes an instrument.
///
/// # Errors
/// [`TelemetryError`], naming the setting.
pub fn init(config: &Config) -> Result<Telemetry, TelemetryError> {
    let mut telemetry = metrics_only()?;
    // An actor library's life-long span per actor would hold its parents open for ever.
    let filter = EnvFilter::try_new(format!("{},ractor=off", config.log))?;
    let lines = match config.format {
        Format::Text => {
            let colours = std::io::stderr().is_terminal();
            tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr).boxed()
        }
        Format::Json => tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    let traces = if config.otlp.is_empty() { None } else { Some(otlp(&config.otlp)?) };
    let spans = traces.as_ref().map(|provider| {
        opentelemetry::global::set_text_map_propagator(
            opentelemetry_sdk::propagation::TraceContextPropagator::new(),
        );
        tracing_opentelemetry::layer().with_tracer(provider.tracer("dialtone"))
    });
    tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(tells_nobody))
        .with(lines)
        .with(spans)
        .try_init()?;
    telemetry.traces = traces;
    Ok(telemetry)
}

fn otlp(url: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(url).build()?;
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).build())
}

impl Telemetry {
    /// Sends what is left. Blocks: call it through `Blocking` or at the very end.
    pub fn flush(self) {
        let outcomes = [self.traces.map_or(Ok(()), |traces| traces.shutdown()), self.meters.shutdown()];
        for error in outcomes.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "telemetry was not flushed");
        }
    }
}
