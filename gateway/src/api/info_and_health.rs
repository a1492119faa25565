//! `/info` and `/health`: about this service.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use shared::domain::{Email, MessageText, RoomName, Username};

use super::error::ApiError;
use super::models::{Health, Info, InputLimits};
use super::{ApiContext, MAX_BODY_BYTES, Tag};
use crate::auth::passwords;
use crate::config::Config;
use crate::health::{Readiness, Reason};
use crate::history::{MAX_WAITING_PER_READER, PAGE_MAX_BYTES};
use crate::server::REQUESTS;

/// Answers about this service.
#[derive(ApiResponse)]
pub enum About {
    /// What this installation is and what it accepts.
    #[oai(status = 200)]
    Ok(Json<Info>),
}

/// Answers about the state of the service.
#[derive(ApiResponse)]
pub enum HealthAnswer {
    /// It works.
    #[oai(status = 200)]
    Ok(Json<Health>),
}

/// Operations on the service itself.
pub struct ServiceApi;

#[OpenApi(tag = "Tag::Service")]
#[expect(
    clippy::unused_async,
    reason = "the framework calls every operation as an async function"
)]
impl ServiceApi {
    /// Read the limits
    ///
    /// What inputs may be, so that an app can check before it sends.
    #[oai(path = "/info", method = "get", operation_id = "readInfo")]
    async fn info(&self, context: Data<&Arc<ApiContext>>) -> About {
        About::Ok(Json(context.info.clone()))
    }

    /// Is the process alive?
    ///
    /// For supervisors: a failure means that the process should be restarted.
    #[oai(path = "/health/live", method = "get", operation_id = "checkLive")]
    async fn live(&self) -> HealthAnswer {
        HealthAnswer::Ok(Json(Health {
            status: "live".to_owned(),
            worker: None,
            reasons: None,
        }))
    }

    /// Can it serve?
    ///
    /// For load balancers, answered within half a second: 503 `not_ready` while it stops, while SQL or Redis cannot be
    /// reached, and while posts are refused because nothing more can be kept; `reasons` says which of it. Without a worker
    /// messages are still accepted, unless they are acknowledged only when stored; they appear when one is back.
    #[oai(path = "/health/ready", method = "get", operation_id = "checkReady")]
    async fn ready(&self, context: Data<&Arc<ApiContext>>) -> Result<HealthAnswer, ApiError> {
        let Readiness { is_ready, reasons } = context.health.check().await;
        if !is_ready {
            return Err(ApiError::NotReady(reasons));
        }
        let worker = if reasons.contains(&Reason::NoWorker) {
            "absent"
        } else {
            "alive"
        };
        let reasons: Vec<String> = reasons.iter().map(|reason| reason.name().to_owned()).collect();
        Ok(HealthAnswer::Ok(Json(Health {
            status: "ready".to_owned(),
            worker: Some(worker.to_owned()),
            reasons: (!reasons.is_empty()).then_some(reasons),
        })))
    }
}

/// What this installation is and what it accepts.
pub(super) fn info(config: &Config) -> Info {
    let count = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
    let limits = &config.limits;
    Info {
        name: "Roomcast".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        limits: InputLimits {
            message_max: count(MessageText::MAX_LEN),
            room_name_max: count(RoomName::MAX_LEN),
            username_max: count(Username::MAX_LEN),
            email_max: count(Email::MAX_LEN),
            password_min: config.accounts.password_min_length.into(),
            password_max: count(passwords::MAX_LENGTH),
            body_max_bytes: count(MAX_BODY_BYTES),
            post_per_s: limits.post_per_s,
            post_burst: limits.post_burst,
            streams_per_user: limits.streams_per_user,
            rooms_per_user: limits.rooms_per_user,
            create_room_per_hour: limits.create_room_per_hour,
            join_per_min: limits.join_per_min,
            connections_per_address: limits.connections_of_one(),
            history_page_max_bytes: count(PAGE_MAX_BYTES),
            history_reads_waiting: count(MAX_WAITING_PER_READER),
            replay_kib_per_s: limits.replay_kib_per_s,
            in_flight_max_bytes: count(REQUESTS.connection),
        },
    }
}
