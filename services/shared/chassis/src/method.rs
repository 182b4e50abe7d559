//! What calls are named in metrics and traces: from a set that callers can't add to.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;

/// The name of every path that is no method of ours: whoever makes paths up makes no metric series.
const UNKNOWN: &str = "unknown";

static METHODS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let all = FileDescriptorSet::decode(dialtone_proto::FILE_DESCRIPTOR_SET);
    let mut methods = BTreeSet::new();
    for file in all.expect("our own descriptors are whole").file {
        for service in &file.service {
            for method in &service.method {
                methods.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    methods
});

/// The method of a path, as a label.
pub(crate) fn label(path: &str) -> &'static str {
    METHODS.get(path).map_or(UNKNOWN, String::as_str)
}

/// The code as gRPC writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
