//! Sessions end when their user says so, everywhere at once.

use std::time::Duration;

use rig::{Stack, eventually};

use crate::scene::furnish;

/// The product promises every gateway to know within this time.
const EVERYWHERE_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_token_is_refused_everywhere_at_once_after_logout() {
    let stack = Stack::builder().gateways(3).start().await.unwrap();
    let (stack, ann) = furnish(stack).await;
    for round in 0..5 {
        let session = ann.login("ann").await.unwrap();
        let mut everywhere = Vec::new();
        for gateway in &stack.gateways {
            let app = session.moved_to(&gateway.url()).unwrap();
            // Whatever a gateway remembers of a session, it remembers now.
            app.get("/chat/").await.unwrap().expect(200).unwrap();
            everywhere.push(app);
        }
        everywhere[round % 3].logout().await.unwrap();
        everywhere[round % 3].get("/chat/").await.unwrap().expect_error(401, "session_revoked").unwrap();
        for app in &everywhere {
            let refused = eventually(EVERYWHERE_WITHIN, "the token is refused", async || {
                app.get("/chat/").await?.expect_error(401, "session_revoked")
            });
            refused.await.unwrap();
            app.try_post("lobby", "ghost", None).await.unwrap().expect_error(401, "session_revoked").unwrap();
            app.stream("lobby").answer().await.unwrap().expect_error(401, "session_revoked").unwrap();
        }
    }
    // The other sessions of the user are not touched.
    ann.get("/chat/").await.unwrap().expect(200).unwrap();
}
