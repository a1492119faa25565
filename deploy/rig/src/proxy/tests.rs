use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

const SHORT: Duration = Duration::from_millis(150);
const SOON: Duration = Duration::from_secs(5);

/// A server that answers every piece with itself, and a proxy in front.
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

async fn answer(client: &mut TcpStream, request: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(request).await?;
    let mut answer = vec![0; request.len()];
    client.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn bytes_pass_until_the_link_is_cut() {
    let proxy = echo().await;
    let mut client = connect(&proxy).await;
    assert_eq!(answer(&mut client, b"hello").await.unwrap(), b"hello");
    proxy.cut();
    let after = timeout(SOON, client.read_u8()).await.unwrap();
    assert!(after.is_err());
    assert_eq!(answer(&mut connect(&proxy).await, b"again").await.unwrap(), b"again");
}

#[tokio::test]
async fn a_connection_is_cut_behind_the_byte_that_was_named() {
    let proxy = echo().await;
    for bytes in [0, 1, 4, 5] {
        let mut client = connect(&proxy).await;
        assert_eq!(answer(&mut client, b"hello").await.unwrap(), b"hello");
        proxy.cut_after(bytes);
        client.write_all(b"again").await.unwrap();
        let mut arrived = Vec::new();
        timeout(SOON, client.read_to_end(&mut arrived)).await.unwrap().unwrap();
        assert_eq!(arrived, b"again"[..bytes]);
    }
    assert_eq!(proxy.cut_within(), 4);
    assert_eq!(answer(&mut connect(&proxy).await, b"hello").await.unwrap(), b"hello");
}

#[tokio::test]
async fn in_the_dark_nothing_arrives_until_it_clears() {
    let proxy = echo().await;
    let mut client = connect(&proxy).await;
    for (up, down) in [(true, false), (false, true), (true, true)] {
        proxy.set(Weather::Dark { up, down });
        client.write_all(b"?").await.unwrap();
        assert!(timeout(SHORT, client.read_u8()).await.is_err());
        proxy.heal();
        assert_eq!(timeout(SOON, client.read_u8()).await.unwrap().unwrap(), b'?');
    }
}

#[tokio::test]
async fn a_slow_link_takes_its_time_and_a_refusing_one_hangs_up() {
    let proxy = echo().await;
    let mut client = connect(&proxy).await;
    proxy.set(Weather::Slow(SHORT));
    let began = std::time::Instant::now();
    answer(&mut client, b"slow").await.unwrap();
    assert!(began.elapsed() >= 2 * SHORT);
    proxy.set(Weather::Refusing);
    assert!(answer(&mut connect(&proxy).await, b"new").await.is_err());
    assert!(answer(&mut client, b"old").await.is_ok());
}

#[tokio::test]
async fn a_reply_is_lost_after_its_request_has_arrived() {
    let proxy = echo().await;
    proxy.lose_replies(b"XADD", 1);
    let mut client = connect(&proxy).await;
    assert!(answer(&mut client, b"PING").await.is_ok());
    assert!(answer(&mut client, b"a XADD b").await.is_err());
    assert_eq!(proxy.lost_replies(), 1);
    assert!(answer(&mut connect(&proxy).await, b"XADD").await.is_ok());
}
