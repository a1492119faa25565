//! The setting of origins whose pages may call the API.

/// An origin as browsers send it: scheme, `://`, host, and a port where it is not the scheme's own (RFC 6454, section 6.1).
///
/// Apps have origins of their own, such as `capacitor://localhost`. `null` cannot be listed: every page from a file and in a
/// sandboxed frame has it, whoever wrote it.
pub(super) fn parse_origin(raw: &str) -> Result<String, String> {
    let wrong = || "not an origin such as https://chat.example.org or capacitor://localhost".to_owned();
    if raw == "null" {
        return Err(
            "every page from a file and in a sandboxed frame has the origin `null`: it cannot be listed".to_owned()
        );
    }
    let (scheme, authority) = raw.split_once("://").ok_or_else(wrong)?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let is_host = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b'\\' | b'?' | b'#' | b'@' | b'*' | b',' | b'"');
    if !is_scheme || authority.is_empty() || !authority.bytes().all(is_host) {
        return Err(wrong());
    }
    let (scheme, authority) = (scheme.to_ascii_lowercase(), authority.to_ascii_lowercase());
    let own_port = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    // Browsers omit the scheme's own port.
    let authority = authority.strip_suffix(own_port).unwrap_or(&authority);
    Ok(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_of_apps_and_sites_can_be_listed() {
        for origin in [
            "https://chat.example.org",
            "http://localhost:8080",
            "https://[2001:db8::1]:8443",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "app://.",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert_eq!(parse_origin(origin), Ok(origin.to_owned()));
        }
        for (written, sent) in [
            ("HTTPS://Chat.Example.Org", "https://chat.example.org"),
            ("https://chat.example.org:443", "https://chat.example.org"),
            ("http://chat.example.org:80", "http://chat.example.org"),
            ("https://chat.example.org:80", "https://chat.example.org:80"),
        ] {
            assert_eq!(parse_origin(written), Ok(sent.to_owned()));
        }
    }

    #[test]
    fn text_that_is_no_origin_is_refused() {
        for wrong in [
            "",
            "*",
            "null",
            "chat.example.org",
            "https://",
            "https://*",
            "https://*.example.org",
            "https://chat.example.org/",
            "https://chat.example.org/app",
            "https://ann@example.org",
            "https://a.example, https://b.example",
            "1a://x",
            "://x",
            "https://bücher.example",
        ] {
            assert!(parse_origin(wrong).is_err(), "{wrong}");
        }
    }
}
