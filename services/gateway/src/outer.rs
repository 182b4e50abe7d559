//! The outermost layers: gRPC-Web, health, reflection, and the framework's own errors in our words.

use std::convert::Infallible;

use dialtone_chassis::Error;
use dialtone_vocab::Reason;
use http::{Request, Response};
use tonic::body::Body;
use tonic::service::{AxumBody, Routes};
use tonic::{Code, Status};
use tonic_web::GrpcWebLayer;
use tower::{ServiceExt, service_fn};

use crate::config::Config;
use crate::forward::Forward;

/// Everything a client can reach.
pub(crate) async fn routes(forward: Forward, config: &Config) -> Routes {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let mut routes = Routes::new(health);
    if config.reflection {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(dialtone_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
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

/// tonic refuses too large or malformed requests with codes of its own: those become ours.
fn translated(response: Response<Body>) -> Response<Body> {
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    let error = match status.code() {
        Code::OutOfRange => Error::new(Reason::TooLarge, "the request is too large"),
        Code::DeadlineExceeded | Code::Cancelled => {
            Error::new(Reason::Timeout, "no answer within the deadline; the outcome is unknown")
        }
        Code::Internal if !is_ours(&status) => {
            Error::new(Reason::FieldInvalid, "the request could not be decoded")
        }
        _ => return response,
    };
    Status::from(error).into_http()
}

fn is_ours(status: &Status) -> bool {
    tonic_types::StatusExt::get_details_error_info(status)
        .is_some_and(|info| info.domain == dialtone_chassis::DOMAIN)
}
