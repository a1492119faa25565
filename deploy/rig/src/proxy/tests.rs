use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

const SHORT: Duration = Duration::from_millis(150);
const SOON: Duration = Duration::from_secs(5);

/// A server that sends back every byte, and a proxy in front of it.
async fn echo() -> Proxy {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = client.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Proxy::start(port).await.unwrap()
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap()
}

async fn exchange(client: &mut TcpStream, request: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(request).await?;
    let mut reply = vec![0; request.len()];
    timeout(SOON, client.read_exact(&mut reply)).await??;
    Ok(reply)
}

#[tokio::test]
async fn bytes_pass_until_the_link_is_cut() {
    let proxy = echo().await;
    let mut client = connect(&proxy).await;
    assert_eq!(exchange(&mut client, b"hello").await.unwrap(), b"hello");
    proxy.cut();
    let after = timeout(SOON, client.read_u8()).await.unwrap();
    assert!(after.is_err());
    assert_eq!(exchange(&mut connect(&proxy).await, b"again").await.unwrap(), b"again");
}

#[tokio::test]
async fn connection_is_cut_after_the_given_byte() {
    let proxy = echo().await;
    for bytes in [0, 1, 4, 5] {
        let mut client = connect(&proxy).await;
        assert_eq!(exchange(&mut client, b"hello").await.unwrap(), b"hello");
        proxy.cut_after(bytes);
        client.write_all(b"again").await.unwrap();
        let mut arrived = Vec::new();
        timeout(SOON, client.read_to_end(&mut arrived)).await.unwrap().unwrap();
        assert_eq!(arrived, b"again"[..bytes]);
    }
    assert_eq!(proxy.cut_within(), 4);
    assert_eq!(exchange(&mut connect(&proxy).await, b"hello").await.unwrap(), b"hello");
}

#[tokio::test]
async fn blocked_link_delivers_nothing_until_it_is_cleared() {
    let proxy = echo().await;
    let mut client = connect(&proxy).await;
    for (up, down) in [(true, false), (false, true), (true, true)] {
        proxy.set(NetworkCondition::Blocked { up, down });
        client.write_all(b"?").await.unwrap();
        assert!(timeout(SHORT, client.read_u8()).await.is_err());
        proxy.clear_faults();
        assert_eq!(timeout(SOON, client.read_u8()).await.unwrap().unwrap(), b'?');
    }
}

#[tokio::test]
async fn slow_link_delays_and_refusing_link_resets() {
    let proxy = echo().await;
    let mut client = connect(&proxy).await;
    proxy.set(NetworkCondition::Slow(SHORT));
    let began = std::time::Instant::now();
    exchange(&mut client, b"slow").await.unwrap();
    assert!(began.elapsed() >= 2 * SHORT);
    proxy.set(NetworkCondition::Refusing);
    assert!(exchange(&mut connect(&proxy).await, b"new").await.is_err());
    assert!(exchange(&mut client, b"old").await.is_ok());
}

#[tokio::test]
async fn reply_is_lost_after_its_request_has_arrived() {
    let proxy = echo().await;
    proxy.lose_replies(b"XADD", 1);
    let mut client = connect(&proxy).await;
    assert!(exchange(&mut client, b"PING").await.is_ok());
    assert!(exchange(&mut client, b"a XADD b").await.is_err());
    assert_eq!(proxy.lost_replies(), 1);
    assert!(exchange(&mut connect(&proxy).await, b"XADD").await.is_ok());
}
