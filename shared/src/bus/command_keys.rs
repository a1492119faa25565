//! The commands that may be sent through a [`RedisClient`](super::RedisClient), and where each of them names its key.

use redis::{Arg, Cmd, ErrorKind, RedisResult};

/// The first key of a command, by which it finds its node; `None` if any node will do.
///
/// It knows the commands that are sent through a [`RedisClient`](super::RedisClient); all keys of one command are in one slot.
/// Any other command is refused: the position of its key is unknown, and on a cluster it would go to a wrong server.
pub(super) fn key_of(command: &Cmd) -> RedisResult<Option<&[u8]>> {
    let mut words = command.args_iter().map(|word| match word {
        Arg::Simple(word) => word,
        Arg::Cursor | _ => &[],
    });
    let name = words.next().unwrap_or_default();
    let is_one_of = |names: &[&[u8]]| names.iter().any(|other| name.eq_ignore_ascii_case(other));
    if is_one_of(&[
        b"XADD",
        b"XLEN",
        b"SET",
        b"SPUBLISH",
        b"EXISTS",
        b"ZREM",
        b"ZRANGE",
        b"DEL",
        b"PSETEX",
    ]) {
        Ok(words.next())
    } else if is_one_of(&[b"EVALSHA", b"EVAL"]) {
        // The script or its hash, and the number of keys, stand before them.
        Ok(words.nth(2))
    } else if is_one_of(&[b"INFO", b"PUBLISH", b"SCRIPT", b"TIME"]) {
        Ok(None)
    } else {
        let name = String::from_utf8_lossy(name).into_owned();
        Err((ErrorKind::Client, "it is not known where this command has its key", name).into())
    }
}

/// The name in a command: its first key, or the channel it publishes on; `None` if it names nothing.
pub(super) fn name_of(command: &Cmd) -> RedisResult<Option<&[u8]>> {
    let mut words = command.args_iter().map(|word| match word {
        Arg::Simple(word) => word,
        Arg::Cursor | _ => &[],
    });
    if words.next().is_some_and(|name| name.eq_ignore_ascii_case(b"PUBLISH")) {
        return Ok(words.next());
    }
    key_of(command)
}

#[cfg(test)]
mod tests {
    use redis::cmd;

    use super::super::is_refusal;
    use super::*;

    #[test]
    fn key_of_each_kind_of_command_is_found() {
        let key = |line: &str| {
            let mut words = line.split(' ');
            let mut command = cmd(words.next().unwrap());
            for word in words {
                command.arg(word);
            }
            key_of(&command).map(|key| key.map(|key| String::from_utf8(key.to_vec()).unwrap()))
        };
        for (line, expected) in [
            ("XADD k * a b", Some("k")),
            ("set k v", Some("k")),
            ("EVALSHA 1234 1 k v", Some("k")),
            ("SPUBLISH k m", Some("k")),
            ("PUBLISH c m", None),
            ("SCRIPT LOAD s", None),
        ] {
            assert_eq!(key(line).unwrap().as_deref(), expected, "{line}");
        }
        for line in ["GET k", "XREAD STREAMS k 0", "WAIT 1 0"] {
            assert!(is_refusal(&key(line).unwrap_err()), "{line}");
        }
    }
}
