//! What the responses to an editor's calls mean.

use crate::evidence::{ChangeOutcome, PostOutcome};
use crate::failure::Result;
use crate::http_response::HttpResponse;
use crate::traffic::sender::{self, Try};

/// What one try of a call says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tried<T> {
    /// The call ended in this way.
    Known(T),
    /// It may have been carried out, or may be later.
    Unknown,
    /// Nothing was done, and it may be tried again.
    Refused,
}

/// What a response means for a post, which may be a reply; an error for one that must never come.
pub(super) fn classify_post(
    response: Result<HttpResponse>,
    is_reply: bool,
) -> std::result::Result<Tried<PostOutcome>, String> {
    if is_reply
        && let Ok(response) = &response
        && response.status() == 422
    {
        let problem = response.expect_error_shape().map_err(|failure| failure.to_string())?;
        return match problem["code"].as_str() {
            Some("no_such_reply") => Ok(Tried::Known(PostOutcome::NoSuchReply)),
            _ => Err(response.to_string()),
        };
    }
    sender::classify(response).map(|tried| match tried {
        Try::Acknowledged(id) => Tried::Known(PostOutcome::Acknowledged(id)),
        Try::Refused => Tried::Refused,
        Try::Unknown => Tried::Unknown,
    })
}

/// What a response means for a change that is answered with `done`; an error for one that must never come.
pub(super) fn classify(response: Result<HttpResponse>, done: u16) -> std::result::Result<Tried<ChangeOutcome>, String> {
    let Ok(response) = response else {
        return Ok(Tried::Unknown);
    };
    if response.status() == done {
        return Ok(Tried::Known(ChangeOutcome::Acknowledged));
    }
    let problem = response.expect_error_shape().map_err(|failure| failure.to_string())?;
    match (response.status(), problem["code"].as_str()) {
        // Whatever the code: the change may be made, and reading the message for the response have failed.
        (503, Some(_)) => Ok(Tried::Unknown),
        (409, Some("deleted")) => Ok(Tried::Known(ChangeOutcome::Deleted)),
        (404, Some("message_not_found")) => Ok(Tried::Known(ChangeOutcome::NotFound)),
        _ => Err(response.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::failure::Failure;

    async fn response(status: u16, code: &str) -> Result<HttpResponse> {
        let response = http::Response::builder().status(status).header("content-type", "application/json");
        let body = json!({"status": "fail", "code": code, "message": "…", "request_id": "1"}).to_string();
        let response = response.header("retry-after", "1").body(body)?;
        HttpResponse::receive(response.into()).await
    }

    async fn outcome(status: u16, code: &str) -> std::result::Result<Tried<ChangeOutcome>, String> {
        classify(response(status, code).await, 204)
    }

    #[tokio::test]
    async fn only_a_reply_may_lack_its_target() {
        let lacks = response(422, "no_such_reply").await;
        assert_eq!(classify_post(lacks, true), Ok(Tried::Known(PostOutcome::NoSuchReply)));
        assert!(classify_post(response(422, "no_such_reply").await, false).is_err());
        assert!(classify_post(response(422, "no_such_user").await, true).is_err());
        assert_eq!(classify_post(response(503, "outcome_unknown").await, true), Ok(Tried::Unknown));
    }

    #[tokio::test]
    async fn responses_to_changes_are_classified_and_others_are_unexpected() {
        assert_eq!(outcome(204, "").await, Ok(Tried::Known(ChangeOutcome::Acknowledged)));
        assert_eq!(outcome(503, "outcome_unknown").await, Ok(Tried::Unknown));
        assert_eq!(outcome(503, "busy").await, Ok(Tried::Unknown));
        assert_eq!(outcome(409, "deleted").await, Ok(Tried::Known(ChangeOutcome::Deleted)));
        assert_eq!(outcome(404, "message_not_found").await, Ok(Tried::Known(ChangeOutcome::NotFound)));
        assert_eq!(classify(Err(Failure::new("no response")), 204), Ok(Tried::Unknown));
        for (status, code) in [
            (200, ""),
            (404, "room_not_found"),
            (409, "conflict"),
            (403, "forbidden"),
            (500, "x"),
        ] {
            assert!(outcome(status, code).await.is_err(), "{status} {code}");
        }
    }
}
