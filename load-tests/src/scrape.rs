//! The server's own figures, from `/metrics`.

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Services whose store is on the way of a message.
const ON_THE_WAY: [&str; 2] = ["routing", "offline"];

/// The cumulative buckets of a histogram, summed over the services on the way of a message: upper bound, count.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Histogram {
    buckets: Vec<(f64, f64)>,
    sum: f64,
}

/// What was scraped at a moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scrape {
    /// Seconds of group commits.
    pub(crate) commits: Histogram,
    /// Commits that shared a group.
    pub(crate) groups: Histogram,
}

/// Asks every one of these operations ports, and sums.
pub(crate) async fn scrape_all(urls: &[String]) -> Result<Scrape> {
    let mut all = Scrape::default();
    for url in urls {
        let one = scrape(url).await?;
        all.commits.merge(&one.commits);
        all.groups.merge(&one.groups);
    }
    Ok(all)
}

/// Asks the operations port at `url`, `http://host:port`.
async fn scrape(url: &str) -> Result<Scrape> {
    let host = url.strip_prefix("http://").context("the operations port is given as http://host:port")?;
    let host = host.trim_end_matches('/');
    let mut stream = TcpStream::connect(host).await.context("the operations port")?;
    let ask = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(Scrape {
        commits: Histogram::read(&answer, "dialtone_store_commit_seconds"),
        groups: Histogram::read(&answer, "dialtone_store_group_batches"),
    })
}

impl Histogram {
    fn read(text: &str, name: &str) -> Self {
        let mut histogram = Self::default();
        for line in text.lines() {
            let Some((labels, value)) = sample(line, name) else { continue };
            let service = label(labels, "service").unwrap_or_default();
            if !ON_THE_WAY.contains(&service) {
                continue;
            }
            match label(labels, "le").map(|bound| bound.parse::<f64>().unwrap_or(f64::INFINITY)) {
                Some(bound) => histogram.add(bound, value),
                None if line.starts_with(&format!("{name}_sum")) => histogram.sum += value,
                None => {}
            }
        }
        histogram.sorted()
    }

    fn merge(&mut self, other: &Self) {
        other.buckets.iter().for_each(|(bound, count)| self.add(*bound, *count));
        self.sum += other.sum;
        *self = std::mem::take(self).sorted();
    }

    fn sorted(mut self) -> Self {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self
    }

    fn add(&mut self, bound: f64, count: f64) {
        match self.buckets.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, sum)) => *sum += count,
            None => self.buckets.push((bound, count)),
        }
    }

    /// What was added since an earlier scrape.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| {
            earlier.buckets.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, count)| *count)
        };
        let buckets = self.buckets.iter().map(|(bound, count)| (*bound, count - before(*bound))).collect();
        Self { buckets, sum: self.sum - earlier.sum }
    }

    /// Samples.
    pub(crate) fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, count)| *count)
    }

    /// Their mean; 0 without samples.
    pub(crate) fn mean(&self) -> f64 {
        if self.count() > 0.0 { self.sum / self.count() } else { 0.0 }
    }

    /// A quantile, by straight lines within the buckets; the last bound if it lies beyond.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        let wanted = quantile * self.count();
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in &self.buckets {
            if *count >= wanted && *count > below && bound.is_finite() {
                return lower + (bound - lower) * (wanted - below) / (count - below);
            }
            if bound.is_finite() {
                (lower, below) = (*bound, *count);
            }
        }
        lower
    }
}

/// Labels and value of a line, if it is of this metric.
fn sample<'a>(line: &'a str, name: &str) -> Option<(&'a str, f64)> {
    let rest = line.strip_prefix(name)?;
    let (_suffix, rest) = rest.split_once('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    Some((labels, value.trim().parse().ok()?))
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE x histogram
x_bucket{service=\"routing\",le=\"0.001\"} 50
x_bucket{service=\"routing\",le=\"0.002\"} 90
x_bucket{service=\"routing\",le=\"+Inf\"} 90
x_sum{service=\"routing\"} 0.09
x_count{service=\"routing\"} 90
x_bucket{service=\"offline\",le=\"0.001\"} 0
x_bucket{service=\"offline\",le=\"0.002\"} 10
x_bucket{service=\"offline\",le=\"+Inf\"} 10
x_sum{service=\"offline\"} 0.01
x_bucket{service=\"identity\",le=\"+Inf\"} 1000
";

    #[test]
    fn services_on_the_way_are_summed_and_quantiles_are_read() {
        let read = Histogram::read(TEXT, "x");
        assert_eq!(read.count(), 100.0);
        assert!((read.mean() - 0.001).abs() < 1e-9);
        assert!((read.quantile(0.5) - 0.001).abs() < 1e-9);
        assert!((read.quantile(0.75) - 0.0015).abs() < 1e-9);
    }

    #[test]
    fn what_was_before_is_taken_off_and_what_is_elsewhere_is_added() {
        let read = Histogram::read(TEXT, "x");
        let mut both = read.clone();
        both.merge(&read);
        assert_eq!((both.count(), both.mean()), (200.0, read.mean()));
        assert_eq!(read.since(&read).count(), 0.0);
        assert_eq!(read.since(&Histogram::default()), read);
    }
}
