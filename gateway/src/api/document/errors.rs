//! Errors of operations in the OpenAPI document: which codes each can fail with, by status.

/// Codes by status.
pub(super) type Errors = &'static [(u16, &'static [&'static str])];

pub(super) const WITH_PATH_PARAMETER: Errors = &[(400, &["invalid_field"])];
const ANY: Errors = &[
    // A body is read and checked whether or not the operation takes one.
    (400, &["malformed_request", "invalid_body"]),
    (408, &["body_timeout"]),
    (413, &["payload_too_large"]),
    (415, &["unsupported_encoding"]),
    (429, &["too_many_connections", "too_much_in_flight"]),
    (431, &["headers_too_large"]),
    (500, &["internal"]),
    (501, &["unknown_transfer_coding"]),
    (503, &["unavailable", "busy"]),
];
pub(super) const WITH_TOKEN: Errors = &[(401, &["unauthorized", "token_expired", "session_revoked"])];
pub(super) const WITH_BODY: Errors = &[(415, &["unsupported_media_type"])];

/// The errors of an operation, in addition to those of any operation.
#[expect(clippy::too_many_lines, reason = "it is one table")]
pub(super) fn errors_of(operation: &str) -> Vec<Errors> {
    let own: Errors = match operation {
        "registerUser" => &[
            (400, &["invalid_field"]),
            (409, &["email_taken", "username_taken", "public_id_taken"]),
            (429, &["rate_limited"]),
        ],
        "listUsers" => &[(400, &["invalid_field"]), (403, &["forbidden"])],
        "getUser" => &[(404, &["user_not_found"])],
        "logIn" => &[(401, &["invalid_credentials"]), (429, &["rate_limited"])],
        "createRoom" => &[
            (400, &["invalid_field"]),
            (409, &["room_exists", "room_name_reserved"]),
            (429, &["rate_limited", "too_many_rooms"]),
        ],
        "listRooms" | "listDirectRooms" => &[(400, &["invalid_field"])],
        "listMembers" => &[(400, &["invalid_field"]), (404, &["room_not_found"])],
        "readHistory" => &[
            (400, &["invalid_field"]),
            (404, &["room_not_found"]),
            (429, &["too_many_reads"]),
        ],
        "getRoom" => &[(404, &["room_not_found"])],
        "joinRoom" | "leaveRoom" => &[(404, &["room_not_found"]), (429, &["rate_limited"])],
        "listUserRooms" | "syncRooms" => &[(400, &["invalid_field"]), (429, &["too_many_reads"])],
        "setReadMark" | "setNotify" => &[
            (400, &["invalid_field"]),
            (403, &["forbidden"]),
            (404, &["room_not_found"]),
            (429, &["rate_limited"]),
        ],
        "openDirectRoom" => &[
            (404, &["user_not_found"]),
            (422, &["direct_with_oneself"]),
            (429, &["rate_limited"]),
        ],
        "deleteRoom" | "setTyping" => &[(403, &["forbidden"]), (404, &["room_not_found"])],
        "postMessage" => &[
            (400, &["invalid_field"]),
            (404, &["room_not_found", "room_deleted"]),
            (409, &["room_replaced"]),
            (422, &["idempotency_key_reused", "no_such_reply", "no_such_user"]),
            (429, &["rate_limited"]),
            (503, &["outcome_unknown"]),
        ],
        "searchMessages" => &[
            (400, &["invalid_field"]),
            (404, &["room_not_found", "user_not_found"]),
            (429, &["too_many_reads"]),
            (503, &["search_too_slow"]),
        ],
        "getMessage" | "listReplies" => &[
            (400, &["invalid_field"]),
            (404, &["room_not_found", "message_not_found"]),
            (429, &["too_many_reads"]),
        ],
        "editMessage" => &[
            (400, &["invalid_field"]),
            (403, &["forbidden"]),
            (404, &["room_not_found", "message_not_found"]),
            (409, &["deleted"]),
            (422, &["edit_window_closed"]),
            (429, &["rate_limited", "too_many_reads"]),
            (503, &["outcome_unknown"]),
        ],
        "deleteMessage" => &[
            (403, &["forbidden"]),
            (404, &["room_not_found", "message_not_found"]),
            (429, &["rate_limited"]),
            (503, &["outcome_unknown"]),
        ],
        "addReaction" | "removeReaction" => &[
            (404, &["room_not_found", "message_not_found"]),
            (409, &["room_replaced", "deleted"]),
            (422, &["too_many_reactions"]),
            (429, &["rate_limited"]),
            (503, &["outcome_unknown"]),
        ],
        "checkReady" => &[(503, &["not_ready"])],
        "followRoom" => &[
            (400, &["invalid_field"]),
            (404, &["room_not_found"]),
            (409, &["room_replaced"]),
            (429, &["rate_limited", "too_many_streams"]),
        ],
        "followAllRooms" => &[(400, &["invalid_field"]), (429, &["too_many_streams"])],
        _ => &[],
    };
    vec![own, ANY]
}
