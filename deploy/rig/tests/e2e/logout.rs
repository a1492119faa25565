//! Logging out ends a session at every gateway at once.

use std::time::Duration;

use rig::{Stack, eventually};

use crate::fixture::with_lobby;

/// Every gateway is promised to refuse the session within this time.
const EVERYWHERE_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn logged_out_token_is_refused_at_every_gateway() {
    let stack = Stack::builder().gateways(3).start().await.unwrap();
    let (stack, ann) = with_lobby(stack).await;
    for round in 0..5 {
        let session = ann.login("ann").await.unwrap();
        let mut everywhere = Vec::new();
        for gateway in &stack.gateways {
            let client = session.moved_to(&gateway.url()).unwrap();
            // Every gateway has cached the session after this.
            client.get("/chat/").await.unwrap().expect(200).unwrap();
            everywhere.push(client);
        }
        everywhere[round % 3].logout().await.unwrap();
        everywhere[round % 3].get("/chat/").await.unwrap().expect_error(401, "session_revoked").unwrap();
        for client in &everywhere {
            let refused = eventually(EVERYWHERE_WITHIN, "the token is refused", async || {
                client.get("/chat/").await?.expect_error(401, "session_revoked")
            });
            refused.await.unwrap();
            client
                .try_post("lobby", "too late", None)
                .await
                .unwrap()
                .expect_error(401, "session_revoked")
                .unwrap();
            client.stream("lobby").response().await.unwrap().expect_error(401, "session_revoked").unwrap();
        }
    }
    // The other sessions of the user are not touched.
    ann.get("/chat/").await.unwrap().expect(200).unwrap();
}
