//! The outermost layers: gRPC-Web, health, reflection, and the framework's own errors in our words.

use std::collections::BTreeMap;
use std::convert::Infallible;

use dialtone_chassis::Error;
use dialtone_vocab::Reason;
use http::{Request, Response};
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::body::Body;
use tonic::service::{AxumBody, Routes};
use tonic::{Code, Status};
use tonic_web::GrpcWebLayer;
use tower::{ServiceExt, service_fn};

use crate::config::Config;
use crate::forward::Forward;
use crate::unreadable;

/// Everything a client can reach.
pub(crate) async fn routes(forward: Forward, config: &Config) -> Routes {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let mut routes = Routes::new(health);
    if config.reflection {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_file_descriptor_set(descriptors(&forward.services().collect::<Vec<_>>()))
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // What stands in a status: whoever looks things up can read why it was refused.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("our own descriptors are whole");
        routes = routes.add_service(reflection);
    }
    let in_our_words = service_fn(move |request: Request<AxumBody>| {
        let (forward, request) = (forward.clone(), request.map(Body::new));
        async move {
            let response = forward.oneshot(request).await?;
            Ok::<_, Infallible>(translated(response))
        }
    });
    let router = routes.into_axum_router().fallback_service(in_our_words);
    Routes::from(router.layer(GrpcWebLayer::new()))
}

/// The files that describe these services, with all that they need, and nothing else of ours.
fn descriptors(services: &[&str]) -> FileDescriptorSet {
    let all = FileDescriptorSet::decode(dialtone_proto::FILE_DESCRIPTOR_SET);
    let mut files: BTreeMap<String, FileDescriptorProto> =
        all.expect("our own descriptors are whole").file.into_iter().map(named).collect();
    let is_public = |file: &FileDescriptorProto| {
        file.service.iter().any(|service| {
            let name = format!("{}.{}", file.package(), service.name());
            services.contains(&name.as_str())
        })
    };
    let mut wanted: Vec<String> =
        files.iter().filter(|(_, file)| is_public(file)).map(|(name, _)| name.clone()).collect();
    let mut kept = Vec::new();
    while let Some(name) = wanted.pop() {
        if let Some(file) = files.remove(&name) {
            wanted.extend(file.dependency.iter().cloned());
            kept.push(file);
        }
    }
    FileDescriptorSet { file: kept }
}

fn named(file: FileDescriptorProto) -> (String, FileDescriptorProto) {
    (file.name().to_owned(), file)
}

/// tonic refuses what it can't read, or what is late, with codes of its own: those become ours.
fn translated(response: Response<Body>) -> Response<Body> {
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let error = match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => {
            Some(Error::new(Reason::Timeout, "no answer within the deadline; the outcome is unknown"))
        }
        _ => unreadable::in_our_words(&status),
    };
    error.map_or(response, |error| Status::from(error).into_http())
}
