use super::*;

async fn at(address: &str) -> io::Result<TcpListener> {
    address.parse::<ListenAddress>().unwrap().listen().await
}

/// What `host` and the port of `listener` reach.
async fn reaches(listener: &TcpListener, host: &str) -> bool {
    let port = listener.local_addr().unwrap().port();
    tokio::net::TcpStream::connect((host, port)).await.is_ok()
}

#[tokio::test]
async fn each_spelling_of_an_address_is_listened_on() {
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    for (address, is_open, is_closed) in [
        ("127.0.0.1:0", "127.0.0.1", Some("127.0.0.2")),
        ("localhost:0", "localhost", Some("127.0.0.2")),
        ("0.0.0.0:0", "127.0.0.2", None),
        (":0", "127.0.0.2", None),
        ("*:0", "127.0.0.1", None),
    ] {
        let listener = at(address).await.unwrap();
        assert!(reaches(&listener, is_open).await, "{address} at {is_open}");
        if let Some(other) = is_closed {
            assert!(!reaches(&listener, other).await, "{address} at {other}");
        }
    }
    if has_ipv6 {
        assert!(reaches(&at("[::1]:0").await.unwrap(), "::1").await);
        for all in ["[::]:0", ":0", "*:0"] {
            let listener = at(all).await.unwrap();
            assert!(reaches(&listener, "::1").await && reaches(&listener, "127.0.0.1").await, "{all}");
        }
    }
}

#[tokio::test]
async fn unknown_names_and_used_ports_are_errors() {
    assert!(at("nowhere.invalid:0").await.is_err());
    let taken = at("127.0.0.1:0").await.unwrap();
    let again = at(&taken.local_addr().unwrap().to_string()).await;
    assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    // An address of another machine (RFC 5737).
    assert_eq!(at("192.0.2.1:0").await.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
}

#[test]
fn an_address_is_shown_as_it_is_written() {
    for same in ["127.0.0.1:5000", "[::1]:5000", "localhost:80", "*:0"] {
        assert_eq!(same.parse::<ListenAddress>().unwrap().to_string(), same);
    }
    assert_eq!(":7740".parse::<ListenAddress>().unwrap().to_string(), "*:7740");
}

#[test]
fn text_that_is_no_address_is_refused() {
    for bad in [
        "",
        "5000",
        "localhost",
        "localhost:",
        "::1:5000",
        "[::1]",
        "[localhost]:1",
        "a b:1",
        "http://h:1",
        "u@h:1",
        ":65536",
        ":-1",
        ":+1",
        "127.0.0.1:x",
    ] {
        assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
    }
}

#[test]
fn open_files_bound_the_connections() {
    assert_eq!(fewer_connections(1_024, 20_000), Some(924));
    assert_eq!(fewer_connections(20_100, 20_000), None);
    assert_eq!(fewer_connections(10, 1), Some(0));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_accept_queue_is_as_long_as_the_kernel_allows() {
    let listener = at("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let expected = allowed.trim().parse::<usize>().unwrap().min(4_096).min(300);
    // More than the 128 that the standard library asks for get through without anybody accepting them.
    let mut clients = Vec::new();
    for _ in 0..expected {
        let connecting = tokio::net::TcpStream::connect(("127.0.0.1", port));
        let connected = tokio::time::timeout(std::time::Duration::from_secs(10), connecting).await;
        clients.push(connected.expect("the kernel takes it").unwrap());
    }
    drop(listener);
}
