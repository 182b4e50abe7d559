//! What a setting says of where a service is.

use http::Uri;
use http::uri::{Authority, Scheme};

use super::MAX_URLS;
use crate::config::is_url;

/// URLs that can't be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is none.
    #[error("{0:?} is not a URL as {example}", example = example(*.1))]
    NotOne(String, bool),
    /// There are too many.
    #[error("at most {MAX_URLS} URLs, with commas between them")]
    TooMany,
}

fn example(has_tls: bool) -> &'static str {
    if has_tls {
        "https://host:9100 (internal TLS is on: no other scheme, no path)"
    } else {
        "http://127.0.0.1:9100 (internal TLS is off: no other scheme, no path)"
    }
}

/// One URL: a name that may stand for several addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// What requests say that they are for.
    pub(super) authority: Authority,
    pub(super) scheme: Scheme,
}

/// The URLs of a setting.
pub(super) fn parse(urls: &str, has_tls: bool) -> Result<Vec<Target>, UrlError> {
    let targets: Result<Vec<_>, _> = urls
        .split(',')
        .map(str::trim)
        .map(|url| one(url, has_tls).ok_or_else(|| UrlError::NotOne(url.to_owned(), has_tls)))
        .collect();
    targets.and_then(|targets| if targets.len() > MAX_URLS { Err(UrlError::TooMany) } else { Ok(targets) })
}

fn one(url: &str, has_tls: bool) -> Option<Target> {
    let (scheme, usual) = if has_tls { (Scheme::HTTPS, 443) } else { (Scheme::HTTP, 80) };
    let uri: Uri = is_url(url, &[scheme.as_str()]).then(|| url.parse().ok())??;
    let authority = uri.authority()?.clone();
    if uri.path_and_query().is_some_and(|path| path != "/") || authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let (host, port) = (bare.unwrap_or(host).to_owned(), authority.port_u16().unwrap_or(usual));
    Some(Target { host, port, authority, scheme })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_urls_are_read_and_what_is_wrong_is_named() {
        let read = |urls, has_tls| {
            parse(urls, has_tls).map(|targets| {
                targets.into_iter().map(|target| (target.host, target.port)).collect::<Vec<_>>()
            })
        };
        let two = read("http://127.0.0.1:9101, http://[::1]:9102/", false).expect("two");
        assert_eq!(two, [("127.0.0.1".to_owned(), 9101), ("::1".to_owned(), 9102)]);
        assert_eq!(read("https://routing", true), Ok(vec![("routing".to_owned(), 443)]));
        for (urls, has_tls, word) in [
            ("", false, "\"\""),
            ("http://a:1,", false, "\"\""),
            ("http://a:1,b:2", false, "\"b:2\""),
            ("https://a:1", false, "TLS is off"),
            ("http://a:1", true, "TLS is on"),
            ("http://a:1/x", false, "no path"),
            ("http://user:word@a:1", false, "not a URL"),
        ] {
            let error = read(urls, has_tls).expect_err(urls).to_string();
            assert!(error.contains(word), "{urls}: {error}");
        }
        assert_eq!(read(&["http://a:1"; MAX_URLS + 1].join(","), false), Err(UrlError::TooMany));
    }
}
